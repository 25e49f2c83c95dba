"""What was seen before is no news; what the user accepts is normal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support import Array, flip

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.decision import decide, is_trusted, wake_at
from selfheal_edge.loop.state import LoopState, Moment, Why
from selfheal_edge.monitoring.monitor import Alarm


def dimmed(inputs: Array, gain: float = 0.7) -> Array:
    ink = (inputs.astype(np.float64) + 128) * gain
    levels: Array = (np.clip(np.rint(ink), 0, 255) - 128).astype(np.int8)
    return levels


def served(model: she.SelfHealingModel, inputs: Array, count: int, seed: int) -> float:
    """Return which share of so many answers was trusted."""
    chosen = np.random.default_rng(seed).integers(0, len(inputs), count)
    found = model.infer(inputs[chosen])
    assert isinstance(found, she.Predictions)
    return float(found.trusted.mean())


def regimes_told(model: she.SelfHealingModel) -> list[str | None]:
    return [event.outcome for event in model.events if str(event.kind) == "regime"]


def test_what_is_accepted_is_normal_from_then_on(
    digits: DigitsData, digits_baseline: she.Baseline, tmp_path: Path
) -> None:
    day, night = digits.heldout_inputs, dimmed(digits.heldout_inputs)
    path = digits_model_path()
    store = tmp_path / "digits.store"
    with she.SelfHealingModel(path, digits_baseline, store=store) as model:
        assert served(model, day, 300, 0) == 1.0
        assert served(model, night, 200, 1) < 0.2
        assert model.health.trouble is not None
        model.accept()
        assert model.health.trouble is None
        assert model.health.state == "healthy"
        assert served(model, night, 400, 2) == 1.0
        assert regimes_told(model)[-1] == "learned: regime 1"
        # Back and there again: answers stay trusted, and no cause is sought.
        causes = [str(event.kind) for event in model.events].count("diagnosis")
        for turn in range(4):
            assert served(model, night if turn % 2 else day, 400, 3 + turn) == 1.0
        assert [str(event.kind) for event in model.events].count("diagnosis") == causes
        assert regimes_told(model)[-4:] == ["known: calibration", "known: regime 1"] * 2
        # What was never seen is news all the same.
        assert served(model, dimmed(day, 0.4), 200, 9) < 0.2
        model.rollback()
    with she.SelfHealingModel(path, digits_baseline, store=store) as model:
        assert [r.name for r in model.regimes] == ["calibration", "regime 1"]


def test_after_a_restart_the_night_goes_on(
    digits: DigitsData, digits_baseline: she.Baseline, tmp_path: Path
) -> None:
    day, night = digits.heldout_inputs, dimmed(digits.heldout_inputs)
    store = tmp_path / "digits.store"
    with she.SelfHealingModel(digits_model_path(), digits_baseline, store=store) as model:
        served(model, night, 200, 1)
        model.accept()
        assert served(model, night, 400, 2) == 1.0
    with she.SelfHealingModel(digits_model_path(), digits_baseline, store=store) as model:
        assert served(model, night, 300, 3) == 1.0
        assert served(model, day, 300, 4) == 1.0
        assert regimes_told(model)[-1] == "known: calibration"


class Drift:
    """Names every alarm a drift."""

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        assert symptoms.alarms
        return Diagnosis(she.Cause.COVARIATE_DRIFT, 0.9)


class Attack:
    """Names every alarm an attack."""

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        assert symptoms.alarms
        return Diagnosis(she.Cause.ADVERSARIAL_INPUT, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("diagnoser", "gain", "is_learned"),
    [(Drift(), 0.75, True), (Drift(), 0.35, False), (Attack(), 0.75, False)],
    ids=["harmless", "harmful", "suspected"],
)
def test_a_drift_that_does_no_harm_is_learned_and_an_attack_never(
    digits: DigitsData, diagnoser: Drift | Attack, gain: float, is_learned: bool
) -> None:
    labelled = she.calibrate(
        digits_model_path(), digits.calibration_inputs, digits.calibration_labels, seed=0
    )
    path, policy = digits_model_path(), she.Policy(heal="corruption")
    with she.SelfHealingModel(path, labelled, diagnoser=diagnoser, policy=policy) as model:
        served(model, dimmed(digits.heldout_inputs, gain), 1100, 0)
        names = [regime.name for regime in model.regimes]
        assert names == (["calibration", "regime 1"] if is_learned else ["calibration"])
        assert (model.health.state == "healthy") is is_learned
        assert model.health.performance.is_as_expected is is_learned


def test_damage_is_never_accepted(digits_baseline: she.Baseline) -> None:
    policy = she.Policy(responses={she.Cause.WEIGHT_CORRUPTION: ("mark_untrusted",)})
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        flip(model, 1000, 0x55)
        model.weights.scrub()
        if model.health.trouble is None:  # the guard's copy was written back before the policy
            pytest.skip("this damage was healed at once")
        with pytest.raises(she.errors.IntegrityError, match="accept: expected sound weights"):
            model.accept()
        assert model.health.state == "untrusted"


def test_a_monitor_of_the_users_own_knows_no_regimes(
    digits: DigitsData, digits_baseline: she.Baseline
) -> None:
    from selfheal_edge.monitoring.signals import Measurement

    class Quiet:
        names = tuple(digits_baseline.references)
        count = repeats = nonfinite = memory_bytes = 0
        window = np.empty((0, len(names)))

        def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
            self.count += len(measurement.values) > 0
            return ()

        def lasting_alarms(self) -> tuple[Alarm, ...]:
            return ()

        def settled(self) -> bool:
            return True

        def reset(self) -> None:
            pass

    with she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=Quiet()) as model:
        model.accept()
        model.predict(digits.heldout_inputs[:300])
        assert model.regimes == ()


# ---- The decision alone

ALARM = Alarm("input_mean", -1, 2.0, 100, 1.2, 1.0, 95)


def state(**changes: object) -> LoopState:
    first = LoopState.first(she.Policy())
    return _with(first, now=Moment(120, 1.0, 120), **changes)


def _with(of: LoopState, **changes: object) -> LoopState:
    from dataclasses import replace

    return replace(of, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_familiar", [True, False])
def test_answers_stay_trusted_where_the_alarm_is_familiar(is_familiar: bool) -> None:
    from selfheal_edge.inference.incident import Incident

    before = state()
    before = _with(before, now=Moment(120, 1.0, 120, False, is_familiar))
    after, _ = decide(before, Incident(120, alarms=(ALARM,)))
    assert after.pending == (ALARM,)
    assert is_trusted(after) is is_familiar


def test_a_known_regime_ends_trouble_and_suspicion() -> None:
    drift = Diagnosis(she.Cause.COVARIATE_DRIFT, 0.9)
    after, actions = decide(state(pending=(ALARM,), trouble=drift), heard.RegimeKnown("night"))
    assert after.is_calm
    assert after.recovered_at == 120
    assert is_trusted(after)
    records = [a for a in actions if isinstance(a, do.Record)]
    assert [(str(r.kind), r.outcome) for r in records] == [
        ("regime", "known: night"),
        ("recovered", None),
    ]
    assert records[0].evidence == ("alarm: input_mean -2.00 sd",)


def test_what_is_unclear_is_asked_again_when_more_has_come() -> None:
    asked = state(diagnose_at=120, pending=(ALARM,))
    after, actions = decide(asked, heard.KnownAnswersAsked(Why.DIAGNOSIS, True))
    assert isinstance(actions[0], do.NameCause)
    assert after.pending == ()
    after, actions = decide(after, heard.RegimeUnclear((ALARM,), 24))
    assert actions == ()
    assert after.pending == (ALARM,)
    assert after.repair is None
    assert wake_at(after).prediction == after.diagnose_at == 144


def test_no_regime_explains_damage() -> None:
    corrupt = Diagnosis(she.Cause.WEIGHT_CORRUPTION, 1.0)
    damaged = state(trouble=corrupt)
    for incident in (heard.RegimeKnown("night"), heard.Accepted()):
        after, actions = decide(damaged, incident)
        assert after.trouble == corrupt
        assert actions == ()


def test_what_was_accepted_is_learned_from_what_follows_unless_something_is_up() -> None:
    accepted, _ = decide(state(), heard.Accepted())
    assert accepted.learning is not None
    assert accepted.learning.until == 120 + 256
    assert wake_at(accepted).prediction == 120 + 256
    due = _with(accepted, now=Moment(376, 2.0, 376))
    after, actions = decide(due, heard.NextStep(heard.Step.SCHEDULE))
    assert actions == (do.LearnRegime(120),)
    assert after.learning is None
    drift = Diagnosis(she.Cause.ADVERSARIAL_INPUT, 0.9)
    _, actions = decide(_with(due, trouble=drift), heard.NextStep(heard.Step.SCHEDULE))
    assert actions == ()
    assert decide(after, heard.RegimeLearned(None))[1] == ()
