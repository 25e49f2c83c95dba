"""Streams that diagnoses are measured on, served in rounds: what was served is kept, and joined.

A round serves every cause 24 cases more and is one file, so a run that was ended goes on where it
was, more cases cost only themselves, and fewer are the first rounds of more. What an attacker hides
best lies in files of its own: it can be left out. `Recorder` keeps what the loop asked its
diagnoser about: `again` has today's rules name it, without serving anything.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import diagnosis_data as data
import selfheal_edge as she
from diagnosis_data import Name
from diagnosis_replay import Asked, Recorder, Replay
from selfheal_edge.redteam.scenarios.campaign import HIDDEN_PART, per_scenario
from selfheal_edge.redteam.scenarios.observed import Observed, observe
from selfheal_edge.redteam.scenarios.scenario import Part, Scenario
from selfheal_edge.redteam.scenarios.score import hides
from selfheal_edge.redteam.scenarios.streams import Stream

__all__ = ["INTERVAL", "Run", "calibrated", "observed", "served"]

INTERVAL: Final = 100_000
"""Predictions between two false alarms."""
_ROUND: Final = 24
_FEWEST: Final = 2
_ON_FEW: Final = ("attack, square", "attack, sign")
"""Families of the attacks on small shares of a stream."""

Kept: TypeAlias = tuple[Observed, list[Asked]]
"""A stream as it was diagnosed, and what the loop asked about it."""


class Run(NamedTuple):
    """What is to be served of one task."""

    name: Name
    part: Part
    cases: int
    """Of each cause."""
    seed: int = 0
    hides: bool = True
    """Whether attacks that hide, by their kind or in a small share of the stream, are served."""
    attacks: Path | None = None
    """Where attacked pools are kept; None makes them anew."""
    kept: Path | None = None
    """Where rounds are kept; None serves them anew."""

    @property
    def ends(self) -> list[int]:
        """How many cases of each cause there are after each round."""
        return [*range(_ROUND, self.cases, _ROUND), self.cases]


def calibrated(name: Name, seed: int) -> she.Baseline:
    """Return the baseline of a task."""
    task = data.load(name)
    return she.calibrate(task.model, task.calibration_x, seed=seed, false_alarm_interval=INTERVAL)


def served(task: data.Task, baseline: she.Baseline, one: Stream, seed: int) -> Kept:
    """Serve a stream to a model that is opened for it."""
    heard: list[Any] = []
    recorder = Recorder()
    with she.SelfHealingModel(
        task.model, baseline, seed=seed, diagnoser=recorder, on_event=heard.append
    ) as model:
        return observe(model, heard, one), recorder.asked


def observed(run: Run, *, again: bool = False) -> list[Observed]:
    """Return what was observed of a task: rounds that are kept, and the others served.

    `again`: with what today's rules name.
    """
    baseline = calibrated(run.name, run.seed)
    known = [row for streams, path in _rounds(run) for row in _round(run, baseline, streams, path)]
    if not again:
        return [one for one, _ in known]
    with closing(Replay(data.load(run.name), baseline)) as replay:
        return [replay.named_again(one, asked) for one, asked in known]


_Streams: TypeAlias = Callable[[], Iterator[Stream]]


def _rounds(run: Run) -> Iterator[tuple[_Streams, Path | None]]:
    """Yield for each round what makes its streams, and where it is kept."""
    found = data.scenarios_of(run.name, run.part)
    before: Callable[[Scenario], int] = lambda _: 0  # noqa: E731
    few_before = 0
    for cases in run.ends:
        count, few = per_scenario(found, cases), max(_FEWEST, cases // HIDDEN_PART)
        yield _plain(run, before, count), _path(run, "plain", cases)
        if run.hides:
            yield _hidden(run, before, count, few_before, few), _path(run, "hidden", cases)
        before, few_before = count, few


def _path(run: Run, which: str, cases: int) -> Path | None:
    name = f"{run.name}-{run.part}-{run.seed}-{which}-{cases:04}.pickle"
    return None if run.kept is None else run.kept / name


def _plain(
    run: Run, before: Callable[[Scenario], int], count: Callable[[Scenario], int]
) -> _Streams:
    return lambda: data.streams(
        run.name, run.part, count, run.seed, before=before, folder=run.attacks,
        only=lambda s: not hides(s),
    )  # fmt: skip


def _hidden(
    run: Run,
    before: Callable[[Scenario], int],
    count: Callable[[Scenario], int],
    few_before: int,
    few: int,
) -> _Streams:
    def streams() -> Iterator[Stream]:
        yield from data.streams(
            run.name, run.part, count, run.seed, before=before, folder=run.attacks, only=hides
        )
        yield from data.streams(
            run.name, run.part, few, run.seed + 1, before=lambda _: few_before,
            folder=run.attacks, shares=data.LOW_SHARES,
            only=lambda s: s.is_crafted and s.family in _ON_FEW,
        )  # fmt: skip

    return streams


def _round(run: Run, baseline: she.Baseline, streams: _Streams, path: Path | None) -> list[Kept]:
    """Serve a round, or read how it was served before."""
    if path is not None and path.exists():
        scenarios = {s.name: s for s in data.scenarios_of(run.name, run.part)}
        rows = pickle.loads(path.read_bytes())
        return [(one._replace(scenario=scenarios[who]), asked) for who, one, asked in rows]
    task = data.load(run.name)
    seen = []
    for n, one in enumerate(streams()):
        seen.append(served(task, baseline, one, run.seed))
        if sys.stderr.isatty():
            print(f"\r{run.name}: {n + 1} streams", end="", file=sys.stderr, flush=True)
    print(f"\r{run.name}: a round of {len(seen)} streams", file=sys.stderr, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(o.scenario.name, o._replace(scenario=None), asked) for o, asked in seen]  # type: ignore[arg-type]
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps(rows))
        part.replace(path)
    return seen
