"""What every benchmark shares: rows with targets, interleaved timing, a table and JSON.

The JSON says how it came about, so that `tables.py` can say it beside the figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
TINY_MODELS = (
    "kws_dscnn_int8",
    "resnet8_cifar10_int8",
    "vww_mobilenet_int8",
    "ad_autoencoder_int8",
    "wakeword_streaming_int8",
)


@dataclass(frozen=True)
class Row:
    """One figure and what it should be."""

    name: str
    value: float
    unit: str
    target: float | None
    higher_is_better: bool

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.higher_is_better else self.value <= self.target


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows here")
    parser.add_argument(
        "--quick", action="store_true", help="a check of function; figures mean little"
    )
    return parser


def arguments(description: str | None) -> argparse.Namespace:
    """Parse the options that every benchmark has."""
    return parser(description).parse_args()


def report(rows: Sequence[Row], path: Path | None) -> None:
    """Print the rows as a table and write them as JSON."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        target = (
            "" if row.target is None else f"{'>=' if row.higher_is_better else '<='} {row.target:g}"
        )
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        print(
            f"{row.name:{width}}  {row.value:12.4g} {row.unit:10} {target:>10} {verdict}".rstrip()
        )
    if path is not None:
        write(rows, path)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON, with what they were measured by, where and when."""
    content = {**provenance(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def provenance() -> dict[str, Any]:
    """Return the command that runs, the machine and the day."""
    return {
        "command": command(sys.argv),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def command(argv: Sequence[str]) -> str:
    """Return a command line as one gives it in the project's folder, without where JSON goes."""
    kept: list[str] = []
    words = iter(argv[1:])
    for word in words:
        if word == "--json":
            next(words, None)
        elif not word.startswith("--json="):
            kept.append(word)
    return " ".join(["python", f"benchmarks/{Path(argv[0]).name}", *kept])


def machine() -> dict[str, Any]:
    """Return what of the machine and the software figures depend on."""
    facts: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    versions = {"Python": platform.python_version()}
    for name in ("numpy", "ai-edge-litert", "tflite-runtime"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": facts.get("model name") or facts.get("Model") or platform.machine(),
        "cores": os.cpu_count(),
        "avx512": "avx512f" in facts.get("flags", "").split(),
        "versions": versions,
    }


def interleaved(
    functions: Sequence[Callable[[], object]], *, rounds: int, calls: int, best: bool = False
) -> list[float]:
    """Return the median seconds per call of each function, measured turn by turn.

    With `best` the least instead: what the code takes where nothing disturbs it.

    Every round calls each function `calls` times, in an order that rotates, so that a machine
    that grows slower slows all of them.
    """
    times: list[list[float]] = [[] for _ in functions]
    for r in range(rounds):
        for k in range(len(functions)):
            i = (r + k) % len(functions)
            function = functions[i]
            start = time.perf_counter()
            for _ in range(calls):
                function()
            times[i].append((time.perf_counter() - start) / calls)
    return [min(t) if best else statistics.median(t) for t in times]
