"""What an attacker can make of the loop itself: its time, its memory, and what it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.inference.incident import Incident
from selfheal_edge.model import parts_of

DIGITS = load_digits()
CLEAN = DIGITS.heldout_inputs
STRANGE = np.random.default_rng(0).integers(-128, 128, CLEAN.shape).astype(np.int8)
KEY = b"the operator's own key, 32 bytes"


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


class Names:
    """Names every alarm the same."""

    def __init__(self, cause: she.Cause) -> None:
        self.cause = cause

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        return Diagnosis(self.cause, 0.9, since=symptoms.onset)


def opened(baseline: she.Baseline, cause: she.Cause, **more: Any) -> she.SelfHealingModel:
    return she.SelfHealingModel(
        digits_model_path(), baseline, runtime=RUNTIMES[0], diagnoser=Names(cause), seed=3, **more
    )


@pytest.mark.parametrize(
    "cause",
    [she.Cause.ADVERSARIAL_INPUT, she.Cause.SENSOR_FAULT, she.Cause.UNKNOWN],
    ids=str,
)
def test_a_trouble_that_goes_on_costs_next_to_none_of_the_answers_time(
    baseline: she.Baseline, cause: she.Cause, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(baseline, cause) as model:
        model.predict(CLEAN[:100])
        model.predict(STRANGE[:400])
        assert model.diagnosis is not None
        assert model.diagnosis.cause is cause
        handled: list[Incident] = []
        loop = parts_of(model).loop

        def counted(incident: Incident) -> None:
            handled.append(incident)
            loop.dispatcher.handle(incident)

        monkeypatch.setattr(loop.serving, "_handle", counted)
        model.predict(np.resize(STRANGE, (1280, *STRANGE.shape[1:])))
        assert model.diagnosis is not None
    # The 99th percentile of an answer's time is that of those which nothing is done beside.
    assert len(handled) <= 0.01 * 1280 + 4


def test_a_flood_of_suspects_makes_none_of_them_innocent(baseline: she.Baseline) -> None:
    with opened(baseline, she.Cause.SENSOR_FAULT) as model:
        operator = model.feedback_source("operator", KEY)
        model.predict(CLEAN[:100])
        model.predict(STRANGE[:200])
        assert model.diagnosis is not None
        found = model.infer(STRANGE[200:400])
        assert isinstance(found, she.Predictions)
        assert found.quarantined.all()
        assert not model.wanted_labels(64), "nothing is asked of what would not be learned from"
        told = model.feedback(
            np.asarray(DIGITS.heldout_labels[200:400], np.int64), id=found.ids, source=operator
        )
        assert isinstance(told, tuple)
        assert {receipt.kept for receipt in told} == {"quarantine"}
        assert len(model.trusted_pool) == 0
        assert len(model.quarantine) <= model.quarantine.capacity


def test_suspects_stay_so_when_the_trouble_has_ended(baseline: she.Baseline) -> None:
    with opened(baseline, she.Cause.SENSOR_FAULT) as model:
        operator = model.feedback_source("operator", KEY)
        model.predict(CLEAN[:100])
        model.predict(STRANGE[:100])
        found = model.infer(STRANGE[100:164])
        assert isinstance(found, she.Predictions)
        for n in range(100, 300):
            after = model.infer(CLEAN[n : n + 1])
            if model.diagnosis is None:
                break
        assert model.diagnosis is None
        told = model.feedback(3, id=int(found.ids[-1]), source=operator)
        assert isinstance(told, she.FeedbackReceipt)
        assert told.kept == "quarantine"
        after = model.infer(CLEAN[300:301])
        assert isinstance(after, she.Prediction)
        assert not after.quarantined
        told = model.feedback(correct=True, id=after.id, source=operator)
        assert isinstance(told, she.FeedbackReceipt)
        assert told.kept == "pool"


class Clock:
    """One that the attacker sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_clock_that_swings_buys_no_labels(baseline: she.Baseline) -> None:
    clock = Clock()
    policy = she.Policy(unauthenticated_labels_per_hour=4, source_labels_per_hour=8)
    with opened(baseline, she.Cause.UNKNOWN, clock=clock, policy=policy) as model:
        operator = model.feedback_source("operator", KEY)
        found = model.infer(CLEAN[:120])
        assert isinstance(found, she.Predictions)
        taken = {"operator": 0, "somebody": 0}
        for n, id in enumerate(found.ids.tolist()):
            clock.now += -3600.0 if n % 2 else 3600.0
            for name, source in (("operator", operator), ("somebody", "somebody")):
                taken[name] += bool(model.feedback(correct=True, id=id, source=source))
    assert taken == {"operator": 8, "somebody": 4}


def test_alarms_wait_for_their_cause_once_diagnoses_have_used_up_their_time(
    baseline: she.Baseline,
) -> None:
    clock = Clock()
    with opened(baseline, she.Cause.UNKNOWN, clock=clock) as model:
        examiner = parts_of(model).loop.examiner
        model.predict(CLEAN[:100])
        examiner.has_time()  # reads the clock
        examiner.seconds_left = -0.1
        model.predict(STRANGE[:400])
        assert model.diagnosis is None
        assert model.health.state == "untrusted"
        outcomes = [e.outcome for e in model.events if str(e.kind) == "diagnosis"]
        assert len(outcomes) == 1
        assert outcomes[0] is not None
        assert outcomes[0].startswith("put off: ")
        clock.now += 60.0
        model.predict(STRANGE[:300])
        assert model.diagnosis is not None
        assert examiner.seconds_left < 0.02 * 60.0


def test_a_clock_that_swings_buys_no_diagnosis(baseline: she.Baseline) -> None:
    clock = Clock()
    with opened(baseline, she.Cause.UNKNOWN, clock=clock) as model:
        examiner = parts_of(model).loop.examiner
        assert examiner.has_time()
        examiner.seconds_left = -1.0
        for _ in range(50):
            clock.now -= 40.0
            assert not examiner.has_time()
            clock.now += 40.0
            assert not examiner.has_time()


def test_what_follows_an_acceptance_is_not_learned_where_it_is_something_else(
    baseline: she.Baseline,
) -> None:
    night = (np.rint((CLEAN.astype(np.float64) + 128) * 0.7) - 128).astype(np.int8)
    with opened(baseline, she.Cause.UNKNOWN) as model:
        model.predict(CLEAN[:300])
        model.predict(night[:200])
        assert model.health.state == "untrusted"
        model.accept()
        found = model.infer(STRANGE[:300])  # the attacker has waited for this
        assert isinstance(found, she.Predictions)
        assert found.trusted.sum() <= 128
        assert [regime.name for regime in model.regimes] == ["calibration"]
        told = [event.outcome or "" for event in model.events if str(event.kind) == "regime"]
        assert told[-1].startswith("not learned: what followed is another condition")
        assert model.diagnosis is not None
        # Accepted while no attack goes on, it is normal.
        model.predict(CLEAN[:200])
        model.predict(night[200:400])
        model.accept()
        after = model.infer(np.concatenate([night] * 2)[:400])
        assert isinstance(after, she.Predictions)
        assert after.trusted.all()
        assert [regime.name for regime in model.regimes] == ["calibration", "regime 1"]
