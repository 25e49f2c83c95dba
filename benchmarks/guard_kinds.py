"""What the guard costs on models of every kind: several inputs or outputs, floats, states.

As `guard.py` does: `predict` against `set_tensor`, `invoke`, `get_tensor` of all inputs and outputs
on the runtime's default `Interpreter`, turn by turn, and with the kernels that the guard chose. The
models are small ones that `tests` makes, and the public ones that `guard.py` leaves out.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import harness
import selfheal_edge as she
from guard_cases import MODULES, window_of
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.runtimes.select import available_runtimes
from windows import take_turns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import made_models
from tests.tflite import test_odd_outputs, test_short_way

TARGET = 1.05
INPUTS = 256
SERVED = 2048
"""More, so that the mix of classes in what comes round and round is about that of calibration."""
PUBLIC = (
    "split_concat_uint8",
    "hello_world_int8",
    "mnist_lstm_int8",
    "kws_dscnn_dynamic_range",
    "resnet8_cifar10_float32",
)
MADE: dict[str, Callable[[], bytes]] = {
    "two outputs": lambda: test_odd_outputs.dense_with_outputs([3, 0]),
    "a scalar": test_odd_outputs.scaled_scalar,
    "int16": made_models.int16_classifier,
    "branches": made_models.branching_classifier,
    "open batch, dense": lambda: made_models.open_batch("dense"),
    "open batch, convolutional": lambda: made_models.open_batch("convolutional"),
    "open batch, branches": lambda: made_models.open_batch("branches"),
    "open batch, dense, 28x28": lambda: made_models.open_batch("dense", side=28),
    "open batch, convolutional, 28x28": lambda: made_models.open_batch("convolutional", side=28),
    "open batch, branches, 28x28": lambda: made_models.open_batch("branches", side=28),
    "resource variables": made_models.accumulating,
    "shape follows from values": lambda: test_short_way.doubled_tail(4),
}
X = dict[str, Array] | Array


def drawn(details: Sequence[dict[str, Any]], rng: np.random.Generator) -> list[Array]:
    """Return random values for all inputs."""
    row: list[Array] = []
    for d in details:
        if d["dtype"] == np.float32:
            row.append(rng.normal(0, 1, d["shape"]).astype(np.float32))
        elif d["dtype"] in (np.int32, np.int64):  # a place, in the models here
            row.append(np.ones(d["shape"], d["dtype"]))
        else:
            limits = np.iinfo(d["dtype"])
            row.append(rng.integers(limits.min, limits.max, d["shape"], d["dtype"], endpoint=True))
    return row


def raw_of(path: Path, runtime: str, kernels: str) -> Any:
    """Return an interpreter, one thread."""
    module = importlib.import_module(MODULES[runtime])
    resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    options = {"experimental_op_resolver_type": resolver} if kernels == "builtin" else {}
    interpreter = module.Interpreter(model_path=str(path), num_threads=1, **options)
    interpreter.allocate_tensors()
    return interpreter


def raw_window(interpreter: Any) -> Callable[[Sequence[X]], None]:
    """Return the raw calls for what `predict` takes."""
    details = interpreter.get_input_details()
    sinks = [d["index"] for d in interpreter.get_output_details()]
    if len(details) == 1:
        source = details[0]["index"]

        def single(chunk: Sequence[X]) -> None:
            for x in chunk:
                interpreter.set_tensor(source, x)
                interpreter.invoke()
                for sink in sinks:
                    interpreter.get_tensor(sink)

        return single
    sources = [(d["name"], d["index"]) for d in details]

    def several(chunk: Sequence[X]) -> None:
        for x in chunk:
            for name, index in sources:
                interpreter.set_tensor(index, x[name])
            interpreter.invoke()
            for sink in sinks:
                interpreter.get_tensor(sink)

    return several


def measure(name: str, path: Path, runtime: Any, seconds: float) -> list[harness.Row]:
    """Rows of one model."""
    label = f"{runtime} {name}"
    rng = np.random.default_rng(0)
    details = raw_of(path, runtime, "default").get_input_details()
    rows, served = ([drawn(details, rng) for _ in range(count)] for count in (INPUTS, SERVED))
    names = [d["name"] for d in details]
    given: list[X] = [r[0] if len(r) == 1 else dict(zip(names, r, strict=True)) for r in served]
    if len(details) == 1:
        many: X = np.stack([r[0] for r in rows])
    else:
        many = {n: np.stack([r[i] for r in rows]) for i, n in enumerate(names)}
    baseline = she.calibrate(path, many, runtime=runtime, false_alarm_interval=1e9, seed=0)
    kernels = baseline.fingerprint.kernels
    with (
        she.SelfHealingModel(path, baseline, runtime=runtime) as model,
        she.SelfHealingModel(path, baseline, runtime=runtime) as other,  # a stream of its own
    ):
        works = [
            window_of(model.predict),
            window_of(other.infer),
            raw_window(raw_of(path, runtime, "default")),
            raw_window(raw_of(path, runtime, kernels)),
        ]
        ours, infer, raw, like = take_turns(works, given, seconds)  # type: ignore[arg-type]
        loud = [event for event in model.events if event.kind != "commissioned"]
    if loud:
        print(f"{label}: something was up, so these are no figures: {loud[0]}", file=sys.stderr)
    beyond = float(np.median(infer.windows - ours.windows)) * 1e6
    least = ours.least / raw.least
    return [
        harness.Row(f"{label}: raw", raw.median * 1e6, "us", None, False),
        harness.Row(f"{label}: guarded - raw", (ours.least - raw.least) * 1e6, "us", None, False),
        harness.Row(f"{label}: guarded / raw", ours.median / raw.median, "ratio", TARGET, False),
        harness.Row(f"{label}: guarded / raw, least", least, "ratio", None, False),
        harness.Row(
            f"{label}: guarded / raw, kernels of its choice",
            ours.median / like.median,
            "ratio",
            None,
            False,
        ),
        harness.Row(f"{label}: infer - predict", beyond, "us", 0.5, False),
    ]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--runtime", choices=("litert", "tflite_runtime"), default=None)
    parser.add_argument("--models", nargs="+", default=(*PUBLIC, *MADE), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each model")
    options = parser.parse_args()
    seconds = 0.1 if options.quick else options.seconds
    rows: list[harness.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in available_runtimes() if options.runtime is None else (options.runtime,):
            for name in options.models:
                path = harness.SHARED / "models" / f"{name}.tflite"
                if name in MADE:
                    path = Path(folder) / f"{name}.tflite"
                    path.write_bytes(MADE[name]())
                elif not path.exists():
                    print(f"skipped {name}: no {path.name} beside the project")
                    continue
                rows += measure(name, path, runtime, seconds)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
