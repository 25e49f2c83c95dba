"""What is checked at each prediction follows from what the device takes for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from tests.support import internals

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.inference.check_plan import CheckPlan, Timing, plan_checks
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.model import parts_of

US = 1e-6


@pytest.fixture(scope="module")
def model(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as opened:
        yield opened


def plan_for(
    model: she.SelfHealingModel,
    *,
    all_us: float,
    beside_us: float = 0.0,
    row_us: float = 0.2,
    call_us: float = 0.0,
) -> CheckPlan:
    """Plan for a model of 100 us, whose bytes take so long all together and row by row."""

    def probe(_: Sequence[GuardedImage], live_bytes: int | None) -> Callable[[], Timing]:
        checking = all_us if live_bytes is None else row_us * live_bytes / 8192
        call = (100.0 + beside_us + checking + call_us) * US
        return lambda: Timing(100.0 * US, checking * US, beside_us * US, call)

    return plan_checks(internals(model), she.Policy(integrity_budget=0.02), probe)


def test_all_bytes_where_they_fit_beside_signals_and_charts(model: she.SelfHealingModel) -> None:
    plan = plan_for(model, all_us=1.2, beside_us=0.7)
    assert plan.verifying == "before"
    assert plan.latency.predictions == 0
    assert plan.latency.seconds == 0


def test_signals_and_charts_are_part_of_the_budget(model: she.SelfHealingModel) -> None:
    """1.2 us of checking is within 2 % of 100 us, and beyond it beside 0.9 us of signals."""
    plan = plan_for(model, all_us=1.2, beside_us=0.9)
    assert plan.verifying == "budget"
    assert plan.latency.predictions
    assert plan.latency.seconds == pytest.approx(plan.latency.predictions * 100 * US)


def test_raw_calls_from_python_cost_half_as_much_again_as_calling_predict(
    model: she.SelfHealingModel,
) -> None:
    plan = plan_for(model, all_us=1.2, beside_us=0.9, call_us=0.3)
    assert plan.verifying == "before"


def test_a_slice_takes_what_rows_take_and_not_a_share_of_the_whole(
    model: she.SelfHealingModel,
) -> None:
    usual = plan_for(model, all_us=40.0, row_us=0.5).live_bytes
    slower = plan_for(model, all_us=40.0, row_us=1.0).live_bytes
    assert usual == pytest.approx(8192 * 2.0 / 0.5, rel=1e-3)
    assert slower == pytest.approx(usual / 2, rel=1e-3)


def test_a_row_is_checked_now_and_then_where_signals_take_it_all(
    model: she.SelfHealingModel,
) -> None:
    """A quarter of the budget stays theirs: half a microsecond."""
    plan = plan_for(model, all_us=40.0, beside_us=5.0, row_us=2.0)
    assert plan.live_bytes == pytest.approx(8192 / 4, rel=1e-3)
    assert plan.is_swept


def test_the_parts_of_an_inference_are_timed_and_leave_no_trace(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    serving = parts_of(model).loop.serving
    assert model.health.predictions == 0
    assert {event.kind for event in model.events} <= {"commissioned"}
    assert serving.hot.timing == (0.0, 0.0, 0.0)
    serving.hot.timed = True
    model.predict(digits.heldout_inputs[:1])
    took, checking, beside = serving.hot.timing
    assert took > 0
    assert beside > 0
    assert checking >= 0
