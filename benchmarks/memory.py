"""What a guard takes of a process's memory, step by step, beside the runtime alone.

Every figure is from a process of its own, which imports NumPy and then does one thing: run the
model on LiteRT's `CompiledModel`, on the plain `Interpreter`, or guarded, with a second guarded
model after that. Resident memory counts every page that is mapped in, libraries included;
anonymous memory only what this process alone has written. Both come from the kernel's
`/proc/self/smaps_rollup`. Bytecode is compiled beforehand, as installers do. The baseline was
recorded on this machine, as at every start of a device but its first.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

MODEL = harness.SHARED / "models" / "kws_dscnn_int8.tflite"
MODULES = {"litert": "ai_edge_litert", "tflite_runtime": "tflite_runtime"}
MIB = 2**20
TARGET_MIB = 3.0
SECOND_MIB = 1.0
Steps = dict[str, tuple[float, float]]


class Meter:
    """Notes resident and anonymous memory after each step."""

    def __init__(self) -> None:
        self.steps: Steps = {}
        self.images = 0
        self("start")

    def __call__(self, step: str) -> None:
        """Note what the process has now."""
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
        found = {}
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in ("Rss", "Anonymous"):
                    found[name] = int(rest.split()[0]) / 1024
        self.steps[step] = (found["Rss"], found["Anonymous"])


def compiled(meter: Meter, model: str, _: str) -> None:
    """Run LiteRT's compiled path by its own Python interface."""
    litert = importlib.import_module("ai_edge_litert.compiled_model")
    meter("import the runtime")
    built = litert.CompiledModel.from_file(model)
    inputs, outputs = built.create_input_buffers(0), built.create_output_buffers(0)
    meter("build")
    np = importlib.import_module("numpy")
    size = built.get_input_buffer_requirements(0, 0)["buffer_size"]
    inputs[0].write(np.zeros(size, np.int8))
    built.run_by_index(0, inputs, outputs)
    meter("run")


def interpreter(meter: Meter, model: str, runtime: str) -> None:
    """Run the plain interpreter."""
    module = importlib.import_module(f"{MODULES[runtime]}.interpreter")
    meter("import the runtime")
    built = module.Interpreter(model_path=model, num_threads=1)
    built.allocate_tensors()
    meter("build")
    built.invoke()
    meter("run")


def guarded(meter: Meter, model: str, baseline_path: str) -> None:
    """Guard the model, and then a second one."""
    she: Any = importlib.import_module("selfheal_edge")
    meter("import selfheal_edge")
    importlib.import_module("selfheal_edge.model")
    meter("import its model")
    baseline = she.Baseline.load(baseline_path)
    meter("load the baseline")
    first = she.SelfHealingModel(model, baseline)
    meter("open")
    np = importlib.import_module("numpy")
    x = np.zeros(first.inputs[0].shape, first.inputs[0].dtype)
    first.predict(x)
    meter("run")
    meter.images = sum(image.nbytes for image in first.weights.images.values())
    second = she.SelfHealingModel(model, baseline)
    second.predict(x)
    meter("a second model")


def calibrated(_: Meter, model: str, baseline_path: str, runtime: str) -> None:
    """Record a baseline from noise: its content does not matter here."""
    np = importlib.import_module("numpy")
    she: Any = importlib.import_module("selfheal_edge")
    inputs = np.random.default_rng(0).integers(-128, 128, (600, 49, 10, 1)).astype("int8")
    she.calibrate(model, inputs, runtime=runtime, seed=0).save(baseline_path)


KINDS: dict[str, Callable[..., None]] = {
    f.__name__: f for f in (compiled, interpreter, guarded, calibrated)
}


def child(kind: str, *arguments: str) -> None:
    """Be the process that is measured."""
    importlib.import_module("numpy")
    meter = Meter()
    KINDS[kind](meter, *arguments)
    print(json.dumps({"steps": meter.steps, "images": meter.images}))


def measured(folder: Path, kind: str, *arguments: str, times: int = 1) -> tuple[Steps, int]:
    """Run a child so often; return the median of each step, and the images' bytes."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    environment["XDG_STATE_HOME"] = str(folder)  # where the device keeps its secret
    command = [sys.executable, __file__, "--child", kind, str(MODEL), *arguments]
    runs = []
    for _ in range(times):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{kind} ended with {done.returncode}:\n{done.stderr}")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    steps = {
        name: (
            statistics.median(run["steps"][name][0] for run in runs),
            statistics.median(run["steps"][name][1] for run in runs),
        )
        for name in runs[0]["steps"]
    }
    return steps, runs[0]["images"]


def rows_of(runtime: str, folder: Path, times: int) -> list[harness.Row]:
    """Measure one runtime: its peers, the guard's steps, and the difference."""
    baseline = str(folder / f"{runtime}.baseline")
    measured(folder, "calibrated", baseline, runtime)
    jobs = {"Interpreter": ("interpreter", runtime), "guarded": ("guarded", baseline)}
    if runtime == "litert":
        jobs["CompiledModel"] = ("compiled", "")
    for job in jobs.values():  # bytecode is there then
        measured(folder, *job)
    found = {name: measured(folder, *job, times=times) for name, job in jobs.items()}
    (steps, images) = found["guarded"]
    rows = []
    for name, (peer, _) in found.items():
        for index, kind in enumerate(("resident", "anonymous")):
            before = peer["start"][index]
            for step, values in peer.items():
                if step in ("start", "a second model"):
                    continue
                label = f"{runtime}, {name}: {step}, {kind}"
                rows.append(harness.Row(label, values[index] - before, "MiB", None, False))
                before = values[index]
    for name in [name for name in found if name != "guarded"]:
        is_peer = name == ("CompiledModel" if runtime == "litert" else "Interpreter")
        for index, kind in enumerate(("resident", "anonymous")):
            # Each from its own start: that is NumPy, which all of them have.
            ours = steps["run"][index] - steps["start"][index]
            theirs = found[name][0]["run"][index] - found[name][0]["start"][index]
            label = f"{runtime}: guarded beyond {name} and the images, {kind}"
            value = ours - theirs - images / MIB
            target = TARGET_MIB if is_peer else None
            rows.append(harness.Row(label, value, "MiB", target, False))
    for index, kind in enumerate(("resident", "anonymous")):
        value = steps["a second model"][index] - steps["run"][index]
        label = f"{runtime}: a second guarded model, {kind}"
        rows.append(harness.Row(label, value, "MiB", SECOND_MIB, False))
    return rows


def main() -> None:
    """Measure every runtime that is installed."""
    options = harness.arguments(__doc__)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime, module in MODULES.items():
            if importlib.util.find_spec(module) is not None:
                rows += rows_of(runtime, Path(folder), 1 if options.quick else 3)
    harness.report(rows, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
