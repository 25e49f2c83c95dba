"""What the adapter costs: copy, run, copy through an instance against the raw three calls.

Raw is `set_tensor`, `invoke`, `get_tensor` on the runtime's own `Interpreter` with the same kernels
and as many threads; both take turns in one run, in short windows, on every model beside the project
and on the package's own. LiteRT's instance runs from packed weights that are ours.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import harness
from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import copy_model
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, RuntimeName
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.runtimes.select import available_runtimes, choose
from windows import ratio_bounds, take_turns

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite_runtime": "tflite_runtime.interpreter"}
INPUTS = 64

Inputs = list[Array]


def raw_window(
    module: Any, path: Path, kernels: str, num_threads: int
) -> Callable[[Sequence[Inputs]], None]:
    """Return a loop that copies in, runs and copies out with an interpreter."""
    options = {}
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    interpreter = module.Interpreter(model_path=str(path), num_threads=num_threads, **options)
    interpreter.allocate_tensors()
    sources = [detail["index"] for detail in interpreter.get_input_details()]
    sinks = [detail["index"] for detail in interpreter.get_output_details()]
    if len(sources) == len(sinks) == 1:
        source, sink = sources[0], sinks[0]

        def window(chunk: Sequence[Inputs]) -> None:
            for (array,) in chunk:
                interpreter.set_tensor(source, array)
                interpreter.invoke()
                interpreter.get_tensor(sink)

        return window

    def window_of_many(chunk: Sequence[Inputs]) -> None:
        for inputs in chunk:
            for source, array in zip(sources, inputs, strict=True):
                interpreter.set_tensor(source, array)
            interpreter.invoke()
            _ = [interpreter.get_tensor(sink) for sink in sinks]

    return window_of_many


def window_of(instance: Instance) -> Callable[[Sequence[Inputs]], None]:
    """Return a loop around an instance."""
    run = instance.run

    def window(chunk: Sequence[Inputs]) -> None:
        for inputs in chunk:
            run(inputs)

    return window


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


def against_raw(
    runtime: RuntimeName, path: Path, num_threads: int, options: argparse.Namespace
) -> list[harness.Row]:
    """Measure the instance that is chosen for a model against raw calls with the same kernels."""
    copy = copy_model(ModelFile.from_path(path))
    source = SourceImage(copy.model.data)
    choice, instance = choose(copy, source, runtime, num_threads=num_threads)
    rng = np.random.default_rng(0)
    inputs = [[full_range_input(spec, rng) for spec in instance.inputs] for _ in range(INPUTS)]
    raw = raw_window(importlib.import_module(MODULES[runtime]), path, choice.kernels, num_threads)
    seconds = 0.0 if options.quick else options.seconds
    ours, theirs = take_turns([window_of(instance), raw], inputs, seconds)
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    name = f"{runtime}/{path.stem}, {threads}"
    ratio = ours.median / theirs.median
    low, high = ratio_bounds(ours, theirs)
    rows = [
        harness.Row(f"{name}: raw", theirs.median * 1e6, "us", None, False),
        harness.Row(f"{name}: adapter / raw, median", ratio, "ratio", 1.0, False),
        harness.Row(f"{name}: adapter / raw, at least (95 %)", low, "ratio", None, False),
        harness.Row(f"{name}: adapter / raw, at most (95 %)", high, "ratio", None, False),
        harness.Row(
            f"{name}: adapter / raw, least", ours.least / theirs.least, "ratio", None, False
        ),
    ]
    if num_threads == 1:
        rebuild = build_times(partial(choice.build, source), 3 if options.quick else 20)
        rows.append(harness.Row(f"{name}: rebuild", rebuild * 1e3, "ms", None, False))
    instance.close()
    source.close()
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each model and threads")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 4])
    options = parser.parse_args()
    rows = []
    paths = [digits_model_path(), *sorted((harness.SHARED / "models").glob("*.tflite"))]
    for runtime in available_runtimes():
        for path in paths:
            for num_threads in options.threads:
                rows += against_raw(runtime, path, num_threads, options)
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
