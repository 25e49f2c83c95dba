"""What a runtime makes of other weights, found beside the instance that serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Session

__all__ = ["Beside", "build_beside", "differences"]

_BLOCK_BYTES = 512

Questions = tuple[tuple[Array, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Two instances that were built from the same bytes, and agree."""

    images: Mapping[str, bytes]
    """What they have packed, by name."""
    answers: KnownAnswers


def build_beside(
    session: Session,
    source: bytes,
    questions: Questions,
    correct: Callable[[Sequence[Array]], Sequence[Array]],
) -> Beside:
    """Build two instances from bytes of ours, as the session's is built, and ask both.

    Parameters
    ----------
    session
        Stays as it is, and serves meanwhile: no lock is taken.
    source
        What to build from.
    questions
        What to ask; a recurrent model's state is zero before each.
    correct
        What inputs go through first.

    Raises
    ------
    IntegrityError
        When the two pack or answer differently.
    """
    with closing(SourceImage(source)) as memory, UsualFloats():
        first, second = (_built(session, memory, questions, correct) for _ in range(2))
    if first.images != second.images or not first.answers.matches(second.answers.outputs):
        raise IntegrityError(
            "model: expected two instances built from the same bytes to agree, got others"
        )
    return first


def _built(
    session: Session,
    memory: SourceImage,
    questions: Questions,
    correct: Callable[[Sequence[Array]], Sequence[Array]],
) -> Beside:
    outputs: list[tuple[Array, ...]] = []
    instance = session.choice.build(memory)
    try:
        images = {name: bytes(view) for name, view in instance.images.items()}
        for inputs in questions:
            if outputs and session.model.keeps_resources:  # only building starts those anew
                instance.close()
                instance = session.choice.build(memory)
            if session.stateful:
                instance.reset_variables()
            outputs.append(tuple(instance.run(correct(inputs))))
    finally:
        instance.close()
    return Beside(images, KnownAnswers(questions, tuple(outputs)))


def differences(live: memoryview, wanted: bytes) -> list[tuple[int, bytes]]:
    """Return the stretches of blocks that differ, with the bytes that are wanted."""
    now, then = np.frombuffer(live, np.uint8), np.frombuffer(wanted, np.uint8)
    changed = np.unique(np.flatnonzero(now != then) // _BLOCK_BYTES)
    if not changed.size:
        return []
    ends = np.flatnonzero(np.diff(changed) > 1)
    first, last = changed[np.r_[0, ends + 1]], changed[np.r_[ends, changed.size - 1]]
    return [
        (int(a) * _BLOCK_BYTES, wanted[int(a) * _BLOCK_BYTES : (int(b) + 1) * _BLOCK_BYTES])
        for a, b in zip(first, last, strict=True)
    ]
