"""What `guard.py`, `memory.py` and `callgrind.py` measured, as tables (see `tables.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import callgrind
from guard_cases import MODELS
from guard_tails import MODES

NAMES = {
    "kws_dscnn_int8": "keyword spotting, int8",
    "resnet8_cifar10_int8": "ResNet-8, int8",
    "vww_mobilenet_int8": "visual wake words, int8",
    "ad_autoencoder_int8": "autoencoder, int8",
    "wakeword_streaming_int8": "wake word, int8",
    "mobilenet_v1_025_128_uint8": "MobileNet v1 0.25, uint8",
}
RUNTIMES = {"litert": "LiteRT 2.3", "tflite_runtime": "tflite-runtime 2.14"}
Figures = dict[str, float]


class Table(NamedTuple):
    """A table of text."""

    head: list[str]
    rows: list[list[str]]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Make a table."""
    return Table(list(head), [list(row) for row in rows])


def show(figures: Figures, name: str, digits: int = 2) -> str:
    """Write one cell; a dash where there is no such figure."""
    value = figures.get(name)
    return "–" if value is None else f"{value:,.{digits}f}"


def micros(figures: Figures, name: str) -> str:
    """Write one cell of microseconds, with three digits that mean something."""
    value = figures.get(name)
    return "–" if value is None else f"{value:,.{max(0, 2 - len(str(int(value))) + 1)}f}"


def summary(figures: Figures) -> Table:
    """Return the README's table: both runtimes side by side."""
    rows = [
        [
            NAMES[model],
            *(show(figures, f"{runtime} {model}: guarded / raw, median") for runtime in RUNTIMES),
            show(figures, f"litert {model}: guarded / the like in Python"),
            show(figures, f"litert {model}: infer - predict"),
        ]
        for model in MODELS
    ]
    return table(
        (
            "guarded / raw",
            *RUNTIMES.values(),
            "guarded / the like in Python (NumPy, river, zlib), LiteRT",
            "infer − predict, µs, LiteRT",
        ),
        rows,
    )


def ratios(figures: Figures, runtime: str) -> Table:
    """Guarded against raw, without the embedding, and against Python."""
    rows = []
    for model in MODELS:
        at = f"{runtime} {model}: "
        if at + "raw" not in figures:
            continue
        rows.append(
            [
                NAMES[model],
                micros(figures, at + "raw"),
                *(
                    show(figures, f"{at}{what} / raw, {kind}")
                    for what in ("guarded", "without embedding")
                    for kind in ("median", "least")
                ),
                show(figures, at + "guarded / the like in Python"),
            ]
        )
    head = ("raw, µs", "guarded / raw", "by minima", "without embedding", "by minima")
    return table((RUNTIMES[runtime], *head, "guarded / the like in Python"), rows)


def tails(figures: Figures, runtime: str) -> Table:
    """p99 and p99.9 while damage is healed."""
    rows = []
    for model in MODELS:
        for mode in MODES:
            at = f"{runtime} {model}, {mode}: "
            if at + "p99 calm" in figures:  # slow models have too few calls in a short run
                cells = [
                    micros(figures, f"{at}{p} {who}")
                    for p in ("p99", "p99.9")
                    for who in ("while healing", "calm", "raw")
                ]
                rows.append([NAMES[model], mode, *cells])
    percentiles = [f"{p} {who}" for p in ("p99", "p99.9") for who in ("healing", "calm", "raw")]
    return table((RUNTIMES[runtime], "mode", *percentiles), rows)


def memory(figures: Figures, runtime: str) -> Table:
    """Return what each step takes, resident and anonymous, and the guard beside peers."""
    kinds = ("resident", "anonymous")
    head = f"{runtime}, "
    steps = [name[len(head) :].rsplit(", ", 1)[0] for name in figures if name.startswith(head)]
    rows = [
        [step, *(show(figures, f"{head}{step}, {kind}") for kind in kinds)]
        for step in dict.fromkeys(steps)
    ]
    head = f"{runtime}: "
    sums = [
        name[len(head) :].rsplit(", ", 1)[0]
        for name in figures
        if name.startswith(head) and name.endswith(kinds)
    ]
    rows += [
        [f"**{each}**", *(show(figures, f"{head}{each}, {kind}") for kind in kinds)]
        for each in dict.fromkeys(sums)
    ]
    return table((f"{RUNTIMES[runtime]}, KWS, MiB", *kinds), rows)


def instructions(kept: Mapping[str, Any]) -> Table:
    """Return the table that `callgrind.py` keeps."""
    groups = [*(name for name, _ in callgrind.GROUPS), "all"]
    rows = [
        [RUNTIMES[runtime], NAMES[model], *(f"{models[model][group]:,}" for group in groups)]
        for runtime, models in kept.items()
        for model in callgrind.MODELS
        if model in models
    ]
    return table(("instructions a prediction", "model", *groups), rows)


def all_of(figures: Figures) -> list[Table]:
    """Return every table of which the figures hold something, the README's first."""
    made = [summary(figures)] if any(": guarded / raw" in name for name in figures) else []
    made += [part(figures, runtime) for part in (ratios, tails, memory) for runtime in RUNTIMES]
    return [one for one in made if one.rows]
