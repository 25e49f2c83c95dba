"""The correction of a model's input in an exported file, for those who run it without us.

Where the graph allows it, the correction becomes a part of it (`fold_input`), and the file is all
there is. Where not, a small JSON file lies beside it: ``healed.tflite`` with
``healed.tflite.input.json``. `read_correction` reads it; a program without this package reads the
JSON: for each feature along ``axis`` of one sample, ``levels`` has what each of the 256 levels
becomes, from the least on, or ``gain`` and ``offset`` what a float32 value is multiplied with and
then moved by.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from selfheal_edge.errors import IntegrityError, ModelFormatError
from selfheal_edge.hashing import sha256
from selfheal_edge.tflite.file.input_folding import fold_input
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.input_table import HEADER_BYTES, InputTable
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["Correction", "correction_path", "read_correction", "with_correction"]

_FORMAT: Final = "selfheal-edge input correction"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What inputs of an exported model go through before it runs."""

    input: str
    """Name of the tensor."""
    axis: int
    """Of one sample, without a batch's axis of 1, that counts features."""
    levels: Array
    """As `InputTable.levels`."""
    table: InputTable

    def apply(self, inputs: Array) -> Array:
        """Return corrected inputs.

        Parameters
        ----------
        inputs
            The model's own dtype, shape (n, ...) with the elements of one sample each.

        Raises
        ------
        TypeError
            For another dtype.
        """
        if inputs.dtype != self.table.dtype:
            raise TypeError(f"inputs: expected {self.table.dtype.name}, got {inputs.dtype.name}")
        return self.table.apply(inputs, self.axis, self.levels)


def correction_path(model: str | os.PathLike[str]) -> str:
    """Return where the correction of an exported model lies."""
    return f"{os.fspath(model)}.input.json"


def _table(model: ModelFile) -> tuple[str, InputTable]:
    if len(model.inputs) != 1:
        raise ModelFormatError(f"model: expected one input, got {len(model.inputs)}")
    (tensor,) = model.inputs
    scale = float(tensor.scales[0]) if len(tensor.scales) == 1 else 0.0
    zero_point = int(tensor.zero_points[0]) if len(tensor.zero_points) == 1 else 0
    spec = TensorSpec(tensor.name, tensor.shape, np.dtype(tensor.dtype), scale, zero_point)
    return tensor.name, InputTable(spec)


def with_correction(file: bytes, inputs: bytes) -> tuple[bytes, bytes | None]:
    """Return a model that corrects its input, and the file that goes beside it, if one is needed.

    Parameters
    ----------
    file
        The model.
    inputs
        The correction as the hot path reads it; empty for none.
    """
    if not inputs or not inputs[0]:
        return file, None
    name, table = _table(ModelFile.from_bytes(file))
    axis = inputs[0] - 1
    features = table.features(axis)
    room = features * table.feature_bytes
    content = inputs[HEADER_BYTES : HEADER_BYTES + room].ljust(room, b"\0")
    how: dict[str, Any]
    if table.dtype.kind == "f":
        levels: Array = np.frombuffer(content, "<f4").reshape(2, features)
        how = {"gain": levels[0].tolist(), "offset": levels[1].tolist()}
    else:
        by_byte = np.frombuffer(content, table.dtype).reshape(features, -1)
        levels = by_byte[:, _bytes_by_level(table.dtype)]
        how = {"levels": levels.tolist()}
    if (folded := fold_input(file, axis, levels)) is not None:
        return folded, None
    text = {
        "format": _FORMAT,
        "version": _VERSION,
        "model_sha256": sha256(file).hex(),
        "input": name,
        "dtype": table.dtype.name,
        "shape": list(table.shape),
        "axis": axis,
        **how,
    }
    return file, json.dumps(text).encode()


def _bytes_by_level(dtype: np.dtype[Any]) -> Array:
    """Return the unsigned bytes of all levels, from the least level on."""
    info = np.iinfo(dtype)
    return np.arange(info.min, int(info.max) + 1).astype(dtype).view(np.uint8)


def read_correction(model: str | os.PathLike[str]) -> Correction | None:
    """Read what belongs to an exported model.

    Parameters
    ----------
    model
        Path of the model.

    Returns
    -------
    Correction or None
        None where nothing lies beside it: its inputs go in as they come, and its graph corrects
        them where that was possible.

    Raises
    ------
    IntegrityError
        When what lies beside it belongs to another model, or cannot be read.

    Examples
    --------
    An interpreter of any kind, ahead of ``set_tensor``::

        correction = read_correction("healed.tflite")
        if correction is not None:
            x = correction.apply(x)
    """
    path = correction_path(model)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    with open(model, "rb") as file:
        data = file.read()
    try:
        found = json.loads(text)
        if found["format"] != _FORMAT or found["version"] != _VERSION:
            raise ValueError(f"{found['format']} {found['version']}")
        name, table = _table(ModelFile.from_bytes(data))
        axis = int(found["axis"])
        features = table.features(axis)
        if table.dtype.kind == "f":
            levels = np.array([found["gain"], found["offset"]], np.float32)
            expected: tuple[int, ...] = (2, features)
        else:
            given = np.array(found["levels"], table.dtype)
            expected = (features, 256)
            levels = np.empty(given.shape, np.uint8)
            levels[:, _bytes_by_level(table.dtype)] = given.view(np.uint8)
        if levels.shape != expected or found["dtype"] != table.dtype.name:
            raise ValueError(f"{found['dtype']} {levels.shape}")
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise IntegrityError(f"{path}: expected a correction of an input, got {error!r}") from None
    if found["model_sha256"] != sha256(data).hex():
        raise IntegrityError(f"{path}: expected what belongs to {model}, got that of another model")
    return Correction(name, axis, levels, table)
