"""`selfheal-edge explain`: the diagnosis of a store's journal, in a person's words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device whose light faded, and which was told its temperature."""
    path = tmp_path_factory.mktemp("explain") / "device.store"
    digits = load_digits()
    baseline = she.calibrate(
        digits_model_path(), digits.calibration_inputs, false_alarm_interval=100_000, seed=1
    )
    with she.SelfHealingModel(digits_model_path(), baseline, store=path, seed=1) as model:
        for n, x in enumerate(digits.heldout_inputs[:400, np.newaxis]):
            fading = np.exp(-max(0, n - 128) / 250)
            dark = np.clip((x.astype(int) + 128) * fading - 128, -128, 127).astype(np.int8)
            model.infer(dark, context={"temperature": 35.0 if n < 128 else 61.0})
    return path


def test_the_latest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(store)]) == 0
    text = capsys.readouterr().out
    assert "covariate_drift, gradual" in text
    assert "temperature went from 35 to 61" in text
    for cause in ("weight_corruption", "adversarial_input", "label_shift"):
        assert f"{cause}: " in text[text.index("ruled out") :]
    assert max(map(len, text.splitlines())) <= 100


def test_one_of_them_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "show", str(store), "--kind", "diagnosis", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["records"][0]
    assert found["details"]["cause"] == "covariate_drift"
    assert main(["explain", str(store), str(found["seq"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(("event", "words"), [("0", "diagnosis"), ("9999", "event 9999")])
def test_no_diagnosis(
    store: Path, capsys: pytest.CaptureFixture[str], event: str, words: str
) -> None:
    assert main(["explain", str(store), event]) == 2
    assert words in capsys.readouterr().err
