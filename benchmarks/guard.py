"""What the guard costs: `predict` against the three raw calls that it replaces.

Raw is `set_tensor`, `invoke`, `get_tensor` on the runtime's default `Interpreter`; beside it the
same with the kernels that the guard chose, which tells the cost of guarding from the cost of
kernels that can be guarded.
"""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np

import harness
import selfheal_edge as she
from selfheal_edge.tflite.chatter import without_chatter
from selfheal_edge.tflite.select import available_runtimes

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite_runtime": "tflite_runtime.interpreter"}


def raw_call(module: Any, path: str, inputs: list[Any], kernels: str) -> Any:
    """Return a function that does the three raw calls on the next input."""
    options = {}
    if kernels == "builtin":
        options["experimental_op_resolver_type"] = (
            module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    with without_chatter():
        interpreter = module.Interpreter(model_path=path, num_threads=1, **options)
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    turn = itertools.cycle(inputs)

    def call() -> object:
        interpreter.set_tensor(source, next(turn))
        interpreter.invoke()
        return interpreter.get_tensor(sink)

    return call


def main() -> None:
    options = harness.arguments(__doc__)
    rows = []
    rng = np.random.default_rng(0)
    for runtime in available_runtimes():
        module = importlib.import_module(MODULES[runtime])
        for name in harness.TINY_MODELS:
            path = harness.SHARED / "models" / f"{name}.tflite"
            if not path.exists():
                print(f"skipped {name}: no {path.name} beside the project")
                continue
            with without_chatter():
                shape = module.Interpreter(model_path=str(path)).get_input_details()[0]["shape"]
            inputs = list(rng.integers(-128, 128, (256, *shape), dtype=np.int8))
            baseline = she.calibrate(
                path, np.concatenate(inputs), runtime=runtime, false_alarm_interval=1e9, seed=0
            )
            with she.SelfHealingModel(path, baseline, runtime=runtime) as model:
                turn = itertools.cycle(inputs)
                chosen = baseline.fingerprint.kernels
                functions = [
                    lambda model=model, turn=turn: model.predict(next(turn)),
                    raw_call(module, str(path), inputs, "default"),
                    raw_call(module, str(path), inputs, chosen),
                ]
                calls = 20 if options.quick else 200
                guarded, default, same = harness.interleaved(
                    functions, rounds=3 if options.quick else 31, calls=calls
                )
            label = f"{runtime} {name}"
            rows += [
                harness.Row(f"{label}: guarded", guarded * 1e6, "us", None, False),
                harness.Row(f"{label}: guarded / raw", guarded / default, "ratio", 1.02, False),
                harness.Row(
                    f"{label}: guarded / raw, {chosen} kernels",
                    guarded / same,
                    "ratio",
                    None,
                    False,
                ),
            ]
    if rows:
        harness.report(rows, options.json)


if __name__ == "__main__":
    main()
