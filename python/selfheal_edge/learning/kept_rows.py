"""The rows of a store that hold what a model knows of labels, and how others read them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from selfheal_edge.learning.lesson_inputs import LESSON_INPUTS
from selfheal_edge.learning.quarantine import Quarantine, QuarantinedSample
from selfheal_edge.learning.questions import Question, Questions
from selfheal_edge.learning.samples import ALL, shape_of

__all__ = [
    "ANSWERED",
    "AREA",
    "CONFIRMED",
    "FACTS",
    "NAMES",
    "POOL",
    "QUARANTINE",
    "QUESTIONS",
    "kept_questions",
    "kept_suspects",
]

AREA: Final = "state"
"""Where they lie in a store."""
FACTS: Final = "labels.facts"
ANSWERED: Final = "labels.answered"
CONFIRMED: Final = "labels.confirmed"
POOL: Final = "labels.pool"
QUARANTINE: Final = "labels.quarantine"
QUESTIONS: Final = "labels.questions"
NAMES: Final = (FACTS, ANSWERED, CONFIRMED, POOL, QUARANTINE, QUESTIONS, LESSON_INPUTS)


def kept_questions(rows: Mapping[str, bytes]) -> tuple[Question, ...]:
    """Return the questions that wait for an answer, as a store has them; oldest first.

    Raises
    ------
    IntegrityError
        When its row is no table of questions.
    """
    row = rows.get(QUESTIONS)
    if row is None:
        return ()
    shape, count = shape_of(row)
    found = Questions(
        shape,
        ALL,
        count,
        clock=lambda: 0.0,
        rng=np.random.default_rng,
        guard=contextlib.nullcontext,
    )
    found.table.go_on_with(row, 0.0, 0.0)
    return found.waiting()


def kept_suspects(rows: Mapping[str, bytes]) -> tuple[QuarantinedSample, ...]:
    """Return what is in quarantine, as a store has it; oldest first. Raises likewise."""
    row = rows.get(QUARANTINE)
    if row is None:
        return ()
    shape, count = shape_of(row)
    found = Quarantine(
        shape, ALL, count, guard=contextlib.nullcontext, released=lambda _one, _source: ""
    )
    found.table.go_on_with(row, 0.0, 0.0)
    return found.list()
