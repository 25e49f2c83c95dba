"""Real faults in the images that execute: found in one sweep, healed to the bit, outputs equal."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.support import MODELS, SHARED, Array, answers, internals, named, random_batch, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.integrity.guarded_image import CorruptBlock, GuardedImage
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

ROUND = 1 << 40  # bytes: more than any sweep


def guarded(path: Path, runtime: RuntimeName) -> tuple[she.SelfHealingModel, Array]:
    """Return an open model and questions for it."""
    session = Session(path, runtime)
    specs = session.instance.inputs
    session.close()
    x = named(specs, random_batch(specs, 50, seed=1))
    baseline = she.calibrate(path, x, runtime=runtime, seed=1)
    model = she.SelfHealingModel(path, baseline, runtime=runtime)
    return model, named(specs, random_batch(specs, 3, seed=2))  # type: ignore[return-value]


def executing_image(model: she.SelfHealingModel) -> tuple[GuardedImage, Array]:
    """Return the image that executes and its live bytes."""
    images = internals(model).images
    image = images.get("packed", images["source"])
    return image, np.frombuffer(image.live, np.uint8)


def expect_one(found: Sequence[CorruptBlock], offsets: list[int]) -> None:
    """Check that exactly these bytes' blocks were found in live memory, and healed."""
    assert sorted(f.block for f in found) == sorted({o // 512 for o in offsets})
    assert all(f.part == "live" and f.healed for f in found)


def single_bits(image: GuardedImage, live: Array, step: int) -> int:
    """Flip every `step`-th bit, one in each group of blocks at a time; return how many."""
    golden = live.tobytes()
    bits = image.nbytes * 8
    batch = 16  # far apart, so that each is alone in its block
    stride = -(-bits // batch)
    count = 0
    for first in range(0, stride, step):
        places = list(range(first, bits, stride))
        for b in places:
            live[b // 8] ^= np.uint8(1 << (b % 8))
        found = image.step(ROUND, 0)
        expect_one(found, [b // 8 for b in places])
        if len({b // 8 // 512 for b in places}) == len(places):
            assert sum(f.wrong_bits for f in found) == len(places)
        count += len(places)
        if count % 4096 < batch:
            assert live.tobytes() == golden
    assert live.tobytes() == golden
    return count


def random_flips(image: GuardedImage, live: Array, count: int, rng: np.random.Generator) -> None:
    """Flip 1 to 5 random bits, `count` times, each found in one sweep and healed."""
    golden = live.copy()
    for _ in range(count):
        bits = rng.choice(image.nbytes * 8, int(rng.integers(1, 6)), replace=False)
        for b in bits:
            live[b // 8] ^= np.uint8(1 << (b % 8))
        found = image.step(ROUND, 0)
        expect_one(found, [int(b) // 8 for b in bits])
        assert sum(f.wrong_bits for f in found) == len(bits)
        for b in bits:
            assert live[b // 8] == golden[b // 8]
    assert (live == golden).all()


def bursts(image: GuardedImage, live: Array, rng: np.random.Generator) -> None:
    """One block, many blocks, all of it."""
    golden = live.tobytes()
    blocks = image.image.block_count
    for size in {n for n in (1, 2, blocks // 3, blocks - 1, blocks) if 1 <= n <= blocks}:
        first = int(rng.integers(blocks - size + 1))
        part = live[first * 512 : (first + size) * 512]
        part ^= rng.integers(1, 256, part.size, dtype=np.uint8)
        found = image.step(ROUND, 0)
        expect_one(found, list(range(first * 512, min((first + size) * 512, image.nbytes), 512)))
        assert live.tobytes() == golden


def guards(image: GuardedImage, count: int, rng: np.random.Generator) -> None:
    """Flips in tables, key, parity and snapshots: found in one sweep and mended."""
    assert image.parity is not None
    assert image.pool is not None
    golden_bytes = image.image.block_count * 512
    golden = image.pool.memory()[0][:golden_bytes]
    tables = [*image.image.table_memory(), *image.parity.memory(), image.pool.memory()[1]]
    stored = [golden] if image.pool.copies_golden else []
    for memory in [*stored, *tables]:
        before = memory.copy()
        for _ in range(count):
            at = int(rng.integers(memory.size))
            if memory is golden and at >= image.nbytes:
                continue  # padding of the last block
            memory[at] ^= np.uint8(1 << int(rng.integers(8)))
            found = image.guard.step(ROUND, 0) + image.guard.step(0, ROUND)
            assert [f.healed for f in found] == [True]
            assert (memory == before).all()


@pytest.fixture(scope="module")
def small(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        yield model


class TestSample:
    """A little of everything on the bundled model, on both of its images."""

    @pytest.mark.parametrize("name", ["source", "packed"])
    def test_faults(self, small: she.SelfHealingModel, name: str) -> None:
        images = internals(small).images
        if name not in images:
            pytest.skip("the runtime's packed weights are not ours here")
        image = images[name]
        live = np.frombuffer(image.live, np.uint8)
        rng = np.random.default_rng(5)
        single_bits(image, live, step=211)
        random_flips(image, live, 200, rng)
        bursts(image, live, rng)
        guards(image, 12, rng)

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["inline", "background"])
    def test_a_quiet_life_has_no_alarm(
        self,
        digits_baseline: she.Baseline,
        digits: DigitsData,
        mode: Literal["inline", "background"],
    ) -> None:
        quiet_life(digits_baseline, digits, hours=12, mode=mode)


def quiet_life(
    baseline: she.Baseline, digits: DigitsData, hours: int, mode: Literal["inline", "background"]
) -> None:
    """Serve at one prediction a minute of a simulated clock, rebuilt every half hour.

    Another thread makes snapshots and generations with other weights, and goes to and fro between
    them, all the time. No event may speak of damage.
    """
    now = [0.0]
    policy = she.Policy(
        rebuild_after_seconds=1800, known_answers_every=30, max_generations=4, mode=mode
    )
    x = digits.heldout_inputs[:, np.newaxis]
    order = itertools.cycle(np.random.default_rng(3).permutation(len(x)))
    causes: set[str | None] = set()
    is_over = threading.Event()
    rounds, errors = [0], list[BaseException]()
    with she.SelfHealingModel(
        digits_model_path(),
        baseline,
        policy=policy,
        clock=lambda: now[0],
        on_event=lambda event: causes.add(event.cause),
    ) as model:
        expected = answers(model, x[:20])

        def maintain() -> None:
            try:
                while not is_over.is_set():
                    maintain_once(model, rounds[0])
                    rounds[0] += 1
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=maintain)
        thread.start()
        try:
            minutes = 0
            while minutes < hours * 60 or (rounds[0] < hours // 6 and not errors):
                now[0] += 60
                minutes += 1
                model.predict(x[next(order)])
        finally:
            is_over.set()
            thread.join()
        assert errors == []
        assert model.wait_healed(60)
        model.rollback()
        assert causes.isdisjoint({"weight_corruption", "runtime_fault"})
        assert model.health.corrupt_blocks == 0
        assert model.health.guard_repairs == 0
        assert model.health.repairs == model.health.failed_repairs == 0
        assert same(answers(model, x[:20]), expected)


def maintain_once(model: she.SelfHealingModel, number: int) -> None:
    """Make a snapshot and a generation with other weights, use both, and forget them."""
    weights = model.weights
    snapshot = model.snapshot()
    model.rollback(to=snapshot)
    model.rollback(modules=[weights.modules[number % len(weights.modules)]])
    image = internals(model).images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.nbytes)
    with parts_of(model).maintenance_lock:
        at = region.offset + 8 * number % (region.nbytes - 8)
        old = np.frombuffer(image.live, np.uint8)[at : at + 8].copy()
        image.guard.write(at, bytes(old ^ np.uint8(1)))
        changed = parts_of(model).loop.repairs.adopt()
    weights.idle(0.01)
    model.rollback()
    model.rollback(to=changed)
    model.rollback(to=snapshot)
    model.rollback()
    weights.drop(snapshot)
    weights.drop(changed)


@pytest.mark.long
class TestCampaign:
    @pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/models is absent")
    def test_every_bit_of_keyword_spotting(self, shared_models: Path, runtime: RuntimeName) -> None:
        model, x = guarded(shared_models / "kws_dscnn_int8.tflite", runtime)
        with model:
            expected = answers(model, x)
            image, live = executing_image(model)
            assert single_bits(image, live, step=1) == image.nbytes * 8
            assert same(answers(model, x), expected)

    @pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/models is absent")
    @pytest.mark.parametrize("name", MODELS)
    def test_all_models(self, shared_models: Path, runtime: RuntimeName, name: str) -> None:
        """100,000 random flips over 11 models and 2 runtimes, and everything else."""
        model, x = guarded(shared_models / f"{name}.tflite", runtime)
        rng = np.random.default_rng(7)
        with model:
            stateful = name == "mnist_lstm_int8"
            if stateful:
                model.rollback()
            expected = answers(model, x)
            for image in internals(model).images.values():
                live = np.frombuffer(image.live, np.uint8)
                share = 4546 // len(internals(model).images) + 1
                random_flips(image, live, share, rng)
                bursts(image, live, rng)
                guards(image, 20, rng)
            if stateful:
                model.rollback()
            assert same(answers(model, x), expected)

    @pytest.mark.parametrize("mode", ["inline", "background"])
    def test_a_month_without_damage(
        self,
        digits_baseline: she.Baseline,
        digits: DigitsData,
        mode: Literal["inline", "background"],
    ) -> None:
        quiet_life(digits_baseline, digits, hours=30 * 24, mode=mode)
