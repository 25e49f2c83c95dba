"""`labels` and `quarantine`: this process asks and answers, another one serves."""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import warm
from tests.support import in_memory

import selfheal_edge as she
from selfheal_edge.assets import load_digits
from selfheal_edge.cli import main
from selfheal_edge.cli.picture import save_input
from selfheal_edge.errors import IntegrityError
from selfheal_edge.learning.labels_file import (
    read_answers,
    read_questions,
    write_answers,
    write_questions,
)
from selfheal_edge.learning.questions import AskedLabel, Question
from selfheal_edge.learning.sources import FeedbackSource

KEY = b"a key of the test"
SOURCE_KEY = b"the operator's own key, 32 bytes"
DIGITS = load_digits()
SERVE = """
import sys
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.store import store
store._BATCH_SECONDS = 0.05  # what comes from other processes is looked at as often
path, baseline = sys.argv[1:]
policy = she.Policy(keep_inputs=3600.0)
with she.SelfHealingModel(
    digits_model_path(), she.Baseline.load(baseline), store=path, key=KEY, policy=policy
) as model:
    model.feedback_source("operator", SOURCE_KEY)
    x = load_digits().heldout_inputs
    found = model.infer(x[:100])
    for n in range(4):  # far from their class, and nobody vouches for them
        model.feedback((int(found.labels[n]) + 5) % 10, id=int(found.ids[n]), source="kiosk")
    print("serving", *found.ids.tolist(), flush=True)
    for line in sys.stdin:
        # First what was told: the pool that follows has it.
        told = [one.outcome for one in model.events if one.kind == "request"]
        held = [[s.id, s.label, s.source] for s in model.trusted_pool.list()]
        print(held, told, flush=True)
"""


class Served:
    """A process that serves, its store, and what it says."""

    def __init__(self, folder: Path, baseline: she.Baseline) -> None:
        self.store = folder / "store"
        self.key = folder / "key"
        self.key.write_bytes(KEY)
        self.source_key = folder / "source.key"
        self.source_key.write_bytes(SOURCE_KEY)
        baseline.save(folder / "baseline")
        text = SERVE.replace("SOURCE_KEY", repr(SOURCE_KEY)).replace("=KEY", f"={KEY!r}")
        self.process = warm.start(text, self.store, folder / "baseline")
        words = self.process.stdout.readline().split()
        assert words[:1] == ["serving"]
        self.ids = [int(word) for word in words[1:]]

    def held(self, wanted: Callable[[str], bool]) -> str:
        """Return what the process says, once it says what is wanted."""
        until = time.monotonic() + 90
        while True:
            self.process.stdin.write("?\n")
            line = self.process.stdout.readline()
            if wanted(line):
                return line
            assert time.monotonic() < until, line
            time.sleep(0.05)


@pytest.fixture(scope="module")
def served(digits_baseline: she.Baseline) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="selfheal-labels-", dir=in_memory()) as folder:
        one = Served(Path(folder), digits_baseline)
        with one.process:
            yield one
            one.process.stdin.close()  # the end of its input ends it
            assert one.process.wait() == 0, one.process.errors()


@pytest.fixture
def run(served: Served, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def command(*words: object) -> tuple[int, Any]:
        code = main([str(word) for word in (*words, "--key", served.key, "--json")])
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out else told.err

    return command


def test_a_person_asks_looks_and_answers_beside_the_process_that_serves(
    served: Served, run: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    code, told = run("labels", "ask", served.store, "--limit", 6, "--wait", 60, "--save", tmp_path)
    assert code == 0
    questions = told["questions"]
    assert len(questions) == 6
    one, two, *_ = questions
    assert len(one["answers"]) == 2
    picture = Path(one["file"]).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    source = ("--source", "operator", "--source-key", served.source_key)
    assert run("labels", "answer", served.store, one["id"], "--right", *source)[0] == 0
    assert run("labels", "answer", served.store, two["id"], "--label", 3)[0] == 0
    line = served.held(lambda line: f"[{one['id']}, " in line and line.count("accepted") >= 1)
    assert "'operator'" in line

    # Elsewhere: the questions go as a file, and the answers come as one.
    exported, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    code, told = run("labels", "export", served.store, exported)
    assert code == 0
    assert told["questions"] == told["with_input"] >= 4
    waiting = [q["id"] for q in questions[2:4]]
    for id in waiting:
        code, told = run("labels", "answer", exported, id, "--right", "-o", answers, *source)
        assert code == 0
    assert told["answers"] == 2
    assert run("labels", "import", served.store, answers)[0] == 0
    served.held(lambda line: all(f"[{id}, " in line for id in waiting))
    # The same file again is refused, label by label.
    assert run("labels", "import", served.store, answers)[0] == 0
    served.held(lambda line: "2 refused" in line)
    # And a question that is not in the file is none.
    code, told = run("labels", "answer", exported, 12, "--right", "-o", answers, *source)
    assert code == 2
    assert "id: expected a question of" in told


def test_a_person_reviews_suspects_beside_the_process_that_serves(
    served: Served, run: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    until = time.monotonic() + 90
    suspects: list[dict[str, Any]] = []
    while len(suspects) < 2 and time.monotonic() < until:
        run("labels", "ask", served.store, "--limit", 1, "--wait", 0)
        suspects = run("quarantine", "list", served.store)[1]["quarantine"]
        time.sleep(0.2)
    one, two = suspects[:2]
    assert one["reason"] == "label not believed"
    code, told = run("quarantine", "show", served.store, one["id"], "--save", tmp_path)
    assert code == 0
    assert Path(told["file"]).is_file()
    source = ("--source", "operator", "--source-key", served.source_key)
    right = int(DIGITS.heldout_labels[served.ids.index(one["id"])])
    code, _ = run("quarantine", "release", served.store, one["id"], "--label", right, *source)
    assert code == 0
    assert run("quarantine", "confirm", served.store, two["id"])[0] == 0
    line = served.held(lambda line: "is what it is suspected of" in line)
    assert f"[{one['id']}, {right}, 'operator']" in line
    code, told = run("quarantine", "show", served.store, 12)
    assert code == 2
    assert "id: expected one in quarantine, got 12" in told


MODEL = "ab" * 32
ASKED = AskedLabel("any", 0.5, None, None, None)


def questions_of() -> list[Question]:
    inputs = [np.arange(6, dtype=np.int8).reshape(2, 3), None]
    return [
        Question(n + 5, one, (1, 2), f"reason {n}", asked=ASKED) for n, one in enumerate(inputs)
    ]


def test_a_person_has_a_source_unlearned_beside_the_process_that_serves(
    served: Served, run: Callable[..., tuple[int, Any]]
) -> None:
    asked = run("labels", "ask", served.store, "--limit", 1, "--wait", 60)[1]["questions"]
    assert asked, "from now on the store says what it is of"
    source = ("--source", "operator", "--source-key", served.source_key)
    assert run("labels", "answer", served.store, served.ids[50], "--right", *source)[0] == 0
    served.held(lambda line: f"[{served.ids[50]}, " in line)
    code, told = run("labels", "revoke", served.store, "--source", "operator")
    assert code == 0
    assert told["source"] == "operator"
    served.held(lambda line: "revoke: source 'operator': " in line and "'operator']" not in line)
    assert run("labels", "revoke", served.store, "--id", 1, 2)[1]["ids"] == [1, 2]
    served.held(lambda line: "revoke: no prediction of this model has 2 ids" in line)
    for wrong in ((), ("--source", "operator", "--id", 1)):
        with pytest.raises(SystemExit):
            run("labels", "revoke", served.store, *wrong)


@pytest.mark.parametrize("key", [None, KEY])
def test_files_hold_what_was_written_and_refuse_every_change(key: bytes | None) -> None:
    data = write_questions(MODEL, questions_of(), key)
    model, found = read_questions(data, key)
    assert model == MODEL
    assert [(q.id, q.answers, q.reason) for q in found] == [
        (5, (1, 2), "reason 0"),
        (6, (1, 2), "reason 1"),
    ]
    assert found[0].inputs is not None
    np.testing.assert_array_equal(found[0].inputs[0], questions_of()[0].input)
    assert found[1].inputs is None
    lines = data.splitlines(keepends=True)
    broken = [
        b"".join(lines[:-1]),
        b"".join([lines[0], lines[2], lines[1]]),
        b"".join([*lines, lines[1]]),
        data.replace(b"reason 1", b"reason 2"),
        data[:-40],
        b"",
        b"\xff\xfe{}",
        b"[1]\n",
    ]
    for other in broken:
        with pytest.raises(IntegrityError):
            read_questions(other, key)
    with pytest.raises(IntegrityError):
        read_questions(data, b"another key of the test")
    with pytest.raises(IntegrityError):
        read_answers(data, key)


def test_answers_survive_a_file_with_their_signatures() -> None:
    source = FeedbackSource("operator", SOURCE_KEY, model=MODEL)
    signed = [source.sign(5, 3), source.sign(6, correct=False)]
    model, found = read_answers(write_answers(MODEL, signed[::-1], KEY), KEY)
    assert model == MODEL
    assert [one.to_dict() for one in found] == [one.to_dict() for one in signed]
    assert all(source.holds(one) for one in found)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((8, 8, 1), "png"), ((12, 10), "png"), ((6, 7, 3), "png"), ((9,), "csv"), ((9, 2), "png")],
)
def test_an_input_is_saved_as_what_it_looks_like(
    shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    raw = np.arange(np.prod(shape)).astype(np.int8).reshape(shape)
    path = save_input(tmp_path, "one", raw)
    assert path.suffix == f".{kind}"
    data = path.read_bytes()
    if kind == "csv":
        assert data.decode().split() == [str(int(v)) for v in raw.ravel()]
        return
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    rows = zlib.decompress(data[at + 4 : at + 4 + size])
    width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
    channels = 3 if data[25] == 2 else 1
    assert len(rows) == height * (1 + width * channels)
    assert (height % shape[0], width % shape[1]) == (0, 0)
    assert max(height, width) >= 192
