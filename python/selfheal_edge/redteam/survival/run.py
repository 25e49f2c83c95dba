"""Run a campaign: unit by unit, each written down when it is over, so that it can go on later."""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from selfheal_edge import Baseline
from selfheal_edge.hashing import sha256
from selfheal_edge.log import logger
from selfheal_edge.redteam.survival.campaign import Campaign
from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.contestants import enter
from selfheal_edge.redteam.survival.life import live
from selfheal_edge.redteam.survival.limits import Limits
from selfheal_edge.redteam.survival.plan import Plan
from selfheal_edge.redteam.survival.record import COMBINED, Record, combined_record, record_of
from selfheal_edge.redteam.survival.verdict import VERDICTS
from selfheal_edge.redteam.survival.world import Recipe, World
from selfheal_edge.text import LIST, quoted, shown
from selfheal_edge.tflite.file.model_file import ModelFile

__all__ = ["Arena", "hushed", "read_lines", "run_campaign", "summary_of"]

_HASH_DIGITS: Final = 16
_MILESTONES: Final = ("detected_after", "named_after", "healed_after")
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Arena:
    """Where units are run: a world, and what was learned of it."""

    world: World
    baseline: Baseline
    limits: Limits = field(default_factory=Limits)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what has to be the same for two runs to be of one kind."""
        world = self.world
        parts = (world.calibration, world.served, world.served_truth, world.held, world.held_truth)
        data = sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
        return {
            "model": sha256(ModelFile.of(world.model).data).hex()[:_HASH_DIGITS],
            "data": data.hex()[:_HASH_DIGITS],
            "kind": world.domain.kind,
            **asdict(world.life),
            "place": str(self.baseline.fingerprint),
            **asdict(self.limits),
        }

    def run(self, plan: Plan, told: Callable[[int, int], None] = lambda *_: None) -> Record:
        """Live one unit with fresh contestants, and return its record."""
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="selfheal-redteam-", dir=_memory()) as folder:
            contestants, undo = enter(self.world, self.baseline, Path(folder))
            with undo:
                lived = live(self.world, plan, contestants, told)
        record = (
            combined_record(lived, self.limits)
            if plan.name == COMBINED
            else record_of(lived, 0, self.limits)
        )
        return {**record, "took_seconds": round(time.perf_counter() - began, 1)}


def _memory() -> str | None:
    """Return a folder in memory, so that a simulated month does not wear a real disk."""
    folder = "/dev/shm"  # noqa: S108 — in a folder of its own there, which only we may read
    return folder if os.access(folder, os.W_OK) else None


def read_lines(path: str, identity: dict[str, Any] | None = None) -> list[Record]:
    """Return the records that a file of an earlier run holds, without its summary.

    The file may be a stranger's: texts are made fit to be shown, and unknown verdicts are refused.

    Parameters
    ----------
    path
        What `--json` wrote: a line that was cut off is left out.
    identity
        What the run has to have been of; None: anything.

    Raises
    ------
    ValueError
        For a file of another kind, and of another run: naming the difference.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            record: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or not ("attack" in record or "summary" in record):
            raise ValueError(f"{quoted(path)}: expected a line of a campaign, got line {number}")
        if "summary" in record:
            continue
        if identity is not None and (was := record.get("run")) != identity:
            was = was if isinstance(was, dict) else {}
            other = [n for n in identity if was.get(n) != identity[n]]
            facts = ", ".join(f"{n} {was.get(n)!r} and not {identity[n]!r}" for n in other)
            raise ValueError(f"--resume: {quoted(path)} is of another run: {facts}")
        rows = [record, *record.get("phases", ())]
        if not all(isinstance(r, dict) and r.get("verdict") in VERDICTS for r in rows):
            raise ValueError(
                f"{quoted(path)}: expected verdicts among {', '.join(VERDICTS)} in line {number}"
            )
        found.append(_fit(record))
    return found


def _fit(value: Any) -> Any:
    """Return plain data in which all texts may be shown."""
    if isinstance(value, str):
        return shown(value, LIST)
    if isinstance(value, list):
        return [_fit(one) for one in value]
    if isinstance(value, dict):
        return {shown(name): _fit(one) for name, one in value.items()}
    return value


def run_campaign(
    arena: Arena,
    campaign: Campaign,
    *,
    done: Sequence[Record] = (),
    budget: float | None = None,
    jobs: int = 1,
    told: Told = lambda *_: None,
) -> Iterator[Record]:
    """Yield the record of each unit as it is over.

    Parameters
    ----------
    arena, campaign
        Where, and what.
    done
        Records of an earlier run, which are not run again and not yielded.
    budget
        Seconds after which no further unit is begun; None: all are.
    jobs
        Units that run at a time: with 2 or more each in a process of its own, which imports the
        caller's main module.
    told
        Called with a unit's name, hours lived and hours in all; with several jobs, once it is over.
    """
    known = {record["attack"] for record in done}
    plans = [plan for plan in campaign.units if plan.name not in known]
    ends = math.inf if budget is None else time.perf_counter() + budget
    if jobs < 2 or len(plans) < 2:
        for plan in plans:
            if time.perf_counter() > ends:
                return
            yield {**arena.run(plan, partial(told, plan.name)), "run": arena.identity}
        return
    # The longest first, or all wait for it at the end.
    plans.sort(key=lambda plan: -plan.hours)
    with tempfile.TemporaryDirectory(prefix="selfheal-redteam-") as folder:
        path = Path(folder) / "baseline"
        arena.baseline.save(path)
        with ProcessPoolExecutor(
            min(jobs, len(plans)),
            get_context("spawn"),
            _open,
            (arena.world.recipe, str(path), arena.limits),
        ) as pool:
            yield from _side_by_side(pool, plans, arena.identity, jobs, ends, told)


def _side_by_side(
    pool: ProcessPoolExecutor,
    plans: Sequence[Plan],
    identity: Record,
    jobs: int,
    ends: float,
    told: Told,
) -> Iterator[Record]:
    waiting = deque(plans)
    running: dict[Future[Record], Plan] = {}
    while waiting or running:
        while waiting and len(running) < jobs and time.perf_counter() <= ends:
            plan = waiting.popleft()
            running[pool.submit(_run, plan)] = plan
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            plan = running.pop(future)
            told(plan.name, plan.hours, plan.hours)
            yield {**future.result(), "run": identity}


_ARENA: list[Arena] = []
"""Of a process that runs units for another one."""


@contextmanager
def hushed() -> Iterator[None]:
    """Keep the guarded model's log off the terminal: what is damaged here is damaged on purpose."""
    log = logger()
    before = log.level
    log.setLevel("CRITICAL")
    try:
        yield
    finally:
        log.setLevel(before)


def _open(recipe: Recipe, baseline: str, limits: Limits) -> None:
    _ARENA[:] = [Arena(recipe.world(), Baseline.load(baseline), limits)]


def _run(plan: Plan) -> Record:
    with hushed():
        return _ARENA[0].run(plan)


def summary_of(
    records: Sequence[Record], campaign: Campaign, limits: Limits, identity: dict[str, Any]
) -> Record:
    """Return what all units come to: the score first.

    The score is the area under the defended model's accuracy, as a share of the undamaged model's:
    over the combined campaign where that was run, else over all units.
    """
    whole = [r for r in records if r["attack"] == COMBINED] or list(records)
    areas = {name: _area(whole, name) for name in (*NAMES, "undamaged")}
    score = (
        {n: round(areas[n] / areas["undamaged"], 5) for n in NAMES} if areas["undamaged"] else {}
    )
    verdicts = {r["attack"]: r["verdict"] for r in records}
    expected = [plan.name for plan in campaign.units]
    confirmed = sum(r["heals"]["defended"]["confirmed"] for r in records)
    lost = [points for r in records for points in r["heals"]["defended"]["harmful"]]
    content: Record = {
        "score": score.get(NAMES[0]),
        "scores": score,
        "verdicts": {v: sorted(n for n, w in verdicts.items() if w == v) for v in
                     ("broken", "degraded", "inconclusive", "survived")},
        "not_run": [name for name in expected if name not in verdicts],
        "not_applicable": campaign.left_out,
        "confirmed": confirmed,
        "harmful": sum(points > limits.harm_points for points in lost),
        "false_heals": sum(r["heals"]["defended"]["false"] for r in records),
        "times": _times(records, limits),
        "campaign": campaign.name,
        "limits": asdict(limits),
        "run": identity,
    }  # fmt: skip
    return {"summary": content}


def _area(records: Sequence[Record], name: str) -> float:
    return float(sum(sum(v or 0.0 for v in r["over_time"].get(name, ())) for r in records))


def _times(records: Sequence[Record], limits: Limits) -> Record:
    """Return median and 95th percentile from onset to each milestone, with their limits."""
    rows = [p for r in records for p in r.get("phases", (r,))]
    found: Record = {}
    for name in _MILESTONES:
        marks = [r[name] for r in rows if r.get(name)]
        short = name.split("_", maxsplit=1)[0]
        limit = {"detected": "detect", "named": "name", "healed": "heal"}[short]
        units = {"predictions": getattr(limits, f"{limit}_predictions")}
        if limit == "heal":
            units |= {"labels": limits.heal_labels, "seconds": limits.heal_seconds}
        found[short] = {"of": len(rows), "events": len(marks)}
        for unit, most in units.items():
            values = sorted(mark[unit] for mark in marks)
            if values:
                p95 = values[min(len(values) - 1, round(0.95 * (len(values) - 1)))]
                found[short][unit] = {
                    "median": statistics.median(values),
                    "p95": p95,
                    "limit": most,
                    "is_within": statistics.median(values) <= most and p95 <= 4 * most,
                }
    return found
