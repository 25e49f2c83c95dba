"""Live a plan: the same hours for all contestants, each under an attacker of its own."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw, Real
from selfheal_edge.redteam.survival.attack import Attacker, Setup, Spent, Turn
from selfheal_edge.redteam.survival.contestant import (
    OWNER,
    Answers,
    Contestant,
    Costs,
    Told,
)
from selfheal_edge.redteam.survival.plan import Plan
from selfheal_edge.redteam.survival.world import HOURS, Hour, World

__all__ = ["Course", "Judged", "Lived", "live", "setup_of"]

_REMEMBERED: Final = 8192
"""Predictions whose truth the owner remembers."""
_CALM: Final = 8
"""The owner answers so much less while the device is not worried."""
_LEARNED: Final = ("probation", "confirmed")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A repair that changed what is answered, judged on samples that it never saw."""

    hour: int
    kind: str
    """``"probation"``, ``"confirmed"``, or ``"repair"`` of a contestant without trials."""
    golden: float
    """The undamaged model's accuracy in the condition of that hour."""
    now: float
    """And that of what serves."""

    @property
    def points(self) -> float:
        """What it gained, in points of accuracy; less than 0: harm."""
        return 100 * (self.now - self.golden)


@dataclass(slots=True)
class Course:
    """What one contestant went through, hour by hour."""

    name: str
    right: list[int] = field(default_factory=list)
    """Answers that were right, trusted or not."""
    trusted: list[int] = field(default_factory=list)
    trusted_right: list[int] = field(default_factory=list)
    parted: list[int] = field(default_factory=list)
    """Answers right where the undamaged model is wrong on undisturbed inputs, or the other way."""
    golden_right: list[int] = field(default_factory=list)
    """What the undamaged model would have had right on the very same inputs."""
    golden_parted: list[int] = field(default_factory=list)
    """As `parted`, against that."""
    labels: list[int] = field(default_factory=list)
    """That the owner gave."""
    costs: list[Costs] = field(default_factory=list)
    """At the end of each hour, since the beginning."""
    told: list[tuple[int, Told]] = field(default_factory=list)
    """With the hour."""
    judged: list[Judged] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Hours in which it raised instead of answering, and what."""
    onsets: list[int | None] = field(default_factory=list)
    """Predictions before each phase's attacker first did something."""
    spent: list[Spent] = field(default_factory=list)
    """By each phase's attacker."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """What each phase's attacker wants said."""


@dataclass(slots=True)
class Lived:
    """A whole life."""

    plan: Plan
    per_hour: int
    """Predictions."""
    undamaged: list[int]
    """What the undamaged model has right of the undisturbed inputs, by the hour."""
    courses: dict[str, Course]


def live(
    world: World,
    plan: Plan,
    contestants: Sequence[Contestant],
    progress: Progress = lambda *_: None,
) -> Lived:
    """Have contestants live a plan.

    Parameters
    ----------
    world
        What they live in.
    plan
        What befalls them.
    contestants
        Fresh from `enter`; the caller closes them.
    progress
        Called before each hour with how many there were and how many there will be.
    """
    undamaged: list[int] = []
    runners = [_Runner(world, plan, contestant) for contestant in contestants]
    for number in range(plan.hours):
        progress(number, plan.hours)
        hour = world.hour(number)
        right = world.undamaged(hour)
        undamaged.append(int(right.sum()))
        for runner in runners:
            runner.live(hour, right)
    progress(plan.hours, plan.hours)
    courses = {runner.course.name: runner.course for runner in runners}
    return Lived(plan, world.life.predictions_per_hour, undamaged, courses)


class _Siege:
    """One phase's attacker on one contestant."""

    def __init__(self, world: World, plan: Plan, index: int) -> None:
        phase = plan.phases[index]
        self.phase = phase
        share = phase.attack.share if phase.share is None else phase.share
        # The same for every contestant: he adapts to what each of them does.
        rng = np.random.default_rng(
            [world.life.seed, 4, zlib.crc32(phase.attack.name.encode()), index]
        )
        self._choice = np.random.default_rng([world.life.seed, 5, index])
        self.setup = setup_of(world, rng, phase.strength, share)
        self.attacker: Attacker = phase.attack.make(self.setup)
        self.spent = Spent()
        self.notes: dict[str, Any] = {}

    def turn(self, hour: Hour, target: Contestant) -> Turn:
        """Return what the attacker may do in this hour."""
        count = len(hour.raw)
        owned = np.sort(self._choice.permutation(count)[: round(self.setup.share * count)])
        return Turn(
            hour.number, hour.number - self.phase.first_hour, self.phase.hours, self.setup, target,
            self.phase.attack.knowledge, self.spent, owned, hour.is_night, self.notes,
        )  # fmt: skip

    def progress(self, number: int) -> float:
        """Return how much of the phase is over with this hour, 0 to 1."""
        return min(1.0, (number - self.phase.first_hour + 1) / self.phase.hours)


def setup_of(
    world: World,
    rng: np.random.Generator | None = None,
    strength: float = 1.0,
    share: float = 1.0,
) -> Setup:
    """Return what an attacker in this world begins with."""
    labels = world.served_truth if world.classes else np.full(len(world.served), -1)
    return Setup(
        world.domain,
        np.random.default_rng(world.life.seed) if rng is None else rng,
        strength,
        share,
        world.served,
        np.asarray(labels, np.int64),
        lambda raw: _answered(world, raw),
        world.classes,
        world.weights,
        world.opened,
        lambda raw, rows: _share_right(world, raw, rows),
    )


def _share_right(world: World, raw: Raw, rows: npt.NDArray[np.int64]) -> float:
    """Return how much of changed copies of served samples golden answers rightly."""
    truth = raw if world.kind == "autoencoder" else world.served_truth[rows]
    return float(world.right(world.golden.run(raw), truth).mean())


def _answered(world: World, raw: Raw) -> Real:
    outputs = world.golden.run(raw)
    output = world.golden.output
    return output.scores(outputs) if world.kind == "classifier" else output.real(outputs)


class _Runner:
    """Lives one contestant's hours."""

    def __init__(self, world: World, plan: Plan, contestant: Contestant) -> None:
        self._world, self._plan, self._contestant = world, plan, contestant
        self.course = Course(contestant.name)
        self._sieges = [_Siege(world, plan, n) for n in range(len(plan.phases))]
        self.course.onsets = [None] * len(self._sieges)
        self.course.spent = [siege.spent for siege in self._sieges]
        self.course.notes = [siege.notes for siege in self._sieges]
        self._truth: OrderedDict[int, Any] = OrderedDict()
        self._owed = 0.0
        self._heard = 0

    def live(self, hour: Hour, undamaged: npt.NDArray[np.bool_]) -> None:
        """Live one hour."""
        active = [s for s in self._sieges if s.phase.first_hour <= hour.number < s.phase.end]
        raw = hour.raw
        begun = self._contestant.predictions
        for siege in active:
            was = raw
            raw = siege.attacker.condition(raw, siege.progress(hour.number))
            self._begins(siege, begun, was is not raw)
        truth = hour.truth
        if self._world.kind == "autoencoder":
            truth = raw
        labels = truth if self._world.kind == "classifier" else np.full(len(raw), -1)
        turns = [(siege, siege.turn(hour, self._contestant)) for siege in active]
        seen = raw
        course = self.course
        try:
            self._contestant.hour_begins()
            for siege, turn in turns:
                was = seen
                seen = siege.attacker.inputs(turn, seen, labels)
                self._begins(siege, begun, was is not seen)
            answers = self._contestant.serve(seen)
        except Exception as error:
            self._fails(hour, error, undamaged)
            return
        right = self._world.right(answers.outputs, truth)
        course.right.append(int(right.sum()))
        course.trusted.append(int(answers.trusted.sum()))
        course.trusted_right.append(int((right & answers.trusted).sum()))
        golden = undamaged
        if seen is not hour.raw:
            golden = self._world.right(self._world.golden.run(seen), truth)
        course.golden_right.append(int(golden.sum()))
        course.golden_parted.append(int((right != golden).sum()))
        course.parted.append(int((right != undamaged).sum()))
        self._remember(answers, truth)
        try:
            course.labels.append(self._answer())
            for siege, turn in turns:
                siege.attacker.after(turn, answers)
                self._begins(siege, self._contestant.predictions, siege.spent != Spent())
                if hour.number == siege.phase.end - 1:
                    siege.attacker.ends(turn)
        except Exception as error:
            course.labels.extend([0] * (len(course.right) - len(course.labels)))
            course.failures.append((hour.number, f"{type(error).__name__}: {error}"))
        self._hear(hour, active)
        course.costs.append(self._contestant.costs())

    def _begins(self, siege: _Siege, predictions: int, has_acted: bool) -> None:
        n = self._sieges.index(siege)
        if has_acted and self.course.onsets[n] is None:
            self.course.onsets[n] = predictions

    def _fails(self, hour: Hour, error: Exception, undamaged: npt.NDArray[np.bool_]) -> None:
        course = self.course
        course.failures.append((hour.number, f"{type(error).__name__}: {error}"))
        for row in (course.right, course.trusted, course.trusted_right, course.labels):
            row.append(0)
        lost = int(undamaged.sum())
        for row in (course.golden_right, course.golden_parted, course.parted):
            row.append(lost)
        self._contestant.clock.pass_(3600.0)
        self._hear(hour, [])
        course.costs.append(course.costs[-1] if course.costs else Costs())
        try:
            self._contestant.restart(clean=False)
        except Exception as again:
            course.failures.append((hour.number, f"restart: {type(again).__name__}: {again}"))

    def _remember(self, answers: Answers, truth: npt.NDArray[Any]) -> None:
        """Take note of what the owner will say: a class, numbers, or that an input was normal."""
        match self._world.kind:
            case "classifier":
                said: list[Any] = truth.tolist()
            case "regressor":
                said = list(truth)
            case "autoencoder":  # no machine breaks in a campaign
                said = [True] * len(truth)
        self._truth.update(zip(answers.ids.tolist(), said, strict=True))
        while len(self._truth) > _REMEMBERED:
            self._truth.popitem(last=False)

    def _answer(self) -> int:
        """Have the owner answer what is asked; return how many answers that were."""
        most = self._world.life.labels_per_day
        is_worried = self._contestant.is_worried()
        self._owed = min(self._owed + (most if is_worried else most / _CALM) / HOURS, float(most))
        limit = int(self._owed)
        if limit < 1:
            return 0
        given = 0
        for asked in self._contestant.wanted(limit):
            label = self._truth.get(asked.id)
            if label is not None:
                self._contestant.feedback(label, asked.id, OWNER, authenticated=True)
                given += 1
        self._owed -= given
        return given

    def _hear(self, hour: Hour, active: Sequence[_Siege]) -> None:
        told = self._contestant.told
        fresh, self._heard = told[self._heard :], len(told)
        self.course.told += [(hour.number, one) for one in fresh]
        is_trained = self._contestant.name == "naive"
        kinds = [t.kind for t in fresh if t.kind in _LEARNED or (is_trained and t.kind == "repair")]
        for kind in dict.fromkeys(kinds):
            self._judge(hour, active, kind)

    def _judge(self, hour: Hour, active: Sequence[_Siege], kind: str) -> None:
        """Compare what serves now with the undamaged model, on what is seen in this hour."""
        if self._contestant.serves() == "golden":
            return
        raw, truth = self._world.judges(is_night=hour.is_night)
        for siege in active:
            raw = siege.attacker.condition(raw, siege.progress(hour.number))
            his = round(siege.setup.share * len(raw))
            if his and type(siege.attacker).shown is not Attacker.shown:
                raw = np.concatenate([siege.attacker.shown(raw[:his]), raw[his:]])
        if self._world.kind == "autoencoder":
            truth = raw
        golden = self._world.right(self._world.golden.run(raw), truth).mean()
        now = self._world.right(self._contestant.run_aside(raw), truth).mean()
        self.course.judged.append(Judged(hour.number, kind, float(golden), float(now)))
