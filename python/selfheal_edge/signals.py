"""What is measured on every inference, from its raw tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from selfheal_edge import _core
from selfheal_edge.tflite.protocol import Array, TensorSpec

__all__ = ["Measurement", "OutputKind", "SignalExtractor"]

OutputKind = Literal["probabilities", "logits"]

_MEASURABLE: Final = frozenset({"int8", "uint8", "int16", "float32"})


class Measurement(NamedTuple):
    """The signals of one inference."""

    values: tuple[float, ...]
    """One number per name in `SignalExtractor.names`."""
    repeats_previous: bool
    """Whether the inputs equal the previous inference's to the bit."""
    nonfinite: int
    """Input values that were NaN or infinite."""
    label: int | None
    """Index of the most likely class, None for a model that has no classes."""
    confidence: float | None
    """Its probability."""
    nonfinite_outputs: int = 0
    """Outputs that hold NaN or infinity: no answer to rely on."""


def _names(what: str, specs: Sequence[TensorSpec], indices: Sequence[int]) -> list[str]:
    if len(indices) == 1:
        return [what]
    return [f"{what}[{specs[i].name}]" for i in indices]


def _is_measurable(spec: TensorSpec) -> bool:
    return spec.dtype.name in _MEASURABLE and 0 not in spec.shape


def _quantization(spec: TensorSpec) -> tuple[float, int]:
    return (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)


class SignalExtractor:
    """Measure one inference after the other; remembers the previous input.

    Parameters
    ----------
    inputs, outputs
        The model's tensors.
    output_kind
        What output 0 of a classifier holds; None for a model without classes.

    Notes
    -----
    Signals: mean, spread and saturated share of each input; confidence and entropy of a
    classifier's output, mean and spread of any other model's. Inputs that are not int8, uint8,
    int16 or float32, or that have no element, are not measured. Holds one copy of the inputs. One
    thread at a time.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        output_kind: OutputKind | None,
    ) -> None:
        self._inputs = [i for i, s in enumerate(inputs) if _is_measurable(s)]
        self._outputs = [i for i, s in enumerate(outputs) if _is_measurable(s)]
        self._input_scales = [_quantization(s) for s in inputs]
        self._output_scales = [_quantization(s) for s in outputs]
        self._kind = output_kind if 0 in self._outputs else None
        self._previous: list[Array | None] = [None] * len(inputs)
        names = [
            name
            for what in ("input_mean", "input_std", "input_saturated")
            for name in _names(what, inputs, self._inputs)
        ]
        if self._kind is not None:
            names += ["confidence", "entropy"]
        else:
            for what in ("output_mean", "output_std"):
                names += _names(what, outputs, self._outputs)
        self.names: tuple[str, ...] = tuple(names)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the remembered inputs."""
        return sum(p.nbytes for p in self._previous if p is not None)

    def forget(self) -> None:
        """Forget the previous input: the next one repeats nothing."""
        self._previous = [None] * len(self._previous)

    def measure(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Measurement:
        """Measure one inference, given its raw tensors."""
        measured = []
        repeats = bool(self._inputs)
        nonfinite = 0
        for i in self._inputs:
            scale, zero_point = self._input_scales[i]
            previous = self._previous[i]
            signals = _core.measure_input(inputs[i], scale, zero_point, previous)
            measured.append(signals)
            nonfinite += signals.nonfinite
            repeats = repeats and signals.change == 0.0 and signals.nonfinite == 0
            if previous is None:
                self._previous[i] = inputs[i].copy()
            else:
                np.copyto(previous, inputs[i])
        values = [
            value
            for field in ("mean", "std", "saturated")
            for value in (getattr(signals, field) for signals in measured)
        ]
        label: int | None = None
        confidence: float | None = None
        broken = 0
        if self._kind is not None:
            scale, zero_point = self._output_scales[0]
            output = _core.measure_output(outputs[0], scale, zero_point, self._kind)
            values += [output.confidence, output.entropy]
            if output.label >= 0:
                label, confidence = output.label, output.confidence
            else:
                broken = 1
        else:
            nothing = float("nan")
            means, spreads = [], []
            for i in self._outputs:
                if outputs[i].size == 0:  # its shape depends on the input
                    means.append(nothing)
                    spreads.append(nothing)
                    continue
                other = _core.measure_input(outputs[i], *self._output_scales[i])
                means.append(other.mean)
                spreads.append(other.std)
                broken += other.nonfinite > 0
            values += means + spreads
        return Measurement(tuple(values), repeats, nonfinite, label, confidence, broken)
