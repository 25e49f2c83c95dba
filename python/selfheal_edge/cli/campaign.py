"""`selfheal-edge redteam MODEL --data X.npz`: a campaign against a model, and its report."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.cli.samples import check_folder, read_samples
from selfheal_edge.cli.screen import STDOUT, is_silent, print_facts, print_rows
from selfheal_edge.redteam.survival.campaign import campaign_of
from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.limits import Limits
from selfheal_edge.redteam.survival.page import page, worst_first
from selfheal_edge.redteam.survival.plain import Runtime
from selfheal_edge.redteam.survival.record import Record
from selfheal_edge.redteam.survival.run import Arena, hushed, read_lines, run_campaign, summary_of
from selfheal_edge.redteam.survival.verdict import VERDICTS, exit_code
from selfheal_edge.redteam.survival.world import Life, World

__all__ = ["open_world", "progress_bar", "run_campaign_command"]


def open_world(
    model: Any, x: npt.NDArray[Any], y: npt.NDArray[Any] | None, arguments: argparse.Namespace
) -> World:
    """Return the world that the arguments ask for; the caller closes it."""
    life = Life(
        arguments.predictions_per_day, arguments.labels_per_day, arguments.seed
    )  # fmt: skip
    return World(model, x, y, life, kind=arguments.kind, runtime=Runtime(arguments.runtime))


def run_campaign_command(arguments: argparse.Namespace) -> int:
    """Run a campaign; return 0, 1 where something broke, 3 where nothing can be said."""
    check_folder("--report", arguments.report)
    check_folder("--json", None if arguments.json == STDOUT else arguments.json)
    limits = Limits() if arguments.limits is None else Limits.read(arguments.limits)
    older = None if arguments.against is None else read_lines(arguments.against)
    x, y = read_samples(arguments.data)
    world = open_world(arguments.model, x, y, arguments)
    try:
        campaign = campaign_of(arguments.campaign, world.domain.kind, world.kind, arguments.days)
        arena = Arena(world, world.calibrate(), limits)
        records = _known(arguments, arena)
        to_file = arguments.json not in (None, STDOUT)
        if to_file:
            _write_lines(arguments.json, records)
        known = {record["attack"] for record in records}
        left = sum(plan.name not in known for plan in campaign.units)
        with hushed(), progress_bar(left) as bar:
            for record in run_campaign(
                arena,
                campaign,
                done=records,
                budget=arguments.budget,
                jobs=arguments.jobs,
                told=bar,
            ):
                records.append(record)
                if to_file:
                    _write_lines(arguments.json, [record], "a")
        summary = summary_of(records, campaign, limits, arena.identity)
    finally:
        world.close()
    differences = [] if older is None else _compared(older, records)
    if differences:
        summary["summary"]["against"] = [
            dict(zip(("attack", "then", "now", "points"), row, strict=True)) for row in differences
        ]
    _write_ends(arguments, records, summary)
    if arguments.report is not None:
        _write_page(arguments, records, summary["summary"], differences)
    if not is_silent(arguments.json):
        print_report(records, summary["summary"], differences)
    return exit_code([record["verdict"] for record in records])


def _known(arguments: argparse.Namespace, arena: Arena) -> list[Record]:
    """Return what an earlier run wrote, where it is to be gone on with."""
    if not arguments.resume:
        return []
    if arguments.json in (None, STDOUT):
        raise ValueError("--resume: expected the file to go on with: --json PATH")
    if not Path(arguments.json).is_file():
        return []
    return read_lines(arguments.json, arena.identity)


def _write_lines(path: str, records: Sequence[Record], mode: str = "w") -> None:
    with open(path, mode, encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _write_ends(arguments: argparse.Namespace, records: Sequence[Record], summary: Record) -> None:
    if arguments.json == STDOUT:
        for record in (*records, summary):
            print(json.dumps(record))
    elif arguments.json is not None:
        _write_lines(arguments.json, [summary], "a")


def _compared(
    older: Sequence[Record], records: Sequence[Record]
) -> list[tuple[str, str, str, float | None]]:
    """Return attack, verdict then, verdict now, and points of accuracy gained during it."""
    was = {record["attack"]: record for record in older}
    rows: list[tuple[str, str, str, float | None]] = []
    for record in records:
        old = was.get(record["attack"])
        if old is None:
            continue
        pair = [r["accuracy"][NAMES[0]]["during"] for r in (old, record)]
        points = None if None in pair else round(100 * (pair[1] - pair[0]), 2)
        rows.append((record["attack"], old["verdict"], record["verdict"], points))
    return rows


def _write_page(
    arguments: argparse.Namespace,
    records: Sequence[Record],
    summary: Record,
    differences: Sequence[tuple[str, str, str, float | None]],
) -> None:
    made = page(
        records,
        summary,
        model=Path(str(arguments.model)).name,
        command=shlex.join(["selfheal-edge", *sys.argv[1:]]),
        machine=f"{platform.platform()}, Python {platform.python_version()}, NumPy "
        f"{np.__version__}",
        against=differences,
    )
    Path(arguments.report).write_text(made, encoding="utf-8")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def print_report(
    records: Sequence[Record],
    summary: Record,
    differences: Sequence[tuple[str, str, str, float | None]] = (),
) -> None:
    """Print the report: what was lost first."""
    score = summary["score"]
    others = ", ".join(
        f"{name} {share:.1%}" for name, share in summary["scores"].items() if name != NAMES[0]
    )
    print_facts(
        [
            ("score", "-" if score is None else f"{score:.1%} of the undamaged model's accuracy"),
            ("beside it", others or "-"),
            ("verdicts", ", ".join(f"{len(summary['verdicts'][v])} {v}" for v in VERDICTS)),
            ("repairs", f"{summary['confirmed']} confirmed, {summary['harmful']} of them harmful; "
             f"{summary['false_heals']} while nothing was wrong"),
        ]
    )  # fmt: skip
    print()
    head = ("  us", "undef.", "naive", "oper.", "best", "after", "verdict", "attack")
    rows, reasons = [], []
    for record in worst_first(records):
        for name, one in ((record["attack"], record), *(
            (f"  {n} {p['attack']}", p) for n, p in enumerate(record.get("phases", ()), 1)
        )):  # fmt: skip
            shares = [one["accuracy"].get(n, {}).get("during") for n in (*NAMES, "undamaged")]
            shares.append(one["accuracy"][NAMES[0]]["after"])
            numbers = [
                f"{_percent(share):>{len(column)}}"
                for share, column in zip(shares, head, strict=False)
            ]
            attacker = str(one["knowledge"]).replace("_", " ")
            rows.append((*numbers, one["verdict"], f"{name} ({attacker})"))
            reasons.append("; ".join(one["why"]))
    print_rows(head, rows, reasons)
    print()
    for what, found in summary["times"].items():
        for unit in ("predictions", "labels", "seconds"):
            if unit in found:
                one = found[unit]
                print(
                    f"{what} after {one['median']:,.0f} {unit} (95th percentile "
                    f"{one['p95']:,.0f}; limit {one['limit']:,.0f}: "
                    f"{'within' if one['is_within'] else 'MISSED'}), in {found['events']} of "
                    f"{found['of']}"
                )
    for name in summary["not_run"]:
        print(f"not run, the time was up: {name}")
    for why in dict.fromkeys(summary["not_applicable"].values()):
        names = [name for name, other in summary["not_applicable"].items() if other == why]
        print_facts([("does not apply", f"{why}: {', '.join(names)}")])
    for name, was, now, points in differences:
        gained = "-" if points is None else f"{points:+.1f} points during it"
        print(f"against the older run: {name}: {was}, now {now}; {gained}")


class _PlainBar:
    """A line for each unit."""

    def __init__(self, total: int) -> None:
        self._total, self._number, self._began = total, 0, time.perf_counter()
        self._name = ""

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self._name, self._number = name, self._number + 1
            print(f"unit {self._number} of {self._total}: {name}", file=sys.stderr, flush=True)
        del done, total


@contextmanager
def progress_bar(units: int) -> Iterator[Any]:
    """Yield what shows progress on stderr: a bar on a terminal where rich is, else lines."""
    if not sys.stderr.isatty():
        yield _PlainBar(units)
        return
    try:
        from rich.console import Console  # noqa: PLC0415 — an extra
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        yield _PlainBar(units)
        return
    columns = (
        TextColumn("{task.description:44.44}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("begins", total=float(units))
        seen: list[str] = []

        def told(name: str, done: int, total: int) -> None:
            if name not in seen:
                seen.append(name)
            bar.update(
                task, description=f"{len(seen)} of {units}: {name}",
                completed=len(seen) - 1 + done / max(total, 1),
            )  # fmt: skip

        yield told
