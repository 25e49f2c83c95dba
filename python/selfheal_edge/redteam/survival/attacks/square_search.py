"""Square search at home, led by what the device refuses: no question twice, a step that adapts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw, Real
from selfheal_edge.redteam.scenarios.search import margin, region
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import ByClass, replaced

__all__ = ["SQUARE_SEARCH"]

_TARGETS: Final = 48
_TRIES: Final = 6
"""An hour, of each target."""
_FIRST: Final = 0.3
_LEAST: Final = 0.05
_MOST: Final = 1.0
"""Of the unit: how far an element may be moved."""
_GROWS: Final = 1.15
_SHRINKS: Final = 0.7
_SQUARE: Final = 0.3
_REFUSED: Final = 0.2
"""Of his answers untrusted: more, and the step shrinks."""


class _Search(Attacker):
    """Keeps the worst perturbation found of each target, within the step of the hour.

    Stock attacks ask more than half of their questions twice, which flatters any detector of
    repeats; none of these is ever sent a second time.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._step = _FIRST * setup.strength
        self._sent: set[bytes] = set()
        rows = setup.rng.permutation(len(setup.pool))[:_TARGETS]
        self._labels = setup.pool_labels[rows]
        self._start = setup.domain.real(setup.pool[rows])
        self._moved = np.zeros_like(self._start)
        self._wanted: npt.NDArray[Any] = np.empty(0, np.int64)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Search some steps further, and send what was found, each time beside itself."""
        domain, rng = self.setup.domain, self.setup.rng
        found = self._search(turn)
        made = ByClass(domain.raw(found), self._labels)
        self._wanted = np.asarray(labels)[turn.owned]
        new = made.draw(self._wanted, rng)
        size = 0.02
        for n in range(len(new)):
            key = new[n].tobytes()
            while key in self._sent:
                beside = domain.real(new[n : n + 1])
                beside = beside + size * domain.unit * rng.normal(size=beside.shape)
                new[n] = domain.raw(domain.inside(beside))[0]
                key = new[n].tobytes()
                size *= 1.1
            self._sent.add(key)
        return replaced(turn, raw, new)

    def _search(self, turn: Turn) -> Real:
        domain, rng = self.setup.domain, self.setup.rng
        limit = self._step * np.broadcast_to(domain.unit, self._start.shape)
        best = domain.inside(self._start + np.clip(self._moved, -limit, limit))
        loss = margin(turn.ask(domain.raw(best)), self._labels)
        for turn_of in range(_TRIES):
            size = _SQUARE * (1 - 0.8 * turn_of / _TRIES)
            part = region(rng, len(best), domain.axes, size)
            side = rng.choice((-1.0, 1.0), (len(best), *[1] * (best.ndim - 1)))
            tried = domain.inside(np.where(part > 0, self._start + side * limit, best))
            now = margin(turn.ask(domain.raw(tried)), self._labels)
            is_worse = now < loss
            best[is_worse], loss[is_worse] = tried[is_worse], now[is_worse]
        self._moved = best - self._start
        return best

    def after(self, turn: Turn, answers: Answers) -> None:
        """Shrink the step where answers are refused, grow it where they are not."""
        if not len(turn.owned):
            return
        is_trusted = answers.trusted[turn.owned]
        misled = (answers.labels[turn.owned] != self._wanted) & is_trusted
        is_refused = 1.0 - float(is_trusted.mean()) > _REFUSED
        self._step *= _SHRINKS if is_refused else _GROWS
        self._step = float(np.clip(self._step, _LEAST, _MOST))
        done = turn.notes.get("misled and trusted", 0)
        turn.notes["misled and trusted"] = done + int(misled.sum())
        turn.notes["questions"] = len(self._sent)
        turn.notes["step"] = round(self._step, 3)


SQUARE_SEARCH: Final = Attack(
    "square search led by refusals",
    "adaptive",
    Technique("AML.T0043.001", "Black-Box Optimization"),
    "perturbed inputs, none twice; the step shrinks while answers are refused, and grows else",
    _Search,
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
    share=0.4,
)
