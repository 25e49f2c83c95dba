"""What one unit of a campaign comes to, as plain data: a line of JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from selfheal_edge.redteam.survival.clock import DAY
from selfheal_edge.redteam.survival.contestant import NAMES, Told
from selfheal_edge.redteam.survival.life import Course, Judged, Lived
from selfheal_edge.redteam.survival.limits import Limits
from selfheal_edge.redteam.survival.plan import Phase
from selfheal_edge.redteam.survival.verdict import VERDICTS, Loss, judge
from selfheal_edge.redteam.survival.world import HOURS

__all__ = ["COMBINED", "Record", "combined_record", "record_of"]

Record: TypeAlias = dict[str, Any]
COMBINED: Final = "combined campaign"
_DEFENDED: Final = NAMES[0]
_MOST_SPENT: Final = 3600.0
_DIGITS: Final = 5
_KNOWLEDGE: Final = ("adaptive", "design", "black_box")
_STEP: Final = 6
"""Hours, of what adds up."""
_RESTING: Final = 6
"""Hours after an attack in which what it left may still be repaired: no needless heal."""


def record_of(lived: Lived, index: int, limits: Limits) -> Record:
    """Return what one phase of a life came to.

    Parameters
    ----------
    lived
        From `live`.
    index
        Of the phase.
    limits
        What the verdict is given by.
    """
    phase = lived.plan.phases[index]
    begins, ends = _around(lived, index)
    parts = {
        "before": slice(begins, phase.first_hour),
        "during": slice(phase.first_hour, phase.end),
        "after": slice(phase.end, ends),
    }
    attack = phase.attack
    record: Record = {
        "attack": attack.name,
        "verdict": "",
        "why": [],
        "aim": attack.aim,
        "knowledge": attack.knowledge,
        "technique": attack.technique._asdict(),
        "repairable": attack.is_repairable,
        "right_causes": sorted(cause.value for cause in attack.causes),
        "window_day": begins / HOURS,
        "first_day": phase.first_hour / HOURS,
        "days": phase.hours / HOURS,
        "strength": phase.strength,
        **_measured(lived, parts, [index]),
    }
    course = lived.courses[_DEFENDED]
    record |= _times(course, phase, index, DAY / HOURS / lived.per_hour)
    record["named"] = _named(course, phase)
    record["spent"] = {n: asdict(c.spent[index]) for n, c in lived.courses.items()}
    record["notes"] = {n: c.notes[index] for n, c in lived.courses.items() if c.notes[index]}
    return _with_verdict(record, lived, parts, limits, is_repairable=attack.is_repairable)


def combined_record(lived: Lived, limits: Limits) -> Record:
    """Return what a whole life came to, and each of its phases."""
    phases = lived.plan.phases
    first = min(phase.first_hour for phase in phases)
    last = max(phase.end for phase in phases)
    parts = {"before": slice(0, first), "during": slice(first, last), "after": slice(last, None)}
    record: Record = {
        "attack": COMBINED,
        "verdict": "",
        "why": [],
        "aim": f"{len(phases)} phases in {lived.plan.days:g} days",
        "knowledge": min((p.attack.knowledge for p in phases), key=_KNOWLEDGE.index),
        "technique": {"id": "", "name": "several"},
        "repairable": True,
        "right_causes": [],
        "window_day": 0.0,
        "first_day": first / HOURS,
        "days": (last - first) / HOURS,
        "strength": 1.0,
        **_measured(lived, parts, range(len(phases))),
    }
    record["phases"] = [record_of(lived, n, limits) for n in range(len(phases))]
    repairable = _hours_where(lived, is_repairable=True)
    record["repairable_accuracy"] = {
        name: _rounded(_share([course.right[h] for h in repairable], lived.per_hour))
        for name, course in lived.courses.items()
    }
    record["repairable_accuracy"]["undamaged"] = _rounded(
        _share([lived.undamaged[h] for h in repairable], lived.per_hour)
    )
    record["timeline"] = _timeline(lived, limits)
    record = _with_verdict(record, lived, parts, limits, is_repairable=True, hours=repairable)
    for verdict in ("broken", "degraded"):
        worse = [p["attack"] for p in record["phases"] if p["verdict"] == verdict]
        if worse and VERDICTS.index(verdict) <= VERDICTS.index(record["verdict"]):
            record["why"] += [f"{verdict} by {name}" for name in worse]
            record["verdict"] = verdict
    return record


def _timeline(lived: Lived, limits: Limits) -> Record:
    """Return what adds up over a life, every six hours."""
    ends = range(_STEP, lived.plan.hours + 1, _STEP)
    found: Record = {"step_hours": _STEP}
    for name, course in lived.courses.items():
        final = "repair" if name == "naive" else "confirmed"
        harmful = [
            j.hour for j in course.judged if j.kind == final and -j.points > limits.harm_points
        ]
        found[name] = {
            "harmful": [sum(hour < end for hour in harmful) for end in ends],
            "labels": [sum(course.labels[:end]) for end in ends],
            "cpu_seconds": [round(course.costs[end - 1].cpu_seconds, 3) for end in ends],
        }
    return found


def _hours_where(lived: Lived, *, is_repairable: bool) -> list[int]:
    """Return the hours of no phase whose damage is beyond repair; or those of such phases."""
    beyond = {
        hour
        for phase in lived.plan.phases
        if not phase.attack.is_repairable
        for hour in range(phase.first_hour, phase.end)
    }
    return [h for h in range(lived.plan.hours) if (h not in beyond) == is_repairable]


def _around(lived: Lived, index: int) -> tuple[int, int]:
    """Return the first quiet hour before a phase, and the end of the quiet after it."""
    phases, hours = lived.plan.phases, lived.plan.hours
    phase = phases[index]
    begins = max((p.end for p in phases if p.end <= phase.first_hour), default=0)
    ends = min((p.first_hour for p in phases if p.first_hour >= phase.end), default=hours)
    return begins, ends


def _measured(lived: Lived, parts: dict[str, slice], which: Sequence[int]) -> Record:
    """Return accuracies, heals and costs."""
    accuracy: Record = {}
    rows = {name: course.right for name, course in lived.courses.items()}
    rows["undamaged"] = lived.undamaged
    rows["undamaged, same inputs"] = lived.courses[_DEFENDED].golden_right
    for name, right in rows.items():
        accuracy[name] = {
            part: _rounded(_share(right[where], lived.per_hour)) for part, where in parts.items()
        }
    during = parts["during"]
    trusted: Record = {}
    for name, course in lived.courses.items():
        count = sum(course.trusted[during])
        trusted[name] = {
            "share": _rounded(_share(course.trusted[during], lived.per_hour)),
            "accuracy": _rounded(sum(course.trusted_right[during]) / count if count else math.nan),
        }
    whole = slice(parts["before"].start, parts["after"].stop)
    return {
        "accuracy": accuracy,
        "trusted": trusted,
        "over_time": {
            n: [_rounded(r / lived.per_hour) for r in row[whole]] for n, row in rows.items()
        },
        "predictions": lived.per_hour * len(lived.undamaged[during]),
        "heals": {n: _heals(lived, c, whole) for n, c in lived.courses.items()},
        "labels": {n: sum(c.labels[whole]) for n, c in lived.courses.items()},
        "cost": {n: _cost(c, parts) for n, c in lived.courses.items()},
        "failures": {
            n: [[hour, text] for hour, text in c.failures if hour in _range(whole, lived)]
            for n, c in lived.courses.items()
            if c.failures
        },
        "phases_of": list(which),
    }


def _range(where: slice, lived: Lived) -> range:
    return range(*where.indices(lived.plan.hours))


def _heals(lived: Lived, course: Course, where: slice) -> Record:
    hours = _range(where, lived)
    judged = [j for j in course.judged if j.hour in hours]
    final = "repair" if course.name == "naive" else "confirmed"
    confirmed = [j for j in judged if j.kind == final]
    tried = [j for j in judged if j.kind == "probation"]
    told = [t for hour, t in course.told if hour in hours]
    return {
        "confirmed": len(confirmed),
        "harmful": _points(confirmed),
        "on_probation": len(tried),
        "harmful_on_probation": _points(tried),
        "restored": sum(t.kind == "repair" and _is_healed(t) for t in told),
        "false": _false_heals(lived, course, hours),
        "alarms": sum(t.kind == "alarm" for t in told),
    }


def _points(judged: Sequence[Judged]) -> list[float]:
    """Return what each repair that lost accuracy lost, in points."""
    return [round(-j.points, 2) for j in judged if j.points < 0]


def _false_heals(lived: Lived, course: Course, hours: range) -> int:
    """Count repairs that serve although nothing was wrong."""
    busy = {
        hour
        for phase in lived.plan.phases
        for hour in range(phase.first_hour, phase.end + _RESTING)
    }
    final = "repair" if course.name == "naive" else "probation"
    return sum(
        t.kind == final and hour in hours and hour not in busy
        for hour, t in course.told
        if course.name != "operator"
    )


def _cost(course: Course, parts: dict[str, slice]) -> Record:
    def between(name: str, where: slice) -> float:
        costs = [getattr(c, name) for c in course.costs]
        first, last, _ = where.indices(len(costs))
        if last <= first:
            return 0.0
        return float(costs[last - 1] - (costs[first - 1] if first else 0.0))

    before, during = parts["before"], parts["during"]
    counts = [len(course.costs[where]) for where in (before, during)]
    quiet = between("cpu_seconds", before) / counts[0] if counts[0] else 0.0
    busy = between("cpu_seconds", during) / counts[1] if counts[1] else 0.0
    return {
        "cpu_ms_per_hour": {"before": round(1e3 * quiet, 3), "during": round(1e3 * busy, 3)},
        # Of a device's time: what an attack adds to an hour, as a share of that hour.
        "cpu_share_added": _rounded(max(0.0, busy - quiet) / _MOST_SPENT),
        "memory_bytes": course.costs[-1].memory_bytes if course.costs else 0,
        "flash_bytes_per_day": round(between("flash_bytes", during) / max(counts[1], 1) * HOURS),
    }


def _times(course: Course, phase: Phase, index: int, seconds: float) -> Record:
    """Return how long it took, from the attacker's first deed, until it was noticed … healed."""
    causes = {cause.value for cause in phase.attack.causes}
    milestones: dict[str, Callable[[Told], bool]] = {
        "named_after": lambda t: t.kind == "diagnosis" and t.cause in causes,
        "serves_after": lambda t: t.kind in ("probation", "confirmed") or _is_restored(t),
        "healed_after": lambda t: t.kind == "confirmed" or _is_restored(t),
    }
    onset = course.onsets[index]
    if onset is None:
        return {"detected_after": None, **dict.fromkeys(milestones)}
    told = [
        (hour, t) for hour, t in course.told
        if phase.first_hour <= hour < phase.end and t.prediction >= onset
    ]  # fmt: skip

    def mark(hour: int, t: Told) -> Record:
        after = t.prediction - onset
        return {
            "predictions": after,
            "labels": sum(course.labels[phase.first_hour : hour]),
            "seconds": round(after * seconds),
        }

    found: Record = {"detected_after": None}
    first = _noticed(told)
    if first is not None:
        found["detected_after"] = mark(*first)
    for name, is_it in milestones.items():
        found[name] = next((mark(hour, t) for hour, t in told if is_it(t)), None)
    return found


def _noticed(told: Sequence[tuple[int, Told]]) -> tuple[int, Told] | None:
    """Return the alarm that led to the first diagnosis: none that day and night explain."""
    first: tuple[int, Told] | None = None
    for hour, t in told:
        if t.kind == "regime":
            first = None
        elif t.kind == "alarm" and first is None:
            first = hour, t
        elif t.kind in ("diagnosis", "repair"):
            return first or (hour, t)
    return None


def _is_healed(told: Told) -> bool:
    return (told.outcome or "").startswith("healed")


def _is_restored(told: Told) -> bool:
    return told.kind == "repair" and _is_healed(told)


def _named(course: Course, phase: Phase) -> list[str]:
    """Return the causes that were named in a phase, the first one first."""
    found = [
        t.cause
        for hour, t in course.told
        if phase.first_hour <= hour < phase.end and t.kind == "diagnosis" and t.cause
    ]
    return list(dict.fromkeys(found))


def _with_verdict(
    record: Record,
    lived: Lived,
    parts: dict[str, slice],
    limits: Limits,
    *,
    is_repairable: bool,
    hours: Sequence[int] | None = None,
) -> Record:
    course = lived.courses[_DEFENDED]
    during = list(_range(parts["during"], lived))
    judged = during if hours is None else [h for h in hours if h in set(during)]
    record["loss"] = {}
    losses: dict[str, Loss] = {}
    for name, right, reference, parted, which in (
        ("undamaged", course.right, lived.undamaged, course.parted, judged),
        ("same_inputs", course.right, course.golden_right, course.golden_parted, judged),
        ("after", course.right, lived.undamaged, course.parted, _settled(parts["after"], lived)),
    ):
        losses[name] = Loss.of(
            [reference[h] for h in which],
            [right[h] for h in which],
            [parted[h] for h in which],
            lived.per_hour,
        )
        record["loss"][name] = losses[name].to_dict()
    record["verdict"], record["why"] = judge(record, losses, limits, is_repairable=is_repairable)
    return record


def _settled(after: slice, lived: Lived) -> list[int]:
    """Return the hours after an attack, once what it left may have been repaired."""
    hours = list(_range(after, lived))
    return hours[_RESTING:]


def _share(right: Sequence[int], per_hour: int) -> float:
    return sum(right) / (per_hour * len(right)) if right else math.nan


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _DIGITS)
