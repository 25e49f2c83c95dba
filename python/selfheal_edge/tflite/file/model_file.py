"""The immutable map of one TFLite file: what is where, and who uses it."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError, ModelFormatError, SelfHealError
from selfheal_edge.hashing import sha256
from selfheal_edge.text import quoted
from selfheal_edge.tflite.file.detections import DetectionOutputs, find_detections
from selfheal_edge.tflite.file.head import find_head
from selfheal_edge.tflite.file.regions import file_regions
from selfheal_edge.tflite.format.flatbuffer import MAX_BYTES
from selfheal_edge.tflite.format.records import (
    DecodedModel,
    DecodedSubgraph,
    HeadInfo,
    OperatorInfo,
    Region,
    Signature,
    TensorInfo,
)
from selfheal_edge.tflite.validation.validate import validate

__all__ = ["ModelFile"]

_REMEMBERED: Final = 4
"""A file, our copy of it, and what came between or before."""
_validated: dict[bytes, DecodedModel] = {}
"""Records of the latest valid files, by SHA-256: the same bytes have the same ones."""
_validated_lock = threading.Lock()


class ModelFile:
    """A TFLite file that has been read once, validated, and mapped.

    Make one with `from_path` or `from_bytes`; nothing in it changes afterwards. It holds the
    file's bytes (`data`), until it is told to `let_go` of them, and the records made from them.
    Threads may share it.

    Examples
    --------
    >>> from selfheal_edge.tflite.file.model_file import ModelFile
    >>> ModelFile.from_bytes(b"not a model")
    Traceback (most recent call last):
    ...
    selfheal_edge.errors.ModelFormatError: model: expected a TFLite file ('TFL3' at byte 4), got ...
    """

    def __init__(self, data: bytes, decoded: DecodedModel) -> None:
        self._data: bytes | None = data
        self._nbytes = len(data)
        self._again: tuple[Callable[[], bytes], ...] = ()
        self._decoded = decoded
        self.path: str | None = None
        """Where it was read from, as an absolute path; None where its bytes were given."""

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> ModelFile:
        """Read, validate and map a file.

        Parameters
        ----------
        path
            A regular file of at most 2 GiB. It is read once and not kept open.

        Raises
        ------
        FileNotFoundError
            When there is nothing at `path`.
        ModelFormatError
            When it is not a regular file, or `from_bytes` refuses what it holds.
        OSError
            When it cannot be read.
        """
        file = cls.from_bytes(_read(path), source=os.fspath(path))
        file.path = os.path.abspath(os.fspath(path))
        return file

    @classmethod
    def of(cls, model: str | os.PathLike[str] | bytes | bytearray | memoryview) -> ModelFile:
        """Read a model from a file, or from its bytes; errors as of `from_path` and `from_bytes`.

        Raises
        ------
        TypeError
            For anything else.
        """
        if isinstance(model, (bytes, bytearray, memoryview)):
            return cls.from_bytes(model)
        if not isinstance(model, (str, os.PathLike)):
            raise TypeError(
                f"model: expected a path or the bytes of a TFLite file, got {type(model).__name__}"
            )
        return cls.from_path(model)

    @classmethod
    def from_bytes(
        cls,
        data: bytes | bytearray | memoryview,
        *,
        source: str = "model",
        operator_numbers: Sequence[int] | None = None,
    ) -> ModelFile:
        """Validate and map a model in memory.

        Parameters
        ----------
        data
            The file's bytes; a `bytearray` or `memoryview` is copied: what the caller
            writes to it later changes nothing here.
        source
            Name for messages.
        operator_numbers
            For each operator of subgraph 0, the number that its module is named by; None for its
            own index. A copy with fewer operators keeps the names of the file this way.

        Raises
        ------
        ModelFormatError
            With the place in the file, what was expected and what was found.

        Notes
        -----
        About 20 µs for each tensor and operator, and the SHA-256 of the file. The latest files that
        were found valid are remembered by it, and their records shared: a model that is opened
        again, or beside another of the same file, is not validated anew.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        data = bytes(data)
        digest = sha256(data)
        decoded = _validated.get(digest)
        if decoded is None:
            try:
                decoded = validate(data)
            except ModelFormatError as error:
                raise ModelFormatError(f"{source}: {error}") from None
            _remember(digest, decoded)
        if operator_numbers is not None:
            decoded = _renumbered(decoded, operator_numbers)
        file = cls(data, decoded)
        file.sha256 = digest.hex()
        return file

    def __repr__(self) -> str:
        graph = self._decoded.subgraphs[0]
        return (
            f"<ModelFile {self.sha256[:12]} {self.nbytes} bytes, "
            f"{len(graph.operators)} operators in subgraph 0 of {self.subgraph_count}>"
        )

    @property
    def data(self) -> bytes:
        """The file's bytes.

        Raises
        ------
        IntegrityError
            Where they are not held any more (`let_go`), and cannot be had again.
        """
        if self._data is not None:
            return self._data
        problem: Exception | None = None
        for again in self._again:
            try:
                data = again()
            except (SelfHealError, OSError) as error:
                problem = problem or error
                continue
            if sha256(data).hex() == self.sha256:
                return data
        raise IntegrityError(
            "model: expected the bytes that the model was opened with, got others: the file was "
            f"changed or removed since ({problem}), and no sound copy is in memory"
        )

    def let_go(self, *again: Callable[[], bytes]) -> None:
        """Hold the bytes no longer.

        Each of `again` returns them, where the one before does not: what it returns is held to the
        SHA-256.
        """
        _ = self.sha256
        self._again, self._data = again, None

    @property
    def held_bytes(self) -> int:
        """Bytes of the file that are held in memory: all of them, or none."""
        return 0 if self._data is None else len(self._data)

    def read_again(self) -> bytes:
        """Read the file at `path` once more; what it holds now is not looked at.

        Raises
        ------
        OSError, ModelFormatError
            When it cannot be read, or is no regular file any more.
        """
        assert self.path is not None
        return _read(self.path)

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return self._nbytes

    @cached_property
    def keeps_resources(self) -> bool:
        """Whether it has a state in resource variables, which cannot be read, written or reset."""
        return any(operator.name == "VAR_HANDLE" for operator in self.operators)

    @cached_property
    def keeps_variables(self) -> bool:
        """Whether it has a state in variable tensors."""
        return any(tensor.is_variable for tensor in self.tensors)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return sha256(self.data).hex()

    @property
    def version(self) -> int:
        """Schema version; always 3."""
        return self._decoded.version

    @property
    def description(self) -> str:
        """Free text, usually the name of the converter."""
        return self._decoded.description

    @property
    def subgraphs(self) -> tuple[DecodedSubgraph, ...]:
        """All subgraphs; the first is the model, others are branches and loop bodies."""
        return self._decoded.subgraphs

    @property
    def subgraph_count(self) -> int:
        """Number of subgraphs."""
        return len(self._decoded.subgraphs)

    @cached_property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor of every subgraph, by subgraph and index; subgraph 0 comes first."""
        return tuple(t for graph in self._decoded.subgraphs for t in graph.tensors)

    @cached_property
    def operators(self) -> tuple[OperatorInfo, ...]:
        """Every operator of every subgraph, by subgraph and index."""
        return tuple(op for graph in self._decoded.subgraphs for op in graph.operators)

    def tensor(self, index: int, subgraph: int = 0) -> TensorInfo:
        """Return one tensor; `IndexError` when there is none, negative indices included."""
        tensors = self._decoded.subgraphs[subgraph].tensors
        if not 0 <= index < len(tensors):
            raise IndexError(f"index: expected 0 to {len(tensors) - 1}, got {index}")
        return tensors[index]

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs of subgraph 0."""
        graph = self._decoded.subgraphs[0]
        return tuple(graph.tensors[i] for i in graph.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs of subgraph 0."""
        graph = self._decoded.subgraphs[0]
        return tuple(graph.tensors[i] for i in graph.outputs)

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """Named entry points; often none."""
        return self._decoded.signatures

    @property
    def metadata(self) -> Mapping[str, int]:
        """Index of the buffer that holds it, by name of the metadata."""
        return self._decoded.metadata

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """A partition of the file: one region per distinct constant, and the graph in between."""
        return file_regions(self._decoded, self._nbytes)

    @cached_property
    def _head(self) -> HeadInfo | str:
        return find_head(self._decoded.subgraphs[0])

    @property
    def head(self) -> HeadInfo | None:
        """The last layer of a classifier, or None; `tflite.file.head` has the rule."""
        return None if isinstance(self._head, str) else self._head

    @cached_property
    def regression(self) -> HeadInfo | str:
        """A regressor's last layer, a row of weights for each number; or why there is none.

        Of a classifier whose output is logits it is the same layer.
        """
        return find_head(self._decoded.subgraphs[0], is_regression=True)

    @property
    def why_no_head(self) -> str:
        """What keeps this model from having a `head`; empty where it has one."""
        return self._head if isinstance(self._head, str) else ""

    @cached_property
    def detections(self) -> DetectionOutputs | None:
        """A detector's outputs, or None; `tflite.file.detections` has the rule."""
        return find_detections(self._decoded.subgraphs[0])

    def constant(self, tensor: TensorInfo) -> npt.NDArray[Any]:
        """Return a constant tensor's values as a read-only view of the file.

        Raises
        ------
        ValueError
            When the tensor has no data in the file, is sparse, or has no NumPy dtype.
        """
        if tensor.offset is None or tensor.nbytes is None or tensor.is_sparse:
            raise ValueError(f"tensor: {quoted(tensor.name)} has no dense data in the file")
        try:
            dtype = np.dtype(tensor.dtype).newbyteorder("<")
        except TypeError:
            raise ValueError(f"tensor: {tensor.dtype} has no NumPy dtype") from None
        flat = np.frombuffer(self.data, dtype, tensor.size, tensor.offset)
        return flat.reshape(tensor.shape)


def _remember(digest: bytes, decoded: DecodedModel) -> None:
    with _validated_lock:
        while len(_validated) >= _REMEMBERED:
            del _validated[next(iter(_validated))]
        _validated[digest] = decoded


def _renumbered(model: DecodedModel, numbers: Sequence[int]) -> DecodedModel:
    first, *others = model.subgraphs
    operators = []
    for operator, number in zip(first.operators, numbers, strict=True):
        label = operator.module.split("/", 2)[2]
        operators.append(replace(operator, module=f"{operator.subgraph}/{number}/{label}"))
    return replace(model, subgraphs=(replace(first, operators=tuple(operators)), *others))


def _read(path: str | os.PathLike[str]) -> bytes:
    name = os.fspath(path)
    try:
        # A FIFO would block the open until another process writes to it.
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "path: no such file", name) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            kind = "a directory" if is_folder else "something that is not a regular file"
            raise ModelFormatError(f"{name}: expected a file, got {kind}")
        data = b""
        if status.st_size <= MAX_BYTES:
            with open(fd, "rb", closefd=False) as file:
                # Not read(MAX_BYTES + 1): that asks for so much memory, which some have not.
                data = file.read()
    finally:
        os.close(fd)
    if max(status.st_size, len(data)) > MAX_BYTES:
        raise ModelFormatError(f"{name}: expected at most {MAX_BYTES} bytes, got more")
    return data
