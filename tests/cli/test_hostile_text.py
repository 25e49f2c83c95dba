"""Every command on a model, a store and files in which a stranger wrote all texts.

`CASES` has an entry for each command that `--help` lists: one without fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_text import HOSTILE, hostile_model

from selfheal_edge.assets import digits_model_path
from selfheal_edge.cli import main
from selfheal_edge.learning.kept_rows import AREA, QUARANTINE, QUESTIONS
from selfheal_edge.learning.labels_file import write_answers, write_questions
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import AskedLabel, Question, Questions
from selfheal_edge.learning.samples import Sample, SampleShape
from selfheal_edge.learning.sources import FeedbackSource
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.store import Store

KEY = b"the source's own key, of 32 bytes"
GOLDEN = digits_model_path().read_bytes()
LONG = HOSTILE + "n" * 5000
SHAPE = SampleShape((("|i1", (2, 3)),), width=5)


def kept_rows() -> list[Row]:
    """What a store tells of labels: reasons, evidence, sources and the model are a stranger's."""
    quarantine = Quarantine(
        SHAPE, 1 << 16, guard=contextlib.nullcontext, released=lambda _one, _source: ""
    )
    inputs = (np.zeros((2, 3), np.int8),)
    quarantine.add(Sample(7, inputs, 0.0, label=1, source=HOSTILE[:16]), LONG, LONG)
    rng = np.random.default_rng(0)
    questions = Questions(
        SHAPE, 1 << 16, clock=lambda: 0.0, rng=lambda: rng, guard=contextlib.nullcontext
    )
    return [
        Row(AREA, QUARANTINE, quarantine.table.to_bytes(0.0, 0.0)),
        Row(AREA, QUESTIONS, questions.table.to_bytes(0.0, 0.0)),
        Row("model", "serves", json.dumps({"sha256": LONG}).encode()),
    ]


def diagnosis(text: str) -> dict[str, Any]:
    fact = {"name": text, "value": 1.0, "text": text}
    other = [{"cause": "label_shift", "confidence": c, "reason": text} for c in (0.0, 0.5)]
    details = {"cause": "sensor_fault", "kind": text, "confidence": 0.5, "wanted": text}
    details |= {"evidence": [fact], "alternatives": other}
    event = {"kind": "diagnosis", "monotonic": 0.0, "wall": 1.8e9, "prediction": 3}
    return {**event, "cause": "sensor_fault", "evidence": [text], "details": details}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "model\x1b[2J.tflite").write_bytes(hostile_model(LONG))
    changed = bytearray(hostile_model(LONG))
    at = changed.index(np.random.default_rng(0).standard_normal((3, 6)).astype("<f4").tobytes())
    changed[at : at + 4] = np.float32(9.0).tobytes()
    (folder / "changed.tflite").write_bytes(changed)
    store = Store(folder / "store", None)
    held = {"state": "held", "wall": 1.8e9}
    kept = StoredGenerations(store)
    kept.save(0, GOLDEN, held)
    kept.save(1, GOLDEN, {**held, "state": LONG, HOSTILE: LONG})
    kept.save(2, GOLDEN, {**held, "wall": HOSTILE})
    for text in (HOSTILE, LONG):
        store.append(json.dumps(diagnosis(text)).encode())
    store.append(json.dumps({**diagnosis(HOSTILE), "kind": HOSTILE, "text": LONG}).encode())
    store.commit(Changes(rows=kept_rows()))
    store.close()
    source = FeedbackSource("someone", KEY, model="ab" * 32)
    asked = AskedLabel("any", 0.5, None, None, None)
    question = Question(5, np.zeros((2, 3), np.int8), (1, 2), LONG, asked=asked)
    (folder / "questions").write_bytes(write_questions(LONG, [question], None))
    (folder / "answers").write_bytes(write_answers(LONG, [source.sign(5, 3)], None))
    (folder / "answers of another").write_bytes(write_answers(HOSTILE, [source.sign(5, 3)], None))
    (folder / "key").write_bytes(KEY)
    np.savez(folder / "samples.npz", x=np.zeros((4, 6), np.float32), y=np.array([HOSTILE] * 4))
    (folder / "campaign.json").write_text(json.dumps({"attacks": [LONG]}))
    older = {"attack": LONG, "verdict": HOSTILE, "run": {HOSTILE: LONG}}
    (folder / "older.jsonl").write_text(json.dumps(older) + "\n")
    return folder


SIGNED = ("--source", "someone", "--source-key", "key")
MODEL = "model\x1b[2J.tflite"
CASES: dict[str, list[tuple[str, ...]]] = {
    "demo": [("--campaign", "--model", MODEL, "--data", "samples.npz")],
    "inspect": [(MODEL,)],
    "diff": [(MODEL, "changed.tflite"), (MODEL, "changed.tflite", "--json")],
    "redteam": [
        (MODEL, "--data", "samples.npz"),
        (MODEL, "--data", "samples.npz", "--scenarios"),
        (MODEL, "--data", "samples.npz", "--campaign", "campaign.json"),
        (MODEL, "--data", "samples.npz", "--against", "older.jsonl"),
    ],
    "labels ask": [("store", "--wait", "0")],
    "labels answer": [("questions", "5", "--right", "-o", "out\x1b", *SIGNED)],
    "labels export": [("store", "out\x1b[2J")],
    "labels import": [("store", "answers"), ("store", "answers of another")],
    "labels revoke": [("store", "--source", LONG)],
    "quarantine list": [("store",), ("store", "--json")],
    "quarantine show": [("store", "7"), ("store", "7", "--json")],
    "quarantine release": [("store", "7", *SIGNED)],
    "quarantine confirm": [("store", "7")],
    "explain": [("store",), ("store", "0"), ("store", "1"), ("store", "2"), ("store", "--json")],
    "journal show": [("store",), ("store", "--kind", HOSTILE), ("store", "--json")],
    "journal verify": [("store",), ("store", "--expect", HOSTILE)],
    "journal export": [("store",), ("store", "-o", "out\x1b[2J")],
    "snapshot list": [("store",), ("store", "--json")],
    "snapshot show": [("store", "1"), ("store", "1", "--json")],
    "snapshot verify": [("store",)],
    "snapshot restore": [("store", "1")],
    "snapshot prune": [("store", "--drop", "1")],
    "snapshot export": [("store", "1", "out\x1b[2J.tflite")],
}


def listed(*words: str) -> list[str]:
    """Return what `--help` lists below these words."""
    with contextlib.redirect_stdout(io.StringIO()) as held, pytest.raises(SystemExit):
        main([*words, "--help"])
    below = re.findall(r"^    (\w+)(?: |$)", held.getvalue(), re.MULTILINE)
    return [" ".join((*words, name)) for name in below]


def test_there_is_a_case_for_every_command() -> None:
    first = listed()
    with_acts = {name for name in first if listed(name)}
    assert {*first} - with_acts | {one for name in with_acts for one in listed(name)} == set(CASES)


@pytest.mark.parametrize("command", CASES)
def test_nothing_hostile_is_printed(
    command: str,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, arguments in enumerate(CASES[command]):
        monkeypatch.chdir(shutil.copytree(made, tmp_path / str(number)))
        capsys.readouterr()
        assert main([*command.split(), *arguments]) in (0, 1, 2)
        told = capsys.readouterr()
        assert told.out or told.err, arguments
        assert len(told.out) + len(told.err) < 60_000, arguments
        for line in (told.out + told.err).split("\n"):
            assert line.isprintable(), (arguments, line)
