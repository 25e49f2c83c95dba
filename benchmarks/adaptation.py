"""What repairs by learning recover of the accuracy that a drift takes, and what they never lose.

    python benchmarks/adaptation.py --json docs/benchmarks/adaptation.json

A draw splits normal operation into calibration and the rest, a condition into the window that the
device has seen and the samples that score. Labels come from the window, in rounds of 16: a round
first judges the candidate that was learned from the rounds before, then trains the next one, so
that all labels count that a trial takes. The trial is the loop's own, with an owner who labels. A
rejected candidate gains nothing.

The share recovered is the sum of gains over all conditions and draws over the sum of losses; its
lower limit is that of a mean over draws (95 %, one-sided). Nothing here tells strategies that the
mix of classes moved: they have to see it.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

import adaptation_data
import adaptation_liar
import adaptation_loop
import adaptation_other
import adaptation_plots
from adaptation_data import (
    Adapted,
    Bound,
    Condition,
    Floats,
    Labels,
    Rows,
    bound,
    share_rows,
    splits,
)
from harness import Row, parser, report
from selfheal_edge.causes import Cause
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.loop.learning_pace import LARGEST_ERROR as ERROR
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.protocol import LearningStrategy
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.refine import Refine
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.trial.betting import Evidence

ROUND: Final = 16
ROUNDS: Final = 4
RECIPE: Final[tuple[LearningStrategy, ...]] = (Realign(), RetrainHead(), NewPriors())
REFINED: Final[tuple[LearningStrategy, ...]] = (Realign(), RetrainHead(), Refine(), NewPriors())
UNDEFENDED: Final = RetrainHead(is_guarded=False)
OWNER: Final = "owner"
WANTED: Final = 5
"""Draws in which labels are chosen as well, and in which 256 are given."""
SLIGHT: Final = 0.03
"""A stream that loses less has little to lose."""
PARTED: Final = 0.1
"""How likely an input on which golden and the candidate agree is asked about, against another."""


class Stage:
    """One draw of one condition."""

    def __init__(
        self,
        task: Adapted,
        to: Bound,
        reference: LearningReference,
        condition: Condition,
        rows: Rows,
        window: int,
    ) -> None:
        self.task, self.to, self.reference, self.condition = task, to, reference, condition
        self.window, self.test = rows[:window], rows[window:]
        x = condition.x[rows]
        self.inputs, self.test_x = x[:window], x[window:]
        self.y, self.test_y = condition.y[self.window], condition.y[self.test]
        self.golden = to.bench.answers(self.inputs).labels
        self.test_golden = to.bench.answers(self.test_x).labels
        self.base = float((self.test_golden == self.test_y).mean())

    def material(self, told: Rows, labels: Labels, weights: Floats | None = None) -> Material:
        """Return what strategies are given after the window's inputs `told` got these labels."""
        count = len(told)
        labelled = Labelled(
            self.inputs[told],
            labels,
            np.ones(count, np.float32) if weights is None else weights.astype(np.float32),
            (OWNER,) * count,
            np.arange(count),
        )
        return Material(
            self.reference,
            self.to.head,
            self.to.bench,
            self.inputs,
            labelled,
            False,
            Cause.COVARIATE_DRIFT,
            "",
            np.random.default_rng(0),
        )

    def gain(self, patch: Patch | None) -> float:
        """Return how many more of the samples that score a patch names rightly, as it would run."""
        if patch is None:
            return 0.0
        found = self.to.bench.answers(self.test_x, patch).labels
        return float((found == self.test_y).mean()) - self.base

    def float_gain(self, material: Material, patch: Patch) -> float:
        """Return the same of the head before its weights were rounded."""
        note = material.noted(patch)
        inside = self.to.bench.answers(self.test_x, Patch(inputs=patch.inputs)).embeddings
        assert note is not None
        assert inside is not None
        named = (inside @ note.weights.T + note.bias).argmax(axis=1)
        return float((named == self.test_y).mean()) - self.base

    def answers(self, patch: Patch | None) -> Labels:
        """Return what a patch names the window's inputs."""
        return self.golden if patch is None else self.to.bench.answers(self.inputs, patch).labels


@dataclass
class Trial:
    """The project's trial, of labels of an owner on which golden and the candidate part."""

    evidence: Evidence = field(default_factory=Evidence)
    confirmed_after: int | None = None
    is_rejected: bool = False

    def hear(self, is_win: bool, labels: int) -> None:
        """Take the next decisive label."""
        if self.confirmed_after is not None or self.is_rejected:
            return
        self.evidence = self.evidence.with_label(OWNER, new_right=is_win, old_right=not is_win)
        match self.evidence.verdict(ERROR, OWNER):
            case "confirm":
                self.confirmed_after = labels
            case "reject":
                self.is_rejected = True


@dataclass
class Course:
    """What came of the rounds of one draw."""

    gains: list[float]
    """After 0, 16, 32 … labels."""
    confirmed_after: int | None
    quantised_less: float
    """Accuracy that the file's types cost."""


def course(
    stage: Stage,
    rng: np.random.Generator,
    *,
    wanted: bool,
    last: Sequence[LearningStrategy] = RECIPE,
) -> Course:
    """Return gains after each round; labels at random, or where golden and the candidate part.

    `last` are the strategies that learn from all labels: refinement takes seconds.
    """
    told, weights = np.empty(0, np.intp), np.empty(0)
    trial, gains, less = Trial(), [], 0.0
    for n in range(ROUNDS + 1):
        material = stage.material(told, stage.y[told], weights / max(weights.mean(), 1e-9)
                                  if len(weights) else None)  # fmt: skip
        patch = propose(material, last if n == ROUNDS else RECIPE, OWNER).patch
        if trial.is_rejected:
            patch = None
        gains.append(stage.gain(patch))
        if n == ROUNDS:
            if patch is not None:
                less = stage.float_gain(material, patch) - gains[-1]
            break
        here = stage.answers(patch)
        left = np.setdiff1d(np.arange(len(stage.y)), told)
        odds = np.where(here[left] != stage.golden[left], 1.0, PARTED) if wanted else None
        chance = None if odds is None else odds / odds.sum()
        picked = rng.choice(len(left), ROUND, replace=False, p=chance)
        asked = left[picked]
        for row in asked:
            parts = (here[row] == stage.y[row]) != (stage.golden[row] == stage.y[row])
            if parts:
                trial.hear(bool(here[row] == stage.y[row]), len(told) + ROUND)
        weights = np.concatenate(
            [weights, np.ones(ROUND) if odds is None else np.minimum(1.0 / odds[picked], 4.0)]
        )
        told = np.concatenate([told, asked])
    return Course(gains, trial.confirmed_after, less)


def stages(task: Adapted, to: Bound, draws: int) -> list[tuple[int, float, list[Stage]]]:
    """Return for each draw its number, clean accuracy, and the stage of each condition."""
    clean = to.bench.answers(task.x).labels == task.y
    found = []
    for draw, calibration, rows in splits(task, draws):
        reference = to.reference(task, calibration, draw)
        rest = np.setdiff1d(np.arange(len(task.x)), calibration)
        found.append(
            (
                draw,
                float(clean[rest].mean()),
                [Stage(task, to, reference, c, rows[c.name], task.window) for c in task.conditions],
            )
        )
    return found


def loss_of(stage: Stage, clean: float, is_clean_right: npt.NDArray[np.bool_]) -> float:
    """Return what the condition takes: on the same samples, where they are the same."""
    if stage.task.is_same:
        clean = float(is_clean_right[stage.test].mean())
    return clean - stage.base


def main_rows(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return rows of labels in rounds, at random and where golden and the candidate part."""
    clean_right = to.bench.answers(task.x).labels == task.y
    drawn = stages(task, to, draws)
    names = [c.name for c in task.conditions]
    shape = (draws, len(names))
    losses, courses, chosen, many = np.empty(shape), {}, {}, np.full(shape, np.nan)
    for n, (draw, clean, found) in enumerate(drawn):
        for m, stage in enumerate(found):
            losses[n, m] = loss_of(stage, clean, clean_right)
            courses[n, m] = course(stage, np.random.default_rng((draw, m)), wanted=False)
            if n < WANTED:
                chosen[n, m] = course(stage, np.random.default_rng((draw, m)), wanted=True)
            if len(stage.y) > 256 and n < WANTED:
                told = np.random.default_rng((draw, m, 1)).permutation(len(stage.y))[:256]
                many[n, m] = stage.gain(
                    propose(stage.material(told, stage.y[told]), RECIPE, OWNER).patch
                )

    def after(number: int, source: dict[tuple[int, int], Course]) -> Floats:
        return np.array(
            [
                [source[n, m].gains[number] for m in range(shape[1])]
                for n in range(len(source) // shape[1])
            ]
        )

    targets = {"KWS": {0: 0.5, ROUNDS: 0.6}, "MNIST": {ROUNDS: 0.7}}.get(task.name, {})
    rows: list[Row] = []
    for number in (0, 1, ROUNDS):
        label = f"{task.name}, {number * ROUND} labels"
        rows += share_rows(label, after(number, courses), losses, targets.get(number))
    rows += share_rows(
        f"{task.name}, 64 wanted labels", after(ROUNDS, chosen), losses[:WANTED], None
    )
    if np.isfinite(many[:WANTED]).all():
        rows += share_rows(f"{task.name}, 256 labels", many[:WANTED], losses[:WANTED], None)
    for kind, source in (("", courses), (" wanted", chosen)):
        gains = after(ROUNDS, source)
        lost = np.maximum(losses[: len(gains)], 0.0).sum()
        confirmed = np.array(
            [
                [source[n, m].confirmed_after is not None for m in range(shape[1])]
                for n in range(len(gains))
            ]
        )
        what = f"{task.name}, 64{kind} labels"
        rows += [
            Row(f"{what}: recovered, confirmed", float(gains[confirmed].sum() / lost), "share",
                None, True),
            Row(f"{what}: recovered, on probation", float(gains[~confirmed].sum() / lost), "share",
                None, True),
        ]  # fmt: skip
    least = min(after(number, source).mean(axis=0).min()
                for number in range(ROUNDS + 1) for source in (courses, chosen))  # fmt: skip
    slight = losses.mean(axis=0) < SLIGHT
    rows.append(
        Row(f"{task.name}: lost at most, mean of a condition", 100 * max(0.0, -float(least)),
            "points", 1.0, False)
    )  # fmt: skip
    if slight.any():
        worst = max(-float(after(number, courses)[:, slight].mean(axis=0).min())
                    for number in range(ROUNDS + 1))  # fmt: skip
        rows.append(
            Row(f"{task.name}: lost where little is lost", 100 * max(0.0, worst), "points", 1.0,
                False)
        )  # fmt: skip
    less = [c.quantised_less for c in courses.values()]
    rows.append(
        Row(f"{task.name}: file's types against float", 100 * float(np.mean(less)), "points", 0.5,
            False)
    )  # fmt: skip
    for m, name in enumerate(names):
        lost = float(losses[:, m].mean())
        # Asked for of the sensors alone; a condition that takes nothing has no share.
        aim = 0.8 if name == "batch 3" else None
        for number in (0, 1, ROUNDS):
            gain = float(after(number, courses)[:, m].mean())
            if lost >= SLIGHT:
                rows.append(
                    Row(f"{task.name}, {name}: {number * ROUND} labels", gain / lost, "share",
                        aim if number == ROUNDS else None, True)
                )  # fmt: skip
            else:
                rows.append(
                    Row(f"{task.name}, {name}: gained, {number * ROUND} labels", 100 * gain,
                        "points", -1.0, True)
                )  # fmt: skip
    return rows


def refined_rows(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return rows of refined inner layers: without labels, and with 64 that were asked for."""
    clean_right = to.bench.answers(task.x).labels == task.y
    kinds = "0 labels, refined", "0 labels, head", "64 wanted labels, refined", "64 wanted, head"
    gains = np.zeros((len(kinds), draws, len(task.conditions)))
    losses, seconds = np.zeros(gains.shape[1:]), []
    for n, (draw, clean, found) in enumerate(stages(task, to, draws)):
        for m, stage in enumerate(found):
            losses[n, m] = loss_of(stage, clean, clean_right)
            nothing = stage.material(np.empty(0, np.intp), stage.y[:0])
            started = time.thread_time()
            plain = propose(nothing, RECIPE, OWNER).patch
            between = time.thread_time()
            refined = propose(nothing, REFINED, OWNER).patch
            seconds.append(time.thread_time() - between - (between - started))
            gains[:2, n, m] = stage.gain(refined), stage.gain(plain)
            for kind, last in ((2, REFINED), (3, RECIPE)):
                rng = np.random.default_rng((draw, m))
                gains[kind, n, m] = course(stage, rng, wanted=True, last=last).gains[-1]
        print(task.name, n, gains[:, n].sum(1) / losses[n].sum(), file=sys.stderr, flush=True)
    rows: list[Row] = []
    for kind, name in enumerate(kinds):
        target = (0.55, None, 0.7, None)[kind] if task.name == "KWS" else None
        rows += share_rows(f"{task.name}, {name}", gains[kind], losses, target)
    rows.append(Row(f"{task.name}: CPU of a refinement", float(np.mean(seconds)), "s", 5.0, False))
    return rows


def skewed_rows(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return rows of streams of few classes, with and without drift."""
    rows = []
    clean = Condition("clean", task.x, task.y)
    answered = {c.name: to.bench.answers(c.x).labels == c.y for c in (clean, *task.conditions)}
    for skew in ("3 classes", "60 % one class"):
        gains: dict[tuple[bool, int], list[float]] = {}
        losses: list[float] = []
        least: dict[int, list[float]] = {}
        for draw, calibration, _ in splits(task, draws):
            reference = to.reference(task, calibration, draw)
            rng = np.random.default_rng((draw, 5))
            rest = rng.permutation(np.setdiff1d(np.arange(len(task.x)), calibration))
            rows_of = _skewed(task.y, rest, skew, rng)
            for condition in (clean, *task.conditions):
                half = min(160, 2 * len(rows_of) // 3)
                stage = Stage(task, to, reference, condition, rows_of, half)
                is_clean = condition is clean
                loss = float(answered["clean"][stage.test].mean()) - stage.base
                if not is_clean:
                    losses.append(loss)
                for k in (0, 32, 64):
                    told = rng.permutation(half)[: min(k, half)]
                    found = propose(stage.material(told, stage.y[told]), RECIPE, OWNER)
                    gain = stage.gain(found.patch)
                    gains.setdefault((is_clean, k), []).append(gain)
                    if is_clean:
                        least.setdefault(k, []).append(gain)
        lost = max(sum(max(loss, 0.0) for loss in losses), 1e-9)
        for k in (0, 32, 64):
            rows.append(
                Row(f"{task.name}, {skew}, no drift: lost, {k} labels",
                    -100 * float(np.mean(gains[True, k])), "points", 1.0, False)
            )  # fmt: skip
            rows.append(
                Row(f"{task.name}, {skew}, drifted: recovered, {k} labels",
                    sum(gains[False, k]) / lost, "share", 0.5 if k else None, True)
            )  # fmt: skip
    return rows


def _skewed(y: Labels, rest: Rows, skew: str, rng: np.random.Generator) -> Rows:
    classes = np.unique(y)
    if skew == "3 classes":
        return rest[np.isin(y[rest], rng.permutation(classes)[:3])]
    many = [c for c in classes if (y[rest] == c).sum() >= len(rest) // len(classes) // 2]
    one = rng.choice(many)
    own, others = rest[y[rest] == one], rest[y[rest] != one]
    mixed = np.concatenate([own, others[: round(len(own) * 2 / 3)]])
    return np.asarray(rng.permutation(mixed), np.intp)


def spoiled(kind: str, y: Labels, classes: int, rng: np.random.Generator) -> Labels:
    """Return 64 labels of which some are wrong."""
    told = np.array(y)
    bad = rng.permutation(len(told))[: 10 if "10" in kind else len(told) // 5]
    if "aimed" in kind:
        told[bad] = rng.integers(classes)
    else:
        told[bad] = (told[bad] + rng.integers(1, classes, len(bad))) % classes
    return told


def poison_rows(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return what bad labels cost, against as many good ones; with defences and without."""
    kinds: dict[str, float] = {
        "10 of 64 at random": 1.0,
        "10 of 64 aimed": 1.0,
        "20 % flipped": 2.0,
    }
    lost: dict[tuple[str, bool], list[float]] = {}
    for draw, _, found in stages(task, to, draws):
        for m, stage in enumerate(found):
            rng = np.random.default_rng((draw, m, 3))
            told = rng.permutation(len(stage.y))[:64]
            good = stage.y[told]
            for defended in (True, False):
                make: Callable[[Material], Patch | None] = _defended if defended else _undefended
                honest = stage.gain(make(stage.material(told, good)))
                for kind in kinds:
                    bad = spoiled(kind, good, stage.reference.classes, rng)
                    gain = stage.gain(make(stage.material(told, bad)))
                    lost.setdefault((kind, defended), []).append(honest - gain)
    rows = []
    for kind, most in kinds.items():
        for defended in (True, False):
            what = "with defences" if defended else "defences off"
            rows.append(
                Row(f"{task.name}, poison, {kind}: {what}",
                    100 * float(np.mean(lost[kind, defended])), "points",
                    most if defended else None, False)
            )  # fmt: skip
    return rows


def revoked_rows(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return what is lost against never having heard 20 bad labels of 64: before and after.

    They are the owner's, with a stolen key, so that nothing but a revocation undoes them. What is
    left of the lesson (their inputs go, too) is learned again, as the device does it.
    """
    lost: dict[str, list[float]] = {"found late": [], "revoked": []}
    for draw, _, found in stages(task, to, draws):
        for m, stage in enumerate(found):
            rng = np.random.default_rng((draw, m, 4))
            told = rng.permutation(len(stage.y))[:64]
            said, bad = stage.y[told].copy(), rng.permutation(64)[:20]
            said[bad] = rng.integers(stage.reference.classes)
            honest = np.setdiff1d(np.arange(64), bad)
            never = stage.gain(_defended(stage.material(told[honest], stage.y[told[honest]])))
            poisoned = stage.material(told, said)
            names, count = tuple(s.name for s in RECIPE), len(stage.y)
            lesson = Lesson(names, poisoned.cause, "", False, 0, np.arange(count), told,
                            (OWNER,) * 64, np.ones(64), stage.inputs)  # fmt: skip
            rest = lesson.without(None, told[bad].tolist())
            assert rest.inputs is not None
            again = replace(poisoned, window=rest.inputs, _answers={}, _notes={},
                            labelled=poisoned.labelled.only(np.isin(told, rest.ids)))  # fmt: skip
            lost["found late"].append(never - stage.gain(_defended(poisoned)))
            lost["revoked"].append(never - stage.gain(_defended(again)))
    return [
        Row(f"{task.name}, poison, 20 of 64 aimed: {kind}", 100 * float(np.mean(rows)), "points",
            0.5 if kind == "revoked" else None, False)
        for kind, rows in lost.items()
    ]  # fmt: skip


def _defended(material: Material) -> Patch | None:
    return propose(material, RECIPE, OWNER).patch


def _undefended(material: Material) -> Patch | None:
    """Align, and train on whatever is said; nothing is chosen, no label is doubted."""
    patch = Realign().propose(material, material.golden)
    start = material.golden if isinstance(patch, str) else patch
    made = UNDEFENDED.propose(material, start)
    return start if isinstance(made, str) else made


class _Job(NamedTuple):
    task: str
    part: str
    draws: int
    most: int | None
    """Conditions, if not all."""


def _rows(job: _Job) -> list[Row]:
    """Return the rows of one part of one task; none, and why on stderr, where data are absent."""
    name, part, draws, most = job
    try:
        if part == "other":
            return adaptation_other.other_rows(draws)
        task = _TASKS[name]()
    except (FileNotFoundError, ImportError) as error:
        print(f"{name}: left out, {error}", file=sys.stderr)
        return []
    task = task._replace(conditions=task.conditions[:most])
    with bound(task) as to:
        return _PARTS[part](task, to, draws)


_TASKS: Final[dict[str, Callable[[], Adapted]]] = {
    "KWS": adaptation_data.kws,
    "sensors": adaptation_data.sensors,
    "digits": adaptation_data.digits,
    "digits, tuning drifts": functools.partial(adaptation_data.digits, "tuning"),
    "MNIST": adaptation_data.mnist,
}
_PARTS: Final = {
    "main": main_rows,
    "skewed": skewed_rows,
    "refined": refined_rows,
    "poison": poison_rows,
    "revoked": revoked_rows,
    "loop": adaptation_loop.rows_of,
    "liar": adaptation_liar.rows_of,
}
_JOBS: Final = (
    ("KWS", "main", 1.0),
    ("KWS", "poison", 0.25),
    ("KWS", "skewed", 0.25),
    ("sensors", "main", 0.4),
    ("digits", "main", 0.2),
    ("MNIST", "main", 0.1),
    ("digits", "skewed", 0.2),
    ("KWS", "refined", 0.2),
    ("digits, tuning drifts", "refined", 0.24),
    ("soft sensors", "other", 0.2),
    ("KWS", "revoked", 0.2),
    ("digits", "revoked", 0.1),
    ("KWS", "loop", 0.6),
    ("sensors", "loop", 0.6),
    ("digits", "loop", 0.4),
    ("KWS", "liar", 0.14),
    ("sensors", "liar", 0.4),
    ("digits", "liar", 0.1),
)
"""Task, part, and its share of the draws."""
_QUICK: Final[dict[str, tuple[int, int | None]]] = {
    "KWS": (1, 1),
    "sensors": (2, 2),
    "digits": (1, 1),
    "soft sensors": (2, None),
}
"""Draws and conditions in a check of function: two of what takes least, as limits need two. What is
not here is the same function of other data."""


def jobs_of(draws: int | None, parts: Collection[str]) -> list[_Job]:
    """Return what these parts consist of, for so many draws of KWS; else a check of function."""
    return [
        _Job(name, part, *_QUICK[name])
        if draws is None
        else _Job(name, part, max(2, round(share * draws)), None)
        for name, part, share in _JOBS
        if part in parts and (draws is not None or name in _QUICK)
    ]


def measure(jobs: Sequence[_Job]) -> list[Row]:
    """Return all rows; two processes share the work."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        done: list[Row] = []
        for job, rows in zip(jobs, pool.map(_rows, jobs), strict=True):
            print(job.task, job.part, job.draws, file=sys.stderr, flush=True)
            done += rows
        return done


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--draws", type=int, default=50, help="of KWS; of the others fewer")
    usual = [part for part in _PARTS if part != "liar"]
    known = (*_PARTS, "other")
    options.add_argument("--parts", nargs="+", choices=known, default=usual)
    options.add_argument("--tasks", nargs="+", choices=tuple(_TASKS), default=tuple(_TASKS))
    options.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw the plots there")
    chosen = options.parse_args()
    if chosen.plots is not None:
        adaptation_plots.draw(chosen.plots)
    draws = None if chosen.quick else max(2, chosen.draws)
    jobs = [
        job
        for job in jobs_of(draws, chosen.parts)
        if job.part == "other" or job.task in chosen.tasks
    ]
    report(measure(jobs), chosen.json)
