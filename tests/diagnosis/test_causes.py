"""Each cause is named where it is made to happen to a real model, with its kind and its reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from tests.diagnosis.conftest import Inputs

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.causes import Cause

Pool = tuple[Inputs, npt.NDArray[np.int8]]
Change = Callable[[Inputs, np.random.Generator], Inputs]


def _ink(x: Inputs) -> npt.NDArray[np.float64]:
    return x.astype(np.float64) + 128


def _raw(ink: npt.NDArray[np.float64]) -> Inputs:
    return np.asarray(np.clip(np.rint(ink - 128), -128, 127), np.int8)


def _dead(x: Inputs, _: np.random.Generator) -> Inputs:
    changed: Inputs = x.copy()
    changed[:, :, 4] = -128
    return changed


def _swapped(x: Inputs, _: np.random.Generator) -> Inputs:
    changed: Inputs = x.copy()
    changed[:, :, 1], changed[:, :, 4] = x[:, :, 4], x[:, :, 1]
    return changed


def _neighbours_swapped(x: Inputs, _: np.random.Generator) -> Inputs:
    changed: Inputs = x.copy()
    changed[:, :, 2], changed[:, :, 4] = x[:, :, 4], x[:, :, 2]
    return changed


def _lost(x: Inputs, rng: np.random.Generator) -> Inputs:
    return np.asarray(np.where(rng.random(x.shape) < 0.35, -128, x), np.int8)


def _stutters(x: Inputs, _: np.random.Generator) -> Inputs:
    return np.asarray(np.repeat(x[::3], 3, axis=0)[: len(x)], np.int8)


def _blurred(x: Inputs, _: np.random.Generator) -> Inputs:
    ink = np.pad(_ink(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (ink[:, :-2] + 2 * ink[:, 1:-1] + ink[:, 2:]) / 4
    return _raw((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4)


def _darker(x: Inputs, _: np.random.Generator) -> Inputs:
    return _raw(_ink(x) * np.linspace(1.0, 0.5, len(x)).reshape(-1, 1, 1, 1))


SENSOR: dict[str, tuple[Change, str]] = {
    "dead": (_dead, "one channel"),
    "swapped": (_swapped, "swapped"),
    "swapped, answers astray": (_neighbours_swapped, "swapped"),
    "lost": (_lost, "dropped"),
    "stutters": (_stutters, "stuck"),
    "gain": (lambda x, _: _raw(_ink(x) * 0.55), "gain"),
    "offset": (lambda x, _: _raw(_ink(x) + 60), "offset"),
    "clipped": (lambda x, _: _raw(np.minimum(_ink(x), 130)), "clipped"),
}
DRIFT: dict[str, tuple[Change, str]] = {
    "blur": (_blurred, "sudden"),
    "noise": (lambda x, rng: _raw(_ink(x) + rng.normal(0, 25, x.shape)), "sudden"),
    "darker": (_darker, "gradual"),
}


def served(
    baseline: she.Baseline, before: Inputs, after: Inputs, **options: object
) -> tuple[she.Diagnosis | None, Sequence[she.Event], list[she.Prediction]]:
    """Serve what is usual, then what is not; return what stands at the end."""
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1, **options) as model:  # type: ignore[arg-type]
        for x in before:
            model.infer(x[np.newaxis])
        found = [model.infer(x[np.newaxis]) for x in after]
        predictions = [p for p in found if isinstance(p, she.Prediction)]
        return model.diagnosis, model.events, predictions


@pytest.mark.slow
@pytest.mark.parametrize("name", SENSOR)
def test_sensor_faults(baseline: she.Baseline, pool: Pool, name: str) -> None:
    change, kind = SENSOR[name]
    inputs = pool[0]
    found, _, predictions = served(
        baseline, inputs[:128], change(inputs[128:320], np.random.default_rng(0))
    )
    assert found is not None
    assert found.cause is Cause.SENSOR_FAULT
    assert found.kind == kind
    assert found.evidence
    assert not predictions[-1].trusted


@pytest.mark.parametrize("name", DRIFT)
def test_drift(baseline: she.Baseline, pool: Pool, name: str) -> None:
    change, kind = DRIFT[name]
    inputs = pool[0]
    found, _, _ = served(baseline, inputs[:128], change(inputs[128:320], np.random.default_rng(0)))
    assert found is not None
    assert found.cause is Cause.COVARIATE_DRIFT
    assert found.kind == kind
    ruled_out = {one.cause for one in found.alternatives if one.confidence == 0}
    assert {Cause.WEIGHT_CORRUPTION, Cause.SENSOR_FAULT, Cause.ADVERSARIAL_INPUT} <= ruled_out
    assert found.since is not None
    assert 100 <= found.since <= 160  # it began at 128


def test_label_shift(baseline: she.Baseline, pool: Pool) -> None:
    inputs, labels = pool
    rng = np.random.default_rng(0)
    threes = rng.choice(np.flatnonzero(labels == 3), 220)
    others = rng.choice(len(inputs), 220)
    chosen = np.where(rng.random(220) < 0.8, threes, others)
    found, _, _ = served(baseline, inputs[:128], inputs[chosen])
    assert found is not None
    assert found.cause is Cause.LABEL_SHIFT
    assert "class 3" in found.evidence[0].text


def attacked(baseline: she.Baseline, inputs: Inputs, share: float) -> Inputs:
    """Flip answers by changing blocks of pixels at random, as little as that takes."""
    rng = np.random.default_rng(0)
    changed: Inputs = inputs.copy()
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        known = model.infer(inputs)
        assert isinstance(known, she.Predictions)
        assert known.labels is not None
        for n in np.flatnonzero(rng.random(len(inputs)) < share):
            label = known.labels[n]
            for size in (40, 60, 80, 110):
                best, least = inputs[n].astype(int), np.inf
                for _ in range(60):
                    tried = best.copy()
                    top, left = rng.integers(0, 7, 2)
                    sign = rng.choice((-1, 1))
                    block = inputs[n, top : top + 2, left : left + 2].astype(int) + sign * size
                    tried[top : top + 2, left : left + 2] = block
                    tried = np.clip(tried, -128, 127)
                    answer = model.infer(tried.astype(np.int8)[np.newaxis])
                    assert isinstance(answer, she.Prediction)
                    if answer.label != label:
                        best, least = tried, -1.0
                        break
                    assert answer.confidence is not None
                    if answer.confidence < least:
                        best, least = tried, answer.confidence
                if least < 0:
                    changed[n] = best.astype(np.int8)
                    break
    return changed


@pytest.fixture(scope="module")
def crafted(baseline: she.Baseline, pool: Pool) -> Inputs:
    return attacked(baseline, pool[0][128:320], 0.6)


@pytest.mark.slow
def test_crafted_inputs(baseline: she.Baseline, pool: Pool, crafted: Inputs) -> None:
    found, events, predictions = served(baseline, pool[0][:128], crafted)
    assert found is not None
    assert found.cause is Cause.ADVERSARIAL_INPUT
    assert found.kind == "crafted"
    assert {"unexplained", "harm", "astray", "control"} <= {fact.name for fact in found.evidence}
    assert not predictions[-1].trusted
    record = next(event for event in events if event.kind == "diagnosis")
    assert record.details is not None
    assert she.Diagnosis.from_dict(record.details).cause is Cause.ADVERSARIAL_INPUT


def test_without_a_budget_it_is_unknown(
    baseline: she.Baseline, pool: Pool, crafted: Inputs
) -> None:
    """Without extra inferences an attack must not be taken for something to adapt to."""
    policy = she.Policy(diagnosis_inferences_per_minute=0)
    found, _, _ = served(baseline, pool[0][:128], crafted, policy=policy)
    assert found is not None
    assert found.cause is Cause.UNKNOWN
    assert found.wanted


def test_without_a_budget_no_broken_sensor_hides_an_attack(
    baseline: she.Baseline, pool: Pool
) -> None:
    """A channel that moves a little may be an attack's: only the model's answers tell."""
    changed = pool[0][128:320].astype(int)
    changed[:, :, 4] += 45
    after = np.clip(changed, -128, 127).astype(np.int8)
    asked, _, _ = served(baseline, pool[0][:128], after)
    assert asked is not None
    assert asked.cause is Cause.SENSOR_FAULT
    policy = she.Policy(diagnosis_inferences_per_minute=0)
    found, _, _ = served(baseline, pool[0][:128], after, policy=policy)
    assert found is not None
    assert found.cause is Cause.UNKNOWN
    assert "budget" in {fact.name for fact in found.evidence}


@pytest.mark.slow
def test_the_budget_holds(baseline: she.Baseline, pool: Pool) -> None:
    """However often diagnoses are made, the model is asked 128 extra questions a minute."""
    inputs = pool[0]
    x = np.concatenate([inputs[:128], _raw(_ink(inputs) * 0.6), _blurred(inputs, None)])  # type: ignore[arg-type]
    policy = she.Policy(rediagnose_after=1)
    with she.SelfHealingModel(
        digits_model_path(), baseline, policy=policy, seed=1, clock=lambda: 0.0
    ) as model:
        from selfheal_edge.model import parts_of

        for row in x:
            model.infer(row[np.newaxis])
        assert 0 < parts_of(model).loop.examiner.asked <= 128


def test_healthy_streams_are_not_diagnosed(baseline: she.Baseline, pool: Pool) -> None:
    rng = np.random.default_rng(0)
    x = pool[0][np.concatenate([rng.permutation(500) for _ in range(4)])]
    found, events, predictions = served(baseline, x[:128], x[128:])
    assert found is None
    assert [event.kind for event in events if event.kind != "closed"] == []
    assert all(p.trusted for p in predictions)


def test_answers_are_untrusted_while_it_waits(baseline: she.Baseline, pool: Pool) -> None:
    inputs = pool[0]
    found, events, predictions = served(
        baseline, inputs[:128], _blurred(inputs[128:180], np.random.default_rng(0))
    )
    assert found is None  # the shape of the shift does not show yet
    assert "alarm" in [event.kind for event in events]
    assert not predictions[-1].trusted


def test_old_baselines_are_told_by_signals(baseline: she.Baseline, pool: Pool) -> None:
    import dataclasses

    old = dataclasses.replace(baseline, profile={})
    inputs = pool[0]
    found, _, _ = served(old, inputs[:128], _blurred(inputs[128:260], np.random.default_rng(0)))
    assert found is not None
    assert found.cause is Cause.COVARIATE_DRIFT


@pytest.mark.parametrize("by", ["sweep", "scrub"])
def test_kinds_of_damage_on_a_live_model(baseline: she.Baseline, pool: Pool, by: str) -> None:
    """The kind is told wherever the damage is found: before an inference, or by a full check."""
    policy = she.Policy(scrub_bytes_per_predict=1 << 30)
    named = []
    with she.SelfHealingModel(digits_model_path(), baseline, policy=policy, seed=1) as model:
        for bits in ([(5, 0x10)], [(5, 0x10)], [(n, 0x5A) for n in range(40, 52)]):
            injector = she.redteam.inject(model)
            live = injector.memory("packed" if "packed" in model.weights.images else "source")
            for at, mask in bits:
                live[len(live) // 2 + at] ^= np.uint8(mask)
            del live, injector
            model.weights.scrub() if by == "scrub" else model.predict(pool[0][:1])
            event = [e for e in model.events if e.kind == "diagnosis"][-1]
            assert event.details is not None
            assert event.cause is Cause.WEIGHT_CORRUPTION
            named.append(event.details["kind"])
    assert named == ["one bit", "failing cell", "run"]
