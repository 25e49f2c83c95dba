"""The public view of the guarded bytes, and what it exports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import Array, answers, flip, internals, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import IntegrityError, ModelClosedError
from selfheal_edge.model import parts_of

INTERNAL = ("activate", "take", "restore", "replace", "follow", "close", "step", "patch")


@pytest.fixture
def model(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as opened:
        yield opened


def test_the_view_shows_and_changes_nothing(model: she.SelfHealingModel) -> None:
    weights = model.weights
    assert not [name for name in INTERNAL if hasattr(weights, name)]
    assert "source" in weights.images
    for name, image in weights.images.items():
        assert image.name == name
        assert image.nbytes == internals(model).images[name].nbytes
        assert not [part for part in ("live", "guard", "pool", "close") if hasattr(image, part)]
    assert weights.nbytes == sum(image.nbytes for image in weights.images.values())
    with pytest.raises(TypeError):
        weights.images["source"].regions["0"] = None  # type: ignore[index]


def test_golden_is_exported_as_the_users_file(model: she.SelfHealingModel, tmp_path: Path) -> None:
    """Without the taps and with the SignatureDefs that our own copy has or lacks."""
    assert internals(model).sound_bytes("source") != digits_model_path().read_bytes()
    model.weights.export(tmp_path / "out.tflite")
    assert (tmp_path / "out.tflite").read_bytes() == digits_model_path().read_bytes()


def test_changed_weights_are_exported_and_answer_alike(
    model: she.SelfHealingModel, digits: DigitsData, tmp_path: Path
) -> None:
    x: Array = digits.heldout_inputs[:50, np.newaxis]
    golden = answers(model, x)
    source = internals(model).images["source"]
    region = max(
        (r for r in source.regions.values() if r.kind == "weights"), key=lambda r: r.nbytes
    )
    old = np.frombuffer(source.live, np.uint8)[region.offset : region.offset + 32].copy()
    source.guard.write(region.offset, bytes(old ^ np.uint8(0x80)))
    parts_of(model).loop.repairs.adopt()
    changed = answers(model, x)
    assert not same(changed, golden)
    path = tmp_path / "changed.tflite"
    model.weights.export(path)
    model.weights.export(tmp_path / "golden.tflite", generation=0)
    assert (tmp_path / "golden.tflite").read_bytes() == digits_model_path().read_bytes()
    with pytest.raises(ValueError, match="generation: expected one of"):
        model.weights.export(tmp_path / "none.tflite", generation=99)
    baseline = she.calibrate(path, digits.calibration_inputs)
    with she.SelfHealingModel(path, baseline) as again:
        assert same(answers(again, x), changed)


def test_damage_is_not_exported(model: she.SelfHealingModel, tmp_path: Path) -> None:
    flip(model, 2000, image="source")
    with pytest.raises(IntegrityError, match="expected sound bytes to export, got 1 corrupt"):
        model.weights.export(tmp_path / "out.tflite")
    assert not list(tmp_path.iterdir())
    model.weights.scrub()
    model.weights.export(tmp_path / "out.tflite")
    model.close()
    with pytest.raises(ModelClosedError):
        model.weights.export(tmp_path / "closed.tflite")
