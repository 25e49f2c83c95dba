"""Ask golden, or golden with a patch, beside the stream."""

from __future__ import annotations

import math
from _thread import allocate_lock  # `threading` is for programs that start threads
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelClosedError
from selfheal_edge.learning.patch import InputMap, Patch, patched
from selfheal_edge.monitoring.signals import OutputKind
from selfheal_edge.tflite.arrays import dequantize
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, TensorSpec
from selfheal_edge.tflite.runtimes.select import Choice
from selfheal_edge.tflite.session import Session

__all__ = ["Bench", "BenchAnswers"]

_BUILT: Final = 2
"""Instances that are kept: golden's and a candidate's."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BenchAnswers:
    """What a model says to n inputs."""

    outputs: Array
    """Raw output 0, shape (n, *its shape)."""
    scores: Floats
    """Probabilities of classes, shape (n, classes), softmax applied to logits; (n, 0) for a model
    without classes. NaN where the output is no number."""
    labels: npt.NDArray[np.int64]
    """The most likely class, shape (n,); -1 for a model without classes, and where the output is
    no number. Of an autoencoder 0 for normal inputs, and 1 for those that err by more than its
    threshold."""
    embeddings: Floats | None
    """The embedding in real units, shape (n, dimensions); None without one."""
    values: Floats | None = None
    """Of a model without classes output 0 in real units, shape (n, numbers)."""
    errors: npt.NDArray[np.float64] | None = None
    """Of an autoencoder the mean square of answer less input, as that came in: shape (n,)."""


class Bench:
    """Instances of one model beside the one that serves: what golden and a candidate would answer.

    Parameters
    ----------
    session
        The one that serves. Instances are built from golden's bytes, as it was when it was opened,
        by the same runtime with the same kernels and threads; what it does meanwhile, and damage to
        its weights, do not come here.
    kind
        What output 0 of a classifier holds; None for a model without classes.
    has_embedding
        Whether the session's first tap is the embedding.
    threshold
        Of an autoencoder: the reconstruction error above which calibration finds inputs abnormal;
        None for another model.

    Raises
    ------
    ValueError
        For a model with several inputs, and for one that keeps resources, whose state begins anew
        with an instance alone.

    Notes
    -----
    No lock of the stream is taken: a call runs beside it, as far as there are cores. A recurrent
    model's state is zero before each input, or before a stream. One thread at a time: others wait.

    Memory: the model file and what the runtime makes of it, for each of at most two patches; the
    last two asked for are kept. Built when first asked: 0.3 to 2 ms each for a small model. What a
    patch does to inputs is applied here, and needs no instance of its own.
    """

    def __init__(
        self,
        session: Session,
        kind: OutputKind | None,
        has_embedding: bool | None = None,
        threshold: float | None = None,
    ) -> None:
        instance = session.instance
        if len(instance.inputs) != 1:
            raise ValueError(f"bench: expected a model with one input, got {len(instance.inputs)}")
        if session.model.keeps_resources:
            raise ValueError("bench: expected a model without resource variables, got one")
        self._copy = session.copy
        self._choice = session.choice
        self._stateful = session.stateful
        self._input = instance.inputs[0]
        self._output = instance.outputs[0]
        taps = instance.taps if has_embedding is not False else ()
        self._tap: TensorSpec | None = taps[0] if taps else None
        self._kind = kind
        self.threshold: Final = threshold
        """Of an autoencoder, golden's; None for another model."""
        self._table = InputTable.of(instance.inputs)
        self._built: OrderedDict[tuple[tuple[int, bytes], ...], _Built] = OrderedDict()
        self._lock = allocate_lock()
        self._is_closed = self._is_stopped = False
        self.asked = 0
        """Inferences so far."""

    def answers(
        self, inputs: Array, patch: Patch | None = None, *, is_stream: bool = False
    ) -> BenchAnswers:
        """Return what golden, or golden with a patch, answers.

        Parameters
        ----------
        inputs
            The model's own dtype, shape (n, ...) with the elements of one sample each.
        patch
            None, or one that changes nothing, for golden.
        is_stream
            Whether they came one after the other, so that a recurrent model's state goes on from
            one to the next: it is zero before the first alone. Not where each starts anew.

        Raises
        ------
        TypeError, ValueError
            For inputs of another dtype or size; for a patch that does not fit the file or the
            input, and for one that changes more than weights and how they are quantised.
        ModelFormatError
            When the runtime refuses the changed file.
        ModelClosedError
            After `close`.
        """
        rows = came = self._rows(inputs)
        changes = () if patch is None else patch.changes
        if patch is not None and patch.inputs is not None:
            rows = self._corrected(rows, patch.inputs)
        with self._lock, UsualFloats():
            if self._is_closed:
                raise ModelClosedError("bench: expected an open one, got one that was closed")
            instance = self._instance(changes)
            outputs = np.empty((len(rows), *self._output.shape), self._output.dtype)
            tap = self._tap
            inside = None if tap is None else np.empty((len(rows), *tap.shape), tap.dtype)
            for i, row in enumerate(rows):
                if self._stateful and not (is_stream and i):
                    instance.reset_variables()
                outputs[i] = instance.run([np.asarray(row)])[0]  # a scalar is no array
                self.asked += 1
                if inside is not None:
                    inside[i] = instance.tapped()[0]
        scores, labels = self._read(outputs)
        embeddings: Floats | None = None
        if tap is not None and inside is not None:
            embeddings = np.asarray(dequantize(inside, tap), np.float32)
            embeddings = embeddings.reshape(len(rows), math.prod(tap.shape))
        values = None if self._kind is not None else self._real(outputs)
        errors = None
        if self.threshold is not None and values is not None:
            apart = values - dequantize(came, self._input).reshape(values.shape)
            errors = np.square(apart.astype(np.float64)).mean(axis=1)
            most = self.threshold if patch is None else patch.threshold or self.threshold
            labels = np.where(np.isfinite(errors), errors > most, -1).astype(np.int64)
        return BenchAnswers(outputs, scores, labels, embeddings, values, errors)

    def stop(self) -> None:
        """Have what is being learned beside it end at its next step; any thread may call it."""
        self._is_stopped = True

    def go_on(self) -> None:
        """Say that learning may take another step.

        Raises
        ------
        ModelClosedError
            After `stop`, and after `close`.
        """
        if self._is_stopped or self._is_closed:
            raise ModelClosedError("bench: expected a model that stays open, got one that closes")

    @property
    def is_recurrent(self) -> bool:
        """Whether the model keeps a state."""
        return self._stateful

    @property
    def model(self) -> ModelFile:
        """The file that golden is built from."""
        return self._copy.model

    def corrected(self, inputs: Array, correction: InputMap | None) -> Array:
        """Return inputs as a patch has them corrected: raw, shape (n, *input)."""
        rows = self._rows(inputs)
        return rows if correction is None else self._corrected(rows, correction)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the files and of the packed weights of what is built."""
        return sum(built.nbytes for built in tuple(self._built.values()))

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        with self._lock:
            self._is_closed = True
            for built in self._built.values():
                built.close()
            self._built.clear()

    def _rows(self, inputs: Array) -> Array:
        spec = self._input
        if not isinstance(inputs, np.ndarray) or inputs.dtype != spec.dtype:
            got = inputs.dtype.name if isinstance(inputs, np.ndarray) else type(inputs).__name__
            raise TypeError(f"inputs: expected an array of {spec.dtype.name}, got {got}")
        size = int(np.prod(spec.shape, dtype=np.int64))
        if inputs.ndim < 1 or (len(inputs) and inputs[0].size != size):
            raise ValueError(f"inputs: expected shape (n, *{spec.shape}), got {inputs.shape}")
        return np.ascontiguousarray(inputs).reshape(len(inputs), *spec.shape)

    def _corrected(self, rows: Array, correction: InputMap) -> Array:
        if self._table is None:
            raise ValueError(
                "patch.inputs: expected None for an input that is neither int8, uint8 nor float32, "
                f"got a correction of {self._input.dtype.name}"
            )
        axis = correction.axis
        return self._table.apply(
            rows, axis, self._table.levels(axis, correction.gain, correction.offset)
        )

    def _instance(self, changes: tuple[tuple[int, bytes], ...]) -> Instance:
        found = self._built.get(changes)
        if found is None:
            while len(self._built) >= _BUILT:
                self._built.popitem(last=False)[1].close()
            found = self._built[changes] = _Built(self._choice, patched(self._copy, changes))
        self._built.move_to_end(changes)
        return found.instance

    def _real(self, outputs: Array) -> Floats:
        values = np.asarray(dequantize(outputs, self._output), np.float32)
        return values.reshape(len(outputs), math.prod(self._output.shape))

    def _read(self, outputs: Array) -> tuple[Floats, npt.NDArray[np.int64]]:
        count = len(outputs)
        if self._kind is None:
            return np.empty((count, 0), np.float32), np.full(count, -1, np.int64)
        values = self._real(outputs)
        is_number = np.asarray(np.isfinite(values).all(axis=1))
        values = np.where(is_number[:, None], values, np.float32(0))
        if self._kind == "logits":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        elif values.shape[1] == 1:
            values = np.concatenate([1 - values, values], axis=1)
        labels = np.where(is_number, values.argmax(axis=1), -1).astype(np.int64)
        return np.where(is_number[:, None], values, np.float32(np.nan)), labels


class _Built:
    """An instance, and the bytes that it was built from."""

    def __init__(self, choice: Choice, data: bytes) -> None:
        with ExitStack() as undo:
            source = SourceImage(data)
            undo.callback(source.close)
            self.instance: Instance = choice.build(source)
            undo.callback(self.instance.close)
            self.close = undo.pop_all().close
        self.nbytes = source.nbytes + sum(len(v) for v in self.instance.images.values())
