"""One call of the core serves as many calls would, and as the slower way does, events included."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import (
    Array,
    DoNothing,
    answers,
    flip,
    kinds,
    largest_region,
    run_by,
    same,
    stream,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget

ALL = 1 << 20  # bytes: a whole round before each prediction


class Own(she.PerformanceMonitor):
    """A user's own monitor: whatever it does, the core cannot know."""


class Clock:
    """Seconds that a test gives; does something when a prediction begins."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.at: dict[int, Callable[[she.SelfHealingModel], None]] = {}
        self.model: she.SelfHealingModel | None = None

    def __call__(self) -> float:
        if self.model is not None:
            act = self.at.pop(self.model._serving.number, None)
            if act is not None:
                act(self.model)
        return self.seconds


def damage(model: she.SelfHealingModel) -> None:
    flip(model, largest_region(model).offset + 3, 64)


def told(model: she.SelfHealingModel) -> list[Any]:
    """Return all events but for their times."""
    return [dataclasses.replace(event, monotonic=0.0, wall=0.0) for event in model.events]


def is_hot(model: she.SelfHealingModel, x: Array, out: Array | None = None) -> bool:
    """Whether this goes in one call of the core; served once to see it."""
    hot = model._serving._hot
    return hot is not None and hot.predict(x, out) is not None


def bank_state(model: she.SelfHealingModel) -> bytes:
    monitor = model._parts.monitor
    assert isinstance(monitor, she.PerformanceMonitor)
    assert monitor.core.bank is not None
    return monitor.core.bank.state()


def condition(model: she.SelfHealingModel) -> dict[str, Any]:
    """Return all that predictions leave behind."""
    monitor = model._parts.monitor
    health = dataclasses.asdict(model.health)
    for place in ("protected_share", "fingerprint", "coverage"):
        health.pop(place)
    return {
        "events": told(model),
        "health": health,
        "bank": bank_state(model),
        "window": monitor.window.tobytes(),
        "counts": (monitor.count, monitor.repeats, monitor.nonfinite),
        "last": model._serving.last,
    }


Case = tuple[dict[str, Any], Callable[[Array], Array], dict[int, Callable[[Any], None]]]


def _clean(samples: Array) -> Array:
    return stream(samples, 120, seed=3)


def _stuck(samples: Array) -> Array:
    x = stream(samples, 120, seed=3)
    x[40:75] = x[40]
    return x


def _drift(samples: Array) -> Array:
    x = stream(samples, 400, seed=3)
    x[50:] = np.clip(x[50:].astype(np.int16) + 60, -128, 127).astype(np.int8)
    return x


def _nan(samples: Array) -> Array:
    x: Array = stream(samples, 80, seed=3).astype(np.float32)
    x *= np.float32(1 / 255)
    x[20, 0, 3, 3] = np.nan
    x[33, 0, :2, 3] = np.inf
    x[60:62, 0, 0, 0] = -np.inf
    return x


CASES: dict[str, Case] = {
    "clean": ({}, _clean, {}),
    "stuck": ({}, _stuck, {}),
    "drift": ({}, _drift, {}),
    "periodic": ({"known_answers_every": 7}, _clean, {}),
    "rebuild": ({"rebuild_after_predictions": 50}, _clean, {}),
    "skip": ({"nonfinite": "skip"}, _nan, {}),
    "damage": ({"scrub_bytes_per_predict": ALL}, _clean, {31: damage, 77: damage}),
    "resisting": (
        {
            "scrub_bytes_per_predict": ALL,
            "responses": {she.Cause.WEIGHT_CORRUPTION: ("mark_untrusted",)},
            "rediagnose_after": 20,
        },
        _clean,
        {31: damage},
    ),
    "all": (
        {"scrub_bytes_per_predict": ALL, "known_answers_every": 7, "rediagnose_after": 16},
        _stuck,
        {44: damage, 60: damage, 110: damage},
    ),
}


def served(
    baseline: she.Baseline,
    case: Case,
    samples: Array,
    serve: Callable[[she.SelfHealingModel, Array], list[Array]],
    monitor: she.PerformanceMonitor | None = None,
) -> tuple[list[Array], dict[str, Any]]:
    policy, make, acts = case
    clock = Clock()
    with she.SelfHealingModel(
        digits_model_path(),
        baseline,
        policy=she.Policy(**policy),
        monitor=monitor,
        clock=clock,
        seed=1,
    ) as model:
        clock.at, clock.model = dict(acts), model
        given = serve(model, make(samples))
        clock.model = None
        assert not clock.at, "all was done"
        return given, condition(model)


def at_once(model: she.SelfHealingModel, x: Array) -> list[Array]:
    return list(answers(model, x)[0])


def one_by_one(model: she.SelfHealingModel, x: Array) -> list[Array]:
    return [answers(model, row)[0] for row in x]


def in_parts(model: she.SelfHealingModel, x: Array) -> list[Array]:
    """Batches of several sizes, in both forms, into arrays of the caller's."""
    out: list[Array] = []
    kind = np.float32 if x.dtype == np.float32 else np.int8
    for first in range(0, len(x), 13):
        part = x[first : first + 13]
        if first % 2:
            y = np.asarray(model.predict(part[:, 0], np.empty((len(part), 10), kind)))
            out += list(y[:, np.newaxis])
        else:
            out += list(np.asarray(model.predict(part, np.empty((len(part), 1, 10), kind))))
    return out


@pytest.mark.parametrize("name", CASES)
def test_a_batch_equals_single_calls(
    digits_baseline: she.Baseline, samples: Array, name: str
) -> None:
    singles, expected = served(digits_baseline, CASES[name], samples, one_by_one)
    happens = {"clean": 0, "periodic": 0, "rebuild": 0}.get(name, 1)
    assert len(expected["events"]) >= happens
    for serve in (at_once, in_parts):
        given, left = served(digits_baseline, CASES[name], samples, serve)
        assert same(given, singles)
        assert left == expected


@pytest.mark.parametrize("name", CASES)
def test_the_slower_way_leaves_the_same(
    digits_baseline: she.Baseline, samples: Array, name: str
) -> None:
    hot, expected = served(digits_baseline, CASES[name], samples, at_once)
    for serve in (at_once, one_by_one):
        slow, left = served(digits_baseline, CASES[name], samples, serve, Own(digits_baseline))
        assert same(slow, hot)
        assert left == expected


def test_which_way(digits_baseline: she.Baseline, model: she.SelfHealingModel) -> None:
    """What these tests compare are indeed two ways."""
    x = np.zeros((1, 8, 8, 1), np.int8)
    assert is_hot(model, x)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, monitor=Own(digits_baseline)
    ) as slow:
        assert not is_hot(slow, x)


def test_an_engine_whose_tensors_may_move(model: she.SelfHealingModel, samples: Array) -> None:
    """It has no engine: the slower way, and back to the fast one when it is rebuilt."""
    expected = answers(model, samples[:20])
    calls: list[int] = []
    original = model._session.instance.run

    def run(inputs: Any) -> Any:
        calls.append(1)
        return original(inputs)

    run_by(model, run)
    assert not is_hot(model, samples[0])
    assert same(answers(model, samples[:20]), expected)
    assert len(calls) == 20
    assert model.health.predictions == 40
    model.rollback()
    assert is_hot(model, samples[0])
    assert len(calls) == 20


class TestReEntrance:
    def test_a_diagnoser_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        inner: list[Array] = []

        class Curious(she.AttackDiagnoser):
            def diagnose(self, symptoms: Symptoms) -> Diagnosis:
                inner.extend(answers(model, samples[7:12]))
                return super().diagnose(symptoms)

        with she.SelfHealingModel(
            digits_model_path(),
            digits_baseline,
            diagnoser=Curious(),
            policy=she.Policy(scrub_bytes_per_predict=ALL),
        ) as model:
            expected = answers(model, samples[:20])[0]
            damage(model)
            assert same(answers(model, samples[:20]), [expected])
            assert same(inner, [expected[7:12]])
            assert model.health.predictions == 45
            assert model.health.state == "healthy"
            assert kinds(model) == ["diagnosis", "repair"]

    def test_a_strategy_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        inner: list[Array] = []

        class Curious(DoNothing):
            def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
                super().apply(target, case)
                inner.extend(answers(model, samples[7:12]))
                return RepairOutcome(False, "only looked")

        policy = she.Policy(
            scrub_bytes_per_predict=ALL,
            responses={she.Cause.WEIGHT_CORRUPTION: ("rollback_block", "look", "rollback_model")},
        )
        kit = she.ModelRepairKit(Curious("look"), DoNothing("rollback_block", applied=False))
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, repair_kit=kit, policy=policy
        ) as model:
            expected = answers(model, samples[:20])[0]
            damage(model)
            assert same(answers(model, samples[:20]), [expected])
            assert len(inner) == 1, "what it found itself is not healed in itself"
            assert kinds(model).count("diagnosis") == 1
            assert model.health.state == "healthy"
            assert model.weights.scrub() == ()

    def test_a_clock_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        inner: list[Array] = []
        clock = Clock()
        with she.SelfHealingModel(digits_model_path(), digits_baseline, clock=clock) as model:
            expected = answers(model, samples[:20])[0]
            clock.at[26] = lambda m: inner.extend(answers(m, samples[7:9]))
            clock.model = model
            assert same(answers(model, samples[:20]), [expected])
            assert same(inner, [expected[7:9]])
            clock.model = None

    def test_on_event_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        inner: list[Array] = []

        def on_event(event: she.Event) -> None:
            if event.kind != "closed":
                inner.append(answers(model, samples[3])[0])

        policy = she.Policy(scrub_bytes_per_predict=ALL)
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, on_event=on_event, policy=policy
        ) as model:
            expected = answers(model, samples[:20])[0]
            damage(model)
            assert same(answers(model, samples[:20]), [expected])
            assert same(inner, [expected[3]] * 2)
            assert model.health.predictions == 42


class TestClosing:
    def test_from_on_event(self, digits_baseline: she.Baseline, samples: Array) -> None:
        def on_event(_: she.Event) -> None:
            model.close()

        model = she.SelfHealingModel(
            digits_model_path(),
            digits_baseline,
            on_event=on_event,
            policy=she.Policy(scrub_bytes_per_predict=ALL),
        )
        expected = answers(model, samples[:5])
        damage(model)
        assert same(answers(model, samples[:5]), expected), "it closes when this call is done"
        with pytest.raises(ModelClosedError):
            model.predict(samples[0])
        assert kinds(model) == ["diagnosis", "repair", "closed"]

    def test_from_inside_the_loop(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Closing(she.AttackDiagnoser):
            def diagnose(self, symptoms: Symptoms) -> Diagnosis:
                model.close()
                return super().diagnose(symptoms)

        for call in ("predict", "infer"):
            model = she.SelfHealingModel(
                digits_model_path(),
                digits_baseline,
                diagnoser=Closing(),
                policy=she.Policy(scrub_bytes_per_predict=ALL),
            )
            damage(model)
            with pytest.raises(ModelClosedError):
                getattr(model, call)(samples[0])
            assert model.health.state == "closed"

    @pytest.mark.parametrize("call", ["predict", "infer"])
    def test_from_the_clock(self, digits_baseline: she.Baseline, samples: Array, call: str) -> None:
        clock = Clock()
        model = she.SelfHealingModel(digits_model_path(), digits_baseline, clock=clock)
        model.predict(samples[:3])
        clock.model = model
        clock.at[3] = she.SelfHealingModel.close
        with pytest.raises(ModelClosedError):
            getattr(model, call)(samples[0])
        clock.model = None
        assert model.health.state == "closed"

    @pytest.mark.parametrize("size", [1, 50])
    def test_from_another_thread(
        self, digits_baseline: she.Baseline, samples: Array, size: int
    ) -> None:
        for wait in (0.0, 0.001, 0.005, 0.02):
            model = she.SelfHealingModel(digits_model_path(), digits_baseline)
            x = samples[:size]
            expected = answers(model, x)
            wrong: list[BaseException] = []

            def serve(
                model: she.SelfHealingModel = model,
                x: Array = x,
                expected: list[Array] = expected,
                wrong: list[BaseException] = wrong,
            ) -> None:
                try:
                    while True:
                        assert same(answers(model, x), expected)
                except ModelClosedError:
                    pass
                except BaseException as error:
                    wrong.append(error)

            threads = [threading.Thread(target=serve, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            threads[0].join(wait)
            model.close()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()
            assert not wrong
