"""Weights that the runtime has packed: the bytes that execute under LiteRT's default kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support import (
    RUNTIMES,
    Array,
    answers,
    bytes_of,
    examples,
    flip,
    internals,
    pristine,
    same,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.coverage.table import Coverage

pytestmark = pytest.mark.skipif("litert" not in RUNTIMES, reason="LiteRT is not installed")


_BROKEN: set[int] = set()


@pytest.fixture(scope="module")
def packed(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, runtime="litert", policy=policy
    ) as opened:
        if "packed" not in opened.weights.images:  # an emulator without the instructions, say
            pytest.skip(opened.health.coverage.reason)
        yield opened


def test_all_weights_execute_from_the_packed_image(packed: she.SelfHealingModel) -> None:
    assert set(packed.weights.images) == {"source", "packed", "input"}
    assert packed.health.fingerprint.kernels == "default"
    rows = packed.weights.coverage.weights
    assert {row.image for row in rows} == {"packed"}
    assert {row.coverage for row in rows} == {Coverage.EXECUTING}


@given(offset=st.integers(0, 1 << 20), mask=st.integers(1, 255))
@examples(100)
def test_any_byte(packed: she.SelfHealingModel, offset: int, mask: int) -> None:
    """Each is found, named and restored in place, without rebuilding the runtime."""
    instance = parts_of(packed).session.instance
    offset %= len(bytes_of(packed))
    assume(offset not in _BROKEN)  # what breaks again at the same place is a failing cell
    _BROKEN.add(offset)
    flip(packed, offset, mask, "packed")
    (block,) = packed.weights.scrub()
    assert block.image == "packed"
    assert block.offset <= offset < block.offset + block.nbytes
    assert packed.weights.scrub() == ()
    assert parts_of(packed).session.instance is instance
    assert bytes_of(packed) == pristine(digits_model_path(), packed)


def test_answers_change_and_come_back(packed: she.SelfHealingModel, samples: Array) -> None:
    expected = answers(packed, samples)
    she.redteam.inject(packed).flip_bits(300, image="packed", seed=5)
    # Nothing has been checked yet: an inference on its own shows what the flips do.
    raw = [parts_of(packed).session.instance.run([sample])[0] for sample in samples[:100]]
    assert not np.array_equal(np.concatenate(raw), np.concatenate(expected[0][:100]))
    assert packed.weights.scrub()
    assert same(answers(packed, samples), expected)


def test_a_corrupt_block_names_its_module(packed: she.SelfHealingModel) -> None:
    image = internals(packed).images["packed"]
    region = max((r for r in image.regions.values() if r.modules), key=lambda r: r.nbytes)
    flip(packed, region.offset + region.nbytes // 2, 8, "packed")
    (block,) = packed.weights.scrub()
    assert set(region.modules) <= set(block.modules)
    assert set(block.modules) <= set(packed.weights.modules)


def test_both_images_at_once(packed: she.SelfHealingModel, samples: Array) -> None:
    """Damage in the file's bytes is healed as well: the next rebuild starts from them."""
    expected = answers(packed, samples[:50])
    for name in ("source", "packed"):
        she.redteam.inject(packed).memory(name)[:] ^= np.uint8(0x5A)
    assert {block.image for block in packed.weights.scrub()} == {"source", "packed"}
    assert same(answers(packed, samples[:50]), expected)
    packed.rollback()
    assert same(answers(packed, samples[:50]), expected)


def test_a_rebuild_is_watched_from_the_start(packed: she.SelfHealingModel, samples: Array) -> None:
    """The new instance's packed image takes the old one's place, with the same bytes."""
    expected = answers(packed, samples[:50])
    before = bytes_of(packed)
    packed.rollback()
    assert bytes_of(packed) == before
    flip(packed, 100, 1, "packed")
    assert len(packed.weights.scrub()) == 1
    assert same(answers(packed, samples[:50]), expected)


def test_generations_survive_a_rebuild(packed: she.SelfHealingModel) -> None:
    generation = packed.snapshot()
    packed.rollback(to=generation)
    assert packed.health.generation == generation
    flip(packed, 200, 1, "packed")
    assert len(packed.weights.scrub()) == 1
    packed.rollback()
    packed.weights.drop(generation)
    assert packed.weights.generations == (0,)


def test_the_sweep_finds_it(digits_baseline: she.Baseline, samples: Array) -> None:
    """At the latest when health says, which is when every block has been looked at once."""
    policy = she.Policy(scrub_bytes_per_predict=1024)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, runtime="litert", policy=policy
    ) as model:
        if "packed" not in model.weights.images:
            pytest.skip(model.health.coverage.reason)
        size = model.weights.images["packed"].nbytes
        flip(model, size // 3, 64, "packed")
        latest = model.health.detection_latency.predictions
        assert latest is not None
        # Images share what is checked at a prediction; whole rows of blocks are, of 8 KiB.
        images = model.weights.images.values()
        assert latest <= sum(-(-image.nbytes // 8192) * 8192 for image in images) // 1024 + 1
        for n in range(latest):
            model.predict(samples[n])
        assert model.health.corrupt_blocks >= 1
        assert model.weights.scrub(repair=False) == ()
