"""`selfheal-edge redteam --scenarios` on a real model, and on what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tflite.builder import dense_model

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import main
from selfheal_edge.redteam.scenarios import SCENARIOS
from selfheal_edge.redteam.scenarios.campaign import run_scenarios
from selfheal_edge.redteam.scenarios.matrix import COLUMNS, ROWS


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    digits = load_digits()
    path = tmp_path / "x.npz"
    np.savez(path, x=digits.heldout_inputs[:300], y=digits.heldout_labels[:300])
    return path


def run(*arguments: str) -> int:
    return main(["redteam", str(digits_model_path()), "--scenarios", *arguments])


@pytest.mark.slow
def test_the_matrix_of_a_users_model(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    json_path = archive.with_suffix(".json")
    assert run("--data", str(archive), "--cases", "1", "--json", str(json_path)) == 0
    shown = capsys.readouterr()
    assert "input    image" in shown.out
    assert "macro-F1" in shown.out
    assert "true / named" in shown.out
    assert "stream 1 of" in shown.err
    content = json.loads(json_path.read_text(encoding="utf-8"))
    assert content["calibrated_on"] == content["drawn_from"] == 150
    assert content["matrix"]["rows"] == list(ROWS)
    counts = np.array(content["matrix"]["counts"])
    assert counts.shape == (len(ROWS), len(COLUMNS))
    causes = [s["cause"] for s in content["streams"]]
    assert set(causes) == {None, *ROWS[1:]}
    # Healthy streams count all, the others where there was an alarm.
    assert counts[0].sum() == causes.count(None)
    first = content["streams"][0]
    assert set(first["named"]) == {"32", "128", "256"}
    assert all(0 <= s["misled"] <= 1 for s in content["streams"] if s["misled"] is not None)


@pytest.mark.slow
def test_the_same_seed_names_the_same() -> None:
    digits = load_digits()
    chosen = [s for s in SCENARIOS if s.name in ("sensor, noisy", "attack, sign")]

    def named(seed: int) -> list[tuple[Any, ...]]:
        campaign = run_scenarios(
            digits_model_path(), digits.heldout_inputs, digits.heldout_labels,
            scenarios=chosen, cases=1, seed=seed,
        )  # fmt: skip
        return [(o.strength, o.flipped, o.alarm_after, o.verdicts) for o in campaign.seen]

    first = named(0)
    assert first == named(0)
    assert first != named(1)


def test_what_cannot_be_read_is_said(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(path: Path, *more: str) -> str:
        assert run("--data", str(path), *more) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err

    assert "no such file" in message(tmp_path / "absent.npz")
    bad = tmp_path / "bad\x1b[31m.npz"
    bad.write_bytes(b"PK\x03\x04 and nothing more")
    said = message(bad)
    assert "expected an .npz file with x and y" in said
    assert "\x1b" not in said
    np.savez(tmp_path / "named.npz", inputs=np.zeros(3))
    assert "it has no x and no y, it has inputs" in message(tmp_path / "named.npz")
    few = tmp_path / "few.npz"
    digits = load_digits()
    np.savez(few, x=digits.heldout_inputs[:100], y=digits.heldout_labels[:100])
    assert "x: expected 128 samples or more, got 100" in message(few)
    np.savez(few, x=digits.heldout_inputs, y=digits.heldout_labels[:100])
    assert "y: expected 500 integers, one per input" in message(few)
    nothing = np.full((200, 8, 8, 1), np.nan, np.float32)
    np.savez(few, x=nothing, y=np.zeros(200, int))
    assert "inputs: expected finite numbers" in message(few)
    np.savez_compressed(few, x=digits.heldout_inputs, y=digits.heldout_labels)
    torn = bytearray(few.read_bytes())
    torn[2000:2100] = bytes(100)
    few.write_bytes(torn)
    assert "expected an .npz file with x and y" in message(few)
    np.savez(few, x=digits.heldout_inputs, y=np.full(500, 3))
    assert "y: expected two classes or more, got one" in message(few)
    np.savez(few, x=digits.heldout_inputs[:, :4], y=digits.heldout_labels)
    assert "inputs: expected samples of shape [8, 8, 1]" in message(few)
    assert "cases: expected 1 or more" in message(archive, "--cases", "0")


def few_vectors(folder: Path) -> Path:
    path = folder / "vectors.npz"
    model = folder / "vectors.tflite"
    model.write_bytes(dense_model(4, 3).file())
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(200, 4)).astype(np.float32), y=rng.integers(3, size=200))
    return path


@pytest.mark.slow
def test_floats_and_vectors_and_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = few_vectors(tmp_path)
    model = str(tmp_path / "vectors.tflite")
    told = ["redteam", model, "--data", str(path), "--scenarios", "--cases", "1", "--json"]
    assert main(told) == 0
    content = json.loads(capsys.readouterr().out)  # in place of the text
    assert content["kind"] == "vector"
    assert {s["cause"] for s in content["streams"]} == {None, *ROWS[1:]}
    wrong = ["redteam", model, "--data", str(path), "--scenarios", "--kind", "spectrogram"]
    assert main(wrong) == 2
    assert "kind: spectrogram does not fit" in capsys.readouterr().err
