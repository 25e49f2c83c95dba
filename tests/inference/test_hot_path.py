"""One call of the core serves as many calls would, and with parts in Python, events included."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import (
    Array,
    DoNothing,
    answers,
    flip,
    infer_one,
    kinds,
    largest_region,
    run_by,
    same,
    stream,
)

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance

ALL = 1 << 20  # bytes: a whole round before each prediction


class Own(she.PerformanceMonitor):
    """A user's own monitor: the core calls it, and hears from it what it raises."""

    heard = 0

    def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
        self.heard += 1
        return super().update(measurement)


class Renamed(she.PerformanceMonitor):
    """A user's own monitor that updates as ours does."""


class Clock:
    """Seconds that a test gives; does something when a prediction begins."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.at: dict[int, Callable[[she.SelfHealingModel], None]] = {}
        self.model: she.SelfHealingModel | None = None

    def __call__(self) -> float:
        if self.model is not None:
            act = self.at.pop(parts_of(self.model).loop.serving.hot.number, None)
            if act is not None:
                act(self.model)
        return self.seconds


def damage(model: she.SelfHealingModel) -> None:
    flip(model, largest_region(model).offset + 3, 64)


def told(model: she.SelfHealingModel) -> list[Any]:
    """Return all events but for their times."""
    return [dataclasses.replace(event, monotonic=0.0, wall=0.0) for event in model.events]


def is_hot(
    model: she.SelfHealingModel, x: Array | dict[str, Array], out: Array | None = None
) -> bool:
    """Whether the core takes this without Python's reader; served once to see it."""
    return parts_of(model).loop.serving.hot.predict(x, out) is not None


def infer_batch(model: she.SelfHealingModel, x: Array) -> she.Predictions:
    found = model.infer(x)
    assert isinstance(found, she.Predictions)
    return found


def bank_state(model: she.SelfHealingModel) -> bytes:
    monitor = parts_of(model).monitor
    assert isinstance(monitor, she.PerformanceMonitor)
    assert monitor.core.bank is not None
    return monitor.core.bank.state()


def condition(model: she.SelfHealingModel) -> dict[str, Any]:
    """Return all that predictions leave behind."""
    monitor = parts_of(model).monitor
    health = dataclasses.asdict(model.health)
    for place in ("protected_share", "fingerprint", "coverage", "budget", "code"):
        health.pop(place)
    return {
        "events": told(model),
        "health": health,
        "bank": bank_state(model),
        "window": monitor.window.tobytes(),
        "counts": (monitor.count, monitor.repeats, monitor.nonfinite),
        "recent": recent(model),
    }


def recent(model: she.SelfHealingModel) -> list[bytes | None]:
    """Return what is kept of the latest inferences."""
    kept = parts_of(model).extractor.recent()
    assert len(kept) == min(256, model.health.predictions)
    arrays = (*kept.inputs, kept.outputs, kept.embeddings, kept.labels)
    return [None if array is None else array.tobytes() for array in arrays]


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
        policy=she.Policy(**{"scrub_bytes_per_predict": 64, **policy}),
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
def test_the_latest_samples_are_those_that_the_monitor_was_given(
    digits_baseline: she.Baseline, samples: Array, name: str
) -> None:
    """One row an inference, whatever was healed, asked or served anew in between."""
    policy, make, acts = CASES[name]
    clock = Clock()
    x = make(samples)

    class Reading(Own):
        """Reads what is kept when it is given an inference."""

        def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
            if clock.model is not None:
                kept = parts_of(clock.model).extractor.recent()
                assert len(kept) == min(256, self.heard + 1)
                assert kept.labels[-1] == (-1 if measurement.label is None else measurement.label)
                if x.dtype == np.int8:
                    assert np.array_equal(kept.inputs[0][-1], x[self.heard, 0])
            return super().update(measurement)

    with she.SelfHealingModel(
        digits_model_path(),
        digits_baseline,
        policy=she.Policy(**{"scrub_bytes_per_predict": 64, **policy}),
        monitor=Reading(digits_baseline),
        clock=clock,
        seed=1,
    ) as model:
        clock.at, clock.model = dict(acts), model
        given = np.asarray(at_once(model, x)).reshape(len(x), 10)
        kept = parts_of(model).extractor.recent()
        clock.model = None
        count = min(256, len(x))
        assert kept.outputs is not None
        assert kept.embeddings is not None
        assert kept.outputs.shape == (count, 10)
        assert len(kept.inputs[0]) == len(kept.embeddings) == count
        if x.dtype == np.int8:
            assert np.array_equal(kept.inputs[0], x[-count:, 0])
        if not acts:  # an answer that was served anew is the healed one
            levels = given[-count:]
            if x.dtype == np.float32:
                levels = np.argmax(levels, 1)
                assert np.array_equal(kept.labels, levels)
            else:
                assert np.array_equal(kept.outputs, levels)


@pytest.mark.parametrize("name", CASES)
def test_a_monitor_in_python_leaves_the_same(
    digits_baseline: she.Baseline, samples: Array, name: str
) -> None:
    hot, expected = served(digits_baseline, CASES[name], samples, at_once)
    for serve in (at_once, one_by_one):
        own = Own(digits_baseline)
        given, left = served(digits_baseline, CASES[name], samples, serve, own)
        assert same(given, hot)
        assert left == expected
        assert own.heard == expected["health"]["predictions"] == own.count


@pytest.mark.parametrize("name", CASES)
def test_an_engine_in_python_leaves_the_same(
    digits_baseline: she.Baseline,
    samples: Array,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hot, expected = served(digits_baseline, CASES[name], samples, at_once)
    # What every instance has whose tensors may move.
    monkeypatch.setattr(CompiledInstance, "engine", None)
    monkeypatch.setattr(InterpreterInstance, "engine", None)
    for serve in (at_once, one_by_one, in_parts):
        given, left = served(digits_baseline, CASES[name], samples, serve)
        assert same(given, hot)
        assert left == expected


def test_infer_leaves_the_same(digits_baseline: she.Baseline, samples: Array) -> None:
    """And says of each answer in a batch what it says of it alone."""

    def fields(p: she.Prediction) -> tuple[object, ...]:
        return (p.id, p.label, p.confidence, p.trusted, p.alarms)

    for name in ("clean", "stuck", "drift", "skip", "damage", "all"):
        hot, expected = served(digits_baseline, CASES[name], samples, at_once)
        given: list[she.Prediction] = []
        batches: list[she.Predictions] = []

        def one_by_one(
            model: she.SelfHealingModel, x: Array, given: list[she.Prediction] = given
        ) -> list[Array]:
            given += [infer_one(model, row) for row in x]
            return [np.asarray(p.output) for p in given]

        def in_batches(
            model: she.SelfHealingModel, x: Array, batches: list[she.Predictions] = batches
        ) -> list[Array]:
            batches += [infer_batch(model, x[first : first + 17]) for first in range(0, len(x), 17)]
            return [row for b in batches for row in np.asarray(b.output)]

        for serve in (one_by_one, in_batches):
            y, left = served(digits_baseline, CASES[name], samples, serve)
            assert same(y, hot)
            assert left == expected
        flat: list[tuple[object, ...]] = []
        for b in batches:
            assert b.labels is not None
            assert b.confidence is not None
            assert len(b) == len(b.ids) == len(b.alarms)
            for n in range(len(b)):
                label = int(b.labels[n])
                known = label >= 0
                assert known == (not np.isnan(b.confidence[n]))
                flat.append(
                    (
                        int(b.ids[n]),
                        label if known else None,
                        float(b.confidence[n]) if known else None,
                        bool(b.trusted[n]),
                        b.alarms[n],
                    )
                )
        assert flat == [fields(p) for p in given]
        assert all(p.trusted for p in given) == (name in ("clean", "damage"))
        assert any(p.alarms for p in given) == (name not in ("clean", "damage"))


def test_what_the_core_updates(digits_baseline: she.Baseline, samples: Array) -> None:
    """A monitor that overrides nothing costs nothing: the core updates its charts."""
    own, renamed = Own(digits_baseline), Renamed(digits_baseline)
    replaced = she.PerformanceMonitor(digits_baseline)
    heard: list[Measurement] = []
    replaced.update = lambda m: heard.append(m) or ()  # type: ignore[method-assign,assignment,func-returns-value]
    for monitor, count in ((own, 5), (renamed, 5), (replaced, 0)):
        with she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=monitor) as model:
            model.predict(samples[:5])
            assert monitor.count == count
    assert own.heard == len(heard) == 5


def test_what_a_monitor_hears(digits_baseline: she.Baseline, samples: Array) -> None:
    """A raw run, measured by the obvious steps: to the bit."""
    heard: list[Measurement] = []

    class Writing(she.PerformanceMonitor):
        def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
            heard.append(measurement)
            return ()

    monitor = Writing(digits_baseline)
    x = np.concatenate([samples[:20], samples[19:21], samples[20:40]])
    with she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=monitor) as model:
        model.predict(x)
        instance = parts_of(model).session.instance
        extractor = digits_baseline.extractor(instance)
        expected = [extractor.measure([row], instance.run([row]), instance.tapped()) for row in x]
    assert all(type(m) is Measurement for m in heard)
    np.testing.assert_equal([tuple(m) for m in heard], [tuple(m) for m in expected])
    assert [m.repeats_previous for m in heard].count(True) == 2


class TestAMonitorOfTheUsers:
    def test_that_raises(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Failing(she.PerformanceMonitor):
            def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
                if self.count == 3:
                    self.core.reset()
                    raise KeyError("mine")
                return super().update(measurement)

        for call in ("predict", "infer"):
            monitor = Failing(digits_baseline)
            with she.SelfHealingModel(
                digits_model_path(), digits_baseline, monitor=monitor
            ) as model:
                with pytest.raises(KeyError, match="mine"):
                    getattr(model, call)(samples[:10])
                assert model.health.predictions == 4
                with pytest.raises(KeyError, match="mine"):
                    getattr(model, call)(samples[0])

    def test_that_predicts(self, digits_baseline: she.Baseline, samples: Array) -> None:
        """Its own inference is another one: answer, label and number of the first stay its own."""
        inner: list[Array] = []

        class Curious(she.PerformanceMonitor):
            is_inside = False

            def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
                if not self.is_inside:
                    self.is_inside = True
                    inner.append(answers(model, samples[30])[0])
                    self.is_inside = False
                return super().update(measurement)

        with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as plain:
            expected = [infer_one(plain, x) for x in samples[:9]]
            other = answers(plain, samples[30])[0]
        monitor = Curious(digits_baseline)
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, monitor=monitor, seed=1
        ) as model:
            given = [infer_one(model, x) for x in samples[:5]]
            batch = infer_batch(model, samples[5:9])
            assert same(inner, [other] * 9)
        outputs = [np.asarray(p.output) for p in given] + list(np.asarray(batch.output))
        assert same(outputs, [np.asarray(p.output) for p in expected])
        assert batch.labels is not None
        labels = [p.label for p in given] + batch.labels.tolist()
        assert labels == [p.label for p in expected]
        first = expected[0].id
        ids = [p.id for p in given] + batch.ids.tolist()
        assert ids == [first + 2 * n for n in range(9)]

    def test_that_closes(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Closing(she.PerformanceMonitor):
            def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
                if self.count == 2:
                    model.close()
                return super().update(measurement)

        model = she.SelfHealingModel(
            digits_model_path(), digits_baseline, monitor=Closing(digits_baseline)
        )
        with pytest.raises(ModelClosedError):
            model.predict(samples[:10])
        assert model.health.state == "closed"

    def test_that_is_forgotten_with_its_model(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        class Knowing(she.PerformanceMonitor):
            model: she.SelfHealingModel

            def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
                return super().update(measurement)

        monitor = Knowing(digits_baseline)
        model = she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=monitor)
        monitor.model = model
        model.predict(samples[0])
        gone = weakref.ref(monitor)
        model.close()
        del monitor, model
        gc.collect()
        assert gone() is None


def test_an_engine_whose_tensors_may_move(model: she.SelfHealingModel, samples: Array) -> None:
    """It has no engine of its own: its `run` is called, until it is rebuilt."""
    expected = answers(model, samples[:20])
    calls: list[int] = []
    original = parts_of(model).session.instance.run

    def run(inputs: Any) -> Any:
        calls.append(1)
        return original(inputs)

    run_by(model, run)
    assert same(answers(model, samples[:20]), expected)
    assert len(calls) == 20
    out = np.empty((20, 1, 10), np.int8)
    assert model.predict(samples[:20], out) is out
    assert same([out], expected)
    assert model.health.predictions == 60
    model.rollback()
    calls.clear()
    assert same(answers(model, samples[:20]), expected)
    assert not calls


class TestARunInPython:
    def test_that_is_interrupted(self, model: she.SelfHealingModel, samples: Array) -> None:
        def run(_: Any) -> Any:
            raise KeyboardInterrupt

        run_by(model, run)
        with pytest.raises(KeyboardInterrupt):
            model.predict(samples[0])
        assert kinds(model) == []

    def test_that_predicts(self, model: she.SelfHealingModel, samples: Array) -> None:
        """One engine makes one run at a time."""
        original = parts_of(model).session.instance.run

        def run(inputs: Any) -> Any:
            with pytest.raises(RuntimeError, match="expected a prediction outside of a run"):
                model.predict(samples[1])
            return original(inputs)

        expected = answers(model, samples[0])
        run_by(model, run)
        assert same(answers(model, samples[0]), expected)

    def test_that_closes(self, digits_baseline: she.Baseline, samples: Array) -> None:
        model = she.SelfHealingModel(digits_model_path(), digits_baseline)
        original = parts_of(model).session.instance.run

        def run(inputs: Any) -> Any:
            y = original(inputs)
            model.close()
            return y

        run_by(model, run)
        with pytest.raises(ModelClosedError):
            model.predict(samples[0])

    def test_that_gives_something_else(self, model: she.SelfHealingModel, samples: Array) -> None:
        run_by(model, lambda _: [])
        with pytest.raises(ValueError, match="run: expected 1 arrays, got 0"):
            model.predict(samples[0])


@pytest.mark.parametrize("method", ["predict", "infer"])
def test_bindings_do_not_trust_a_type(
    model: she.SelfHealingModel, samples: Array, method: str
) -> None:
    empty = _core.HotPath.__new__(_core.HotPath)
    with pytest.raises(TypeError, match=r"expected an initialised .*HotPath"):
        getattr(empty, method)(samples[0])
    hot = model._hot
    for wrong in (12345, "hot", object(), empty):
        model._hot = wrong  # type: ignore[assignment]
        with pytest.raises(TypeError):
            getattr(model, method)(samples[0])
    model._hot = hot
    assert len(answers(model, samples[0])) == 1


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
