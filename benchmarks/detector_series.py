"""Real and simulated series: what is found and what is wrong, calibrated on the first 15 % of each.

NAB's artificial set (anomaly windows) and TCPD's quality-control series (change points that people
marked). Nothing is tuned to them. Many have a strong daily period, which no detector of a mean is
made for unless it is named. Who alarms often finds windows by chance: how many alarms at the
same rate would hit, thrown anywhere, is said beside.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tarfile
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import harness
import simulated_series
import unseen_series
from selfheal_edge import DriftDetector, _core

SHARE = 0.15
ARL0 = 10_000.0
DAY = 288  # samples of NAB's series


class Series(NamedTuple):
    """One series; `windows` are index ranges in which an alarm is right."""

    name: str
    values: npt.NDArray[np.float64]
    windows: list[tuple[int, int]]


def nab() -> list[Series]:
    """Return NAB's artificial series, or none where the data is absent."""
    path = harness.SHARED / "data" / "nab_artificial.tar.gz"
    if not path.exists():
        return []
    found = []
    with tarfile.open(path) as archive:

        def text(name: str) -> str:
            member = archive.extractfile(name)
            assert member is not None
            return member.read().decode()

        labelled = json.loads(text("nab/combined_windows.json"))
        for name in sorted(archive.getnames()):
            if not name.endswith(".csv"):
                continue
            rows = list(csv.reader(io.StringIO(text(name))))[1:]
            times = [row[0][:19] for row in rows]
            windows = [
                (times.index(start[:19]), times.index(end[:19]))
                for start, end in labelled.get(name.removeprefix("nab/data/"), [])
            ]
            values = np.array([float(row[1]) for row in rows])
            found.append(Series(name.rsplit("/", 1)[1].removesuffix(".csv"), values, windows))
    return found


def tcpd() -> list[Series]:
    """Return TCPD's quality-control series; a mark of any annotator opens a window to the end."""
    path = harness.SHARED / "data" / "tcpd_quality_control.tar.gz"
    if not path.exists():
        return []
    found = []
    with tarfile.open(path) as archive:

        def load(name: str) -> Any:
            member = archive.extractfile(name)
            assert member is not None
            return json.loads(member.read())

        marks = load("tcpd/annotations.json")
        for i in range(1, 6):
            name = f"quality_control_{i}"
            raw = load(f"tcpd/{name}.json")["series"][0]["raw"]
            values = np.array([np.nan if v is None else float(v) for v in raw])
            points = sorted({p for given in marks.get(name, {}).values() for p in given})
            found.append(Series(name, values, [(points[0], len(values) - 1)] if points else []))
    return found


def detectors(calm: npt.NDArray[np.float64]) -> dict[str, Callable[[], Any]]:
    """Return ours, calibrated on `calm`, and river's at their defaults (by their equals)."""
    return {
        "DriftDetector": lambda: DriftDetector(calm, false_alarm_interval=ARL0),
        "DriftDetector, day named": lambda: DriftDetector(
            calm, false_alarm_interval=ARL0, period=DAY if len(calm) >= 2 * DAY else None
        ),
        "DriftDetector, day named, latch": lambda: DriftDetector(
            calm,
            false_alarm_interval=ARL0,
            period=DAY if len(calm) >= 2 * DAY else None,
            latch=True,
        ),
        "river ADWIN": lambda: _core.Adwin(track_onset=False),
        "river KSWIN": lambda: _core.Kswin(seed=1, track_onset=False),
        "river PageHinkley": lambda: _core.PageHinkley(compat="river", track_onset=False),
    }


def rows() -> list[harness.Row]:
    """Return found windows, mean delay and false alarms of each detector."""
    series = [*nab(), *tcpd()]
    if not series:
        print("skipped the real series: no ../shared/data beside the project")
        return []
    found: dict[str, list[float]] = {}
    widths: list[int] = []
    samples = 0
    for one in series:
        start = max(50, int(SHARE * len(one.values)))
        calm, rest = one.values[:start], np.ascontiguousarray(one.values[start:])
        windows = [(a - start, b - start) for a, b in one.windows if b >= start]
        widths += [b - a + 1 for a, b in windows]
        samples += len(rest)
        for name, make in detectors(np.ascontiguousarray(calm)).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a period that was not named
                detector = make()
            if not name.startswith("DriftDetector"):
                detector.update_many(np.ascontiguousarray(calm))
            alarms = [int(a) for a in detector.update_many(rest)]
            tally = found.setdefault(name, [0.0, 0.0, 0.0])
            for a, b in windows:
                inside = [i for i in alarms if a <= i <= b]
                tally[0] += bool(inside)
                tally[1] += (inside[0] - a) if inside else 0
            tally[2] += sum(not any(a <= i <= b for a, b in windows) for i in alarms)
    result: list[harness.Row] = []
    for name, (hits, waited, false) in found.items():
        # Alarms outside windows, thrown at random over the samples outside windows.
        rate = false / (samples - sum(widths))
        chance = sum(1 - math.exp(-rate * width) for width in widths)
        result += [
            harness.Row(f"real, {name}: windows found, of {len(widths)}", hits, "", None, True),
            harness.Row(f"real, {name}: by chance at this rate", chance, "", None, False),
            harness.Row(f"real, {name}: mean delay", waited / max(hits, 1), "samples", None, False),
            harness.Row(
                f"real, {name}: false alarms", false * 1000 / samples, "/1000", None, False
            ),
        ]
    return result


FAMILIES = {
    "simulated, looked at": simulated_series.TUNED,
    "simulated, held out": simulated_series.HELD_OUT,
    "simulated, drawn later": unseen_series.LATER,
}
PROMISED = {**FAMILIES, "simulated, what comes seldom": unseen_series.SELDOM}


def _detector(one: simulated_series.Series, latch: bool, named: bool) -> DriftDetector:
    """Calibrate on the beginning, with those of the periods named of which two cycles fit."""
    calm = np.ascontiguousarray(one.values[: one.calibration])
    periods = [period for period in one.periods if named and 2 * period <= len(calm)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a period that was not named
        return DriftDetector(
            calm, false_alarm_interval=ARL0, latch=latch, period=periods if periods else None
        )


def simulated_rows(
    seeds: tuple[int, ...],
    families: Collection[str] = PROMISED,
    latches: Sequence[bool] = (False, True),
) -> list[harness.Row]:
    """Return what is found and what is wrong in simulated series, and what promises were worth."""
    cases = [
        (f"{family}{', periods named' * named}{', latch' * latch}", family, latch, named)
        for family in families
        for latch in latches
        for named in (False, True)
    ]
    drawn = {
        family: [simulated_series.series(FAMILIES[family], seed, SHARE) for seed in seeds]
        for family in families
        if family in FAMILIES
    }
    result = []
    for case, family, latch, named in cases:
        if family in drawn:
            result += _scored(case, drawn[family], latch, named)
    for case, family, latch, named in cases:
        result += _promised(case, PROMISED[family], seeds, latch, named)
    return result


def _scored(
    case: str, drawn: list[list[simulated_series.Series]], latch: bool, named: bool
) -> list[harness.Row]:
    quiet = hits = windows = false = samples = 0
    chance = 0.0
    for one in (one for family in drawn for one in family):
        rest = np.ascontiguousarray(one.values[one.calibration :])
        alarms = one.calibration + _detector(one, latch, named).update_many(rest)
        inside = np.zeros(len(alarms), np.bool_)
        for a, b in one.windows:
            held = (alarms >= a) & (alarms <= b)
            inside |= held
            hits += bool(held.any())
        wrong = int(np.count_nonzero(~inside))
        quiet += wrong <= 1
        false += wrong
        windows += len(one.windows)
        samples += len(rest)
        widths = [b - a + 1 for a, b in one.windows]
        rate = wrong / (len(rest) - sum(widths))
        chance += sum(1 - math.exp(-rate * width) for width in widths)
    rounds, of = len(drawn), len(drawn[0])
    return [
        harness.Row(
            f"{case}: series of {of} with at most one false alarm", quiet / rounds, "", 40.0, True
        ),
        harness.Row(f"{case}: windows found", hits / windows * 100, "%", None, True),
        harness.Row(f"{case}: by chance at this rate", chance / windows * 100, "%", None, False),
        harness.Row(f"{case}: false alarms", false * 1000 / samples, "/1000", 1000 / ARL0, False),
    ]


def _promised(
    case: str,
    kinds: dict[str, simulated_series.Kind],
    seeds: tuple[int, ...],
    latch: bool,
    named: bool,
) -> list[harness.Row]:
    """Hold what promises say against the same series without anything that happens in them.

    Where a series knows when what is seldom comes, the share of those said to be kept in which it
    did not come any more is printed beside: what a calibration could answer for at best, if all of
    it is an alarm.
    """
    count = sum(kind.how_many for kind in kinds.values())
    kept = in_time = on_and_on = broken = fine = nothing_new = 0
    knows = False
    for seed in seeds:
        for one in simulated_series.calm_series(kinds, seed, SHARE):
            rest = np.ascontiguousarray(one.values[one.calibration :])
            detector = _detector(one, latch, named)
            promise = detector.promise
            alarms = detector.update_many(rest)
            is_kept = len(alarms) <= _most(len(rest) / ARL0)
            if not promise.kept:
                broken, fine = broken + 1, fine + is_kept
                continue
            nothing_new += not any(at >= one.calibration for at in one.seldom)
            knows |= bool(one.seldom)
            early = int(np.count_nonzero(alarms < promise.kept_for))
            kept, on_and_on = kept + 1, on_and_on + is_kept
            in_time += early <= _most(promise.kept_for / ARL0)
    said = f"{case}: of promises said to be kept, are"
    return [
        harness.Row(f"{said}, for what they say", in_time / kept, "share", 0.9, True),
        harness.Row(
            f"{said}, for {1 / SHARE - 1:.1f} lengths of the calibration",
            on_and_on / kept,
            "share",
            0.9,
            True,
        ),
        harness.Row(
            f"{case}: promises said to be kept", kept / len(seeds), f"of {count}", None, True
        ),
        harness.Row(
            f"{case}: of those said to be broken, are kept all the same",
            fine / max(1, broken),
            "share",
            None,
            False,
        ),
        *(
            [
                harness.Row(
                    f"{case}: of those said to be kept, nothing seldom came any more in",
                    nothing_new / kept,
                    "share",
                    None,
                    False,
                )
            ]
            if knows
            else []
        ),
    ]


def _most(expected: float) -> int:
    """Return how many alarms come in 95 of 100 cases where so many are expected (Poisson)."""
    count, term = 0, math.exp(-expected)
    total = term
    while total < 0.95:
        count += 1
        term *= expected / count
        total += term
    return count
