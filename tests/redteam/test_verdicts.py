"""Verdicts, limits and campaigns: what is asked for, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfheal_edge.redteam.survival.attack import MODEL_KINDS
from selfheal_edge.redteam.survival.attacks.registry import ATTACKS, attacks_for
from selfheal_edge.redteam.survival.campaign import campaign_of
from selfheal_edge.redteam.survival.limits import Limits
from selfheal_edge.redteam.survival.record import COMBINED
from selfheal_edge.redteam.survival.verdict import Loss, exit_code, judge

HEALS = {
    "confirmed": 0, "harmful": [], "on_probation": 0, "harmful_on_probation": [],
    "restored": 0, "false": 0, "alarms": 0,
}  # fmt: skip


def record(**others: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "heals": {"defended": HEALS},
        "accuracy": {n: {"during": 0.9} for n in ("defended", "undefended", "naive", "operator")},
        "cost": {"defended": {"cpu_share_added": 0.0, "flash_bytes_per_day": 0}},
        "failures": {},
        "trusted": {"defended": {"share": 0.25}},
    }
    return {**made, **others}


def losses(undamaged: float = 0.0, same: float | None = None, after: float = 0.0) -> Any:
    def loss(points: float) -> Loss:
        return Loss(points, points - 0.5, points + 0.5, 2000)

    return {
        "undamaged": loss(undamaged),
        "same_inputs": loss(undamaged if same is None else same),
        "after": loss(after),
    }


def verdict(found: dict[str, Any], lost: Any, *, is_repairable: bool = True) -> str:
    return judge(found, lost, Limits(), is_repairable=is_repairable)[0]


def test_a_loss_counts_the_answers_that_part() -> None:
    loss = Loss.of([90, 90], [80, 84], [20, 10], 100)
    assert loss.points == 8.0
    assert loss.high - loss.points == pytest.approx(100 * 1.96 * math.sqrt(31) / 200)
    assert loss.exceeds(2.0)
    assert loss.exceeds(20.0) is False
    assert loss.exceeds(8.0) is None
    assert Loss.of([1], [0], [1], 99).exceeds(0.0) is None
    assert Loss.of([], [], [], 100).exceeds(0.0) is None


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (losses(0.0), "survived"),
        (losses(4.0), "degraded"),
        (losses(2.2), "inconclusive"),
        (losses(15.0), "broken"),
        (losses(0.0, after=3.0), "broken"),
        (losses(0.0, after=1.2), "inconclusive"),
    ],
)
def test_what_is_lost_decides(lost: Any, expected: str) -> None:
    assert verdict(record(), lost) == expected


def test_what_no_repair_brings_back_is_held_to_the_same_inputs() -> None:
    lost = losses(40.0, same=-5.0)
    found, why = judge(record(), lost, Limits(), is_repairable=False)
    assert found == "degraded"
    assert "25% of its answers are called trusted" in why[0]
    assert verdict(record(), losses(40.0, same=12.0), is_repairable=False) == "broken"
    assert verdict(record(), lost) == "broken"


def test_harm_breaks_whatever_else_is_well() -> None:
    harmful = {**HEALS, "confirmed": 3, "harmful": [0.4, 2.5]}
    assert verdict(record(heals={"defended": harmful}), losses()) == "broken"
    slight = {**HEALS, "confirmed": 3, "harmful": [0.4, 0.9]}
    assert verdict(record(heals={"defended": slight}), losses()) == "survived"
    tried = {**HEALS, "on_probation": 1, "harmful_on_probation": [2.5]}
    assert verdict(record(heals={"defended": tried}), losses()) == "degraded"
    needless = {**HEALS, "false": 2}
    assert verdict(record(heals={"defended": needless}), losses()) == "degraded"


def test_an_error_breaks_and_a_better_contestant_degrades() -> None:
    assert verdict(record(failures={"defended": [[3, "ValueError: x"]]}), losses()) == "broken"
    better = {**record()["accuracy"], "naive": {"during": 0.95}}
    assert verdict(record(accuracy=better), losses()) == "degraded"
    dear = {"cpu_share_added": 0.06, "flash_bytes_per_day": 0}
    assert verdict(record(cost={"defended": dear}), losses()) == "degraded"


def test_exit_codes() -> None:
    assert exit_code(["survived", "degraded"]) == 0
    assert exit_code(["survived", "inconclusive"]) == 3
    assert exit_code(["inconclusive", "broken"]) == 1
    assert exit_code([]) == 3, "nothing can be said of what was not run"


def test_limits_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"lost_points": 5}))
    assert Limits.read(str(path)).lost_points == 5
    for content, message in (
        ("[]", "a JSON object"),
        ("{", "JSON in"),
        ('{"lost": 1}', "names among"),
        ('{"lost_points": -1}', "lost_points: expected a number"),
        ('{"lost_points": true}', "lost_points: expected a number"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            Limits.read(str(path))


def test_every_attack_is_told_apart_and_tagged() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    for attack in ATTACKS:
        assert attack.technique.name
        assert attack.technique.id == "" or attack.technique.id.startswith("AML.T")
        assert attack.knowledge in ("black_box", "design", "adaptive")
        assert set(attack.models) <= set(MODEL_KINDS)
        assert attack.days > 0


def test_named_campaigns_put_adaptive_attackers_first() -> None:
    order = ("adaptive", "design", "black_box")
    found = [order.index(a.knowledge) for a in attacks_for("image", "classifier")]
    assert found == sorted(found)
    standard = campaign_of("standard", "image", "classifier")
    assert standard.units[-1].name == COMBINED
    assert [p.name for p in standard.alone] == [a.name for a in attacks_for("image", "classifier")]
    assert standard.combined is not None
    assert len(standard.combined.phases) == 9
    short = campaign_of("combined", "image", "classifier", 6.0)
    assert [plan.name for plan in short.units] == [COMBINED]
    assert short.units[0].days == 6.0
    one = campaign_of("random bit", "vector", "regressor")
    assert [plan.name for plan in one.units] == ["random bit flips"]


def test_campaigns_from_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    phases = [{"attack": "a real drift", "first_day": 3, "days": 1, "strength": 0.5},
              {"attack": "random bit flips"}]  # fmt: skip
    path.write_text(json.dumps({"days": 5, "attacks": ["power cuts"], "phases": phases}))
    found = campaign_of(str(path), "image", "classifier")
    assert [plan.name for plan in found.units] == ["power cuts", COMBINED]
    assert found.combined is not None
    assert [p.attack.name for p in found.combined.phases] == ["random bit flips", "a real drift"]
    for content, message in (
        ({"attacks": ["none"]}, "attacks: expected names"),
        ({"phases": [{"attack": "none"}]}, "phases: expected an attack among"),
        ({"phases": [{"attack": "power cuts", "share": 2}]}, "share: expected 0 to 1"),
        ({"phases": [{"attack": "power cuts", "first_day": 40}]}, "within days 0 to 30"),
        ({"phases": 3}, "phases: expected a list"),
        ({"days": "many", "phases": phases}, "days: expected a number"),
        ({"odd": 1}, "a JSON object with"),
        ({}, "attacks or phases"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            campaign_of(str(path), "image", "classifier")
    with pytest.raises(FileNotFoundError, match="no such file"):
        campaign_of(str(tmp_path / "other.json"), "image", "classifier")
    with pytest.raises(ValueError, match="expected standard, combined"):
        campaign_of("nonsense", "image", "classifier")
    with pytest.raises(ValueError, match="--days"):
        campaign_of("standard", "image", "classifier", 1.0)
