"""Ask a model about inputs beside its stream, and read what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.answers import Answers
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Session

__all__ = ["Asker"]


class Asker:
    """Asks a session about inputs, one after the other.

    Parameters
    ----------
    session
        Its state, if it carries one, goes on.
    kind
        What output 0 holds; None for a model without classes.
    lock
        Returns what is held during each inference.
    corrected
        Changes the inputs of each as the stream's are.
    """

    def __init__(
        self,
        session: Session,
        kind: str | None,
        *,
        lock: Callable[[], AbstractContextManager[object]] = nullcontext,
        corrected: Callable[[list[Array]], Sequence[Array]] = list,
    ) -> None:
        self._session = session
        self._kind = kind
        self._lock = lock
        self._corrected = corrected

    def read(self, outputs: npt.NDArray[Any], inside: npt.NDArray[Any] | None) -> Answers | None:
        """Read raw outputs and embeddings; None for a model without classes."""
        if self._kind is None:
            return None
        return Answers.of(outputs, self._session.instance.outputs[0].scaling, self._kind, inside)

    def __call__(self, inputs: npt.NDArray[Any], /) -> Answers | None:
        """Run raw inputs, shape (n, *shape of one)."""
        outputs, inside = [], []
        shape = self._session.instance.inputs[0].shape
        for row in inputs:
            with self._lock():
                instance = self._session.instance
                asked = self._corrected([row.reshape(shape)])
                outputs.append(instance.run(asked)[0].reshape(-1).copy())
                inside += [tensor.reshape(-1).copy() for tensor in instance.tapped()[:1]]
        return self.read(np.stack(outputs), np.stack(inside) if inside else None)
