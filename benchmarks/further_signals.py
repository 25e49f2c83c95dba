"""What signals that are not on by default would show: one of all channels, and inner tensors.

Channels: how far a fault of one channel moves the mean of the largest distance of a channel's mean
from its own in calibration, and of two simpler ones, in standard deviations of that signal from
input to input. Inner tensors: alarms on the tuning streams with and without `inner="stages"`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

import diagnosis_data as data
import harness
import selfheal_edge as she
from diagnosis_data import Name
from selfheal_edge.redteam.scenarios.campaign import per_scenario
from selfheal_edge.redteam.scenarios.streams import CLEAN, Stream

Table = npt.NDArray[np.float64]

TASKS: Final[tuple[Name, ...]] = ("digits", "gas", "kws")
PARTS: Final = ("channels", "inner")
COLUMNS: Final = {"digits": 8, "kws": 10}
INTERVAL: Final = 100_000
SIGNALS: Final[dict[str, Callable[[Table], Table]]] = {
    "mean of all": lambda far: far.mean(axis=1),
    "mean square": lambda far: np.square(far).mean(axis=1),
    "largest": lambda far: np.abs(far).max(axis=1),
}


def by_channel(name: Name, raw: npt.NDArray[Any]) -> Table:
    """Return each channel's mean: of rows of digits, columns of KWS, and features of gas."""
    x = raw.astype(np.float64)
    if name == "digits":
        return np.asarray(x.reshape(len(x), -1, COLUMNS[name]).mean(axis=2))
    return np.asarray(x.reshape(len(x), -1, COLUMNS.get(name, x[0].size)).mean(axis=1))


def broken(means: Table, spread: Table, fault: str, channel: int, other: int) -> Table:
    """Return channels' means where one is dead, off by two of its spreads, or swapped."""
    found: Table = means.copy()
    if fault == "dead":
        found[:, channel] = 0
    elif fault == "off by 2 sd":
        found[:, channel] += 2 * spread[channel]
    else:
        found[:, [channel, other]] = found[:, [other, channel]]
    return found


def channels(name: Name) -> list[harness.Row]:
    """Return by how much each signal moves, by the median channel and by the one that does most."""
    task = data.load(name)
    calibration, usual = by_channel(name, task.calibration_x), by_channel(name, task.pool_x)
    centre, spread = calibration.mean(axis=0), calibration.std(axis=0)
    spread = spread + 0.05 * spread.mean()
    count, rng = len(centre), np.random.default_rng(0)
    others = (np.arange(count) + 1 + rng.integers(count - 1, size=count)) % count
    rows: list[harness.Row] = []
    for signal, measure in SIGNALS.items():
        normal = float(measure((calibration - centre) / spread).std())
        now = float(measure((usual - centre) / spread).mean())
        for fault in ("dead", "off by 2 sd", "swapped"):
            moved = []
            for channel, other in enumerate(others.tolist()):
                seen = broken(usual, spread, fault, channel, other)
                moved.append(abs(float(measure((seen - centre) / spread).mean()) - now) / normal)
            case = f"{name}, one of {count} channels {fault}"
            rows += [
                harness.Row(f"{case}: {signal}, median", float(np.median(moved)), "sd", None, True),
                harness.Row(f"{case}: {signal}, most", max(moved), "sd", None, True),
            ]
    return rows


def alarm_after(task: data.Task, baseline: she.Baseline, one: Stream) -> int | None:
    """Return predictions from the onset to the first alarm; below zero for a false one."""
    heard: list[Any] = []
    with she.SelfHealingModel(task.model, baseline, seed=0, on_event=heard.append) as model:
        for n, x in enumerate(one.inputs):
            model.predict(x[np.newaxis])
            if any(event.kind == "alarm" for event in heard):
                return n + 1 - CLEAN
    return None


def inner(name: Name, cases: int) -> list[harness.Row]:
    """Return the share of alarms on tuning streams with and without inner tensors."""
    task = data.load(name)
    baselines = {
        "default": she.calibrate(
            task.model, task.calibration_x, seed=0, false_alarm_interval=INTERVAL
        ),
        "stages": she.calibrate(
            task.model, task.calibration_x, seed=0, false_alarm_interval=INTERVAL, inner="stages"
        ),
    }
    count = per_scenario(data.scenarios_of(name, "tuning"), cases)
    after: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    for one in data.streams(name, "tuning", count, only=lambda s: not s.is_crafted):
        cause = one.scenario.cause
        for which, baseline in baselines.items():
            found = alarm_after(task, baseline, one)
            after["healthy" if cause is None else cause.value, which].append(found)
    rows: list[harness.Row] = []
    for (cause_name, which), delays in after.items():
        case = f"{name}, {cause_name}, {which} ({len(baselines[which].references)} signals)"
        told = [d for d in delays if d is not None and d > 0]
        share = 100 * len(told) / len(delays)
        rows.append(harness.Row(f"{case}: alarms", share, "%", None, cause_name != "healthy"))
        if told:
            rows.append(
                harness.Row(
                    f"{case}: median delay", float(np.median(told)), "predictions", None, False
                )
            )
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    names: Sequence[Name] = cast(
        "list[Name]", options.tasks[:1] if options.quick else options.tasks
    )
    rows: list[harness.Row] = []
    for name in data.available(names):
        if "channels" in options.parts:
            rows += channels(name)
        if "inner" in options.parts:
            rows += inner(name, 4 if options.quick else 24)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
