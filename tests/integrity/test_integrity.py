"""Any damage to bytes that execute is found, and healed bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import (
    SHARED,
    Array,
    Break,
    DoNothing,
    answers,
    bytes_of,
    causes,
    examples,
    executing,
    flip,
    internals,
    kinds,
    largest_region,
    named,
    pristine,
    random_batch,
    run_by,
    same,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import IntegrityError
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

BLOCK = 512


def state(model: she.SelfHealingModel) -> str:
    return model.health.state


def generations(model: she.SelfHealingModel) -> tuple[int, ...]:
    return model.weights.generations


def ladder(*names: str) -> she.Policy:
    return she.Policy(responses={she.Cause.WEIGHT_CORRUPTION: names}, scrub_bytes_per_predict=0)


@pytest.fixture(scope="module")
def lasting(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    """One model for many damages: each test must leave it whole."""
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as opened:
        yield opened


class TestAnyByte:
    """Found by a full check, healed, and proven by every byte and by answers."""

    SIZE = digits_model_path().stat().st_size
    """Of the source image at least, and nearly that of the packed one; offsets wrap around."""

    @given(offset=st.integers(0, SIZE - 1), mask=st.integers(1, 255))
    @examples(150)
    def test_one_byte(self, lasting: she.SelfHealingModel, offset: int, mask: int) -> None:
        before = bytes_of(lasting)
        offset %= len(before)
        flip(lasting, offset, mask)
        (block,) = lasting.weights.scrub()
        assert block.offset <= offset < block.offset + block.nbytes
        assert block.block == offset // BLOCK
        assert bytes_of(lasting) == before == pristine(digits_model_path(), lasting)
        assert lasting.weights.scrub() == ()
        assert state(lasting) == "healthy"

    @given(start=st.integers(0, SIZE - 1), data=st.binary(min_size=1, max_size=3 * BLOCK))
    @examples(60)
    def test_a_burst(self, lasting: she.SelfHealingModel, start: int, data: bytes) -> None:
        before = bytes_of(lasting)
        start %= len(before)
        damaged = (before[:start] + data + before[start + len(data) :])[: len(before)]
        memory = she.redteam.inject(lasting).memory(executing(lasting))
        memory[:] = np.frombuffer(damaged, np.uint8)
        hit = {n // BLOCK for n, (a, b) in enumerate(zip(before, damaged, strict=True)) if a != b}
        assert {b.block for b in lasting.weights.scrub()} == hit
        assert bytes_of(lasting) == before

    def test_every_byte_at_once(self, lasting: she.SelfHealingModel, samples: Array) -> None:
        expected = answers(lasting, samples[:50])
        for name, image in internals(lasting).images.items():
            she.redteam.inject(lasting).memory(name)[:] ^= np.uint8(0xFF)
            del image
        blocks = [math.ceil(i.nbytes / BLOCK) for i in lasting.weights.images.values()]
        assert len(lasting.weights.scrub()) == sum(blocks)
        assert same(answers(lasting, samples[:50]), expected)

    def test_reporting_alone_repairs_nothing(self, lasting: she.SelfHealingModel) -> None:
        events = len(lasting.events)
        flip(lasting, 4000)
        assert len(lasting.weights.scrub(repair=False)) == 1
        assert len(lasting.weights.scrub(repair=False)) == 1
        assert len(lasting.events) == events
        assert len(lasting.weights.scrub()) == 1
        assert lasting.weights.scrub(repair=False) == ()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/models is absent")
@pytest.mark.parametrize(
    "name",
    ["ad_autoencoder_int8", "kws_dscnn_int8", "mnist_lstm_int8", "split_concat_uint8"],
)
def test_public_models_heal(shared_models: Path, runtime: RuntimeName, name: str) -> None:
    """Random damage in every kind of region, while each answer is compared with the first."""
    path = shared_models / f"{name}.tflite"
    from selfheal_edge.tflite.session import Session

    session = Session(path, runtime)
    specs = session.instance.inputs
    session.close()
    x = named(specs, random_batch(specs, 50, seed=1))
    baseline = she.calibrate(path, x, runtime=runtime, seed=1)
    questions = random_batch(specs, 3, seed=2)
    rng = np.random.default_rng(3)
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(path, baseline, runtime=runtime, policy=policy) as model:
        stateful = name == "mnist_lstm_int8"
        if stateful:
            model.rollback()  # a rebuild starts the state at zero
        expected = answers(model, named(specs, questions))
        everything = [
            (name, region)
            for name, image in internals(model).images.items()
            for region in image.regions.values()
        ]
        for image_name, region in everything:
            if not region.nbytes:
                continue
            for place in rng.choice(region.nbytes, min(2, region.nbytes), replace=False):
                mask = 1 << int(rng.integers(8))
                flip(model, region.offset + int(place), mask, image_name)
            found = model.weights.scrub()
            assert found
            assert any(region.name in block.regions for block in found)
            if stateful:
                model.rollback()
            assert same(answers(model, named(specs, questions)), expected), region.name
        assert bytes_of(model) == pristine(path, model)
        assert model.health.failed_repairs == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/models is absent")
def test_derived_regions_heal_by_rebuild(shared_models: Path, runtime: RuntimeName) -> None:
    """An LSTM's biases execute from a copy: damage is built in, and a rebuild takes it out."""
    path = shared_models / "mnist_lstm_int8.tflite"
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (60, 1, 28, 28)).astype(np.int8)
    baseline = she.calibrate(path, x, runtime=runtime, seed=1)
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(path, baseline, runtime=runtime, policy=policy) as model:
        rows = [
            row
            for row in model.weights.coverage.weights
            if row.coverage is Coverage.DERIVED and row.region.kind == "bias"
        ]
        assert rows
        model.rollback()
        expected = answers(model, x[:4])
        for row in rows:
            region = row.region
            she.redteam.inject(model).memory()[region.offset :][: region.nbytes] ^= np.uint8(0x55)
        parts_of(model).session.rebuild(
            exchange=parts_of(model).loop.serving.exchange
        )  # as a runtime that was built from damaged bytes
        # Without the loop, whose monitor may notice at once.
        raw = np.stack([parts_of(model).session.instance.run([one])[0] for one in x[:4]])
        assert not np.array_equal(raw, expected[0])
        assert model.weights.scrub()
        repairs = [e for e in model.events if e.kind == "repair"]
        assert "runtime rebuilt" in str(repairs[-1].outcome)
        model.rollback()
        assert same(answers(model, x[:4]), expected)


class TestSweep:
    """The slice before each prediction finds what is damaged, in a bounded number of them."""

    @pytest.mark.parametrize("budget", [512, 4096, 1 << 20])
    @pytest.mark.parametrize("seed", range(4))
    def test_found_in_one_sweep(
        self, digits_baseline: she.Baseline, samples: Array, budget: int, seed: int
    ) -> None:
        policy = she.Policy(scrub_bytes_per_predict=budget)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            bound = math.ceil(model.weights.nbytes / budget)
            x = samples
            expected = answers(model, x[: bound + 5])
            she.redteam.inject(model).flip_bits(1, seed=seed)
            for n in range(bound):
                model.predict(x[n])
                if model.health.corrupt_blocks:
                    break
            assert model.health.corrupt_blocks == 1
            assert bytes_of(model) == pristine(digits_model_path(), model)
            assert same(answers(model, x[: bound + 5]), expected)
            assert causes(model)[-1] == "weight_corruption"

    def test_no_wrong_answer_after_detection(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        """New damage every ten predictions; a sweep takes nine, so all is found in time."""
        policy = she.Policy(scrub_bytes_per_predict=4096)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            # Of each image; how large the packed one is depends on the CPU.
            assert math.ceil(max(i.nbytes for i in internals(model).images.values()) / 4096) < 10
            x = samples
            expected = answers(model, x)[0]
            for n in range(200):
                if n % 10 == 0:
                    she.redteam.inject(model).flip_bits(400, seed=n)
                    repairs = model.health.repairs
                answer = answers(model, x[n])[0]
                if model.health.repairs > repairs:
                    assert answer.tobytes() == expected[n].tobytes(), n
            assert model.health.repairs == 20
            assert model.health.failed_repairs == 0

    def test_an_alarm_looks_at_every_byte(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        """With the sweep off, heavy damage is noticed by the answers and answered anew."""
        policy = she.Policy(scrub_bytes_per_predict=0)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            x = samples
            expected = answers(model, x)[0]
            she.redteam.inject(model).flip_bits(3000, seed=1)
            for n in range(500):
                answer = answers(model, x[n])[0]
                if model.health.repairs:
                    break
            assert model.health.repairs == 1
            assert answer.tobytes() == expected[n].tobytes()
            assert model.health.trouble is None

    def test_a_runtime_that_fails_on_damaged_bytes(
        self,
        digits_baseline: she.Baseline,
        samples: Array,
    ) -> None:
        policy = she.Policy(scrub_bytes_per_predict=0)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            expected = answers(model, samples[0])
            run = parts_of(model).session.instance.run
            sound = bytes_of(model)

            def fragile(inputs: Any) -> Any:
                if bytes_of(model) != sound:
                    raise RuntimeError("invoke failed")
                return run(inputs)

            run_by(model, fragile)
            flip(model, largest_region(model).offset)
            assert same(answers(model, samples[0]), expected)
            assert model.health.repairs == 1


def test_damage_that_makes_a_runtime_refuse(shared_models: Path, runtime: RuntimeName) -> None:
    """A SPLIT along axis 2^31 fails while it runs; the caller gets the right answer instead."""
    path = shared_models / "split_concat_uint8.tflite"
    from selfheal_edge.tflite.session import Session

    session = Session(path, runtime)
    specs = session.instance.inputs
    session.close()
    x = named(specs, random_batch(specs, 50, seed=1))
    baseline = she.calibrate(path, x, runtime=runtime, seed=1)
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(
        path, baseline, runtime=runtime, kernels="builtin", policy=policy
    ) as model:
        expected = answers(model, x)
        (axis,) = [r for r in model.weights.regions if r.name.endswith("split_dim")]
        flip(model, axis.offset + 3, 0x40, "source")
        assert same(answers(model, x), expected)
        assert model.health.repairs == 1
        assert bytes_of(model) == pristine(path, model)


class TestLadder:
    """A strategy that does not hold is followed by the next; the last resort is honesty."""

    def damaged(
        self, baseline: she.Baseline, kit: she.ModelRepairKit, *names: str
    ) -> she.SelfHealingModel:
        model = she.SelfHealingModel(
            digits_model_path(), baseline, policy=ladder(*names), repair_kit=kit
        )
        flip(model, largest_region(model).offset + 3, 0x80)
        return model

    @pytest.mark.parametrize("applied", [True, False])
    def test_a_strategy_that_does_nothing(
        self, digits_baseline: she.Baseline, applied: bool
    ) -> None:
        idle = DoNothing("idle", applied)
        with self.damaged(
            digits_baseline, she.ModelRepairKit(idle), "idle", "rollback_block", "mark_untrusted"
        ) as model:
            assert len(model.weights.scrub()) == 1
            assert idle.calls == 1
            assert [e.strategy for e in model.events if e.kind == "repair"] == [
                "idle",
                "rollback_block",
            ]
            assert state(model) == "healthy"
            assert model.health.failed_repairs == applied
            assert bytes_of(model) == pristine(digits_model_path(), model)

    @pytest.mark.parametrize("error", [IntegrityError("golden is damaged"), OSError("no space")])
    def test_a_strategy_that_raises(self, digits_baseline: she.Baseline, error: Exception) -> None:
        broken = Break("broken", error)
        with self.damaged(
            digits_baseline, she.ModelRepairKit(broken), "broken", "rollback_model"
        ) as model:
            model.weights.scrub()
            assert broken.calls == 1
            assert state(model) == "healthy"
            outcomes = [str(e.outcome) for e in model.events if e.kind == "repair"]
            assert str(error) in outcomes[0]

    @pytest.mark.parametrize("name", ["rollback_module", "rollback_model"])
    def test_each_rollback_alone(self, digits_baseline: she.Baseline, name: str) -> None:
        with self.damaged(digits_baseline, she.ModelRepairKit(), name) as model:
            assert model.weights.scrub()
            assert model.weights.scrub() == ()
            assert model.health.repairs == 1

    def test_rebuild_refuses_damaged_bytes(self, digits_baseline: she.Baseline) -> None:
        with self.damaged(digits_baseline, she.ModelRepairKit(), "rebuild") as model:
            flip(model, 5000, image="source")
            model.weights.scrub()
            (repair,) = [e for e in model.events if e.kind == "repair"]
            assert "not applied" in str(repair.outcome)

    def test_all_fail(self, digits_baseline: she.Baseline, samples: Array) -> None:
        """The model serves on, says that it is not to be trusted, and does not heal in a loop."""
        kit = she.ModelRepairKit(DoNothing("rollback_block"), DoNothing("rollback_model"))
        policy = she.Policy(
            responses={
                she.Cause.WEIGHT_CORRUPTION: ("rollback_block", "rollback_model", "mark_untrusted")
            },
            rediagnose_after=50,
            scrub_bytes_per_predict=16384,
        )
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, policy=policy, repair_kit=kit
        ) as model:
            flip(model, largest_region(model).offset, 0x80)
            assert len(model.weights.scrub()) == 1
            assert state(model) == "untrusted"
            assert model.health.trouble == "weight_corruption"
            assert model.infer(samples[0]).trusted is False
            before = len(model.events)
            for x in samples[:40]:
                assert not model.infer(x).trusted
            assert len(model.events) == before  # known to resist: tried again later, not at once
            model.predict(samples)
            assert before < len(model.events) < before + 40
            assert state(model) == "untrusted"  # signals that look fine prove nothing
            model.rollback()
            assert state(model) == "healthy"
            assert model.health.trouble is None
            assert model.infer(samples[0]).trusted

    def test_other_damage_is_tried_at_once(self, digits_baseline: she.Baseline) -> None:
        kit = she.ModelRepairKit(DoNothing("rollback_block"))
        with self.damaged(digits_baseline, kit, "rollback_block") as model:
            model.weights.scrub()
            failed = model.health.failed_repairs
            flip(model, 0)
            model.weights.scrub()
            assert model.health.failed_repairs > failed

    def test_no_response_is_not_trust(self, digits_baseline: she.Baseline, samples: Array) -> None:
        with self.damaged(digits_baseline, she.ModelRepairKit()) as model:
            model.weights.scrub()
            assert not model.infer(samples[0]).trusted

    def test_unknown_strategies_are_refused_at_once(self, digits_baseline: she.Baseline) -> None:
        with pytest.raises(ValueError, match=r"policy: expected strategies among .* got \['pray'"):
            she.SelfHealingModel(digits_model_path(), digits_baseline, policy=ladder("pray"))


class BadTable:
    """A weight image whose table of checksums was hit."""

    def __init__(self, image: Any) -> None:
        self._image = image

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)

    def table_ok(self) -> bool:
        return False


class TestDamagedGuard:
    """What guards can be hit as well."""

    def test_a_damaged_table_is_mended_and_not_taken_for_damaged_weights(
        self, model: she.SelfHealingModel, samples: Array
    ) -> None:
        guarded = internals(model).images["source"]
        for memory in guarded.image.table_memory():
            before = memory.copy()
            memory[::40] ^= np.uint8(1)
            assert model.weights.scrub(repair=False) == ()
            found = model.weights.scrub()
            assert found
            assert {block.part for block in found} <= {"table", "key"}
            assert all(block.healed for block in found)
            assert (memory == before).all()
        assert model.health.corrupt_blocks == 0
        assert causes(model) == []
        assert model.infer(samples[0]).trusted

    @pytest.mark.parametrize("everything", [False, True])
    def test_a_damaged_golden_copy(self, model: she.SelfHealingModel, everything: bool) -> None:
        """Parity repairs; without it, the file's bytes do: block by block."""
        guarded = internals(model).images["source"]
        offset = guarded.nbytes // 2 // BLOCK * BLOCK
        flip(model, offset, image="source")
        assert guarded.pool is not None
        assert guarded.parity is not None
        if guarded.pool.copies_golden:
            guarded.pool.memory()[0][offset + 1] ^= np.uint8(1)
        if everything:
            guarded.parity.memory()[0][:] ^= np.uint8(1)
        assert model.weights.scrub()
        assert state(model) == "healthy"
        assert bytes(guarded.live) == parts_of(model).session.copy.model.data
        repairs = " ".join(str(e) for e in model.events if e.kind == "repair")
        assert ("from the file" in repairs) == everything
        assert ("from parity" in repairs) == (not everything)
        assert internals(model).mend() == ()

    def test_nothing_is_built_from_damaged_bytes(self, model: she.SelfHealingModel) -> None:
        """A module's rollback heals damage elsewhere first, and does not build upon it."""
        flip(model, 0)
        model.rollback(modules=model.weights.modules[-1:])
        assert bytes_of(model) == pristine(digits_model_path(), model)
        assert state(model) == "healthy"


class TestGenerations:
    def test_snapshot_roll_back_and_drop(self, model: she.SelfHealingModel) -> None:
        first, second = model.snapshot(), model.snapshot()
        assert generations(model) == (0, first, second)
        flip(model, 5000)
        model.rollback(to=first)
        assert model.health.generation == first
        assert bytes_of(model) == pristine(digits_model_path(), model)
        with pytest.raises(ValueError, match=r"generation: expected one of \[2\].* got 1"):
            model.weights.drop(first)
        flip(model, 5000)
        assert len(model.weights.scrub()) == 1
        model.rollback()
        assert model.health.generation == 0
        model.weights.drop(first)
        assert generations(model) == (0, second)
        with pytest.raises(ValueError, match="got 1"):
            model.rollback(to=first)
        assert kinds(model).count("snapshot") == 2

    def test_one_module(self, model: she.SelfHealingModel) -> None:
        region = largest_region(model)
        flip(model, region.offset + region.nbytes // 2)
        model.rollback(modules=region.modules)
        assert model.weights.scrub(repair=False) == ()
        assert model.events[-1].strategy == "rollback_module"

    def test_damage_is_not_saved(self, model: she.SelfHealingModel) -> None:
        flip(model, 100)
        with pytest.raises(IntegrityError, match=r"expected sound bytes to save, got 1 corrupt"):
            model.snapshot()
        assert generations(model) == (0,)

    def test_room_for_generations_is_bounded(self, digits_baseline: she.Baseline) -> None:
        policy = she.Policy(max_generations=2)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            model.snapshot()
            model.snapshot()
            with pytest.raises(RuntimeError, match="drop one"):
                model.snapshot()
            model.weights.drop(1)
            assert model.snapshot() == 3

    @pytest.mark.parametrize("to", [99, -1, "silver", None, True, 0.5])
    def test_unknown_generation(self, model: she.SelfHealingModel, to: Any) -> None:
        with pytest.raises(ValueError, match=r"to: expected 'golden' or one of \(0,\), got"):
            model.rollback(to=to)
        assert state(model) == "healthy"

    def test_unknown_modules(self, model: she.SelfHealingModel) -> None:
        with pytest.raises(ValueError, match=r"modules: expected names among .* got \['nowhere'\]"):
            model.rollback(modules=["nowhere"])
        with pytest.raises(TypeError, match="modules: expected a collection of names"):
            model.rollback(modules=model.weights.modules[0])

    @pytest.mark.parametrize("generation", [0, -1, 7, True, "golden", None])
    def test_drop_unknown(self, model: she.SelfHealingModel, generation: Any) -> None:
        with pytest.raises(ValueError, match="generation: expected one of"):
            model.weights.drop(generation)
