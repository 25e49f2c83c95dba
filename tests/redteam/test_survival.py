"""Campaigns: the world, the four that live in it, and what attackers may touch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.learning.anomaly_detector import sensors
from tests.learning.soft_sensor import soft_sensor

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Spent, Technique, Turn
from selfheal_edge.redteam.survival.attacks.broken_sensor import BROKEN_SENSOR
from selfheal_edge.redteam.survival.attacks.imitated_regime import IMITATED_REGIME
from selfheal_edge.redteam.survival.attacks.random_flips import RANDOM_FLIPS
from selfheal_edge.redteam.survival.attacks.real_drift import REAL_DRIFT
from selfheal_edge.redteam.survival.attacks.whatever_hurts import whatever_hurts
from selfheal_edge.redteam.survival.contestant import NAMES, Answers, Told
from selfheal_edge.redteam.survival.contestants import enter
from selfheal_edge.redteam.survival.life import Lived, live, setup_of
from selfheal_edge.redteam.survival.plan import Phase, Plan, alone
from selfheal_edge.redteam.survival.world import Life, World

SMALL = Life(predictions_per_day=480, labels_per_day=24)


def digits() -> tuple[Any, Any]:
    held = load_digits()
    x = np.concatenate([held.calibration_inputs, held.heldout_inputs])
    return x, np.concatenate([held.calibration_labels, held.heldout_labels])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(digits_model_path(), *digits(), SMALL)
    yield made
    made.close()


@pytest.fixture(scope="module")
def baseline(world: World) -> she.Baseline:
    return world.calibrate()


def lived(world: World, baseline: she.Baseline, folder: Path, plan: Plan) -> Lived:
    contestants, undo = enter(world, baseline, folder)
    with undo:
        return live(world, plan, contestants)


def attack(make: Any, knowledge: Any = "adaptive") -> Attack:
    return Attack("made", knowledge, Technique("", "none"), "nothing", make)


def share(lived: Lived, name: str, first: int, end: int) -> float:
    return float(np.mean(lived.courses[name].right[first:end])) / lived.per_hour


def test_the_world_keeps_what_judges_apart(world: World) -> None:
    parts = [world.calibration, world.served, world.held]
    rows = [{row.tobytes() for row in part} for part in parts]
    assert sum(map(len, parts)) == len(digits()[0])
    assert not rows[2] & rows[0]
    assert not rows[2] & rows[1]


def test_an_hour_is_the_same_when_asked_again(world: World) -> None:
    first, again, other = world.hour(20), world.hour(20), world.hour(21)
    assert np.array_equal(first.raw, again.raw)
    assert not np.array_equal(first.rows, other.rows)
    assert first.is_night
    assert not world.hour(12).is_night


def test_the_night_is_another_condition_that_the_model_can_bear(world: World) -> None:
    assert world.night_depth > 0
    day, night = (
        world.right(world.golden.run(x), world.served_truth).mean()
        for x in (world.served, world.night(world.served))
    )
    assert night > day - 0.05


@pytest.mark.slow
def test_flips_ruin_the_undefended_and_no_defended_model(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    found = lived(world, baseline, tmp_path, alone(RANDOM_FLIPS, days=0.5))
    assert set(found.courses) == set(NAMES)
    first, end = 24, 36
    assert share(found, "undefended", end, end + 24) < 0.9
    for now in (slice(0, first), slice(first, end), slice(end, None)):
        ours = sum(found.courses["defended"].right[now])
        best = sum(found.undamaged[now])
        assert ours >= best - 0.02 * found.per_hour * len(found.undamaged[now])
    course = found.courses["defended"]
    assert course.spent[0].flips == 12 * 40
    named = [t for hour, t in course.told if hour >= first and t.kind == "diagnosis"]
    assert named[0].cause == "weight_corruption"
    assert not course.failures


@pytest.mark.slow
def test_a_life_is_the_same_again(world: World, baseline: she.Baseline, tmp_path: Path) -> None:
    plan = Plan("short", 0.5, (Phase(RANDOM_FLIPS, 0.25, 0.125),))
    pair = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pair.append(lived(world, baseline, tmp_path / name, plan))
    for name in NAMES:
        assert pair[0].courses[name].right == pair[1].courses[name].right
        assert pair[0].courses[name].told == pair[1].courses[name].told


@pytest.mark.slow
def test_the_power_goes_and_the_device_goes_on(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    class Cut(Attacker):
        def after(self, turn: Turn, answers: Answers) -> None:
            del answers
            turn.restart(clean=turn.step % 2 == 1)

    found = lived(world, baseline, tmp_path, Plan("cuts", 0.25, (Phase(attack(Cut), 0, 0.25),)))
    for course in found.courses.values():
        assert course.spent[0].restarts == 6
        assert not course.failures
    told = [t.outcome for _, t in found.courses["defended"].told if t.kind == "restart"]
    assert told == ["killed", "clean"] * 3


@pytest.mark.parametrize("made", [REAL_DRIFT, BROKEN_SENSOR], ids=lambda one: one.name)
def test_the_world_changes_alike_for_all_numbers_of_samples(world: World, made: Attack) -> None:
    """What judges a repair has to see the drift that the device sees."""
    changer = made.make(setup_of(world))
    all_of_them = changer.condition(world.served, 1.0)
    assert np.array_equal(changer.condition(world.served[:9], 1.0), all_of_them[:9])
    right = world.right(world.golden.run(all_of_them), world.served_truth).mean()
    usual = world.right(world.golden.run(world.served), world.served_truth).mean()
    assert 0.05 < usual - right < 0.4


def test_each_attacker_has_what_he_knows(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    refused: list[str] = []

    class Curious(Attacker):
        def after(self, turn: Turn, answers: Answers) -> None:
            for look in (turn.memory, turn.report):
                try:
                    look()
                except PermissionError as error:
                    refused.append(str(error))
            with pytest.raises(ValueError, match="honest 'owner'"):
                turn.say(0, int(answers.ids[0]), "owner")

    for knowledge in ("black_box", "design", "adaptive"):
        (tmp_path / knowledge).mkdir()
        plan = Plan("look", 1 / 24, (Phase(attack(Curious, knowledge), 0, 1 / 24),))
        contestants, undo = enter(world, baseline, tmp_path / knowledge, ("defended",))
        with undo:
            live(world, plan, contestants)
    assert [text.split(":")[0] for text in refused] == ["memory", "report", "report"]


def test_what_raises_is_told_and_the_others_live_on(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    class Breaks(Attacker):
        def inputs(self, turn: Turn, raw: Any, labels: Any) -> Any:
            del labels
            return raw if turn.target.name != "defended" else np.empty((0, 3))

    found = lived(
        world, baseline, tmp_path, Plan("odd", 1 / 12, (Phase(attack(Breaks), 0, 1 / 24),))
    )
    ours, other = found.courses["defended"], found.courses["undefended"]
    assert [hour for hour, _ in ours.failures] == [0]
    assert ours.right[0] == 0 < ours.right[1]
    assert not other.failures
    assert isinstance(ours.told[0][1], Told)


def test_who_tries_everything_goes_on_with_what_hurts(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    class Harmless(Attacker):
        pass

    class Blinds(Attacker):
        def inputs(self, turn: Turn, raw: Any, labels: Any) -> Any:
            del turn, labels
            return np.zeros_like(raw)

    gentle = dataclasses.replace(attack(Harmless), name="gentle")
    chooser = whatever_hurts((gentle, dataclasses.replace(attack(Blinds), name="blinds")))
    contestants, undo = enter(world, baseline, tmp_path, ("undefended",))
    with undo:
        found = live(world, Plan("choice", 3.0, (Phase(chooser, 0, 3.0),)), contestants)
    course = found.courses["undefended"]
    assert min(course.right[:4]) > 15
    assert np.mean(np.array(course.right[8:]) < 10) > 0.5
    assert set(course.notes[0]["wrong answers while it was tried"]) == {"gentle", "blinds"}


@pytest.mark.slow
def test_a_power_cut_takes_no_more_than_the_latest_minute(
    world: World, baseline: she.Baseline, tmp_path: Path
) -> None:
    """The store's timer follows real time: the hours of a simulation were never written."""

    class Remembers(Attacker):
        def after(self, turn: Turn, answers: Answers) -> None:
            del answers
            turn.notes.setdefault("alarms", []).append(turn.target.report()["alarms"])
            if turn.step == turn.steps - 1:
                turn.restart(clean=False)
                turn.notes["alarms"].append(turn.target.report()["alarms"])

    contestants, undo = enter(world, baseline, tmp_path, ("defended",))
    with undo:
        plan = Plan("cut", 1.0, (Phase(attack(Remembers), 0, 1.0),))
        notes = live(world, plan, contestants).courses["defended"].notes[0]
    assert notes["alarms"][-2] > 0
    assert notes["alarms"][-1] == notes["alarms"][-2]


def of_numbers(kind: str) -> World:
    """Return the world of a model without classes."""
    if kind == "autoencoder":
        machine = sensors()
        return World(machine.model, machine.raw(machine.normal), None, SMALL)
    sensor = soft_sensor(outputs=2)
    return World(sensor.model, sensor.raw(sensor.x), sensor.y, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["autoencoder", "regressor"])
def test_models_without_classes_drift_and_are_told_by_their_owner(
    kind: str, tmp_path: Path
) -> None:
    """Two numbers look like logits: they were two classes, and no owner answered of numbers."""
    world = of_numbers(kind)
    try:
        assert (world.kind, world.classes) == (kind, 0)
        whole = REAL_DRIFT.make(setup_of(world)).condition(world.served, 1.0)
        truth = whole if kind == "autoencoder" else world.served_truth
        right = world.right(world.golden.run(whole), truth).mean()
        assert 0.05 < 0.95 - right < 0.5  # as strong as it has to be
        contestants, undo = enter(world, world.calibrate(), tmp_path, NAMES)
        with undo:
            found = live(world, Plan("drift", 2.0, (Phase(REAL_DRIFT, 0.5, 1.5),)), contestants)
    finally:
        world.close()
    ours = found.courses["defended"]
    assert not ours.failures
    assert sum(ours.labels) >= 4
    assert sum(found.courses["naive"].labels) == 0


def test_what_an_imitator_shows_is_what_judges_a_repair_in_his_hour(world: World) -> None:
    """A repair for a drift that he goes on with is not judged on inputs without it."""
    attacker = IMITATED_REGIME.make(setup_of(world))
    raw = world.held
    assert np.array_equal(attacker.shown(raw), raw)  # the drift is still the world's
    setup = setup_of(world)
    turn = Turn(24, 24, 48, setup, None, "adaptive", Spent(), np.arange(len(world.served)))  # type: ignore[arg-type]
    sent = attacker.inputs(turn, world.served, world.served_truth)
    drifted = attacker.condition(world.served, 0.0)
    is_drifted = (sent == drifted).reshape(len(sent), -1).all(axis=1)
    is_usual = (sent == world.served).reshape(len(sent), -1).all(axis=1)
    assert (is_drifted | is_usual).all()
    assert np.array_equal(attacker.shown(world.served), sent)
