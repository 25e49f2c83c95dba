"""Inputs whose label the device asks for, before the answer is known."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.errors import MOST_SAVED, error_of
from selfheal_edge.learning.labels import Label
from selfheal_edge.learning.samples import Sample, SampleShape, SampleTable, digest_of
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["Askable", "AskedLabel", "Parting", "Question", "Questions"]

_STRATA: Final = ("parting", "small margin", "any")
_NONE: Final = -1
_TARGET: Final = -2
"""In place of a class: the numbers stand in columns of their own."""
_UNSAID: Final = {"golden": _NONE, "candidate": _NONE}
_PARTING_SHARE: Final = 7 / 8
"""Of the questions, of inputs on which golden and the candidate part; the rest is drawn from the
others, or nothing would tell that they do part there alone."""
_MARGIN_SHARE: Final = 1 / 2
_SMALL: Final = 1 / 4
"""Of the inputs, those whose margins are smallest."""

Classes = npt.NDArray[np.int64]
_COLUMNS: Final = (
    ("stratum", "<i2"),
    ("answered", "<i4"),
    ("probability", "<f8"),
    ("golden", "<i8"),
    ("candidate", "<i8"),
    ("about", "<i8"),
    ("second_class", "<i8"),
)
_TARGET_COLUMNS: Final = (
    ("golden_value", "<f4"),
    ("candidate_value", "<f4"),
    ("tolerance", "<f8"),
)
_LEAST_APART: Final = 1 / 16
"""Of the most that a difference counts as: what two answers of a regressor part by at least, to be
asked about. Of those that do not a candidate can lose no more than that."""


class Parting(NamedTuple):
    """What two states of the model answer on the same inputs, of n inputs."""

    golden: npt.NDArray[Any]
    """Classes, shape (n,); a regressor's numbers, float32 of shape (n, numbers)."""
    candidate: npt.NDArray[Any]
    """Likewise."""
    generation: int
    """The candidate's."""
    may_judge: npt.NDArray[np.bool_] | None = None
    """Which inputs are of a content that the candidate has not learned, and that no question of
    its trial was about: shape (n,). None: all."""
    units: npt.NDArray[np.float64] | None = None
    """Of a regressor: the mean error of each number in calibration, shape (numbers,)."""

    @property
    def parts(self) -> npt.NDArray[np.bool_]:
        """On which inputs the two part, shape (n,): of a regressor by so much that it matters."""
        if self.units is None:
            return np.asarray(self.golden != self.candidate)
        apart = error_of(self.candidate, self.golden, self.units)
        return np.asarray(apart > _LEAST_APART * MOST_SAVED)


@dataclass(frozen=True, slots=True)
class AskedLabel:
    """How a question was drawn: what makes an answer to it count in a trial."""

    stratum: str
    """``"parting"``, ``"small margin"`` or ``"any"``."""
    probability: float
    """With which this input was drawn among all that could have been asked for then."""
    golden: int | tuple[float, ...] | None
    """What golden answers, a class or a regressor's numbers; None where the question was not asked
    for a candidate."""
    candidate: int | tuple[float, ...] | None
    """What the candidate answers; likewise."""
    generation: int | None
    """The candidate's; likewise."""
    answers_before: int = 0
    """How many answers to this very question came before this one."""

    tolerance: tuple[float, ...] = ()
    """Of a regressor: by how much nearer to the target one of the two has to lie to have won, of
    each number, above 0; of several their mean share of it decides. Drawn evenly up to twice the
    mean error in calibration, all alike, for each question anew: so the candidate wins more labels
    than golden, on average, if and only if its error is smaller on average (where a difference
    counts as at most that)."""

    @property
    def is_decisive(self) -> bool:
        """Whether golden and the candidate part."""
        return self.golden is not None and self.golden != self.candidate

    def judged(self, label: Label) -> tuple[bool, bool]:
        """Return whether the candidate has won by a label, and whether golden has.

        Parameters
        ----------
        label
            A class; of a regressor its target. Neither has won where both are right, or wrong, or
            lie about as near.
        """
        if isinstance(self.golden, tuple) and isinstance(self.candidate, tuple):
            target = np.asarray(label, np.float64).reshape(1, -1)
            golden, candidate = (
                float(error_of(np.array([one]), target, np.array(self.tolerance))[0])
                for one in (self.golden, self.candidate)
            )
            return golden - candidate > 1.0, candidate - golden > 1.0
        return bool(self.candidate == label), bool(self.golden == label)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An input whose label the device would like to know."""

    id: int
    """`Prediction.id`: what the answer is for."""
    input: Array | tuple[Array, ...] | None
    """A copy of the raw input, without a leading 1; all of them of a model with several. None where
    a restart left nothing of it (`Policy.keep_inputs`)."""
    answers: tuple[int, ...]
    """The classes in question, the likeliest first; empty for a model without classes. Where an
    autoencoder and its repair part, 0 for normal and 1 for abnormal."""
    reason: str
    """Why the label of this one is worth a question."""
    asked: AskedLabel = field(repr=False, kw_only=True)


class Askable(NamedTuple):
    """Inputs that could be asked for, of n predictions, oldest first."""

    ids: npt.NDArray[np.int64]
    inputs: tuple[Array, ...]
    """One an input of the model, each with n rows."""
    probabilities: npt.NDArray[np.float32] | None
    """Of the classes: shape (n, classes); None for models without classes."""
    embeddings: npt.NDArray[np.float32] | None
    predicted: Classes
    generations: npt.NDArray[np.int64]


class Questions:
    """Outstanding questions, with copies of their inputs, in fixed memory.

    Parameters
    ----------
    shape
        What samples look like.
    budget_bytes
        For all of them: 256 at most, and none where not one fits.
    clock
        Monotonic seconds.
    rng
        Draws.
    guard
        Makes the context in which no other thread changes it.

    Notes
    -----
    Questions are drawn at random, and the chance of each is known: first some of all inputs, each
    with the same chance, so that their labels alone say how many answers are right; then more of
    those on which golden and a candidate part, or whose margins are small, again each with the same
    chance. Weighted with one over its chance, any label counts for all recent inputs. The same
    input is not asked for twice while its question is kept.
    """

    def __init__(
        self,
        shape: SampleShape,
        budget_bytes: int,
        most: int | None = None,
        *,
        clock: Callable[[], float],
        rng: Callable[[], np.random.Generator],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        # SampleTable reads columns as they come: those of targets are there for regressors alone.
        targets = _TARGET_COLUMNS if shape.target else ()
        more = [(name, f"({shape.target},){kind}") for name, kind in targets]
        columns = (*_COLUMNS, *more)
        self.table = SampleTable(shape, budget_bytes, columns, most)
        self._clock = clock
        self._rng = rng
        self._guard = guard
        self.wanted = ""
        """What the diagnosis hangs on; empty where it does not."""
        self.asked = 0
        """Questions so far."""
        self.answered = 0
        """Questions that got an answer."""

    def __len__(self) -> int:
        """Return how many wait for an answer."""
        used = self.table.used
        return int(np.count_nonzero(self.table.rows["answered"][used] == 0))

    @property
    def memory_bytes(self) -> int:
        """Bytes, whether used or not."""
        return self.table.memory_bytes

    def about(self, generation: int | None) -> int:
        """Return how many questions that were asked for a candidate wait."""
        with self._guard():
            return len(self._waiting(_NONE if generation is None else generation))

    def _waiting(self, about: int) -> list[int]:
        rows = self.table.rows
        return [
            int(row)
            for row in self.table.used
            if rows["answered"][row] == 0 and rows["about"][row] == about
        ]

    def ask(
        self,
        limit: int,
        found: Askable,
        taken: Collection[int] = (),
        parting: Parting | None = None,
    ) -> tuple[Question, ...]:
        """Return at most `limit` questions: those that wait, and new ones.

        Parameters
        ----------
        limit
            1 or more.
        found
            What could be asked for.
        taken
            Predictions that are not to be asked for: their label is known, or they are suspect.
        parting
            What golden and the candidate answer to these inputs; None while there is none.
        """
        with self._guard():
            about = _NONE if parting is None else parting.generation
            chosen = self._waiting(about)[:limit]
            if len(chosen) < limit:
                self._draw(limit - len(chosen), found, parting, taken)
                chosen = self._waiting(about)
                rows = self.table.rows["answered"]
                others = [int(r) for r in self.table.used if not rows[r] and r not in chosen]
                chosen = [*chosen, *others][:limit]
            return tuple(self.get(row) for row in chosen)

    def _draw(
        self, limit: int, found: Askable, parting: Parting | None, taken: Collection[int]
    ) -> None:
        if not self.table.capacity:
            return
        held = {row.tobytes() for row in self.table.rows["digest"][self.table.used]}
        eligible, digests = [], {}
        for n, id in enumerate(found.ids.tolist()):
            if id in taken or self.table.find(id) is not None:
                continue
            data = b"".join(np.ascontiguousarray(part[n]).tobytes() for part in found.inputs)
            digest = digest_of(data)
            if digest not in held:
                eligible.append(n)
                digests[n] = digest
        if not eligible:
            return
        order = np.array(eligible)
        limit = min(limit, self.table.capacity)
        first, share, name = self._first_stratum(order, found, parting)
        # First some of all, so that what they say holds for all; then more of those that decide.
        others = min(len(order), limit - min(len(first), max(1, round(share * limit))))
        any_of_all = np.sort(self._rng().choice(order, others, replace=False))
        left = np.setdiff1d(first, any_of_all, assume_unique=True)
        wanted = min(len(left), limit - others)
        of_first = np.sort(self._rng().choice(left, wanted, replace=False))
        chance = others / len(order)
        more = wanted / len(left) if len(left) else 0.0
        is_first = np.isin(order, first)
        chances = dict(
            zip(
                order.tolist(),
                np.where(is_first, 1 - (1 - chance) * (1 - more), chance).tolist(),
                strict=True,
            )
        )
        about = _NONE if parting is None else parting.generation
        for stratum, rows in ((name, of_first), ("any", any_of_all)):
            for n in rows.tolist():
                classes = _classes_of(found, n)
                judges = parting is not None and _may_judge(parting, n)
                self.table.put(
                    self._place(),
                    Sample(
                        int(found.ids[n]),
                        tuple(part[n] for part in found.inputs),
                        self._clock(),
                        None if found.embeddings is None else found.embeddings[n],
                        int(found.predicted[n]),
                        int(found.generations[n]),
                        digest=digests[n],
                    ),
                    stratum=_STRATA.index(stratum),
                    probability=chances[n],
                    about=about,
                    second_class=classes[1] if len(classes) > 1 else _NONE,
                    **(self._said(parting, n) if parting and judges else _UNSAID),
                )
                self.asked += 1

    def _said(self, parting: Parting, n: int) -> dict[str, Any]:
        if parting.units is None:
            return {"golden": int(parting.golden[n]), "candidate": int(parting.candidate[n])}
        return {
            "golden": _NONE,
            "candidate": _TARGET if parting.parts[n] else _NONE,
            "golden_value": parting.golden[n],
            "candidate_value": parting.candidate[n],
            "tolerance": MOST_SAVED * (1.0 - self._rng().random()) * parting.units,
        }

    def _first_stratum(
        self, order: npt.NDArray[np.intp], found: Askable, parting: Parting | None
    ) -> tuple[npt.NDArray[np.intp], float, str]:
        """Return the inputs that most is to be asked of, what share of the questions, and why."""
        if parting is not None:
            parts = parting.parts
            if parting.may_judge is not None:
                parts &= parting.may_judge
            return order[parts[order]], _PARTING_SHARE, "parting"
        if found.probabilities is None or len(order) < 1 / _SMALL:
            return order[:0], 0.0, "small margin"
        top = np.partition(found.probabilities[order], -2, axis=1)[:, -2:]
        margins = top[:, 1] - top[:, 0]
        small = np.sort(np.argsort(margins, kind="stable")[: max(1, int(len(order) * _SMALL))])
        # What the diagnosis hangs on is how often labels contradict, and that needs any inputs.
        return order[small], 0.5 if self.wanted else _MARGIN_SHARE, "small margin"

    def judging(self, generations: Collection[int]) -> dict[int, Array]:
        """Return the inputs of questions that decide on one of these generations, by id."""
        with self._guard():
            rows, found = self.table.rows, {}
            for row in self.table.used:
                if int(rows["about"][row]) in generations and self.how_asked(row).is_decisive:
                    inputs = self.table.get(row).inputs
                    if inputs is not None:
                        found[int(rows["id"][row])] = inputs[0]
            return found

    def _place(self) -> int:
        """Return a row: a free one, the oldest that was answered, or the oldest."""
        row = self.table.free()
        if row is not None:
            return row
        used = self.table.used
        answered = used[self.table.rows["answered"][used] > 0]
        return int(answered[0] if len(answered) else used[0])

    def get(self, row: int) -> Question:
        """Return the question in a row."""
        sample, one = self.table.get(row), self.table.rows[row]
        asked = self.how_asked(row)
        if asked.is_decisive:
            both = asked.golden, asked.candidate
            answers = tuple(one for one in both if isinstance(one, int))
            reason = "the model and its repair part here"
        else:
            second = int(one["second_class"])
            answers = tuple(c for c in (sample.predicted, second) if c >= 0)
            reason = {
                "small margin": "the answer was given with little margin",
                "parting": "the model and its repair part here",
                "any": "drawn from all recent inputs, to compare with",
            }[asked.stratum]
        if self.wanted and not asked.is_decisive:
            reason = f"{reason}; the diagnosis wants {self.wanted}"
        inputs = sample.inputs
        shown = None if inputs is None else inputs[0] if len(inputs) == 1 else inputs
        return Question(sample.id, shown, answers, reason, asked=asked)

    def how_asked(self, row: int) -> AskedLabel:
        """Return how the question in a row was drawn."""
        one = self.table.rows[row]
        is_about = int(one["about"]) != _NONE
        golden: int | tuple[float, ...] | None = int(one["golden"]) if is_about else None
        candidate: int | tuple[float, ...] | None = int(one["candidate"]) if is_about else None
        tolerance: tuple[float, ...] = ()
        if candidate == _TARGET:
            golden, candidate, tolerance = (
                tuple(one[name].tolist()) for name, _ in _TARGET_COLUMNS
            )
        return AskedLabel(
            _STRATA[int(one["stratum"]) % len(_STRATA)],
            float(one["probability"]),
            golden,
            candidate,
            int(one["about"]) if is_about else None,
            int(one["answered"]),
            tolerance,
        )

    def answer(self, id: int) -> tuple[Sample, AskedLabel] | None:
        """Take note that a question was answered; return it, or None where there is none."""
        row = self.table.find(id)
        if row is None:
            return None
        found = self.table.get(row), self.how_asked(row)
        if not self.table.rows["answered"][row]:
            self.answered += 1
        self.table.rows["answered"][row] += 1
        self.table.changes += 1
        return found

    def peek(self, id: int) -> Sample | None:
        """Return the sample of a question; None where there is none."""
        row = self.table.find(id)
        return None if row is None else self.table.get(row)

    def waiting(self) -> tuple[Question, ...]:
        """Return all questions that wait for an answer, oldest first."""
        with self._guard():
            rows = self.table.rows["answered"]
            return tuple(self.get(int(row)) for row in self.table.used if rows[row] == 0)

    def ask_again(self, sample: Sample) -> None:
        """Ask for the label of a sample that a person has released: not drawn, so never asked."""
        if not self.table.capacity or self.table.find(sample.id) is not None:
            return
        self.table.put(
            self._place(),
            sample,
            stratum=_STRATA.index("any"),
            probability=1.0,
            golden=_NONE,
            candidate=_NONE,
            about=_NONE,
            second_class=_NONE,
        )

    def forget(self, id: int) -> None:
        """Withdraw a question: its input is suspect."""
        row = self.table.find(id)
        if row is not None:
            self.table.clear(row)

    def facts(self) -> dict[str, Any]:
        """Return counts, as plain data."""
        return {"waiting": len(self), "asked": self.asked, "answered": self.answered}


def _may_judge(parting: Parting, n: int) -> bool:
    return parting.may_judge is None or bool(parting.may_judge[n])


def _classes_of(found: Askable, n: int) -> tuple[int, ...]:
    if found.probabilities is None or found.predicted[n] < 0:
        return ()
    order = np.argsort(-found.probabilities[n], kind="stable")[:2].tolist()
    return tuple(int(c) for c in order)
