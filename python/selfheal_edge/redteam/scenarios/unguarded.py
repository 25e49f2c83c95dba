"""The model under attack as its attacker has it: a session without the guard, to be questioned."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Domain, InputKind, Raw, Real
from selfheal_edge.redteam.scenarios.raw_rows import rows_for
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.session import ModelSource, Session

__all__ = ["Unguarded"]


class Unguarded:
    """Answers with probabilities; a context manager, `close` it otherwise.

    Parameters
    ----------
    model
        A classifier's file or its bytes, with one input.
    runtime, kernels
        As in `calibrate`.

    Raises
    ------
    ValueError
        For a model without classes or with several inputs.
    ModelFormatError, RuntimeUnavailableError, FileNotFoundError
        As `Session` says.
    """

    def __init__(
        self,
        model: ModelSource,
        runtime: RuntimeArgument = "auto",
        kernels: KernelsArgument = "auto",
    ) -> None:
        self._session = Session(model, runtime, kernels)
        head, inputs = self._session.model.head, self._session.instance.inputs
        if head is None or len(inputs) != 1:
            self._session.close()
            raise ValueError("model: expected a classifier with one input")
        self._classes, self._is_logits = head.classes, head.output == "logits"
        self._input, self._output = inputs[0], self._session.instance.outputs[0]
        self.questions = 0
        """Asked so far."""

    def domain(self, inputs: Raw, kind: InputKind | None = None) -> Domain:
        """Return the domain of this model's inputs, from samples of normal operation."""
        spec = self._input
        given = np.asarray(inputs)
        if given.dtype != spec.dtype:
            raise ValueError(f"inputs: expected {spec.dtype.name}, got {given.dtype.name}")
        scale = spec.scale if spec.quantized else 0.0
        return Domain.of(given, kind=kind, scale=scale, zero_point=spec.zero_point)

    def raw(self, inputs: Raw) -> Raw:
        """Return samples as this model takes them, shape (n, *sample), quantised if need be.

        Raises
        ------
        ValueError
            Where shape or dtype fit neither the input nor what can be quantised for it.
        """
        return rows_for(self._input, inputs, "inputs")

    def __call__(self, inputs: Raw) -> Real:
        """Return probabilities of raw inputs, float64, shape (n, classes)."""
        shape, dtype = self._input.shape, self._input.dtype
        rows = np.ascontiguousarray(inputs, dtype).reshape(len(inputs), *shape)
        session = self._session
        self.questions += len(rows)
        outputs = []
        for row in rows:
            if session.stateful:
                session.reset_state()
            outputs.append(session.instance.run([row])[0].reshape(-1))
        values = np.asarray(outputs, np.float64).reshape(len(rows), -1)
        if self._output.quantized:
            values = (values - self._output.zero_point) * self._output.scale
        return self._probabilities(values)

    def _probabilities(self, values: Real) -> Real:
        if values.shape[1] == 1:  # one sigmoid for two classes
            one = 1 / (1 + np.exp(-values)) if self._is_logits else values
            return np.concatenate([1 - one, one], axis=1)
        if not self._is_logits:
            return values
        powers = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def close(self) -> None:
        """Release the runtime's memory; calling it again does nothing."""
        self._session.close()

    def __enter__(self) -> Unguarded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
