"""The matrix of what was named, and a model that is watched while it meets a scenario."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios import SCENARIOS, Scenario, stream
from selfheal_edge.redteam.scenarios.campaign import per_scenario
from selfheal_edge.redteam.scenarios.matrix import COLUMNS, ROWS, confusion
from selfheal_edge.redteam.scenarios.observed import Observed, Verdict, observe
from selfheal_edge.redteam.scenarios.score import (
    adaptable_share,
    is_hard_attack,
    slander_share,
    unknown_share,
)
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

BY_NAME = {s.name: s for s in SCENARIOS}
HEALTHY = BY_NAME["healthy, varied"]
STUCK = BY_NAME["worn sensor, stutters"]
LIGHT = BY_NAME["weather, brightness, sudden"]
DRIFT = BY_NAME["weather, rotation, sudden"]
SQUARE = BY_NAME["attack, square"]


def seen(
    scenario: Scenario,
    named: Cause | None,
    *,
    alarm: bool = True,
    early: bool = False,
    share: float = 1.0,
    kind: str = "",
) -> Observed:
    verdict = Verdict(alarm, named, kind)
    after = 5 if alarm else None
    return Observed(scenario, 1.0, share, None, early, after, after, {128: verdict}, None)


def test_the_matrix() -> None:
    streams = [
        seen(HEALTHY, None, alarm=False),
        seen(HEALTHY, None),
        seen(HEALTHY, Cause.UNKNOWN, kind="nothing moved"),
        seen(HEALTHY, Cause.COVARIATE_DRIFT),
        seen(STUCK, Cause.SENSOR_FAULT),
        seen(STUCK, None, alarm=False),  # no alarm: not in the matrix, but in the share of alarms
        seen(STUCK, Cause.SENSOR_FAULT, early=True),  # of a false alarm before
        seen(LIGHT, Cause.SENSOR_FAULT),  # either is right
        seen(DRIFT, Cause.SENSOR_FAULT),
        seen(SQUARE, Cause.ADVERSARIAL_INPUT),
        seen(SQUARE, Cause.UNKNOWN),
        seen(SQUARE, Cause.LABEL_SHIFT),
        seen(SQUARE, Cause.RUNTIME_FAULT),
    ]
    matrix = confusion(streams, 128)
    counts = {
        (row, column): int(matrix.counts[ROWS.index(row), COLUMNS.index(column)])
        for row in ROWS
        for column in COLUMNS
        if matrix.counts[ROWS.index(row), COLUMNS.index(column)]
    }
    assert counts == {
        ("healthy", "healthy"): 3,
        ("healthy", "covariate_drift"): 1,
        ("sensor_fault", "sensor_fault"): 1,
        ("covariate_drift", "covariate_drift"): 1,
        ("covariate_drift", "sensor_fault"): 1,
        ("adversarial_input", "adversarial_input"): 1,
        ("adversarial_input", "unknown"): 1,
        ("adversarial_input", "label_shift"): 1,
        ("adversarial_input", "other"): 1,
    }
    np.testing.assert_allclose(matrix.recall, [3 / 4, 1, 1 / 2, np.nan, 1 / 4])
    np.testing.assert_allclose(matrix.alarms, [1 / 4, 1 / 2, 1, np.nan, 1])
    # healthy 6/7, sensor 2/3, covariate 2/4, attack 2/5; there is no label shift
    assert matrix.macro_f1 == pytest.approx((6 / 7 + 2 / 3 + 2 / 4 + 2 / 5) / 4)
    assert adaptable_share(streams, 128) == pytest.approx(1 / 4)
    assert unknown_share(streams, 128) == pytest.approx(2 / 10)
    assert slander_share(streams, 128) == 0
    assert slander_share([*streams, seen(DRIFT, Cause.ADVERSARIAL_INPUT)], 128) > 0
    lines = matrix.text().splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert len({len(line) for line in lines}) == 1


def test_attacks_that_hide() -> None:
    hiding = {s.name for s in SCENARIOS if is_hard_attack(seen(s, None))}
    assert hiding == {
        "patch, saturated", "patch, natural", "patch, sticker", "attack, universal",
        "adaptive, matched control", "adaptive, squeezers",
    }  # fmt: skip
    assert is_hard_attack(seen(SQUARE, None, share=0.2))
    assert not is_hard_attack(seen(STUCK, None, share=0.2))


def test_cases_of_each_cause() -> None:
    found = [s for s in SCENARIOS if s.part == "measured" and "image" in s.kinds]
    count = per_scenario(found, 60)
    for cause in (None, *map(Cause, ROWS[1:])):
        main = [count(s) for s in found if s.cause == cause and not is_hard_attack(seen(s, None))]
        assert 60 <= sum(main) < 60 + len(main)
    assert count(BY_NAME["patch, sticker"]) == 10


@pytest.mark.slow
def test_a_model_is_watched() -> None:
    digits = load_digits()
    path = digits_model_path()
    baseline = she.calibrate(path, digits.calibration_inputs, false_alarm_interval=1e5, seed=0)
    with Unguarded(path) as ask:
        domain = ask.domain(digits.calibration_inputs)
    found = {}
    for scenario in (HEALTHY, BY_NAME["sensor, stuck"]):
        one = stream(scenario, domain, digits.heldout_inputs, np.random.default_rng(1))
        heard: list[Any] = []
        with she.SelfHealingModel(path, baseline, seed=0, on_event=heard.append) as model:
            found[scenario.name] = observe(model, heard, one)
    healthy, stuck = found["healthy, varied"], found["sensor, stuck"]
    assert (healthy.is_early, healthy.alarm_after, healthy.named_after) == (False, None, None)
    assert healthy.verdicts[128] == Verdict(False, None, "")
    assert not stuck.is_early
    assert stuck.alarm_after is not None
    assert stuck.named_after is not None
    assert stuck.alarm_after <= stuck.named_after <= 128
    assert stuck.verdicts[128].cause is Cause.SENSOR_FAULT
    assert stuck.diagnosis_seconds is not None


@pytest.mark.slow
def test_a_pool_that_hardly_lasts() -> None:
    """What was served before the onset is borrowed again where nothing else is left."""
    digits = load_digits()
    with Unguarded(digits_model_path()) as ask:
        domain = ask.domain(digits.calibration_inputs)
        for scenario in (s for s in SCENARIOS if s.fits(domain)):
            one = stream(
                scenario, domain, digits.heldout_inputs[:130], np.random.default_rng(2),
                labels=np.arange(130) == 7, changed=16, ask=ask,
            )  # fmt: skip
            assert one.inputs.shape == (144, 8, 8, 1)
