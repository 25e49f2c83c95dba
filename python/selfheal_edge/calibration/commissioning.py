"""Known answers, and the coverage table, recorded on the instance that runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.tflite.flip_check import Finding, FlipEffort
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Session

__all__ = ["cross_check", "prove_known_answers", "record_known_answers"]


def record_known_answers(
    session: Session, rebuild: Callable[[], None], questions: tuple[tuple[Array, ...], ...]
) -> KnownAnswers:
    """Record the known answers; a second, fresh instance must pack and answer the same.

    Raises
    ------
    IntegrityError
        When they do not.
    """
    first = session.answers(questions)
    rebuild()
    recorded = KnownAnswers(questions, tuple(tuple(row) for row in first))
    if not recorded.matches(session.answers(questions)):
        raise IntegrityError(
            "model: expected two instances built from the same bytes to agree, "
            "got different answers"
        )
    return recorded


def prove_known_answers(session: Session, baseline: Baseline) -> Baseline:
    """Ask a fresh session the known answers; return the baseline as recorded there.

    Raises
    ------
    IntegrityError
        When two instances disagree, or where the baseline was made, it had other answers.
    """
    questions = baseline.known_answers.inputs
    answers = record_known_answers(session, session.rebuild, questions)
    is_there = baseline.fingerprint == session.fingerprint
    if is_there and not answers.matches(baseline.known_answers.outputs):
        raise IntegrityError("model: expected the answers of its calibration, got others")
    return baseline.with_known_answers(answers, session.fingerprint)


def cross_check(session: Session, samples: Sequence[Sequence[Array]], effort: FlipEffort) -> str:
    """Compare the coverage table with flips in separate instances; return a summary."""
    flips = session.cross_check(samples, effort)
    silent = sum(f.finding is Finding.UNPROVEN for f in flips)
    untried = sum(f.finding is Finding.UNTRIED for f in flips)
    lowered = sum(f.contradicts for f in flips)
    text = (
        f"flips in {len(flips)} regions of weights: {len(flips) - silent - untried} showed what "
        f"runs, {lowered} contradicted the table"
    )
    return text + f", {untried} untried after {effort.seconds:g} s" if untried else text
