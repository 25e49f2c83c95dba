"""Detectors, one update at a time from Python, against river and frouros in the same run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import harness
import selfheal_edge as she


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


def main() -> None:
    options = harness.arguments(__doc__)
    samples = np.random.default_rng(0).normal(size=1000 if options.quick else 10_000)
    stream = samples.tolist()
    updates: dict[str, Callable[[float], object]] = {
        "Cusum": she.Cusum(0.0, 1.0, arl0=1e12).update,
        "PageHinkley": she.PageHinkley(0.0, 1.0, arl0=1e12).update,
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
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
