"""What is run: named campaigns, and those of the user's in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfheal_edge.redteam.scenarios.domain import InputKind
from selfheal_edge.redteam.survival.attack import Attack
from selfheal_edge.redteam.survival.attacks.registry import ATTACKS, attacks_for
from selfheal_edge.redteam.survival.plain import ModelKind
from selfheal_edge.redteam.survival.plan import Phase, Plan, alone
from selfheal_edge.redteam.survival.record import COMBINED
from selfheal_edge.text import quoted

__all__ = ["DAYS", "NAMED", "Campaign", "campaign_of"]

DAYS: Final = 30.0
"""Of the combined campaign."""
_LEAST_DAYS: Final = 2.0
_MOST_DAYS: Final = 10_000.0
NAMED: Final = ("standard", "combined", "alone")
"""All attacks and the combined campaign; that alone; the attacks alone."""
_COMBINED: Final[tuple[tuple[str, float, float], ...]] = (
    ("random bit flips", 2, 1),
    ("a broken sensor", 4, 2),
    ("power cuts", 7.5, 0.25),
    ("a real drift", 9, 3),
    ("square search led by refusals", 14, 1),
    ("targeted labels, with a key", 16.5, 2),
    ("searched bit flips", 20, 0.5),
    ("an attack behind a real drift", 22, 1.5),
    ("whatever hurt most", 25, 3),
)
"""The combined campaign of thirty days: an attack's name, its first day, its days."""
_FIELDS: Final = {"name", "days", "attacks", "phases"}
_PHASE_FIELDS: Final = {"attack", "first_day", "days", "strength", "share"}


@dataclass(frozen=True, slots=True)
class Campaign:
    """Units to run, one after the other."""

    name: str
    alone: Sequence[Plan]
    """One attack each, adaptive ones first."""
    combined: Plan | None
    left_out: dict[str, str]
    """Attacks that do not apply, and why."""

    @property
    def units(self) -> list[Plan]:
        """All of them."""
        return [*self.alone, *(() if self.combined is None else (self.combined,))]


def campaign_of(what: str, kind: InputKind, model: ModelKind, days: float = DAYS) -> Campaign:
    """Return a campaign by its name, by a part of its attacks' names, or from a JSON file.

    Parameters
    ----------
    what
        ``"standard"``, ``"combined"``, ``"alone"``; or a part of names of attacks, which are then
        run alone; or the path of a file.
    kind, model
        Of the inputs and of the model: what does not apply is left out, and said.
    days
        Of the combined campaign, 2 to 10,000.

    Raises
    ------
    ValueError, FileNotFoundError
        Naming what was expected and what came.
    """
    if not _LEAST_DAYS <= days <= _MOST_DAYS:
        raise ValueError(f"--days: expected {_LEAST_DAYS:g} to {_MOST_DAYS:g}, got {days:g}")
    fitting = attacks_for(kind, model)
    left_out = {a.name: why for a in ATTACKS if (why := a.fits(kind, model))}
    if what.endswith(".json") or "/" in what:
        return _from_file(what, fitting, left_out)
    combined = _combined(fitting, days)
    if what == "standard":
        return Campaign(what, [alone(a) for a in fitting], combined, left_out)
    if what == "alone":
        return Campaign(what, [alone(a) for a in fitting], None, left_out)
    if what == "combined":
        return Campaign(what, (), combined, left_out)
    chosen = [a for a in fitting if what.lower() in a.name.lower()]
    if not chosen:
        names = ", ".join(a.name for a in fitting)
        if refused := [f"{n}: {why}" for n, why in left_out.items() if what.lower() in n.lower()]:
            raise ValueError(f"--campaign: {'; '.join(refused)}")
        raise ValueError(
            f"--campaign: expected {', '.join(NAMED)}, a file's path or a part of a name of "
            f"{names}; got {quoted(what)}"
        )
    return Campaign(what, [alone(a) for a in chosen], None, left_out)


def _combined(fitting: Sequence[Attack], days: float) -> Plan:
    """Return the combined campaign of what applies, in as many days."""
    scale = days / DAYS
    phases = []
    by_name = {attack.name: attack for attack in fitting}
    for name, first, lasts in _COMBINED:
        found = by_name.get(name)
        if found is not None:
            phases.append(Phase(found, first * scale, lasts * scale))
    return Plan(COMBINED, days, phases)


def _from_file(path: str, fitting: Sequence[Attack], left_out: dict[str, str]) -> Campaign:
    if not Path(path).is_file():
        raise FileNotFoundError(f"--campaign: no such file: {quoted(path)}")
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--campaign: expected JSON in {quoted(path)}: {error}") from None
    if not isinstance(content, dict) or set(content) - _FIELDS:
        raise ValueError(
            f"--campaign: expected a JSON object with {', '.join(sorted(_FIELDS))}, got "
            f"{quoted(str(content)[:60])}"
        )
    by_name = {a.name: a for a in ATTACKS}
    wanted = content.get("attacks", [])
    if wanted == "all":
        wanted = [a.name for a in fitting]
    if not isinstance(wanted, list):
        raise ValueError(f"attacks: expected 'all' or a list, got {wanted!r}")
    for name in wanted:
        if not isinstance(name, str) or name not in by_name:
            raise ValueError(f"attacks: expected names of {', '.join(by_name)}; got {name!r}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"attacks: expected each once, got {wanted!r}")
    plans = [alone(by_name[name]) for name in wanted if name not in left_out]
    rows = content.get("phases", [])
    if not isinstance(rows, list):
        raise ValueError(f"phases: expected a list, got {type(rows).__name__}")
    phases = [_phase(row, by_name) for row in rows]
    phases = sorted((p for p in phases if p.attack.name not in left_out),
                    key=lambda phase: phase.first_hour)  # fmt: skip
    days = content.get("days", DAYS)
    is_number = isinstance(days, (int, float)) and not isinstance(days, bool)
    if not is_number or not 1 <= days <= _MOST_DAYS:
        raise ValueError(f"days: expected a number from 1 to {_MOST_DAYS:g}, got {days!r}")
    combined = Plan(COMBINED, float(days), phases) if phases else None
    if combined is None and not plans:
        raise ValueError("--campaign: expected attacks or phases, got none that applies")
    return Campaign(str(content.get("name", Path(path).stem)), plans, combined, left_out)


def _phase(row: Any, by_name: dict[str, Attack]) -> Phase:
    if not isinstance(row, dict) or set(row) - _PHASE_FIELDS or "attack" not in row:
        raise ValueError(
            f"phases: expected objects with {', '.join(sorted(_PHASE_FIELDS))}, got {row!r}"
        )
    if not isinstance(row["attack"], str) or row["attack"] not in by_name:
        raise ValueError(
            f"phases: expected an attack among {', '.join(by_name)}; got {row['attack']!r}"
        )
    numbers = {}
    attack = by_name[row["attack"]]
    for name, default, least, most in (
        ("first_day", 1.0, 0.0, _MOST_DAYS),
        ("days", attack.days, 0.0, _MOST_DAYS),
        ("strength", 1.0, 0.0, 1_000.0),
        ("share", attack.share, 0.0, 1.0),
    ):
        value = row.get(name, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise ValueError(f"{name}: expected {least:g} to {most:g}, got {value!r}")
        numbers[name] = float(value)
    return Phase(attack, **numbers)
