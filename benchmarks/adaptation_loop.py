"""What comes of a drift through the whole loop: a device, its stream, and a person who answers.

Parts of `adaptation.py`. One draw of one condition is one model, opened like any other:

1.  normal operation, `CLEAN` predictions;
2.  the drift begins: the window's inputs, in no order, again and again. The loop alarms, names a
    cause, learns and serves on probation. With labels: every `STEP` predictions in which the model
    is not healthy a person answers what it asks, 64 labels in all; the condition lasts until these
    are told, and for `DRIFTED` predictions at least;
3.  the inputs that score, each once, in the drift. No label of them is ever told;
4.  the drift ends: `AFTER` of the same inputs without it, those before golden serves included;
5.  the second night: the inputs that score, in the drift again.

Accuracies are those of the answers that were given, trusted or not. Golden's on the very same
inputs, with and without the drift, say what was lost. The model's clock is the stream's: one input
a second, so that budgets a minute or an hour are those of such a device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adaptation_data import Adapted, Bound, Condition, Labels, Rows, share_rows, splits
from harness import Row
from selfheal_edge import (
    Baseline,
    Event,
    FeedbackSource,
    HealthState,
    Policy,
    Prediction,
    SelfHealingModel,
    calibrate,
)
from selfheal_edge.learning.questions import Question
from selfheal_edge.store.journal import EventKind

CLEAN: Final = 200
DRIFTED: Final = 300
LONGEST: Final = 1024
"""The drift lasts no longer before the inputs that score come."""
STEP: Final = 64
ASKED: Final = 16
TOLD: Final = 64
AFTER: Final = 256
OWNER: Final = "owner"
KEY: Final = b"a key of the person who answers."


Answer = Callable[[int, Question], int]
"""What a source says: by the true class, and the question."""


class Mark(NamedTuple):
    """When something happened, counted from the onset."""

    predictions: int
    labels: int
    seconds: float
    """In which the device worked."""


@dataclass
class Course:
    """What one device went through. Accuracies are of the same inputs."""

    golden_clean: float = 0.0
    golden_drifted: float = 0.0
    golden_after: float = 0.0
    drifted: float = 0.0
    after: float = 0.0
    night: float = 0.0
    is_confirmed: bool = False
    """Whether what served the inputs that score was confirmed."""
    marks: dict[str, Mark] = field(default_factory=dict)
    """By what happened first after the onset: alarm, named, serves, healed, back, again."""
    labels: int = 0

    @property
    def lost(self) -> float:
        """Accuracy that the drift takes from golden."""
        return self.golden_clean - self.golden_drifted

    @property
    def gained(self) -> float:
        """How much of it the loop gave back."""
        return self.drifted - self.golden_drifted


class Device:
    """A model in the field, and the person who knows what its inputs show.

    Parameters
    ----------
    name
        Of the source that answers; only the owner's word needs no second one.
    """

    def __init__(self, task: Adapted, baseline: Baseline, seed: int, name: str = OWNER) -> None:
        self.task = task
        self.rng = np.random.default_rng(seed)
        self.marks: dict[str, Mark] = {}
        self.events: list[tuple[int, Event]] = []
        """All that was told, with the number of predictions since the start."""
        self.truth: dict[int, int] = {}
        self.predictions = self.labels = 0
        self.seconds = 0.0
        self._since = (0, 0, 0.0)
        self._begun = time.perf_counter()
        self.model = SelfHealingModel(
            task.model,
            baseline,
            policy=Policy(owner=OWNER, max_events=4096),
            on_event=self._heard,
            clock=lambda: float(self.predictions),
            seed=seed,
        )
        self.person: FeedbackSource = self.model.feedback_source(name, KEY)

    def begin(self) -> None:
        """Count from here."""
        self.marks = {}
        self._since = (self.predictions, self.labels, self.seconds)

    def _heard(self, event: Event) -> None:
        self.events.append((self.predictions, event))
        names = {
            EventKind.ALARM: "alarm",
            EventKind.DIAGNOSIS: "named",
            EventKind.PROBATION: "serves",
            EventKind.CONFIRMED: "healed",
        }
        if event.kind in names:
            self.mark(names[event.kind])

    def mark(self, name: str) -> None:
        """Note that this happens for the first time."""
        at, labels, seconds = self._since
        now = self.seconds + time.perf_counter() - self._begun
        self.marks.setdefault(
            name, Mark(self.predictions - at, self.labels - labels, now - seconds)
        )

    def see(self, x: npt.NDArray[Any], y: Labels, rows: Sequence[int] | Rows) -> list[bool]:
        """Answer these inputs, one after the other; return which answers were right."""
        right = []
        for row in rows:
            self.predictions += 1
            self._begun = time.perf_counter()
            found = self.model.infer(x[row : row + 1])
            self.seconds += time.perf_counter() - self._begun
            assert isinstance(found, Prediction)
            assert found.id is not None
            self.truth[found.id] = int(y[row])
            right.append(bool(found.label == y[row]))
        return right

    def answer(self, limit: int, says: Answer | None = None) -> int:
        """Answer what the device asks, truly or as `says` does; return how many."""
        questions = self.model.wanted_labels(limit)
        for question in questions:
            self.labels += 1
            truth = self.truth[question.id]
            label = truth if says is None else says(truth, question)
            self._begun = time.perf_counter()
            self.model.feedback(label, id=question.id, source=self.person)
            self.seconds += time.perf_counter() - self._begun
        return len(questions)

    @property
    def is_repaired(self) -> bool:
        """Whether something serves that was learned."""
        return self.model.weights.active != 0


@contextmanager
def device(task: Adapted, baseline: Baseline, seed: int, name: str = OWNER) -> Iterator[Device]:
    """Open a device, and close it."""
    found = Device(task, baseline, seed, name)
    try:
        yield found
    finally:
        found.model.close()


def right_of(to: Bound, condition: Condition) -> npt.NDArray[np.bool_]:
    """Return which samples of a condition golden names rightly."""
    return np.asarray(to.bench.answers(condition.x).labels == condition.y)


def through(
    task: Adapted,
    to: Bound,
    baseline: Baseline,
    condition: Condition,
    normal: Rows,
    rows: Rows,
    told: int,
    seed: int,
) -> Course:
    """Return what comes of one drift.

    Parameters
    ----------
    normal
        Samples of normal operation that calibration did not see.
    rows
        Of the condition: those of the window, then those that score.
    told
        Labels that a person gives.
    """
    window, test = rows[: task.window], rows[task.window :]
    course = Course()
    golden, clean = right_of(to, condition), right_of(to, Condition("", task.x, task.y))
    # The same samples without the drift, where there are such.
    before = test if task.is_same else normal
    course.golden_clean = float(clean[before].mean())
    course.golden_drifted = float(golden[test].mean())
    with device(task, baseline, seed) as field_:
        rng = field_.rng
        seen = np.intersect1d(normal, window) if task.is_same else normal
        field_.see(task.x, task.y, rng.choice(seen, CLEAN))
        field_.begin()
        lasted, calm = 0, 0
        while lasted < DRIFTED or (field_.labels < told and lasted < LONGEST):
            field_.see(condition.x, condition.y, rng.choice(window, STEP))
            lasted += STEP
            is_healthy = field_.model.health.state is HealthState.HEALTHY
            calm = calm + STEP if is_healthy else 0
            if field_.labels < told and (not is_healthy or calm >= LONGEST // 4):
                field_.answer(min(ASKED, told - field_.labels))
        course.labels = field_.labels
        serving = field_.model.health
        course.is_confirmed = bool(serving.condition) and not serving.on_probation
        course.drifted = float(np.mean(field_.see(condition.x, condition.y, rng.permutation(test))))
        course.marks = field_.marks
        was_repaired = field_.is_repaired
        field_.begin()
        back = np.resize(rng.permutation(before), AFTER)
        right = []
        for row in back:
            right += field_.see(task.x, task.y, [row])
            if was_repaired and not field_.is_repaired:
                field_.mark("back")
        course.after = float(np.mean(right))
        course.golden_after = float(clean[back].mean())
        course.marks.update({k: v for k, v in field_.marks.items() if k == "back"})
        field_.begin()
        right = []
        for row in rng.permutation(test):
            right += field_.see(condition.x, condition.y, [row])
            if was_repaired and field_.is_repaired:
                field_.mark("again")
        course.night = float(np.mean(right))
        course.marks.update({k: v for k, v in field_.marks.items() if k == "again"})
    return course


# ---- The tables


def rows_of(task: Adapted, to: Bound, draws: int) -> list[Row]:
    """Return the rows of a task, without a label and with 64."""
    found: dict[int, list[list[Course]]] = {0: [], TOLD: []}
    for draw, calibration, rows in splits(task, draws):
        baseline = calibrate(task.model, task.x[calibration], task.y[calibration], seed=draw)
        normal = np.setdiff1d(np.arange(len(task.x)), calibration)
        for told, courses in found.items():
            courses.append(
                [
                    through(task, to, baseline, c, normal, rows[c.name], told, draw)
                    for c in task.conditions
                ]
            )
    names = [c.name for c in task.conditions]
    made = [Row(f"{task.name}, draws: of each condition", draws, "draws", None, True)]
    for told, courses in found.items():
        made += recovered_rows(f"{task.name}, {told} labels", courses, told, task.name)
    for told, courses in found.items():
        made += after_rows(f"{task.name}, {told} labels", courses)
    for m, name in enumerate(names):
        made += condition_rows(
            f"{task.name}, {name}", *([c[m] for c in one] for one in found.values())
        )
    for m, name in enumerate(names):
        made += onset_rows(f"{task.name}, {name}", [c[m] for c in found[TOLD]])
    for m, name in enumerate(names):
        made += healed_rows(f"{task.name}, {name}", [c[m] for c in found[TOLD]])
    every = [c for one in found[TOLD] for c in one]
    made += onset_rows(f"{task.name}, all", every) + healed_rows(f"{task.name}, all", every)
    return made


def recovered_rows(name: str, courses: list[list[Course]], told: int, task: str) -> list[Row]:
    """Return what share of the lost accuracy came back, of all conditions."""
    gains = np.array([[c.gained for c in one] for one in courses])
    losses = np.array([[c.lost for c in one] for one in courses])
    confirmed = np.array([[c.is_confirmed for c in one] for one in courses])
    lost = np.maximum(losses, 0.0).sum()
    target = {0: 0.5, TOLD: 0.6}[told] if task == "KWS" else None
    rows = share_rows(f"{name}, through the loop", gains, losses, target)
    return [
        *rows,
        Row(f"{name}, through the loop: recovered, confirmed",
            float(gains[confirmed].sum() / lost), "share", None, True),
        Row(f"{name}, through the loop: recovered, on probation",
            float(gains[~confirmed].sum() / lost), "share", None, True),
    ]  # fmt: skip


def after_rows(name: str, courses: list[list[Course]]) -> list[Row]:
    """Return what is lost once the drift is over, and how the second night begins."""
    lost = np.array([[c.golden_after - c.after for c in one] for one in courses]).mean(axis=0)
    least = np.array([[c.gained for c in one] for one in courses]).mean(axis=0)
    back = times([c for one in courses for c in one], "back")
    again = times([c for one in courses for c in one], "again")
    what = f"{name}, when the drift has gone"
    return [
        Row(f"{what}: lost of the next {AFTER}, mean", 100 * float(lost.mean()), "points", 1.0,
            False),
        Row(f"{what}: lost of the next {AFTER}, worst condition", 100 * float(lost.max()),
            "points", 1.0, False),
        Row(f"{what}: lost in the drift, worst condition", 100 * max(0.0, -float(least.min())),
            "points", 1.0, False),
        *quantiles(f"{what}: golden serves after", [t.predictions for t in back], "predictions"),
        *quantiles(f"{what}: the second night, its repair serves after",
                   [t.predictions for t in again], "predictions"),
    ]  # fmt: skip


def condition_rows(name: str, without: list[Course], labelled: list[Course]) -> list[Row]:
    """Return one condition's loss and what came back of it."""
    rows = [Row(f"{name}: lost", 100 * mean(c.lost for c in labelled), "points", None, False)]
    for told, courses in ((0, without), (TOLD, labelled)):
        rows += [
            Row(f"{name}: back, {told} labels", 100 * mean(c.gained for c in courses), "points",
                None, True),
            Row(f"{name}: second night, {told} labels",
                100 * mean(c.night - c.golden_drifted for c in courses), "points", None, True),
            Row(f"{name}: lost after it, {told} labels",
                100 * mean(c.golden_after - c.after for c in courses), "points", 1.0, False),
        ]  # fmt: skip
    return rows


def onset_rows(name: str, courses: list[Course]) -> list[Row]:
    """Return how long it takes from the onset until something serves."""
    what = f"{name}, from the onset"
    alarm, named, serves = (times(courses, mark) for mark in ("alarm", "named", "serves"))
    return [
        Row(f"{what}: heard of", len(alarm) / len(courses), "share", None, True),
        *quantiles(f"{what}: alarm", [t.predictions for t in alarm], "predictions"),
        *quantiles(f"{what}: named", [t.predictions for t in named], "predictions")[:1],
        Row(f"{what}: a repair serves", len(serves) / len(courses), "share", None, True),
        *quantiles(f"{what}: a repair serves", [t.predictions for t in serves], "predictions"),
    ]


def healed_rows(name: str, courses: list[Course]) -> list[Row]:
    """Return how long it takes until the repair is confirmed, of the draws where it was."""
    found = times(courses, "healed")
    what = f"{name}, healed"
    return [
        Row(f"{what}: confirmed with 64 labels", len(found) / len(courses), "share", None, True),
        *quantiles(f"{what}: predictions", [t.predictions for t in found], "predictions"),
        *quantiles(f"{what}: labels", [t.labels for t in found], "labels"),
        *quantiles(f"{what}: the device's work", [t.seconds for t in found], "s"),
    ]


def times(courses: list[Course], name: str) -> list[Mark]:
    """Return when something happened, where it did."""
    return [c.marks[name] for c in courses if name in c.marks]


def quantiles(name: str, values: Sequence[float], unit: str) -> list[Row]:
    """Return median and 95th percentile of what happened; nothing where nothing did."""
    return [
        Row(f"{name}, {what}", float(np.quantile(values, q, method="higher")), unit, None, False)
        for what, q in (("median", 0.5), ("p95", 0.95))
        if values
    ]


def mean(values: Iterable[float]) -> float:
    """Return the mean."""
    return float(np.mean(list(values)))
