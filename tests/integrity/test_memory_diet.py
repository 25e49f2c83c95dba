"""What guarding takes of memory, and what it costs in means of repair."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support import Array, answers, internals, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import IntegrityError
from selfheal_edge.model import parts_of

BLOCK = 512


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may remove."""
    target = tmp_path / "model.tflite"
    shutil.copy(digits_model_path(), target)
    return target


def damage_a_group(model: she.SelfHealingModel) -> None:
    """Damage two blocks of one parity group of the source: more than parity brings back."""
    image = internals(model).images["source"]
    assert image.parity is not None
    live = np.frombuffer(image.live, np.uint8)
    for block in (1, 1 + image.parity.groups):
        live[block * BLOCK + 3] ^= np.uint8(8)


def test_the_file_is_not_held_and_comes_again(
    path: Path, digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[:10, np.newaxis]
    with she.SelfHealingModel(path, digits_baseline) as model:
        report = model.memory_report()
        assert report["model file"] == 0
        copy = parts_of(model).session.copy
        assert copy.original.data == path.read_bytes()
        source = internals(model).images["source"]
        assert copy.model.data == bytes(source.live)
        expected = answers(model, x)
        damage_a_group(model)
        assert len(model.weights.scrub()) == 2
        assert model.weights.scrub() == ()
        assert bytes(source.live) == copy.model.data
        assert source.pool is not None
        told = " ".join(str(event) for event in model.events)
        assert ("from the file" in told) == (not source.pool.copies_golden)
        assert source.pool.copies_golden == ("packed" not in internals(model).images)
        assert same(answers(model, x), expected)


def test_bytes_that_were_given_stay(digits_baseline: she.Baseline) -> None:
    data = digits_model_path().read_bytes()
    with she.SelfHealingModel(data, digits_baseline) as model:
        assert model.memory_report()["model file"] == len(data)
        damage_a_group(model)
        assert len(model.weights.scrub()) == 2
        assert model.weights.scrub() == ()


@pytest.mark.parametrize("snapshots", [True, False])
def test_an_update_of_the_file_takes_nothing_away(
    path: Path, digits_baseline: she.Baseline, *, snapshots: bool
) -> None:
    """A program's update replaces the file while the model serves: golden is in memory."""
    policy = she.Policy(snapshots=snapshots)
    with she.SelfHealingModel(path, digits_baseline, policy=policy) as model:
        before = path.read_bytes()
        copy = parts_of(model).session.copy
        data = bytearray(before)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert copy.original.data == before
        path.unlink()
        assert copy.original.data == before
        assert copy.model.data == bytes(internals(model).images["source"].live)
        model.export(path)
        assert path.read_bytes() == before
        path.unlink()
        damage_a_group(model)
        if snapshots and "packed" not in internals(model).images:
            assert copy.original.data == before
            return
        with pytest.raises(IntegrityError, match="the file was changed or removed since"):
            _ = copy.original.data
