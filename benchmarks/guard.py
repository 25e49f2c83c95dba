"""What the guard costs: `predict` against the three raw calls that it replaces.

Raw is `set_tensor`, `invoke`, `get_tensor` on the runtime's default `Interpreter` with as many
threads; where the guard chose other kernels, beside it the same with those, which tells the cost of
guarding from the cost of kernels that can be guarded. Then the same without the embedding, and
under each `Policy.verify`; what `infer`, and a monitor of the user's that does nothing, cost beside
`predict`; `predict` against the like in Python; and how long single calls take while damage is
being healed. With --soak N instead: N predictions with damage now and then, and how much
memory the process has grown by.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import guard_tails
import harness
import selfheal_edge as she
from guard_cases import MODELS, OTHERS, Case, Raw, window_of
from guard_python import like_in_python
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.tflite.runtimes.select import available_runtimes
from windows import Timing, ratio_bounds, take_turns

TARGET = 1.02
EVERY = (*MODELS, *OTHERS)
INFER_TARGET = 0.5  # microseconds
MONITOR_TARGET = 2.0
VERIFIED_TARGET = 1.04
PARTS = ("raw", "verify", "infer", "python", "tails")


def ratios(label: str, ours: Timing, raw: Timing, target: float | None) -> list[harness.Row]:
    """By medians, with bounds of the median ratio of neighbours, and by minima."""
    low, high = ratio_bounds(ours, raw)
    return [
        harness.Row(f"{label}, median", ours.median / raw.median, "ratio", target, False),
        harness.Row(f"{label}, at least (95 %)", low, "ratio", None, False),
        harness.Row(f"{label}, at most (95 %)", high, "ratio", None, False),
        harness.Row(f"{label}, least", ours.least / raw.least, "ratio", None, False),
    ]


def against_raw(case: Case, seconds: float) -> list[harness.Row]:
    """`predict` as it is, without the embedding, and raw, turn by turn."""
    plain = case.without_embedding
    kernels = case.baseline.fingerprint.kernels
    with case.open(case.baseline) as model:
        bare = None if plain is None else case.open(plain)
        works = [Raw(case).window, window_of(model.predict)]
        if bare is not None:
            works.append(window_of(bare.predict))
        if kernels != "default":
            works.append(Raw(case, kernels).window)
        raw, ours, *others = take_turns(works, case.inputs, seconds)
        loud = [event for event in model.events if event.kind != "commissioned"]
        if bare is not None:
            bare.close()
    label = case.label
    rows = [
        harness.Row(f"{label}: raw", raw.median * 1e6, "us", None, False),
        harness.Row(f"{label}: guarded", ours.median * 1e6, "us", None, False),
        *ratios(f"{label}: guarded / raw", ours, raw, TARGET),
    ]
    if plain is not None:
        rows += ratios(f"{label}: without embedding / raw", others.pop(0), raw, TARGET)
    if kernels != "default":
        rows += ratios(f"{label}: guarded / raw, {kernels} kernels", ours, others.pop(0), None)
    if loud:
        print(f"{label}: something was up, so these are no figures: {loud[0]}", file=sys.stderr)
    return rows


def verified(case: Case, seconds: float) -> list[harness.Row]:
    """`predict` under each `Policy.verify` against the raw calls, and what the default buys."""
    with (
        case.open(case.baseline) as model,
        case.open(case.baseline, verify="before") as before,
        case.open(case.baseline, verify="around") as around,
    ):
        works = [Raw(case).window, *(window_of(m.predict) for m in (model, before, around))]
        raw, *ours = take_turns(works, case.inputs, seconds)
        latency = model.health.detection_latency.predictions
        size = max(
            image.nbytes
            for name, image in model.weights.images.items()
            if name == "packed" or "packed" not in model.weights.images
        )
    rows = [
        harness.Row(f"{case.label}: bytes that execute", size, "bytes", None, False),
        harness.Row(
            f"{case.label}: predictions until damage is found, by default",
            -1 if latency is None else latency,
            "predictions",
            None,
            False,
        ),
    ]
    targets = (("budget", TARGET), ("before", VERIFIED_TARGET), ("around", None))
    for (name, target), timing in zip(targets, ours, strict=True):
        rows += ratios(f"{case.label}: verify={name!r} / raw", timing, raw, target)[::3]
    return rows


def against_predict(case: Case, seconds: float) -> list[harness.Row]:
    """`infer`, and `predict` with a monitor of the user's that does nothing, beside `predict`."""

    class Nothing(she.PerformanceMonitor):
        def update(self, measurement: Measurement) -> tuple[Alarm, ...]:  # noqa: ARG002
            return ()

    heard = Nothing(case.baseline)
    with (
        case.open(case.baseline) as model,
        case.open(case.baseline) as second,  # a stream of its own
        case.open(case.baseline, monitor=heard) as other,
    ):
        works = [window_of(model.predict), window_of(second.infer), window_of(other.predict)]
        plain, *others = take_turns(works, case.inputs, seconds)
    names = (("infer", INFER_TARGET), ("with a user's monitor", MONITOR_TARGET))
    rows = []
    for (name, target), timing in zip(names, others, strict=True):
        beyond = float(np.median(timing.windows - plain.windows)) * 1e6
        rows.append(harness.Row(f"{case.label}: {name} - predict", beyond, "us", target, False))
    return rows


def against_python(case: Case, seconds: float) -> list[harness.Row]:
    """`predict` against the like in Python."""
    like = like_in_python(case)
    if isinstance(like, str):
        print(f"skipped {case.label} against the like in Python: {like}")
        return []
    with case.open(case.baseline) as model:
        ours, theirs = take_turns([window_of(model.predict), window_of(like)], case.inputs, seconds)
    return [
        harness.Row(f"{case.label}: the like in Python", theirs.median * 1e6, "us", None, False),
        harness.Row(
            f"{case.label}: guarded / the like in Python",
            ours.median / theirs.median,
            "ratio",
            1.0,
            False,
        ),
    ]


def arguments() -> argparse.Namespace:
    """Parse the options."""
    parser = harness.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=None, metavar="NAME", choices=EVERY)
    parser.add_argument("--runtime", choices=("litert", "tflite_runtime"), default=None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each comparison")
    parser.add_argument("--soak", type=int, metavar="N", help="only N predictions, and memory")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    seconds = 0.1 if options.quick else options.seconds
    chosen = options.models or (("ad_autoencoder_int8",) if options.soak else EVERY)
    if options.quick and options.models is None:
        chosen = (MODELS[0], OTHERS[0], OTHERS[-1])  # one of each: int8, float, made here
    found = available_runtimes() if options.runtime is None else (options.runtime,)
    rows: list[harness.Row] = []
    for case in (Case(runtime, model) for runtime in found for model in chosen):
        if not case.path.exists():
            print(f"skipped {case.model}: no {case.path.name} beside the project")
            continue
        if options.soak:
            rows += guard_tails.soak(case, options.soak)
            continue
        if "raw" in options.parts:
            rows += against_raw(case, seconds)
        if "verify" in options.parts:
            rows += verified(case, seconds)
        if "infer" in options.parts:
            rows += against_predict(case, seconds / 2)
        # The like in Python is written for one image or spectrogram.
        if "python" in options.parts and case.model in MODELS:
            rows += against_python(case, seconds / 2)
        if "tails" in options.parts:
            rows += guard_tails.tails(case, seconds)
    if rows:
        harness.report(rows, options.json)


if __name__ == "__main__":
    main()
