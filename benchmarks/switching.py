"""What `predict` waits for while learned repairs come and go: switches, and heads that are trained.

Single calls, p50 to the longest. A switch is between golden and a repair of the inputs, with what
does not serve kept built and without; a thread switches every ten milliseconds where `predict` is
timed. A drift of digits is learned from labels of every fourth input, by a worker beside the stream
or in the calling thread. While a sensor's fault lasts, the loop handles each prediction.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

import harness
import selfheal_edge as she
from harness import Row
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import RuntimeUnavailableError
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

Array = npt.NDArray[Any]

KWS: Final = harness.SHARED / "models" / "kws_dscnn_int8.tflite"
QUANTILES: Final = (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("longest", 1.0))
PAUSE: Final = 0.001


def tails(name: str, seconds: list[float]) -> list[Row]:
    """Return rows of single calls, in milliseconds."""
    values = np.quantile(np.array(seconds), [q for _, q in QUANTILES])
    return [
        Row(f"{name}: {quantile}", 1e3 * float(value), "ms", None, False)
        for (quantile, _), value in zip(QUANTILES, values, strict=True)
    ]


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Have a thread work over and over while something is measured."""
    stop = threading.Event()

    def over_and_over() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=over_and_over)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def timed(call: Callable[[], object], seconds: float, pause: float = 0.0) -> list[float]:
    """Return what each call took."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
        if pause:
            time.sleep(pause)
    return taken


class Served:
    """A model with a repair of its inputs beside golden."""

    def __init__(self, name: str, model: she.SelfHealingModel, x: Array) -> None:
        self.name, self.model, self.x = name, model, x
        self.parts = parts_of(model)
        shape = model.inputs[0].shape
        axis = len(shape) - 2
        ones = np.ones(shape[1:][axis], np.float32)
        with self.parts.maintenance_lock:
            begun = time.perf_counter()
            patch = Patch(inputs=InputMap(axis, 1.1 * ones, 0.0 * ones))
            self.repair = self.parts.loop.repairs.adopt_patch(patch, on_trial=True)
            self.adoption = time.perf_counter() - begun

    def switch(self) -> None:
        """Go to golden, or to the repair."""
        with self.parts.maintenance_lock:
            serving = self.model.weights.active
            self.parts.loop.repairs.switch_to(0 if serving else self.repair)

    def predict(self) -> None:
        """Serve one input."""
        self.model.predict(self.x)


def opened(
    path: str | Path,
    samples: Array,
    runtime: RuntimeName,
    labels: Array | None = None,
    **rules: Any,
) -> she.SelfHealingModel:
    """Calibrate a model and open it."""
    baseline = she.calibrate(path, samples, labels, runtime=runtime, seed=1)
    policy = she.Policy(**rules)
    return she.SelfHealingModel(path, baseline, policy=policy, runtime=runtime, seed=1)


def switches(
    name: str, path: str | Path, samples: Array, runtime: RuntimeName, seconds: float
) -> list[Row]:
    """Return what a switch takes, and what `predict` takes meanwhile."""
    rows: list[Row] = []
    for standby in (True, False):
        how = "kept built" if standby else "built at each switch"
        with opened(path, samples, runtime, standby=standby) as model:
            served = Served(name, model, samples[0].reshape(model.inputs[0].shape))
            taken = timed(served.switch, seconds, PAUSE)
            rows += tails(f"{name}, {runtime}: switch, {how}", taken)
        rules: dict[str, Any] = {"standby": standby, "mode": "background"}
        with opened(path, samples, runtime, **rules) as model:
            served = Served(name, model, samples[0].reshape(model.inputs[0].shape))
            alone = timed(served.predict, seconds, PAUSE)

            def now_and_then(served: Served = served) -> None:
                served.switch()
                time.sleep(10 * PAUSE)

            with beside(now_and_then):
                meanwhile = timed(served.predict, seconds, PAUSE)
            rows += tails(f"{name}, {runtime}: predict alone", alone) if standby else []
            rows += tails(f"{name}, {runtime}: predict beside switches, {how}", meanwhile)
    return rows


def dimmed(x: Array) -> Array:
    """Return digits with less contrast, on grey paper."""
    return np.clip((x.astype(int) + 128) * 0.45 - 68, -128, 127).astype(np.int8)


def learning(runtime: RuntimeName) -> list[Row]:
    """Return what `predict` takes while the worker learns, and what the calling thread takes."""
    digits = load_digits()
    inputs, labels = digits.calibration_inputs, digits.calibration_labels
    rows: list[Row] = []
    for mode in ("background", "inline"):
        rules: dict[str, Any] = {
            "mode": mode,
            "repairs_per_hour": 1e6,
            "repair_seconds_per_hour": 1e6,
        }
        with opened(digits_model_path(), inputs, runtime, labels, **rules) as model:
            operator = model.feedback_source("operator", b"a key of the operator: 32 bytes.")
            taken: list[float] = []
            for x, y in zip(
                dimmed(digits.heldout_inputs[:400]), digits.heldout_labels, strict=False
            ):
                begun = time.perf_counter()
                found = model.infer(x[np.newaxis])
                taken.append(time.perf_counter() - begun)
                if len(taken) % 4 == 0:
                    assert isinstance(found, she.Prediction)
                    model.feedback(int(y), id=found.id, source=operator)
            model.wait_healed(60)
            rows += tails(f"digits, {runtime}, {mode}: predict until a repair serves", taken)
    return rows


def trouble(runtime: RuntimeName, rounds: int) -> list[Row]:
    """Return what a prediction takes while a sensor's fault lasts, that nothing may learn from."""
    digits = load_digits()
    inputs, labels = digits.calibration_inputs, digits.calibration_labels
    offset = np.clip(digits.heldout_inputs.astype(int) + 70, -128, 127).astype(np.int8)
    with opened(digits_model_path(), inputs, runtime, labels, heal="corruption") as model:
        stream = [x[np.newaxis] for x in offset]
        for x in (stream * 2)[:600]:
            model.predict(x)
        assert parts_of(model).loop.state.trouble is not None

        def serve() -> None:
            for x in stream[:100]:
                model.predict(x)

        each = harness.interleaved([serve], rounds=rounds, calls=1)[0] / 100
        name = f"digits, {runtime}: a prediction in a trouble"
        return [Row(name, 1e6 * each, "µs", None, False)]


def main() -> None:
    """Measure and report."""
    args = harness.arguments(__doc__)
    seconds = 0.2 if args.quick else 4.0
    digits = load_digits().calibration_inputs
    rows: list[Row] = []
    for runtime in get_args(RuntimeName):
        try:
            rows += switches("digits", digits_model_path(), digits, runtime, seconds)
        except RuntimeUnavailableError:
            continue
        if KWS.exists() and not args.quick:
            with np.load(harness.SHARED / "data" / "speech_commands_mfcc_int8.npz") as clips:
                rows += switches("KWS", KWS, clips["x"][:400], runtime, seconds)
        rows += learning(runtime)
        rows += trouble(runtime, 3 if args.quick else 30)
    if not rows:
        sys.exit("no runtime is installed")
    harness.report(rows, args.json)


if __name__ == "__main__":
    main()
