"""Recorded feedback: honest, poisoned, and of a world in which classes mean something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.scenario import Part

__all__ = ["FEEDBACK", "FeedbackScenario", "Said"]

Classes = npt.NDArray[np.int64]

_SLIPS: Final = 0.02
"""Honest people are wrong that often."""
_BURST: Final = 32


class Said(NamedTuple):
    """What one source says of one answer."""

    row: int
    """Of the inputs that were answered."""
    source: str
    predicted: int
    """What the model answered."""
    label: int | None
    """What the source says is right; None where it says no more than that the answer is wrong."""


class _World(NamedTuple):
    """What there is to speak of, an item each."""

    true: Classes
    predicted: Classes
    sources: Classes
    classes: int
    rng: np.random.Generator
    strength: float


Telling = Callable[[_World], Classes]
"""The label that each item gets."""


@dataclass(frozen=True, slots=True)
class FeedbackScenario:
    """Feedback with a known cause.

    Attributes
    ----------
    name, kind, family, part
        As of `Scenario`.
    cause : Cause or None
        None for honest feedback.
    tell : callable
        Makes the labels.
    strengths : tuple of float
        What part of its labels a liar forges, or of a class has another meaning.
    errors_only : bool
        Whether nothing is said of answers that the source agrees with.
    """

    name: str
    cause: Cause | None
    kind: str
    family: str
    part: Part
    tell: Telling
    strengths: tuple[float, float] = (1.0, 1.0)
    errors_only: bool = False

    def apply(
        self,
        labels: npt.ArrayLike,
        predicted: npt.ArrayLike,
        rng: np.random.Generator,
        *,
        count: int = 128,
        sources: int = 4,
        strength: float | None = None,
    ) -> list[Said]:
        """Return what is said of `count` answers, in the order in which it comes.

        Parameters
        ----------
        labels, predicted
            True classes of inputs, and what the model answered, shape (n,).
        rng
            Where all chance comes from.
        count
            Items. Where only errors are told there may be fewer.
        sources
            How many speak, 2 or more; liars are the first of them.
        strength
            None draws one from `strengths`.
        """
        true, answered = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
        if true.shape != answered.shape or true.ndim != 1 or not len(true):
            raise ValueError(
                f"predicted: expected {list(true.shape)}, one a label, got {list(answered.shape)}"
            )
        if len(np.unique(true)) < 3:
            raise ValueError("labels: expected three classes or more")
        if sources < 2:
            raise ValueError(f"sources: expected 2 or more, got {sources}")
        if strength is None:
            strength = float(rng.uniform(*self.strengths))
        classes = int(max(true.max(), answered.max())) + 1
        said: list[Said] = []
        # Where errors alone are told, it takes more answers to hear as much.
        for _ in range(8 if self.errors_only else 1):
            rows = np.concatenate(
                [rng.permutation(len(true)) for _ in range(-(-count // len(true)))]
            )
            rows = rows[:count]
            who = rng.integers(sources, size=count)
            world = _World(true[rows], answered[rows], who, classes, rng, strength)
            told = self.tell(world)
            for row, source, label in zip(rows, who, told, strict=True):
                is_wrong = label != answered[row]
                if self.errors_only and not is_wrong:
                    continue
                known = None if self.errors_only else int(label)
                said.append(Said(int(row), f"source {source}", int(answered[row]), known))
            if len(said) >= count:
                break
        return said[:count]


def _slipped(world: _World, labels: Classes) -> Classes:
    """Let some labels be wrong by accident."""
    slips = world.rng.random(len(labels)) < _SLIPS
    return np.where(slips, _other(world, labels), labels)


def _other(world: _World, labels: Classes) -> Classes:
    """Return another class for each label."""
    step = world.rng.integers(1, max(world.classes, 2), len(labels))
    return np.asarray((labels + step) % world.classes)


def _honest(world: _World) -> Classes:
    return _slipped(world, world.true)


def _forged(world: _World, is_liar: npt.NDArray[np.bool_], lie: Classes) -> Classes:
    forges = is_liar & (world.rng.random(len(lie)) < world.strength)
    return np.where(forges, lie, _slipped(world, world.true))


def _random_lies(world: _World) -> Classes:
    return _forged(world, world.sources == 0, _other(world, world.true))


def _aimed_lies(world: _World) -> Classes:
    """Call everything the same class."""
    aim = world.rng.choice(np.unique(world.true))
    return _forged(world, world.sources == 0, np.full_like(world.true, aim))


def _rare_lies(world: _World) -> Classes:
    """Call one class another, always the same: a few labels in a hundred."""
    a, b = world.rng.permutation(np.unique(world.true))[:2]
    return _forged(world, (world.sources == 0) & (world.true == a), np.full_like(world.true, b))


def _burst_of_lies(world: _World) -> Classes:
    """Be silent and honest, then lie many times in a row."""
    start = int(world.rng.integers(max(1, len(world.true) - _BURST)))
    places = np.arange(len(world.true))
    in_burst = (places >= start) & (places < start + _BURST)
    world.sources[in_burst] = 0
    return _forged(world, in_burst, _other(world, world.true))


def _two_liars(world: _World) -> Classes:
    """Let two sources agree on the same false class for each true one."""
    agreed = (world.true + 1) % world.classes
    return _forged(world, world.sources < 2, agreed)


def _swapped(world: _World) -> Classes:
    """Let two classes have changed their names."""
    a, b = world.rng.permutation(np.unique(world.true))[:2]
    new = np.where(world.true == a, b, np.where(world.true == b, a, world.true))
    return _slipped(world, new)


def _renamed(world: _World) -> Classes:
    """Let part of a frequent class be another one from now on, for all sources alike."""
    classes, counts = np.unique(world.true, return_counts=True)
    a = classes[counts.argmax()]
    b = world.rng.choice(classes[classes != a])
    moved = (world.true == a) & (world.rng.random(len(world.true)) < world.strength)
    return _slipped(world, np.where(moved, b, world.true))


def _turned(world: _World) -> Classes:
    """Let three classes have changed their names in a ring."""
    ring = world.rng.permutation(np.unique(world.true))[:3]
    new = np.array(world.true)
    for here, there in zip(ring, np.roll(ring, -1), strict=True):
        new[world.true == here] = there
    return _slipped(world, new)


_PLAIN: Final = "feedback, plain"
_SLY: Final = "feedback, sly"

FEEDBACK: Final[tuple[FeedbackScenario, ...]] = (
    FeedbackScenario("feedback, honest", None, "honest", _PLAIN, "tuning", _honest),
    FeedbackScenario(
        "feedback, random lies", Cause.POISONING, "random", _PLAIN, "tuning", _random_lies,
        (0.6, 1.0),
    ),
    FeedbackScenario(
        "feedback, two classes swapped", Cause.CONCEPT_DRIFT, "swapped", _PLAIN, "tuning", _swapped
    ),
    FeedbackScenario("feedback, honest again", None, "honest", _SLY, "measured", _honest),
    FeedbackScenario(
        "feedback, honest, errors alone", None, "errors alone", _SLY, "measured", _honest,
        errors_only=True,
    ),
    FeedbackScenario(
        "feedback, aimed lies", Cause.POISONING, "aimed", _SLY, "measured", _aimed_lies,
        (0.6, 1.0),
    ),
    FeedbackScenario(
        "feedback, rare lies", Cause.POISONING, "rare", _SLY, "measured", _rare_lies
    ),
    FeedbackScenario(
        "feedback, a burst of lies", Cause.POISONING, "burst", _SLY, "measured", _burst_of_lies,
        (0.7, 1.0),
    ),
    FeedbackScenario(
        "feedback, two liars of four", Cause.POISONING, "collusion", _SLY, "measured", _two_liars,
        (0.7, 1.0),
    ),
    FeedbackScenario(
        "feedback, a class renamed", Cause.CONCEPT_DRIFT, "renamed", _SLY, "measured", _renamed,
        (0.8, 1.0),
    ),
    FeedbackScenario(
        "feedback, three classes turned", Cause.CONCEPT_DRIFT, "turned", _SLY, "measured", _turned
    ),
)  # fmt: skip
"""Of one input in four or so each source speaks; nothing else tells these causes apart."""
