"""Let the contestants begin, each on flash of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from selfheal_edge import Baseline
from selfheal_edge.redteam.survival.contestant import NAMES, Contestant
from selfheal_edge.redteam.survival.contestants.defended import Defended
from selfheal_edge.redteam.survival.contestants.naive import Naive
from selfheal_edge.redteam.survival.contestants.operator import Operator
from selfheal_edge.redteam.survival.contestants.undefended import Undefended
from selfheal_edge.redteam.survival.world import World

__all__ = ["enter"]


def enter(
    world: World, baseline: Baseline | None, folder: Path, names: Sequence[str] = NAMES
) -> tuple[list[Contestant], ExitStack]:
    """Return the contestants, and what closes them.

    Parameters
    ----------
    world
        What they live in.
    baseline
        Of the defended model and the naive one; None where neither of them is let in.
    folder
        Exists; each gets a folder of its own in it.
    names
        Which of them.
    """

    def calibrated() -> Baseline:
        if baseline is None:
            raise ValueError("baseline: expected one, as World.calibrate returns it, got None")
        return baseline

    makers: dict[str, Callable[[Path], Contestant]] = {
        "defended": lambda place: Defended(world, calibrated(), place),
        "undefended": lambda place: Undefended(world, place),
        "naive": lambda place: Naive(world, calibrated(), place),
        "operator": lambda place: Operator(world, place),
    }
    entered: list[Contestant] = []
    with ExitStack() as undo:
        for name in names:
            place = folder / name
            place.mkdir()
            contestant = makers[name](place)
            undo.callback(contestant.close)
            entered.append(contestant)
        return entered, undo.pop_all()
    raise AssertionError
