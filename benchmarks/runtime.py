"""What the adapter costs: copy, run, copy through an instance against the raw three calls.

Raw is `set_tensor`, `invoke`, `get_tensor` on the runtime's own `Interpreter` with the same kernels
and as many threads; both take turns in one run, on every model beside the project and on the
package's own. LiteRT's instance runs from packed weights that are ours.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import harness
from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.chatter import without_chatter
from selfheal_edge.tflite.flip_check import full_range_input
from selfheal_edge.tflite.model_file import ModelFile
from selfheal_edge.tflite.protocol import Array, Instance
from selfheal_edge.tflite.rewrite import copy_model
from selfheal_edge.tflite.select import available_runtimes, choose
from selfheal_edge.tflite.source_image import SourceImage

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite_runtime": "tflite_runtime.interpreter"}
ROUND_S = 0.01


def raw_calls(module: Any, path: Path, kernels: str, inputs: list[Array]) -> Callable[[], object]:
    """Return a function that copies in, runs and copies out with an interpreter."""
    options = {}
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    with without_chatter():
        interpreter = module.Interpreter(model_path=str(path), num_threads=1, **options)
        interpreter.allocate_tensors()
    sources = [detail["index"] for detail in interpreter.get_input_details()]
    sinks = [detail["index"] for detail in interpreter.get_output_details()]
    if len(sources) == len(sinks) == 1:
        source, sink, array = sources[0], sinks[0], inputs[0]

        def call() -> object:
            interpreter.set_tensor(source, array)
            interpreter.invoke()
            return interpreter.get_tensor(sink)

        return call

    def call_many() -> object:
        for source, array in zip(sources, inputs, strict=True):
            interpreter.set_tensor(source, array)
        interpreter.invoke()
        return [interpreter.get_tensor(sink) for sink in sinks]

    return call_many


def resident_mib() -> float:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def build_times(build: Callable[[], Instance], count: int) -> float:
    """Return the median seconds that a build and a close take."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        build().close()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    options = harness.arguments(__doc__)
    rounds = 5 if options.quick else 101
    rows = []
    paths = [digits_model_path(), *sorted((harness.SHARED / "models").glob("*.tflite"))]
    rng = np.random.default_rng(0)
    for runtime in available_runtimes():
        module = importlib.import_module(MODULES[runtime])
        for path in paths:
            copy = copy_model(ModelFile.from_path(path))
            source = SourceImage(copy.model.data)
            choice, instance = choose(copy, source, runtime)
            inputs = [full_range_input(spec, rng) for spec in instance.inputs]
            raw = raw_calls(module, path, choice.kernels, inputs)
            raw()
            start = time.perf_counter()
            raw()
            calls = max(1, int(ROUND_S / (time.perf_counter() - start)))
            adapter, reference = harness.interleaved(
                [partial(instance.run, inputs), raw], rounds=rounds, calls=calls
            )
            name = f"{runtime}/{path.stem}"
            rows.append(harness.Row(f"{name}/ratio", adapter / reference, "ratio", 1.0, False))
            rows.append(harness.Row(f"{name}/adapter", adapter * 1e6, "us", None, False))
            rebuild = build_times(partial(choice.build, source), 3 if options.quick else 20)
            rows.append(harness.Row(f"{name}/rebuild", rebuild * 1e3, "ms", None, False))
            instance.close()
            source.close()
    cycles = 100 if options.quick else 3000
    for runtime in available_runtimes():
        copy = copy_model(ModelFile.from_path(digits_model_path()))
        source = SourceImage(copy.model.data)
        choice, instance = choose(copy, source, runtime)
        instance.close()
        build_times(partial(choice.build, source), 50)
        before = resident_mib()
        build_times(partial(choice.build, source), cycles)
        grown = resident_mib() - before
        rows.append(harness.Row(f"{runtime}/grown in {cycles} builds", grown, "MiB", 1.0, False))
        source.close()
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
