"""What is measured on every inference, from its raw tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np

from selfheal_edge import _core
from selfheal_edge.monitoring.embedding import RUN, Embedding, find_part
from selfheal_edge.monitoring.recent import RecentSamples
from selfheal_edge.tflite.file.detections import DetectionOutputs
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["RECENT_BYTES", "Measurement", "OutputKind", "SignalExtractor"]

_ALL: Final = 1 << 30

OutputKind = Literal["probabilities", "logits"]

_MEASURABLE: Final = frozenset({"int8", "uint8", "int16", "float32"})
RECENT_BYTES: Final = 512 * 1024
"""For copies of the latest inputs."""
_FARTHEST_ZERO: Final = 1 << 15  # beyond any level of these types: what a damaged file says


class Measurement(NamedTuple):
    """The signals of one inference."""

    values: tuple[float, ...]
    """One number per name in `SignalExtractor.names`."""
    repeats_previous: bool
    """Whether the inputs equal the previous inference's to the bit."""
    nonfinite: int
    """Input values that were NaN or infinite."""
    label: int | None
    """Index of the most likely class, of a detector that of its surest detection; None for a model
    that has no classes."""
    confidence: float | None
    """Its probability."""
    nonfinite_outputs: int = 0
    """Outputs that hold NaN or infinity: no answer to rely on."""
    same_answer: bool = False
    """Whether the outputs that decide equal the previous inference's to the bit."""


def _layout(spec: TensorSpec) -> _core.TensorLayout | None:
    """Return how a tensor is measured; None for one that is not."""
    if spec.dtype.name not in _MEASURABLE or 0 in spec.shape:
        return None
    elements = int(np.prod(spec.shape, dtype=np.int64))
    channels = spec.shape[-1] if spec.shape else 1
    scale, zero_point = (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)
    if abs(zero_point) > _FARTHEST_ZERO:
        return None
    return _core.TensorLayout(spec.dtype.name, elements, channels, scale, zero_point)


def _found(
    detections: DetectionOutputs | None, outputs: Sequence[TensorSpec]
) -> DetectionOutputs | None:
    """Return a detector's outputs if the runtime's tensors have the shapes that they need."""
    if detections is None or max(detections) >= len(outputs):
        return None
    specs = [outputs[i] for i in detections]
    boxes, *others = (int(np.prod(spec.shape, dtype=np.int64)) for spec in specs)
    fits = others[0] == others[1] > 0 and (boxes, others[2]) == (4 * others[0], 1)
    return detections if fits and all(spec.dtype == np.float32 for spec in specs) else None


class SignalExtractor:
    """Measure one inference after the other; keeps the latest.

    Parameters
    ----------
    inputs, outputs
        The model's tensors.
    output_kind
        What output 0 of a classifier holds; None for a model without classes.
    tap
        The embedding's tensor, if there is one.
    embedding
        Where calibration found the classes in it; None before calibration.
    ignore
        Names of signals to leave out; those that are not there anyway may be named.
    recent_bytes
        For copies of the latest inputs: those of 8 to 256 inferences are kept, or as many as fit in
        2 MiB where 8 do not, and one at least. 0: nothing is kept but the previous input and
        answer, and `recent` is empty.
    detections
        Which outputs are a detector's; of a model with `output_kind` None.
    inner
        Further taps, behind the embedding's.

    Notes
    -----
    Signals: mean, spread, saturated shares, change and roughness of each input; confidence, margin
    and entropy of a classifier's output; how many detections a detector has, its top and mean score
    and the boxes' area; of any other model's the reconstruction error, where output 0 has the shape
    of input 0, and mean and spread of every output; norm, active share and
    distance to the class of an embedding. `SignalPass` says how each is computed. Tensors that are
    not int8, uint8, int16 or float32, or that have no element, are not measured. One thread at a
    time.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        output_kind: OutputKind | None,
        tap: TensorSpec | None = None,
        embedding: Embedding | None = None,
        ignore: Collection[str] = (),
        recent_bytes: int = RECENT_BYTES,
        detections: DetectionOutputs | None = None,
        inner: Sequence[TensorSpec] = (),
    ) -> None:
        measured_inputs = [_layout(spec) for spec in inputs]
        measured_outputs = [_layout(spec) for spec in outputs]
        kind = output_kind if measured_outputs and measured_outputs[0] is not None else None
        has_both = all(m and m[0] is not None for m in (measured_inputs, measured_outputs))
        found = None if kind else _found(detections, outputs)
        embedded = None if tap is None else _layout(tap)
        layouts = [layout for spec in inner if (layout := _layout(spec)) is not None]
        if len(layouts) != len(inner):
            raise ValueError("inner: expected tensors that can be measured")
        self.part = np.empty(0, np.int64)
        """Elements of the embedding that are measured."""
        runs: list[int] = []
        if tap is not None and embedded is not None:
            size = int(np.prod(tap.shape, dtype=np.int64))
            self.part = find_part(tap) if embedding is None else embedding.part(size)
            runs = self.part[::RUN].tolist() if len(self.part) < size else []
        centroids = precision = scales = None
        if kind and embedded is not None and embedding is not None and len(embedding.classes):
            elements = int(np.prod(outputs[0].shape, dtype=np.int64))
            is_sigmoid = elements == 1 and kind == "probabilities"
            centroids = embedding.table(2 if is_sigmoid else elements)
            precision = embedding.precision
            scales = embedding.scale_table(len(centroids))
        signal_pass = partial(
            _core.SignalPass,
            measured_inputs,
            measured_outputs,
            classifier=kind,
            reconstructs=found is None
            and kind is None
            and has_both
            and inputs[0].shape == outputs[0].shape,
            detections=found,
            inner=layouts,
            embedding=embedded,
            embedding_part=runs,
            centroids=centroids,
            precision=precision,
            class_scales=scales,
            recent_bytes=recent_bytes,
        )
        self.core: _core.SignalPass = signal_pass()
        """The pass itself."""
        self.tap = -1 if embedded is None else 0
        """Which of an instance's taps is the embedding; -1: none."""
        self._input_shapes = [
            spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
            for spec, layout in zip(inputs, measured_inputs, strict=True)
            if layout is not None
        ]
        self._output_sizes = [int(np.prod(spec.shape, dtype=np.int64)) for spec in outputs]
        several = {
            "input": (inputs, sum(m is not None for m in measured_inputs) > 1),
            "output": (outputs, sum(m is not None for m in measured_outputs) > 1),
        }
        names = []
        for role, tensor in self.core.names:
            if role in ("inner_mean", "inner_active"):
                names.append(f"{role}[{tensor}]")
                continue
            specs, is_one_of_several = several.get(role.split("_")[0], ((), False))
            names.append(f"{role}[{specs[tensor].name}]" if is_one_of_several else role)
        self.measurable: tuple[str, ...] = tuple(names)
        """All that could be measured, what is left out included."""
        if left_out := [
            signal for signal, name in zip(self.core.names, names, strict=True) if name in ignore
        ]:
            self.core = signal_pass(left_out=left_out)
        self.names: tuple[str, ...] = tuple(name for name in names if name not in ignore)
        self._row = np.zeros(len(self.names))

    @property
    def memory_bytes(self) -> int:
        """Bytes of the latest inferences, the tables and the centroids."""
        return self.core.memory_bytes() + self._row.nbytes

    def forget(self) -> None:
        """Forget all inferences: the next one repeats nothing."""
        self.core.forget()

    def recent(self, most: int = _ALL) -> RecentSamples:
        """Copy what is kept of the latest inferences; to be called under the inference lock.

        An inference is kept when the monitor is given it, right before that.

        Parameters
        ----------
        most
            How many of them at most.
        """
        inputs, outputs, embeddings, labels = self.core.recent(most)
        return RecentSamples(
            tuple(
                rows.reshape(len(rows), *shape)
                for rows, shape in zip(inputs, self._input_shapes, strict=True)
            ),
            outputs,
            embeddings,
            labels,
        )

    def measure(
        self, inputs: Sequence[Array], outputs: Sequence[Array], taps: Sequence[Array] = ()
    ) -> Measurement:
        """Measure one inference, given its raw tensors.

        An output whose size depends on the input measures as NaN where it is not the usual one.
        """
        usual = [
            output if output.size == size else None
            for output, size in zip(outputs, self._output_sizes, strict=True)
        ]
        repeats, nonfinite, label, confidence, broken, same = self.core.measure(
            inputs,
            usual,
            taps[0] if taps and self.tap == 0 else None,
            self._row,
            taps[self.tap + 1 :] if self.core.inner else (),
        )
        return Measurement(
            tuple(self._row.tolist()),
            repeats,
            nonfinite,
            label if label >= 0 else None,
            confidence if label >= 0 else None,
            broken,
            same,
        )
