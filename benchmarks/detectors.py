"""Every table about detectors: speed, promises, delays, onsets, gaps, series, repeats, waves."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import detector_delay
import detector_promise
import detector_repeats
import detector_series
import detector_waves
import harness
import label_mix
import selfheal_edge as she
import signals_for_detectors


def _by_name(detector: Any, x: float) -> object:
    return detector.update(value=x)


def peers() -> dict[str, Callable[[float], object]]:
    """Return update functions of the installed peers."""
    found: dict[str, Callable[[float], object]] = {}
    try:
        found["river PageHinkley"] = importlib.import_module("river.drift").PageHinkley().update
    except ImportError as error:
        print(f"skipped river: {error}")
    try:
        change = importlib.import_module("frouros.detectors.concept_drift")
        for name in ("PageHinkley", "CUSUM"):
            detector: Any = getattr(change, name)(
                config=getattr(change, f"{name}Config")(lambda_=1e12)
            )
            found[f"frouros {name}"] = partial(_by_name, detector)
    except ImportError as error:
        print(f"skipped frouros: {error}")
    return found


def speed(options: argparse.Namespace) -> list[harness.Row]:
    """One update from Python, and a batch, in the same run as the peers."""
    samples = np.random.default_rng(0).normal(size=1000 if options.quick else 10_000)
    stream = samples.tolist()
    updates: dict[str, Callable[[float], object]] = {
        "Cusum": she.Cusum(0.0, 1.0, arl0=1e12).update,
        "PageHinkley": she.PageHinkley(0.0, 1.0, arl0=1e12).update,
        "Ewma": she.Ewma(0.0, 1.0, arl0=1e12).update,
        "Adwin": she.Adwin(1e-9).update,
        "Ddm": she.Ddm(drift_threshold=99).update,
        "Eddm": she.Eddm(beta=0.01).update,
        "HddmA": she.HddmA(1e-12, 1e-11).update,
        "HddmW": she.HddmW(1e-12, 1e-11).update,
        "DriftDetector": she.DriftDetector(samples, false_alarm_interval=1e9).update,
        **peers(),
    }

    def run(update: Callable[[float], object]) -> Callable[[], object]:
        def through() -> None:
            for x in stream:
                update(x)

        return through

    def empty() -> None:
        for _ in stream:
            pass

    rounds = 3 if options.quick else 21
    loop, *times = harness.interleaved(
        [empty, *(run(u) for u in updates.values())], rounds=rounds, calls=1
    )
    cost = {
        name: (seconds - loop) / len(stream) * 1e9
        for name, seconds in zip(updates, times, strict=True)
    }
    rows = [
        harness.Row(f"{name}: one update", value, "ns", 45.0 if " " not in name else None, False)
        for name, value in cost.items()
    ]
    rows += [
        harness.Row(f"{name} / Cusum", value / cost["Cusum"], "ratio", None, True)
        for name, value in cost.items()
        if " " in name
    ]
    batch = samples.astype(np.float32)
    chart = she.Cusum(0.0, 1.0, arl0=1e12)
    (seconds,) = harness.interleaved([lambda: chart.update_many(batch)], rounds=rounds, calls=20)
    rows.append(
        harness.Row("Cusum: update_many, float32", seconds / len(batch) * 1e9, "ns", 1.0, False)
    )
    big = np.random.default_rng(1).standard_normal(4_000_000).astype(np.float32)
    tracked = she.Cusum(0.0, 1.0, arl0=1e9)
    bank = she.MonitorBank([she.Reference.normal(0, 1)] * 12, 1e9)
    table = np.random.default_rng(2).standard_normal((20_000, 12))
    side = [she.Cusum(0.0, 1.0, arl0=1e12) for _ in range(64)]
    columns = big[: 64 * 5000].reshape(5000, 64)
    batch_s, read_s, bank_s, side_s = harness.interleaved(
        [
            lambda: tracked.update_many(big),
            big.sum,
            lambda: bank.update_many(table),
            lambda: she.update_channels(side, columns),
        ],
        rounds=rounds,
        calls=1,
    )
    rows += [
        harness.Row("Cusum: batch of 4e6 float32", batch_s / len(big) * 1e9, "ns", 1.0, False),
        harness.Row(
            "Cusum: table of 64 columns float32", side_s / columns.size * 1e9, "ns", 1.0, False
        ),
        harness.Row("the same memory read by np.sum", read_s / len(big) * 1e9, "ns", None, False),
        harness.Row("read bandwidth", big.nbytes / read_s / 1e9, "GB/s", None, True),
        harness.Row(
            "MonitorBank: one signal's value", bank_s / table.size * 1e9, "ns", None, False
        ),
    ]
    return rows


def import_time(options: argparse.Namespace) -> list[harness.Row]:
    """Milliseconds that our import adds to NumPy's."""
    code = (
        "import time, numpy; t = time.perf_counter(); import selfheal_edge; "
        "print((time.perf_counter() - t) * 1e3)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3 if options.quick else 9)
    ]
    return [harness.Row("import beyond NumPy's", sorted(times)[len(times) // 2], "ms", 15.0, False)]


def run_lengths(options: argparse.Namespace) -> list[harness.Row]:
    """Compare simulated and promised run lengths."""
    runs = 2_000 if options.quick else 22_500
    return [
        harness.Row(f"{name}: |simulated / promised - 1|", abs(ratio - 1) * 100, "%", 2.0, False)
        for name, ratio in detector_promise.chart_run_lengths(runs)
    ]


def promise(options: argparse.Namespace) -> list[harness.Row]:
    """Share of calibrations that keep the promise."""
    kinds = signals_for_detectors.DISTRIBUTIONS
    sizes = (800,) if options.quick else (800, 10_000, 100_000)
    banks = [("normal", 0.0), ("t5", 0.5), ("int8", 0.5), ("normal", 0.95)]
    banks += [("laplace", 0.5), ("exponential", 0.5), ("uniform", 0.0)]
    cells = [
        detector_promise.Cell(kind, n0, phi) for n0 in sizes for phi in (0.0, 0.3) for kind in kinds
    ]
    cells += [
        detector_promise.Cell(kind, n0, phi, 12, rho)
        for n0 in sizes
        for phi in (0.0, 0.3)
        for kind, rho in banks
    ]
    rows = []
    for cell in cells:
        many = cell.signals > 1
        count = 10 if options.quick else 40 if many else 100
        share = detector_promise.kept(
            cell, 1000.0, count, 10 if options.quick else 40 if many else 100, 1
        )
        rows.append(harness.Row(f"promise kept: {cell}", share, "share", 0.9, True))
    return rows


def small_calibrations(options: argparse.Namespace) -> list[harness.Row]:
    """Share of small calibrations that keep long intervals, by exact Markov chains."""
    rows = []
    for name, source in detector_promise.sources().items():
        for n0 in detector_promise.SMALL_CALIBRATIONS:
            for interval in detector_promise.LONG_INTERVALS:
                kept = detector_promise.kept_exactly(
                    source, n0, interval, 10 if options.quick else 60
                )
                cell = f"{name}, {n0} samples, 1 in {interval:.2g}"
                rows.append(harness.Row(f"{cell}: promise kept", kept.share, "share", 0.9, True))
                rows.append(harness.Row(f"{cell}: charts", kept.charts, "of 8", None, True))
                rows.append(harness.Row(f"{cell}: refused", kept.refused, "share", None, False))
    return rows


def delay(options: argparse.Namespace) -> list[harness.Row]:
    """Delays at equal hazard, known reference and against the peers."""
    rows = []
    runs = 100 if options.quick else 2000
    for shift, ours, single, theory in detector_delay.known_reference(1e-4, runs):
        rows.append(
            harness.Row(
                f"delay at {shift} sd: bank / best CUSUM", ours / single, "ratio", 1.25, False
            )
        )
        rows.append(
            harness.Row(
                f"delay at {shift} sd: |best CUSUM / theory - 1|",
                abs(single / theory - 1) * 100,
                "%",
                5.0,
                False,
            )
        )
    hazard, runs = (2e-3, 20) if options.quick else (1e-4, 300)  # tuning takes 1 / hazard as long
    found = detector_delay.against_peers(hazard, 2000, runs)
    ours_all = found.pop("default bank, calibrated")
    for name, delays in found.items():
        for shift, ours, theirs in zip(detector_delay.SHIFTS, ours_all, delays, strict=True):
            rows.append(
                harness.Row(
                    f"delay at {shift} sd: bank / {name}", ours / theirs, "ratio", 1.0, False
                )
            )
    for n0 in (800, 10_000, 100_000):
        price = detector_delay.calibration_price(n0, 40 if options.quick else 2000)
        rows.append(
            harness.Row(
                f"delay, calibrated on {n0} / known, worst shift",
                price,
                "ratio",
                1.25 if n0 == 10_000 else None,
                False,
            )
        )
    return rows


def onset(options: argparse.Namespace) -> list[harness.Row]:
    """Cover of the 95 % bound, and how far before the true start it lies, however old that is."""
    rows = []
    for shift in detector_delay.SHIFTS:
        covered, distance = detector_promise.onset_coverage(
            shift, 100 if options.quick else 2000, 1e5
        )
        case = f"known distribution, shift of {shift} sd"
        rows += [
            harness.Row(f"{case}: onset bound covers", covered, "share", 0.93, True),
            harness.Row(f"{case}: it lies before the start by", distance, "samples", None, False),
        ]
    for shift in detector_promise.OLD_SHIFTS:
        held = detector_promise.old_onset(shift, 10 if options.quick else 400)
        case = f"calibrated on 10,000 for 30 d at 10 Hz, shift of {shift} sd"
        rows += [
            harness.Row(f"{case}: onset bound covers", held.covered, "share", 0.93, True),
            harness.Row(f"{case}: found", held.found, "share", None, True),
            harness.Row(f"{case}: median delay", held.delay, "samples", None, False),
            harness.Row(f"{case}: longest delay", held.longest, "samples", None, False),
            harness.Row(f"{case}: median margin", held.before, "samples", None, False),
        ]
    return rows


def gaps(_options: argparse.Namespace) -> list[harness.Row]:
    """Look for a 10 sd shift after NaN or infinity."""
    normal = np.random.default_rng(3).standard_normal(2000)
    makes: dict[str, Callable[[], Any]] = {
        "Cusum": lambda: she.Cusum(0, 1, arl0=1e4),
        "Ewma": lambda: she.Ewma(0, 1, arl0=1e4),
        "PageHinkley": lambda: she.PageHinkley(0, 1, arl0=1e4),
        "PageHinkley as river": lambda: she.PageHinkley(compat="river"),
        "Adwin": she.Adwin,
        "Kswin": lambda: she.Kswin(seed=1),
        "DriftDetector": lambda: she.DriftDetector(normal, false_alarm_interval=1e4),
    }
    peers_too = {}
    try:
        drift = importlib.import_module("river.drift")
        peers_too = {"river PageHinkley": drift.PageHinkley, "river ADWIN": drift.ADWIN}
    except ImportError:
        pass
    rows = []
    for name, make in {**makes, **peers_too}.items():
        found = [
            detector_promise.found_after_gap(make(), bad)
            for bad in detector_promise.bad_values().values()
        ]
        rows.append(
            harness.Row(
                f"{name}: finds 10 sd after nan, inf, -inf",
                sum(found) / 3,
                "share",
                1.0 if name in makes else None,
                True,
            )
        )
    return rows


def series(options: argparse.Namespace) -> list[harness.Row]:
    """Real and simulated series, and what is found in them."""
    return [
        *detector_series.rows(),
        *detector_series.simulated_rows((1,) if options.quick else (1, 2, 3, 4, 5, 6)),
    ]


def series_again(options: argparse.Namespace) -> list[harness.Row]:
    """Draw the family that is held out eighteen times more, watched as a model watches it."""
    seeds = (7,) if options.quick else tuple(range(7, 25))
    return detector_series.simulated_rows(seeds, ("simulated, held out",), latches=(True,))


def repeats(options: argparse.Namespace) -> list[harness.Row]:
    """Sensors that hold their value for times of all lengths, watched without a chart."""
    return detector_repeats.rows(20 if options.quick else 200)


def waves(options: argparse.Namespace) -> list[harness.Row]:
    """Shifts that come and go, and shifts that last, behind a latch."""
    return detector_waves.rows(5 if options.quick else 40)


def label_shift(options: argparse.Namespace) -> list[harness.Row]:
    """Share of calibrations whose chart on predicted classes keeps the promise, and its delays."""
    rows = []
    for name, shares in label_mix.mixes().items():
        for stay in label_mix.STAYS:
            for size in label_mix.SIZES:
                for interval in label_mix.INTERVALS:
                    found = label_mix.kept(
                        shares, stay, size, interval, 10 if options.quick else 60
                    )
                    cell = f"{name}, kept with {stay}, {size} labels, 1 in {interval:.0e}"
                    rows.append(
                        harness.Row(f"{cell}: promise kept", found.share, "share", 0.9, True)
                    )
                    rows.append(harness.Row(f"{cell}: charted", found.charted, "share", None, True))
    for stay in label_mix.STAYS:
        for size in label_mix.SIZES[1:]:
            for share in label_mix.SHARES:
                runs = label_mix.delays(stay, size, share, 1e5, 10 if options.quick else 100)
                if not runs:
                    continue
                cell = f"one of ten at {share:.0%}, kept with {stay}, {size} labels, 1 in 1e+05"
                target = 200.0 if stay == 0.0 and share == 0.3 else None
                rows += [
                    harness.Row(
                        f"{cell}: mean delay", float(np.mean(runs)), "labels", target, False
                    ),
                    harness.Row(f"{cell}: median", float(np.median(runs)), "labels", None, False),
                    harness.Row(
                        f"{cell}: 90 %", float(np.quantile(runs, 0.9)), "labels", None, False
                    ),
                ]
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[harness.Row]]] = {
    "speed": speed,
    "import": import_time,
    "run-lengths": run_lengths,
    "onset": onset,
    "gaps": gaps,
    "series": series,
    "series-again": series_again,
    "delay": delay,
    "promise": promise,
    "small": small_calibrations,
    "label-mix": label_shift,
    "repeats": repeats,
    "waves": waves,
}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    rows: list[harness.Row] = []
    for name in options.parts:
        start = time.monotonic()
        rows += PARTS[name](options)
        print(f"... {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        if options.json is not None:  # what there is, should the rest be stopped
            harness.write(rows, options.json)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
