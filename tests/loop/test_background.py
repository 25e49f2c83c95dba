"""Healing in a thread of its own: answers go on, and what they are worth is said."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.concurrency.test_threads import together
from tests.inference.test_hot_path import ALL, Own, damage
from tests.support import (
    Array,
    DoNothing,
    answers,
    bytes_of,
    causes,
    flip,
    infer_one,
    kinds,
    largest_region,
    pristine,
    run_by,
    same,
    stream,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget

SOON = 30.0


class Held(DoNothing):
    """A strategy that takes until it is let go, and then leaves the work to the next one."""

    def __init__(self, name: str = "held") -> None:
        super().__init__(name)
        self.reached = threading.Event()
        self.go = threading.Event()
        self.thread = ""

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        super().apply(target, case)
        self.thread = threading.current_thread().name
        self.reached.set()
        assert self.go.wait(SOON)
        return RepairOutcome(False, "it was held up")


def policy(**changes: Any) -> she.Policy:
    return she.Policy(mode="background", **{"scrub_bytes_per_predict": ALL, **changes})


@contextlib.contextmanager
def opened(baseline: she.Baseline, **changes: Any) -> Iterator[she.SelfHealingModel]:
    parts = {
        name: changes.pop(name)
        for name in ("monitor", "diagnoser", "repair_kit", "on_event")
        if name in changes
    }
    model = she.SelfHealingModel(
        digits_model_path(), baseline, policy=policy(**changes), seed=1, **parts
    )
    try:
        yield model
    finally:
        together(model.close, timeout_s=SOON)


def held_up(first: str = "held") -> dict[str, Any]:
    """Return a policy whose repair of corrupt weights begins with a strategy called so."""
    responses = {she.Cause.WEIGHT_CORRUPTION: (first, "rollback_block", "rollback_model")}
    return {"responses": responses}


def serve_until_healthy(model: she.SelfHealingModel, samples: Array) -> None:
    """Serve until all is well: what resisted meanwhile is tried again after some time."""
    assert model.wait_healed(SOON)  # while the worker looks, sweeps are left out
    for x in stream(samples, 4000):
        model.infer(x)
        assert model.wait_healed(SOON)
        if model.health.state == "healthy":
            return
    pytest.fail(f"never healthy again: {model.health.trouble}, {model.events[-3:]}")


@pytest.mark.parametrize("hot_spare", [False, True])
@pytest.mark.parametrize("first", ["rollback_block", "rollback_model"])
@pytest.mark.parametrize("seconds", [0.4, pytest.param(20.0, marks=pytest.mark.long)])
def test_what_is_trusted_is_right(
    digits_baseline: she.Baseline, samples: Array, hot_spare: bool, first: str, seconds: float
) -> None:
    """Bits flip at random, at any moment but in the middle of an answer."""
    changes = {"hot_spare": hot_spare, **held_up(first)}
    with opened(digits_baseline, **changes) as model:
        region = largest_region(model)
        expected = answers(model, samples)[0]
        between = threading.Lock()
        end = time.monotonic() + seconds
        calm = threading.Event()
        trusted: set[bool] = set()

        def going_on() -> bool:
            return time.monotonic() < end or len(trusted) < 2

        def predict() -> None:
            n = 0
            while going_on():
                n = (n + 1) % len(samples)
                with between:
                    p = infer_one(model, samples[n])
                assert not p.trusted or np.asarray(p.output).tobytes() == expected[n].tobytes()
                trusted.add(p.trusted)
                calm.set()

        def flips() -> None:
            rng = np.random.default_rng(0)
            assert calm.wait(SOON)
            while going_on():
                time.sleep(0.003)
                with between:
                    at = region.offset + int(rng.integers(region.nbytes))
                    flip(model, at, 1 << int(rng.integers(8)))

        together(predict, predict, flips, timeout_s=seconds + SOON)
        assert trusted == {True, False}
        serve_until_healthy(model, samples)
        assert model.health.repairs > 0
        assert bytes_of(model) == pristine(digits_model_path(), model)
        assert same(answers(model, samples), [expected])
        assert model.infer(samples[0]).trusted


@pytest.mark.parametrize("own_monitor", [False, True])
@pytest.mark.parametrize("hot_spare", [False, True])
def test_no_caller_waits_for_a_repair(
    digits_baseline: she.Baseline, samples: Array, hot_spare: bool, own_monitor: bool
) -> None:
    held = Held()
    monitor = Own(digits_baseline) if own_monitor else None
    parts = {"repair_kit": she.ModelRepairKit(held), "monitor": monitor}
    with opened(digits_baseline, hot_spare=hot_spare, **held_up(), **parts) as model:
        expected = answers(model, samples[:50])[0]
        damage(model)

        def predict() -> None:
            model.predict(samples[0])
            assert held.reached.wait(SOON)
            assert held.thread == "selfheal-edge healing"
            given = [model.infer(x) for x in samples[:50]]
            assert {p.trusted for p in given} == {hot_spare}
            if hot_spare:
                assert same([np.asarray(p.output) for p in given], list(expected))
            assert model.health.state == ("healthy" if hot_spare else "untrusted")
            assert not model.wait_healed(0.01)

        together(predict, timeout_s=SOON)
        held.go.set()
        assert model.wait_healed(SOON)
        assert model.health.state == "healthy"
        assert not parts_of(model).loop.serving.on_spare
        assert same(answers(model, samples[:50]), [expected])
        assert "healed" in str(model.events[-1].outcome)


def test_alarms_of_a_damaged_model_are_none_of_the_healed_one(
    digits_baseline: she.Baseline, samples: Array
) -> None:
    """They wait while it is being healed, and have nothing to say afterwards."""
    held = Held()
    kit = she.ModelRepairKit(held)
    with opened(digits_baseline, **held_up(), repair_kit=kit) as model:
        model.predict(samples[:50])
        damage(model)
        model.predict(samples[0])
        assert held.reached.wait(SOON)
        alarms = 0
        for x in stream(samples, 200):
            p = infer_one(model, np.clip(x.astype(np.int16) + 60, -128, 127).astype(np.int8))
            alarms += len(p.alarms)
        assert alarms > 0
        held.go.set()
        assert model.wait_healed(SOON)
        assert model.health.state == "healthy"
        assert "alarm" not in kinds(model)
        serve_until_healthy(model, samples)


@pytest.mark.slow
@pytest.mark.parametrize("hot_spare", [False, True])
@pytest.mark.parametrize("own_monitor", [False, True])
@pytest.mark.parametrize("seconds", [0.5, pytest.param(20.0, marks=pytest.mark.long)])
def test_everything_at_once(
    digits_baseline: she.Baseline,
    samples: Array,
    hot_spare: bool,
    own_monitor: bool,
    seconds: float,
) -> None:
    """Never a deadlock: whatever calls meanwhile, from whichever thread."""
    events: list[she.Event] = []
    parts = {"on_event": events.append, "monitor": Own(digits_baseline) if own_monitor else None}
    with opened(digits_baseline, hot_spare=hot_spare, known_answers_every=50, **parts) as model:
        expected = answers(model, samples)
        region = largest_region(model)
        end = time.monotonic() + seconds

        def repeat(*calls: Callable[[], object]) -> Callable[[], None]:
            def work() -> None:
                while time.monotonic() < end:
                    for call in calls:
                        # Damaged in between: refused, as it has to be; so is a full arena.
                        with contextlib.suppress(she.errors.IntegrityError):
                            call()

            return work

        def flips() -> None:
            rng = np.random.default_rng(0)
            while time.monotonic() < end:
                time.sleep(0.005)
                flip(model, region.offset + int(rng.integers(region.nbytes)), 1)

        def snapshot() -> None:
            generation = model.snapshot()
            with contextlib.suppress(ValueError):
                model.weights.drop(generation)

        together(
            repeat(lambda: model.predict(samples[:50]), lambda: model.infer(samples[0])),
            repeat(lambda: model.predict(samples[50:52])),
            repeat(snapshot, model.rollback),
            repeat(model.weights.scrub, lambda: model.weights.idle(0.001)),
            repeat(lambda: model.commission(flips=False)),
            repeat(lambda: model.health, lambda: model.events, model.memory_report),
            repeat(lambda: model.wait_healed(0.01)),
            flips,
            timeout_s=seconds + 2 * SOON,
        )
        serve_until_healthy(model, samples)
        assert same(answers(model, samples), expected)
        # Rollbacks may have undone every flip before anything else found it: one that stands.
        repairs = model.health.repairs
        damage(model)
        serve_until_healthy(model, samples)
        assert same(answers(model, samples), expected)
        assert model.health.repairs > repairs
    assert [e.seq for e in events] == list(range(len(events)))


class TestTheLoop:
    def test_drift_is_diagnosed_in_the_worker(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        threads: list[str] = []

        class Seen(she.AttackDiagnoser):
            def diagnose(self, symptoms: Symptoms) -> Diagnosis:
                threads.append(threading.current_thread().name)
                return super().diagnose(symptoms)

        with opened(digits_baseline, diagnoser=Seen()) as model:
            x = stream(samples, 600, seed=2).astype(np.int16)
            moved = np.clip(x + 60, -128, 127).astype(np.int8)
            for n in range(600):
                model.predict(moved[n])
                if n % 50 == 0:
                    assert model.wait_healed(SOON)
            assert model.wait_healed(SOON)
            assert set(threads) == {"selfheal-edge healing"}
            assert causes(model)
            assert model.health.trouble == causes(model)[-1]
            assert model.health.state == "untrusted"

    def test_a_stuck_sensor_and_its_end(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        with opened(digits_baseline) as model:
            for _ in range(60):
                model.predict(samples[3])
            assert model.wait_healed(SOON)
            assert model.health.trouble == "sensor_fault"
            assert not model.infer(samples[3]).trusted
            for x in stream(samples, 400, seed=4):
                model.predict(x)
                assert model.wait_healed(SOON)
            assert model.health.trouble is None
            assert "recovered" in kinds(model)
            assert model.wait_healed(SOON)  # while the worker looks, sweeps are left out
            assert model.infer(samples[5]).trusted

    def test_a_runtime_that_fails(self, digits_baseline: she.Baseline, samples: Array) -> None:
        """The calling thread gets the error; the queue stays short; the model goes on."""
        with opened(digits_baseline) as model:
            expected = answers(model, samples[:5])
            working = parts_of(model).session.instance

            def run(inputs: Any) -> Any:
                raise OSError(f"no luck with {len(inputs)} input(s)")

            run_by(model, run)
            for _ in range(200):
                with pytest.raises(OSError, match=r"no luck with 1 input"):
                    model.predict(samples[0])
                assert len(parts_of(model).loop.dispatcher._worker._jobs) <= 3  # type: ignore[attr-defined]
            assert model.wait_healed(SOON)
            damage(model)
            parts_of(model).session.instance = working
            parts_of(model).loop.serving.attach(working)
            model.predict(samples[0])
            assert model.wait_healed(SOON)
            assert same(answers(model, samples[:5]), expected)
            assert model.health.state == "healthy"

    def test_a_strategy_that_exits(
        self, digits_baseline: she.Baseline, samples: Array, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The thread that heals must outlive it."""

        class Exit(DoNothing):
            def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
                super().apply(target, case)
                if self.calls == 1:
                    sys.exit(1)
                return RepairOutcome(False, "not this time")

        kit = she.ModelRepairKit(Exit("exit"))
        with opened(digits_baseline, repair_kit=kit, **held_up("exit")) as model:
            damage(model)
            with caplog.at_level(logging.CRITICAL, "selfheal_edge"):
                model.predict(samples[0])
                assert model.wait_healed(SOON)
            model.predict(samples[0])
            assert model.wait_healed(SOON)
            assert model.health.state == "healthy"
            assert model.weights.scrub() == ()

    def test_a_strategy_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        """It finds what it is healing, and that ends."""

        class Curious(DoNothing):
            def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
                super().apply(target, case)
                model.predict(samples[7:12])
                return RepairOutcome(False, "only looked")

        look = Curious("look")
        kit = she.ModelRepairKit(look)
        with opened(digits_baseline, repair_kit=kit, **held_up("look")) as model:
            expected = answers(model, samples[:20])
            damage(model)
            model.predict(samples[0])
            assert model.wait_healed(SOON)
            assert 1 <= look.calls <= 3
            assert same(answers(model, samples[:20]), expected)
            assert model.wait_healed(SOON)  # while the worker looks, sweeps are left out
            assert model.infer(samples[0]).trusted

    def test_a_monitor_that_reaches_for_the_weights(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        """It holds the inference lock, for which the worker may wait while it holds the other."""

        class Reaching(she.PerformanceMonitor):
            def update(self, measurement: Measurement) -> tuple[Any, ...]:
                model.weights.scrub()
                return super().update(measurement)

        with opened(digits_baseline, monitor=Reaching(digits_baseline)) as model:
            with pytest.raises(RuntimeError, match="outside an inference, got it from inside one"):
                model.predict(samples[0])
            assert model.weights.scrub() == ()
