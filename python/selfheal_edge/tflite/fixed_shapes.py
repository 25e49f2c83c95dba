"""Fix the open axes of a model's inputs, and with them the shape of every tensor behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from selfheal_edge.errors import ModelFormatError, ProbeLimitError
from selfheal_edge.text import LIST, quoted, shown
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions, copy_model
from selfheal_edge.tflite.format.records import TensorInfo
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance
from selfheal_edge.tflite.runtimes.select import RuntimeArgument, choose, load_runtime
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.sandbox.probe import Prober

__all__ = ["fix_shapes"]

_MOST_ELEMENTS: Final = 2**31
_UNFOLDED: Final = CopyOptions(folds=False)  # what is folded is right for the file's shapes alone

_Shapes: TypeAlias = dict[int, tuple[int, ...]]


def fix_shapes(
    model: ModelFile,
    shapes: Mapping[str, Sequence[int]] | None,
    runtime: RuntimeArgument,
    probe: ProbePolicy,
) -> dict[int, tuple[int, ...]]:
    """Return the shapes that all computed tensors have once the inputs have theirs.

    Parameters
    ----------
    model
        The user's file.
    shapes
        Shapes by the inputs' names, of tensors or in a SignatureDef; None for those of the file.
    runtime
        What finds out the rest, with builtin kernels and in a child process: in this one for a file
        that skip the probe.
    probe
        What that may cost.

    Returns
    -------
    dict
        Shapes by index in subgraph 0; empty without `shapes`.

    Raises
    ------
    TypeError, ValueError
        For what is not a shape of one of the inputs, with its open axes settled.
    ModelFormatError
        When the model does not run with these shapes.
    """
    if shapes is None:
        return {}
    if not isinstance(shapes, Mapping):
        raise TypeError(f"shapes: expected a dict by input name, got {type(shapes).__name__}")
    wanted = {}
    for name, shape in shapes.items():
        tensor = _input(model, name)
        wanted[tensor.index] = _checked(tensor, name, shape)
    skips_probe = model.sha256 in probe.vouched
    found = (_here if skips_probe else _in_a_child)(model, wanted, runtime, probe)
    tensors = model.subgraphs[0].tensors
    return {
        tensor.index: found[tensor.index]
        for tensor in tensors
        if not tensor.is_constant and found.get(tensor.index, tensor.shape) != tensor.shape
    }


def _in_a_child(
    model: ModelFile, wanted: _Shapes, runtime: RuntimeArgument, probe: ProbePolicy
) -> _Shapes:
    with Prober(
        load_runtime(runtime).name,
        kernels="builtin",
        timeout_s=probe.seconds,
        memory_bytes=probe.memory_bytes,
        python=probe.python,
    ) as prober:
        result = prober.probe(copy_model(model, options=_UNFOLDED).model.data, wanted)
    if not result.ok:
        kind = ProbeLimitError if result.at_limit else ModelFormatError
        raise kind(f"model: with shapes {wanted}, {result.reason}")
    return result.shapes


def _here(
    model: ModelFile, wanted: _Shapes, runtime: RuntimeArgument, probe: ProbePolicy
) -> _Shapes:
    copy = copy_model(model, options=_UNFOLDED)
    source = SourceImage(copy.model.data)
    try:
        _, instance = choose(copy, source, runtime, "builtin", 1, probe)
        try:
            assert isinstance(instance, InterpreterInstance)
            return instance.resized(wanted)
        finally:
            instance.close()
    finally:
        source.close()


def _input(model: ModelFile, name: str) -> TensorInfo:
    named = {tensor.name: tensor for tensor in model.inputs}
    for signature in model.signatures:
        if signature.subgraph == 0:
            for alias, index in signature.inputs.items():
                named.setdefault(alias, model.tensor(index))
    if name not in named:
        expected = shown(", ".join(map(quoted, named)), LIST)
        raise ValueError(f"shapes: expected names of inputs ({expected}), got {quoted(name)}")
    return named[name]


def _checked(tensor: TensorInfo, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    what = f"shapes[{quoted(name)}]"
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if not sizes or not all(isinstance(n, int) and not isinstance(n, bool) for n in sizes):
        raise TypeError(f"{what}: expected a tuple of integers, got {shape!r}")
    signature = tensor.shape_signature or tensor.shape
    fits = len(sizes) == len(signature) and all(
        n == fixed if fixed >= 0 else n >= 1 for n, fixed in zip(sizes, signature, strict=True)
    )
    if not fits or math.prod(sizes) > _MOST_ELEMENTS:
        raise ValueError(f"{what}: expected {signature} with every -1 settled, got {sizes}")
    return sizes
