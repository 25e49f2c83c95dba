"""The guide `docs/extending.md`, followed: a cause and a strategy of the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import ROOT, stream

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.redteam.survival.contestants import enter
from selfheal_edge.redteam.survival.life import live
from selfheal_edge.redteam.survival.plan import Phase, Plan
from selfheal_edge.redteam.survival.world import Life, World

GUIDE = ROOT / "docs" / "extending.md"


@pytest.fixture
def guide() -> dict[str, Any]:
    """Return the names that the guide's code defines."""
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL):
        exec(code, names)
    return names


class OutputsMove(she.PerformanceMonitor):
    """Raises alarms of an output, whatever is measured."""

    def update(self, measurement: Measurement) -> tuple[she.Alarm, ...]:
        super().update(measurement)
        if self.count != 40:
            return ()
        return (she.Alarm("output_class", 1, 1.0, 38, 9.0, 5.0),)


@pytest.fixture
def model(digits_baseline: she.Baseline, guide: dict[str, Any]) -> Iterator[she.SelfHealingModel]:
    with she.SelfHealingModel(
        digits_model_path(),
        digits_baseline,
        monitor=OutputsMove(digits_baseline),
        diagnoser=guide["diagnoser"],
        repair_kit=guide["kit"],
        policy=guide["policy"],
    ) as opened:
        yield opened


def test_a_cause_and_a_strategy(model: she.SelfHealingModel, samples: Any) -> None:
    for x in stream(samples, 90, seed=3):
        model.predict(np.asarray(x))
    told = [(str(e.kind), e.cause, e.strategy) for e in model.events]
    assert ("diagnosis", she.Cause.LABEL_SHIFT, None) in told
    assert ("repair", she.Cause.LABEL_SHIFT, "sound_the_horn") in told
    assert model.events[-1].outcome == "an operator was told" or model.health.trouble is None
    named = next(e for e in model.events if e.kind is she.EventKind.DIAGNOSIS)
    assert "the inputs did not" in named.evidence[0]


def test_every_file_that_the_guide_names_is_there() -> None:
    text = GUIDE.read_text("utf-8")
    places = [*re.findall(r"`((?:cpp|python|tests)/[\w/.]+)`", text)]
    assert len(places) >= 6
    for place in places:
        assert (ROOT / place).exists(), place


def test_what_is_extended_is_exported_with_its_types() -> None:
    for name in (
        *("Symptoms", "Evidence", "Diagnosis", "Diagnoser", "Question"),
        *("Strategy", "RepairCase", "RepairOutcome", "RepairTarget"),
        *("Monitor", "Measurement", "Alarm"),
    ):
        assert name in she.__all__
        assert getattr(she, name).__doc__, f"{name} says nothing"
    for thing in (she.Health, she.Event, she.Diagnosis, she.Evidence):
        assert callable(thing.to_dict)


def test_plain_data(model: she.SelfHealingModel, samples: Any) -> None:
    """What `to_dict` returns goes to JSON, with names for enumerations."""
    import json

    for x in stream(samples, 90, seed=3):
        model.predict(np.asarray(x))
    health = json.loads(json.dumps(model.health.to_dict()))
    assert health["state"] in ("healthy", "untrusted")
    assert isinstance(model.health.state, she.HealthState)
    events = [json.loads(json.dumps(e.to_dict())) for e in model.events]
    assert {e["kind"] for e in events} <= {kind.value for kind in she.EventKind}
    assert any(e["cause"] == "label_shift" for e in events)


def test_a_scenario(guide: dict[str, Any]) -> None:
    """The guide's own one is served, and what was named is told."""
    digits = load_digits()
    campaign = guide["run_scenarios"](
        digits_model_path(), digits.heldout_inputs, digits.heldout_labels,
        scenarios=[guide["fan"]], cases=3,
    )  # fmt: skip
    assert [one.scenario.name for one in campaign.seen] == ["a fan"] * 3
    assert any(one.alarm_after is not None for one in campaign.seen)


def test_an_attack(guide: dict[str, Any], tmp_path: Path) -> None:
    digits = load_digits()
    x = np.concatenate([digits.calibration_inputs, digits.heldout_inputs])
    y = np.concatenate([digits.calibration_labels, digits.heldout_labels])
    world = World(digits_model_path(), x, y, Life(predictions_per_day=240))
    try:
        made = guide["blinks"]
        assert made.fits(world.domain.kind, world.kind) == ""
        contestants, undo = enter(world, None, tmp_path, ("undefended",))
        with undo:
            found = live(world, Plan("one", 0.25, (Phase(made, 0.125, 0.125),)), contestants)
        right = found.courses["undefended"].right
        assert sum(right[3:]) < 0.8 * sum(right[:3])
    finally:
        world.close()
