"""Make the correction of a model's input a part of its graph, so that any runtime applies it.

Of an 8-bit input each feature has a table of what every level becomes: ``CAST`` makes integers of
the levels, ``ADD`` moves each feature's to its part of one table, ``GATHER`` looks them up. Of a
float32 input ``MUL`` and ``ADD`` do what the correction says. No step rounds in any runtime's way
of its own, so that answers are equal to the bit.

The file stays as it is, byte for byte, behind a new front: offsets of a flatbuffer point forward,
so the front has a root that leads to the old tables, to the few new ones, and to readers of the
input that read the corrected one instead. Metadata say how long the front is, and `unfolded` cuts
it off.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.flatbuffer import Table, root_table
from selfheal_edge.tflite.format.schema import (
    BUILTIN_OPERATORS,
    FILE_IDENTIFIER,
    TENSOR_TYPES,
    TFLITE,
)
from selfheal_edge.tflite.format.writing import Kept, Tree, front_of, is_newer, tree_of

__all__ = ["Folded", "fold_input", "unfolded"]

Array: TypeAlias = npt.NDArray[Any]
_METADATA: Final = "selfheal_edge.input_correction"
_MOST_AXES: Final = 4
"""Of an input: every runtime broadcasts as many."""
_LEVELS: Final = 256
_CODES: Final = {kind.dtype: code for code, kind in enumerate(TENSOR_TYPES)}


class Folded(NamedTuple):
    """What `unfolded` found."""

    file: bytes
    """The model without the correction."""
    axis: int
    """Of one sample, without a batch's axis of 1, that counts features."""
    features: int


def fold_input(file: bytes, axis: int, levels: Array) -> bytes | None:
    """Return a model that corrects its input itself.

    Parameters
    ----------
    file
        The model, with one input of int8, uint8 or float32.
    axis
        Of one sample, without a batch's axis of 1, that counts features.
    levels
        8-bit: shape (features, 256), of the input's dtype, what each level becomes, from the least
        on. float32: shape (2, features), gains and offsets.

    Returns
    -------
    bytes or None
        None where the graph does not allow it: an input of more than four axes, or one that is an
        output as well; a file with constants behind its end, or of a newer schema.
    """
    model = ModelFile.from_bytes(file)
    (source,) = model.inputs
    root = root_table(file, TFLITE)
    graph = root.tables("subgraphs")[0]
    readers = [
        table for table in graph.tables("operators") if source.index in table.vector("inputs")
    ]
    copied = (root, graph, graph.tables("tensors")[source.index], *readers)
    outside = root.span("external_buffers") or any(
        table.scalar(name) > 1 for table in root.tables("buffers") for name in ("offset", "size")
    )
    is_output = source.index in model.subgraphs[0].outputs
    if len(source.shape) > _MOST_AXES or is_output or outside or any(map(is_newer, copied)):
        return None
    shape = [1] * len(source.shape)
    features = levels.shape[1] if levels.dtype.kind == "f" else len(levels)
    shape[axis + (source.shape[:1] == (1,))] = features
    front = b""
    for _ in range(2):  # what it says of its own length is of fixed width
        told = f'{{"front": {len(front):10d}, "axis": {axis}, "features": {features}}}'
        changed = _Changes(root, graph, source.index)
        changed.correct(shape, levels)
        front = front_of(changed.root(told.encode()), TFLITE, FILE_IDENTIFIER)
    return front + file


def unfolded(model: ModelFile) -> Folded | None:
    """Return a model without the correction that `fold_input` has put into it.

    Returns
    -------
    Folded or None
        None where there is none.

    Raises
    ------
    ModelFormatError
        Where the file says that there is one, and it is not as it was written.
    """
    data = model.data
    buffer = model.metadata.get(_METADATA)
    if buffer is None:
        return None
    try:
        start, count = root_table(data, TFLITE).tables("buffers")[buffer].span("data") or (0, 0)
        text = json.loads(data[start : start + count])
        front, axis, features = (int(text[key]) for key in ("front", "axis", "features"))
        if not 0 < front < len(data) or data[front + 4 : front + 8] != FILE_IDENTIFIER:
            raise ValueError(f"front: {front}")
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ModelFormatError(
            f"model: expected metadata of an input's correction, got {error!r}"
        ) from None
    return Folded(data[front:], axis, features)


class _Changes:
    """A model's tables with what is added."""

    def __init__(self, root: Table, graph: Table, source: int) -> None:
        self._root = root
        self._graph = graph
        self._source = source
        self._codes, self._buffers = _kept(root, "operator_codes"), _kept(root, "buffers")
        self._tensors = _kept(graph, "tensors")
        self._input = tree_of(graph.tables("tensors")[source])
        self._operators: list[Tree] = []

    def correct(self, shape: list[int], levels: Array) -> None:
        """Add the operators; `shape` is the input's with 1 along all axes but the features'."""
        if levels.dtype.kind == "f":
            gain, offset = (self._constant(part, shape, {}) for part in levels.astype("<f4"))
            scaled = self._like_input()
            self._operator("MUL", 1, "MulOptions", [self._source, gain], scaled)
            self._operator("ADD", 1, "AddOptions", [scaled, offset], self._like_input())
            return
        least = int(np.iinfo(levels.dtype).min)
        starts = _LEVELS * np.arange(len(levels), dtype="<i4") - least
        scales = (
            {"quantization": self._input["quantization"]} if "quantization" in self._input else {}
        )
        start = self._constant(starts.astype("<i4"), shape, {})
        table = self._constant(levels, [levels.size], scales)
        integers, places = self._like_input("int32"), self._like_input("int32")
        self._operator("CAST", 1, "CastOptions", [self._source], integers)
        self._operator("ADD", 1, "AddOptions", [integers, start], places)
        self._operator("GATHER", 2, "GatherOptions", [table, places], self._like_input())

    def root(self, told: bytes) -> Tree:
        """Return the new root: who read the input reads the last tensor that was added."""
        corrected = len(self._tensors) - 1
        operators: list[Tree | Kept] = [*self._operators]
        for table in self._graph.tables("operators"):
            inputs = table.vector("inputs")
            if self._source in inputs:
                read = [corrected if i == self._source else i for i in inputs]
                operators.append({**tree_of(table), "inputs": read})
            else:
                operators.append(Kept(table.pos))
        self._buffers.append({"data": told})
        about = {"name": _METADATA, "buffer": len(self._buffers) - 1}
        graph = {**tree_of(self._graph), "tensors": self._tensors, "operators": operators}
        return {
            **tree_of(self._root),
            "operator_codes": self._codes,
            "subgraphs": [graph, *_kept(self._root, "subgraphs")[1:]],
            "buffers": self._buffers,
            "metadata": [*_kept(self._root, "metadata"), about],
        }

    def _tensor(self, tree: Tree) -> int:
        index = len(self._tensors)
        self._tensors.append({**tree, "name": f"{_METADATA}/{index}"})
        return index

    def _like_input(self, dtype: str = "") -> int:
        tree = dict(self._input)
        if dtype:
            tree.pop("quantization", None)
            tree["type"] = _CODES[dtype]
        return self._tensor(tree)

    def _constant(self, values: Array, shape: list[int], more: Tree) -> int:
        self._buffers.append({"data": values.tobytes()})
        tree = {"shape": shape, "type": _CODES[values.dtype.name], "buffer": len(self._buffers) - 1}
        return self._tensor({**tree, **more})

    def _operator(
        self, name: str, version: int, options: str, read: list[int], result: int
    ) -> None:
        code = BUILTIN_OPERATORS.index(name)
        self._codes.append(
            {"deprecated_builtin_code": code, "version": version, "builtin_code": code}
        )
        self._operators.append(
            {
                "opcode_index": len(self._codes) - 1,
                "inputs": read,
                "outputs": [result],
                "builtin_options": (options, {}),
            }
        )


def _kept(table: Table, field: str) -> list[Tree | Kept]:
    return [Kept(entry.pos) for entry in table.tables(field)]
