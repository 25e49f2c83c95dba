"""Suspects during an incident: put aside, said to be so, not learned from, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import FeedbackSourceError
from selfheal_edge.learning.quarantine import QuarantinedSample

KEY = b"the operator's own key, 32 bytes"
DIGITS = load_digits()


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


@pytest.fixture(params=["inline", "background"])
def model(request: pytest.FixtureRequest, baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    policy = she.Policy(mode=request.param)
    with she.SelfHealingModel(
        digits_model_path(), baseline, runtime=RUNTIMES[0], policy=policy, seed=3
    ) as model:
        yield model


def ask(model: she.SelfHealingModel, x: Any) -> she.Prediction:
    found = model.infer(x[None])
    assert isinstance(found, she.Prediction)
    model.wait_healed(30)
    return found


def two_put_aside(model: she.SelfHealingModel) -> tuple[QuarantinedSample, ...]:
    """Break the sensor, and return the first two inputs that are put aside for it."""
    x = DIGITS.heldout_inputs
    for one in x[:20]:
        ask(model, one)
    for n in range(60):
        ask(model, np.full_like(x[0], n % 2))
    return model.quarantine.list()[:2]


def test_a_broken_sensor_has_its_inputs_put_aside_until_it_is_whole(
    model: she.SelfHealingModel,
) -> None:
    x = DIGITS.heldout_inputs
    sound = [ask(model, one) for one in x[:40]]
    operator = model.feedback_source("operator", KEY)
    last = sound[10].id  # the onset is an estimate
    assert not any(p.quarantined for p in sound)
    broken = [ask(model, np.full_like(x[0], n % 2)) for n in range(60)]
    assert model.diagnosis is not None
    assert model.diagnosis.cause is she.Cause.SENSOR_FAULT
    assert broken[-1].quarantined
    found = model.infer(np.full_like(x[:4], 5))
    assert isinstance(found, she.Predictions)
    assert found.quarantined.all()
    suspects = model.quarantine.list()
    assert suspects
    assert all(one.reason.startswith("sensor fault") for one in suspects)
    assert all(one.incident == suspects[0].incident > 0 for one in suspects)
    # What is suspect is not learned from, whoever labels it.
    told = model.feedback(3, id=broken[-1].id, source=operator)
    assert isinstance(told, she.FeedbackReceipt)
    assert (bool(told), told.kept) == (True, "quarantine")
    assert len(model.trusted_pool) == 0
    # What came before is.
    told = model.feedback(correct=True, id=last, source=operator)
    assert isinstance(told, she.FeedbackReceipt)
    assert told.kept == "pool"
    for one in x[40:240]:
        after = ask(model, one)
        if model.diagnosis is None:
            break
    assert model.diagnosis is None
    after = ask(model, x[300])
    assert not after.quarantined


def test_a_person_releases_and_confirms(model: she.SelfHealingModel) -> None:
    first, second = two_put_aside(model)
    with pytest.raises(LookupError, match="id: expected one in quarantine, got 12"):
        model.quarantine.show(12)
    with pytest.raises(TypeError, match=r"source: expected a FeedbackSource, .* got str"):
        model.quarantine.release(first.id, source="operator")
    with pytest.raises(FeedbackSourceError, match="expected one with a key to release"):
        model.quarantine.release(first.id, source=model.feedback_source("kiosk"))
    operator = model.feedback_source("operator", KEY)
    assert model.quarantine.show(first.id).id == first.id
    assert model.quarantine.release(first.id, source=operator) == "its label is asked for"
    assert first.id not in {one.id for one in model.quarantine.list()}
    assert first.id in {one.id for one in model.wanted_labels(256)}
    told = model.feedback(7, id=first.id, source=operator)
    assert isinstance(told, she.FeedbackReceipt)
    assert told.kept in ("pool", "quarantine")
    model.quarantine.confirm(second.id)
    assert model.quarantine.show(second.id).is_confirmed


def test_what_is_revoked_releases_nothing_and_is_not_released(model: she.SelfHealingModel) -> None:
    first, second = two_put_aside(model)
    thief = model.feedback_source("thief", KEY)
    operator = model.feedback_source("operator", b"operator's " + KEY)
    model.revoke("thief")
    with pytest.raises(
        FeedbackSourceError, match=r"expected one that was not revoked, got .*thief"
    ):
        model.quarantine.release(first.id, source=thief, label=7)
    model.revoke(id=second.id)
    with pytest.raises(ValueError, match=f"expected one that was not revoked, got {second.id}"):
        model.quarantine.release(second.id, source=operator, label=7)
    assert {first.id, second.id} <= {one.id for one in model.quarantine.list()}
    assert len(model.trusted_pool) == 0
    assert "in the trusted pool" in model.quarantine.release(first.id, source=operator, label=7)


@pytest.mark.slow
def test_what_a_liar_has_said_is_put_aside_and_the_others_stay(baseline: she.Baseline) -> None:
    with she.SelfHealingModel(digits_model_path(), baseline, runtime=RUNTIMES[0], seed=3) as model:
        sources = [model.feedback_source(f"source {n}", KEY + b"%d" % n) for n in range(4)]
        x, y = DIGITS.heldout_inputs[:320], DIGITS.heldout_labels[:320].astype(np.int64)
        lies = (y + 3) % 10
        was_poisoned = False
        for n in range(0, 320, 32):
            found = model.infer(x[n : n + 32])
            assert isinstance(found, she.Predictions)
            for k, source in enumerate(sources):
                said = (lies if k == 0 else y)[n : n + 32][k::4]
                model.feedback(said, id=found.ids[k::4], source=source)
            diagnosis = model.diagnosis
            if diagnosis is not None and diagnosis.cause is she.Cause.POISONING:
                was_poisoned = True
                names = {one.source for one in model.trusted_pool.list()}
                assert "source 0" not in names
                assert {"source 1", "source 2", "source 3"} <= names
                reasons = {one.reason for one in model.quarantine.list()}
                assert reasons <= {"poisoning", "label not believed"}
        assert was_poisoned
