"""Our copy of a model file: inner tensors as further outputs, no SignatureDefs, settled shapes.

A runtime computes what the graph's outputs ask for and throws the rest away, so the way to see an
inner activation at full speed is to make its tensor an output as well. That takes a few bytes in
a copy: a longer list of outputs is appended to the file, and the one offset that leads to the list
is redirected. SignatureDefs list outputs too and would contradict it, so the copy drops them; the
names that users see come from the original. What the graph computes from shapes alone becomes
constants (`shape_folding`). No other byte changes, and no constant moves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError, ModelFormatError
from selfheal_edge.text import quoted
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.shape_folding import fold_shapes
from selfheal_edge.tflite.format.flatbuffer import Table, root_table
from selfheal_edge.tflite.format.records import TensorInfo
from selfheal_edge.tflite.format.schema import TFLITE

__all__ = ["CopyOptions", "ModelCopy", "copy_model"]

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")


@dataclass(frozen=True, eq=False)
class ModelCopy:
    """A model as it is built, and how its outputs relate to the user's."""

    model: ModelFile
    """The map of the copy: these bytes belong into the source image."""
    original: ModelFile
    """The user's file."""
    own_outputs: int
    """How many of the copy's outputs are the user's; they come first."""
    taps: tuple[int, ...]
    """For each tap asked for, its position among the copy's outputs."""
    starts_anew: bool = False
    """Whether a recurrent model's state is zero before every inference."""
    assumed: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of tensors of subgraph 0 that have to be the real ones: constants follow from them."""

    @classmethod
    def unchanged(cls, model: ModelFile) -> ModelCopy:
        """Return `model` as its own copy, without taps."""
        return cls(model, model, len(model.outputs), ())

    def let_go(self, golden: Callable[[], bytes]) -> None:
        """Hold neither file in memory where the user's can be read again from its path.

        Where only its bytes were given, these stay, and our copy of them goes. `data` of either
        reads the file and takes milliseconds from then on; where the file is gone, or another, as
        after an update of the program, it comes from what is guarded.

        Parameters
        ----------
        golden
            Returns our bytes as the model was opened with them, from what is guarded; it may raise
            IntegrityError.
        """
        original, built = self.original, self.model
        _ = self._difference  # of both
        if original.path is not None:
            original.let_go(original.read_again, lambda: self.file_with(golden()))
        if built is not original:
            built.let_go(lambda: self.source_with(original.data))

    def read_again(self) -> bytes:
        """Return our bytes from the user's file as it lies there now, whatever is in it.

        Raises
        ------
        IntegrityError, ModelFormatError, OSError
            When it cannot be read, or is of another size.
        """
        original = self.original
        return self.source_with(original.data if original.path is None else original.read_again())

    @property
    def held_bytes(self) -> int:
        """Bytes of both files that are held in memory."""
        files = {id(file): file for file in (self.original, self.model)}
        return sum(file.held_bytes for file in files.values())

    @cached_property
    def _difference(self) -> _Difference:
        file = np.frombuffer(self.original.data, np.uint8)
        built = np.frombuffer(self.model.data, np.uint8)
        both = min(file.size, built.size)
        at = np.flatnonzero(file[:both] != built[:both])
        tails = file[both:].tobytes(), built[both:].tobytes()
        return _Difference(at, file[at], built[at], *tails)

    def file_with(self, source: bytes) -> bytes:
        """Return the user's file with the weights of these bytes of ours."""
        return self._difference.back(source, self.original.nbytes)

    def source_with(self, file: bytes) -> bytes:
        """Return our bytes with the weights of a file that `file_with` returned.

        Raises
        ------
        IntegrityError
            When it is not of the file's size.
        """
        if len(file) != self.original.nbytes:
            raise IntegrityError(
                f"file: expected {self.original.nbytes} bytes, as the model's has, got {len(file)}"
            )
        return self._difference.forth(file, self.model.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class _Difference:
    """What our copy differs from the file in: a few offsets and the end, never in weights."""

    at: npt.NDArray[np.intp]
    file: npt.NDArray[np.uint8]
    built: npt.NDArray[np.uint8]
    file_tail: bytes
    built_tail: bytes

    def back(self, source: bytes, nbytes: int) -> bytes:
        data = np.frombuffer(source, np.uint8)[: nbytes - len(self.file_tail)].copy()
        there = data[self.at]
        data[self.at] = np.where(there == self.built, self.file, there)
        return bytes(data.tobytes()) + self.file_tail

    def forth(self, file: bytes, nbytes: int) -> bytes:
        data = np.frombuffer(file, np.uint8)[: nbytes - len(self.built_tail)].copy()
        there = data[self.at]
        data[self.at] = np.where(there == self.file, self.built, there)
        return bytes(data.tobytes()) + self.built_tail


class CopyOptions(NamedTuple):
    """How a copy of a model differs from the user's file, beside what is read from it."""

    shapes: Mapping[int, Sequence[int]] = MappingProxyType({})
    """Shapes of tensors of the first subgraph, by index, in place of those in the file; none of
    that subgraph's axes is open then."""
    starts_anew: bool = False
    """Whether a recurrent model's state is to be zero before every inference."""
    folds: bool = True
    """Whether arithmetic on shapes is folded. The copy is right only where the shapes that the file
    declares are those that the runtime finds: `choose` compares them."""


def copy_model(
    model: ModelFile,
    taps: Sequence[int | str] = (),
    options: CopyOptions = CopyOptions(),  # noqa: B008 — immutable
) -> ModelCopy:
    """Copy a model for running it under watch.

    Parameters
    ----------
    model
        The user's file.
    taps
        Tensors of the first subgraph to read after every inference, by index or by name, each one
        that an operator computes. The embedding is ``model.head.embedding``.
    options
        What else is to be different.

    Returns
    -------
    ModelCopy
        With one more output for every tap that is not an output already.

    Raises
    ------
    ValueError
        When a tap is not a computed tensor, or its name is not unique.
    ModelFormatError
        When the file leaves no room for the change: two subgraphs that share one table, none of
        the outputs listed, or a tensor without a shape.
    """
    outputs = [tensor.index for tensor in model.outputs]
    own = len(outputs)
    positions = []
    for tap in taps:
        index = _resolve(model, tap)
        if index not in outputs:
            outputs.append(index)
        positions.append(outputs.index(index))
    data = bytearray(model.data)
    root = root_table(model.data, TFLITE)
    if model.signatures:
        _drop_signatures(data, root)
    if len(outputs) > own:
        _replace_outputs(data, root, outputs)
    if options.shapes:
        _fix_shapes(data, model, root, options.shapes)
    # Everything that was written is read and checked again like a stranger's file.
    source = "our copy of the model"
    copy = model
    if bytes(data) != model.data:
        copy = ModelFile.from_bytes(bytes(data), source=source)
    assumed: Mapping[int, tuple[int, ...]] = {}
    if (folded := fold_shapes(copy) if options.folds else None) is not None:
        numbers, assumed = folded.operators, folded.assumed
        copy = ModelFile.from_bytes(folded.data, source=source, operator_numbers=numbers)
    return ModelCopy(
        copy, model, own, tuple(positions), options.starts_anew, MappingProxyType(assumed)
    )


def _resolve(model: ModelFile, tap: int | str) -> int:
    tensors = model.subgraphs[0].tensors
    found: list[TensorInfo]
    if isinstance(tap, str):
        found = [tensor for tensor in tensors if tensor.name == tap]
        if len(found) != 1:
            raise ValueError(
                f"taps: expected the name of one tensor, got {quoted(tap)} ({len(found)})"
            )
    elif isinstance(tap, bool) or not 0 <= tap < len(tensors):
        raise ValueError(f"taps: expected indices from 0 to {len(tensors) - 1}, got {tap!r}")
    else:
        found = [tensors[tap]]
    tensor = found[0]
    computed = {i for operator in model.subgraphs[0].operators for i in operator.outputs}
    if tensor.index not in computed or tensor.is_variable:
        raise ValueError(
            f"taps: expected a tensor that an operator computes, got {quoted(tensor.name)}"
        )
    if not tensor.bits:
        raise ValueError(
            f"taps: expected a tensor of numbers, got {tensor.dtype} {quoted(tensor.name)}"
        )
    return tensor.index


def _aligned_end(data: bytearray) -> int:
    data.extend(bytes(-len(data) % 4))
    return len(data)


def _drop_signatures(data: bytearray, root: Table) -> None:
    # The vtable may serve other tables as well, so the root gets one of its own.
    entry = root.vtable_entry("signature_defs")
    assert entry is not None
    vtable = root.pos - _I32.unpack_from(data, root.pos)[0]
    size = _U16.unpack_from(data, vtable)[0]
    fresh = bytearray(data[vtable : vtable + size])
    _U16.pack_into(fresh, entry - vtable, 0)
    place = _aligned_end(data)
    data.extend(fresh)
    _I32.pack_into(data, root.pos, root.pos - place)


def _replace_outputs(data: bytearray, root: Table, outputs: Sequence[int]) -> None:
    graphs = root.tables("subgraphs")
    at = graphs[0].position("outputs")
    if at is None or any(graph.pos == graphs[0].pos for graph in graphs[1:]):
        raise ModelFormatError("model: expected a first subgraph with outputs of its own")
    _redirect(data, at, outputs)


def _redirect(data: bytearray, field: int, numbers: Sequence[int]) -> None:
    """Append a vector, and lead the offset at `field` to it."""
    place = _aligned_end(data)
    data.extend(struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers))
    _U32.pack_into(data, field, place - field)


def _fix_shapes(
    data: bytearray, model: ModelFile, root: Table, shapes: Mapping[int, Sequence[int]]
) -> None:
    """Write shapes, and close the open axes of all others.

    A vector may serve several tensors, so that none is changed where it stands.
    """
    tables = root.tables("subgraphs")[0].tables("tensors")
    for tensor, table in zip(model.subgraphs[0].tensors, tables, strict=True):
        shape = tuple(shapes.get(tensor.index, tensor.shape))
        if shape != tensor.shape:
            field = table.position("shape")
            if field is None or tensor.is_constant:
                raise ModelFormatError(
                    f"model: expected a tensor whose shape may change, got {quoted(tensor.name)}"
                )
            _redirect(data, field, shape)
        signature = table.position("shape_signature")
        if signature is not None and -1 in tensor.shape_signature:
            _redirect(data, signature, shape)
