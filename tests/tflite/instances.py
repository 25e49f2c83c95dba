"""Built instances of every model at hand, beside a raw interpreter with the same kernels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tflite.support import MODULES, RUNTIMES, shared_models

from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy, copy_model
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, KernelsChoice, RuntimeName
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.runtimes.select import Choice, choose

SETUPS = [(name, kernels) for name in RUNTIMES for kernels in ("default", "builtin")]
if not SETUPS:
    SETUPS = [pytest.param(("", ""), marks=pytest.mark.skip(reason="no TFLite runtime"))]  # type: ignore[list-item]


def all_models() -> list[Any]:
    """Return the package's own model and the shared ones, as parameters."""
    return [pytest.param(digits_model_path(), id="digits"), *shared_models()]


@dataclass
class Built:
    """An instance and all that belongs to it."""

    copy: ModelCopy
    source: SourceImage
    choice: Choice
    instance: Instance

    def inputs(self, count: int, seed: int = 0) -> list[list[Array]]:
        rng = np.random.default_rng(seed)
        specs = self.instance.inputs
        return [[full_range_input(spec, rng) for spec in specs] for _ in range(count)]

    def answer(self, inputs: Sequence[Array]) -> list[Array]:
        self.instance.reset_variables()
        return self.instance.run(inputs)


@contextmanager
def built(
    path: Path,
    runtime: RuntimeName,
    kernels: KernelsChoice,
    num_threads: int = 1,
    taps: Sequence[int | str] = (),
) -> Iterator[Built]:
    copy = copy_model(ModelFile.from_path(path), taps)
    source = SourceImage(copy.model.data)
    try:
        choice, instance = choose(copy, source, runtime, kernels, num_threads)
        try:
            yield Built(copy, source, choice, instance)
        finally:
            instance.close()
    finally:
        source.close()


def raw_interpreter(
    data: bytes, runtime: RuntimeName, kernels: KernelsChoice, num_threads: int, **options: Any
) -> Any:
    """Return an allocated interpreter of the runtime's own."""
    module = importlib.import_module(MODULES[runtime] + ".interpreter")
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    interpreter = module.Interpreter(model_content=data, num_threads=num_threads, **options)
    interpreter.allocate_tensors()
    return interpreter


def raw_answer(interpreter: Any, inputs: Sequence[Array]) -> list[Array]:
    interpreter.reset_all_variables()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def same(left: Sequence[Array], right: Sequence[Array]) -> bool:
    """Whether dtypes, shapes and all bits agree."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left, right, strict=True)
    )
