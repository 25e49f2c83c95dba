"""A change of a model that is learned: what of its file, and of its inputs, differs from golden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy

__all__ = ["InputMap", "Patch", "patch_from_plain", "patched"]


@dataclass(frozen=True, slots=True, eq=False)
class InputMap:
    """A correction of inputs, feature by feature: gain times the value, plus an offset.

    Raises
    ------
    ValueError
        When gains and offsets are not finite vectors of the same length.
    """

    axis: int
    """Axis of one sample, without the batch's, that counts features."""
    gain: npt.NDArray[np.float32]
    """Shape (features,)."""
    offset: npt.NDArray[np.float32]
    """Shape (features,), in the units of dequantised inputs."""

    def __post_init__(self) -> None:
        """Refuse what is no correction."""
        for name in ("gain", "offset"):
            values = np.asarray(getattr(self, name), np.float32)
            if values.ndim != 1 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"{name}: expected a vector of finite numbers, got {values!r}")
            object.__setattr__(self, name, values)
        if self.gain.shape != self.offset.shape:
            raise ValueError(
                f"gain, offset: expected equal lengths, got {self.gain.size} and {self.offset.size}"
            )

    def to_bytes(self) -> bytes:
        """Return what tells it from others."""
        return bytes([self.axis]) + self.gain.tobytes() + self.offset.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What makes another generation of golden: patches do not add up, each begins at golden.

    Raises
    ------
    ValueError
        When changes overlap, or are not in order.
    """

    changes: tuple[tuple[int, bytes], ...] = ()
    """Offset in the source image (our copy of the file) and new bytes; sorted, disjoint."""
    inputs: InputMap | None = None
    """None: inputs go in as they come."""
    text: str = ""
    """What it does, in words, for the journal."""
    threshold: float = 0.0
    """Of an autoencoder: the reconstruction error above which inputs are abnormal, a float32; 0:
    calibration's."""

    def __post_init__(self) -> None:
        """Refuse changes whose order would matter."""
        end = 0
        for offset, data in self.changes:
            if offset < end or not data:
                raise ValueError(
                    f"changes: expected bytes at rising offsets, got {len(data)} at {offset} "
                    f"after {end}"
                )
            end = offset + len(data)

    @property
    def is_golden(self) -> bool:
        """Whether it changes nothing."""
        return not self.changes and self.inputs is None and not self.threshold

    def to_plain(self) -> dict[str, Any]:
        """Return plain data, for JSON; `patch_from_plain` takes it, with the patched file."""
        mapped = self.inputs
        return {
            "inputs": None
            if mapped is None
            else [mapped.axis, mapped.gain.tolist(), mapped.offset.tolist()],
            "threshold": self.threshold,
            "text": self.text,
        }

    def says_as(self, other: Patch) -> bool:
        """Whether another patch makes the same generation."""
        mine, others = ((b"" if p.inputs is None else p.inputs.to_bytes()) for p in (self, other))
        return (self.changes, self.threshold, mine) == (other.changes, other.threshold, others)


def patch_from_plain(fields: Mapping[str, Any], golden: bytes, file: bytes) -> Patch:
    """Return the patch of what `Patch.to_plain` returned.

    Parameters
    ----------
    fields
        As it returned them.
    golden, file
        Our copy of the model's bytes, and the same with the patch: of equal length.

    Raises
    ------
    ValueError, LookupError, TypeError
        When they do not say that.
    """
    mapped = fields["inputs"]
    inputs = None
    if mapped is not None:
        axis, gain, offset = mapped
        inputs = InputMap(int(axis), np.array(gain, np.float32), np.array(offset, np.float32))
    before, after = np.frombuffer(golden, np.uint8), np.frombuffer(file, np.uint8)
    if before.size != after.size:
        raise ValueError(f"file: expected {before.size} bytes, got {after.size}")
    at = np.flatnonzero(before != after)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    changes = tuple((int(run[0]), file[run[0] : run[-1] + 1]) for run in runs if run.size)
    return Patch(changes, inputs, str(fields["text"]), float(fields["threshold"]))


def patched(copy: ModelCopy, changes: Sequence[tuple[int, bytes]]) -> bytes:
    """Return golden's bytes with changes, read again and checked like a stranger's file.

    Parameters
    ----------
    copy
        The session's copy of the model: its bytes are golden.
    changes
        Offset and bytes.

    Raises
    ------
    ValueError
        When they do not lie in the file, or change more than constants and inner quantisation:
        neither the graph nor what the numbers of inputs, outputs and taps stand for.

    Notes
    -----
    A graph that changed would be another model, which no runtime was asked about.
    """
    if not changes:
        return copy.model.data
    data = bytearray(copy.model.data)
    for offset, part in changes:
        if offset + len(part) > len(data):
            raise ValueError(
                f"changes: expected bytes inside of {len(data)}, got {len(part)} at {offset}"
            )
        data[offset : offset + len(part)] = part
    try:
        model = ModelFile.from_bytes(bytes(data), source="the patched model")
    except ModelFormatError as error:
        raise ValueError(f"changes: expected those of weights: {error}") from None
    if _structure(model) != _structure(copy.model):
        raise ValueError("changes: expected those of weights and scales, got another graph")
    return model.data


def _structure(model: ModelFile) -> object:
    """Return all that a patch may not change."""
    graphs = [
        (
            [(t.name, t.dtype, t.shape, t.offset, t.nbytes, t.is_variable) for t in graph.tensors],
            [(o.name, o.inputs, o.outputs, o.options) for o in graph.operators],
            graph.inputs,
            graph.outputs,
        )
        for graph in model.subgraphs
    ]
    ends = [
        (t.scales.tobytes(), t.zero_points.tobytes(), t.quantized_dimension)
        for t in (*model.inputs, *model.outputs)  # what is tapped is among these
    ]
    return graphs, ends, [(r.name, r.offset, r.nbytes) for r in model.regions]
