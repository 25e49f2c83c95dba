"""Each attacker does what it says: on a real device in a small world, for some hours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.redteam.survival import conditions
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Spent, Turn
from selfheal_edge.redteam.survival.attacks.registry import ATTACKS
from selfheal_edge.redteam.survival.attacks.skewed_window import SKEWED_WINDOW
from selfheal_edge.redteam.survival.contestants import enter
from selfheal_edge.redteam.survival.life import Course, live, setup_of
from selfheal_edge.redteam.survival.limits import Limits
from selfheal_edge.redteam.survival.plan import Phase, Plan
from selfheal_edge.redteam.survival.run import Arena
from selfheal_edge.redteam.survival.world import Life, World

HOURS = 3


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    held = load_digits()
    made = World(
        digits_model_path(),
        np.concatenate([held.calibration_inputs, held.heldout_inputs])[:900],
        np.concatenate([held.calibration_labels, held.heldout_labels])[:900],
        Life(predictions_per_day=24 * 24, labels_per_day=24),
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def baseline(world: World) -> she.Baseline:
    return world.calibrate()


class Watched(Attacker):
    """An attacker, and whether it keeps to what is its own."""

    changed = 0

    def __init__(self, setup: Setup, attack: Attack) -> None:
        super().__init__(setup)
        self.attacker = attack.make(setup)
        self.sent: list[bytes] = []

    def condition(self, raw: Any, progress: float) -> Any:
        """Pass it on."""
        before = raw.copy()
        found = self.attacker.condition(raw, progress)
        assert np.array_equal(raw, before), "what it is given is not its own to change"
        assert (found.shape, found.dtype) == (raw.shape, raw.dtype)
        Watched.changed += int((found != raw).any())
        return found

    def inputs(self, turn: Turn, raw: Any, labels: Any) -> Any:
        """Pass it on, and see that others' inputs stay."""
        before = raw.copy()
        found = self.attacker.inputs(turn, raw, labels)
        assert np.array_equal(raw, before)
        assert (found.shape, found.dtype) == (raw.shape, raw.dtype)
        others = np.setdiff1d(np.arange(len(raw)), turn.owned)
        assert np.array_equal(found[others], raw[others])
        Watched.changed += int((found != raw).any())
        if type(self.attacker).shown is not Attacker.shown:
            shown = self.attacker.shown(raw[turn.owned])
            assert np.array_equal(found[turn.owned], shown), "repairs are judged by what is seen"
        self.sent += [row.tobytes() for row in found[turn.owned]]
        turn.notes["asked twice"] = len(self.sent) - len(set(self.sent))
        return found

    def after(self, turn: Turn, answers: Any) -> None:
        """Pass it on."""
        self.attacker.after(turn, answers)

    def ends(self, turn: Turn) -> None:
        """Pass it on."""
        self.attacker.ends(turn)


def met(world: World, baseline: she.Baseline, folder: Path, attack: Attack) -> Course:
    """Return what the guarded model went through in three hours of an attack."""
    Watched.changed = 0
    watched = dataclasses.replace(attack, make=lambda setup: Watched(setup, attack))
    days = HOURS / 24
    strength = 0.05 if "restarts a day" in attack.name else 1.0  # a start takes its time
    plan = Plan("made", days, (Phase(watched, 0, days, strength),))
    contestants, undo = enter(world, baseline, folder, ("defended",))
    with undo:
        return live(world, plan, contestants).courses["defended"]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attacker_does_what_it_says_and_keeps_to_what_is_its_own(
    world: World, baseline: she.Baseline, tmp_path: Path, attack: Attack
) -> None:
    found = met(world, baseline, tmp_path, attack)
    assert not found.failures
    spent = found.spent[0]
    acts = spent.flips + spent.labels + spent.restarts + spent.writes
    assert Watched.changed or acts, "it does nothing"
    if Watched.changed and not attack.name.startswith("a broken sensor"):
        assert spent.queries or acts or attack.technique.id == "", "what it sends is counted"
    if attack.name.startswith("square search"):
        assert found.notes[0]["asked twice"] == 0
    if "flips" in attack.name:
        assert spent.flips >= HOURS
        named = {told.cause for _, told in found.told if told.kind == "diagnosis"}
        assert "weight_corruption" in named


def test_techniques_are_named_as_mitre_atlas_does() -> None:
    for attack in ATTACKS:
        technique = attack.technique
        if technique.id:
            assert re.fullmatch(r"AML\.T\d{4}(\.\d{3})?", technique.id)
            assert technique.name
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {a.knowledge for a in ATTACKS} == {"adaptive", "design", "black_box"}


def test_a_window_of_one_class_keeps_every_input_of_its_class(world: World) -> None:
    """What the owner says of it is true then."""
    setup = setup_of(world)
    hour = world.hour(12)
    attacker = SKEWED_WINDOW.make(setup)
    owned = np.arange(1, len(hour.raw))
    target: Any = None
    turn = Turn(12, 0, 1, setup, target, "design", Spent(), owned)
    sent = attacker.inputs(turn, hour.raw, hour.truth)
    most = np.bincount(setup.pool_labels).argmax()
    for label in set(hour.truth[owned].tolist()) - {most}:
        rows = owned[hour.truth[owned] == label]
        np.testing.assert_array_equal(sent[rows], hour.raw[np.full(len(rows), rows[0])])


def test_a_change_that_costs_too_little_is_taken_where_it_costs_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fades:
        """Costs five points in the middle of its strengths, and nothing at their ends."""

        name, strengths = "made", (1.0, 1.0)

        def fits(self, domain: object) -> bool:
            return domain is world.domain

        def change(self, real: Any, setting: Any) -> Any:
            return np.where(0.4 < setting.strength < 0.8, 0.5, 0.0) + 0 * real

    def share_right(raw: Any, rows: Any) -> float:
        assert len(raw) == len(rows)
        is_hit = world.domain.real(raw).reshape(len(raw), -1).max(axis=1) > 0.25
        return 1.0 - float((is_hit & (np.arange(len(raw)) % 20 == 0)).mean())

    monkeypatch.setattr(conditions, "SCENARIOS", (Fades(),))
    setup = dataclasses.replace(setup_of(world), share_right=share_right)
    assert 0.4 < conditions.changed_enough(setup, ["made"]).strength < 0.8


def test_what_another_run_would_judge_otherwise_is_another_run(
    world: World, baseline: she.Baseline
) -> None:
    identity = Arena(world, baseline).identity
    assert Arena(world, baseline, Limits(lost_points=3.0)).identity != identity
    held = load_digits()
    x = np.concatenate([held.calibration_inputs, held.heldout_inputs])[:900]
    y = np.concatenate([held.calibration_labels, held.heldout_labels])[:900]
    other = World(digits_model_path(), x, 9 - y.astype(int), world.life)
    assert Arena(other, baseline).identity != identity
    other.close()
