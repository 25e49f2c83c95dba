"""Material of real models: inputs under a change, labels, and a bench."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

Array = npt.NDArray[Any]


def labelled(inputs: Array, labels: Array, sources: tuple[str, ...] = ()) -> Labelled:
    """Return labels of these sources; of the owner, if none is named."""
    count = len(labels)
    return Labelled(
        inputs,
        labels.astype(np.int64),
        np.ones(count, np.float32),
        sources or ("owner",) * count,
        np.arange(count),
    )


def offset_by(inputs: Array, steps: int) -> Array:
    """Return int8 inputs that are brighter by so many steps."""
    return np.clip(inputs.astype(np.int16) + steps, -128, 127).astype(np.int8)


class Digits:
    """The package's digits model, calibrated, with a bench."""

    def __init__(self, runtime: RuntimeName, *, embedding: bool = True) -> None:
        digits = load_digits()
        x, y = digits.calibration_inputs, digits.calibration_labels.astype(np.int64)
        baseline = she.calibrate(
            digits_model_path(),
            x,
            y,
            runtime=runtime,
            seed=1,
            embedding=None if embedding else False,
        )
        self.baseline = baseline
        self.session = Session(digits_model_path(), runtime, taps=baseline.taps)
        reference = LearningReference.from_arrays(baseline.profile)
        assert reference is not None
        self.reference = reference
        self.bench = Bench(self.session, baseline.output_kind, embedding)
        head = find_head(self.session.copy.model)
        assert isinstance(head, Head)
        self.head: Head = head
        self.x, self.y = digits.heldout_inputs, digits.heldout_labels.astype(np.int64)

    def material(
        self,
        window: Array,
        told: Labelled | None = None,
        *,
        cause: Cause = Cause.COVARIATE_DRIFT,
        mix_moved: bool = False,
        has_head: bool = True,
    ) -> Material:
        return Material(
            self.reference,
            self.head if has_head else None,
            self.bench,
            window,
            labelled(self.x[:0], self.y[:0]) if told is None else told,
            mix_moved,
            cause,
            "",
            np.random.default_rng(0),
        )

    def accuracy(self, inputs: Array, labels: Array, patch: Patch | None = None) -> float:
        """Return that of a patch, run by the runtime."""
        return float((self.bench.answers(inputs, patch).labels == labels).mean())

    def close(self) -> None:
        self.bench.close()
        self.session.close()


@contextmanager
def digits_of(runtime: RuntimeName, *, embedding: bool = True) -> Iterator[Digits]:
    found = Digits(runtime, embedding=embedding)
    try:
        yield found
    finally:
        found.close()
