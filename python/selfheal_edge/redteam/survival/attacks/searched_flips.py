"""The few bits that hurt most: searched at home on a copy of the model, flipped on the device."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.bit_search import search_bits
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["SEARCHED_FLIPS"]

_FLIPS: Final = 8
_CANDIDATES: Final = 24
_SAMPLES: Final = 48


class _Searched(Attacker):
    _found: tuple[tuple[int, int], ...] = ()

    def after(self, turn: Turn, answers: Answers) -> None:
        """Search once, then flip what was found, each hour; again as soon as it was healed."""
        del answers
        if not self._found:
            self._found = self._search(turn)
        live = turn.memory()
        if live is None:
            return
        for offset, bit in self._found:
            turn.flip(offset, bit)

    def _search(self, turn: Turn) -> tuple[tuple[int, int], ...]:
        setup = self.setup
        rows = setup.rng.permutation(len(setup.pool))[:_SAMPLES]
        samples, labels = setup.pool[rows], setup.pool_labels[rows]
        home = setup.home()
        try:
            live = home.memory()
            assert live is not None
            right = home.run(samples)

            def score() -> float:
                turn.spent.queries += len(samples)
                outputs = home.run(samples)
                if not setup.classes:  # nothing is known but how much answers change
                    away = np.abs(home.output.real(outputs) - home.output.real(right))
                    return -float(np.nan_to_num(away, nan=1e30).mean())
                told = home.output.scores(outputs)[np.arange(len(samples)), labels]
                return float(np.nan_to_num(told, nan=0.0).mean())

            found = search_bits(
                score,
                live,
                setup.weights,
                flips=max(1, round(_FLIPS * setup.strength)),
                candidates=_CANDIDATES,
                seed=int(setup.rng.integers(2**32)),
            )
            del live
        finally:
            home.close()
        return tuple((flip.offset, flip.bit) for flip in found)


SEARCHED_FLIPS: Final = Attack(
    "searched bit flips",
    "design",
    Technique("AML.T0018", "Manipulate AI Model"),
    f"the {_FLIPS} bits that a search at home found to hurt most, each hour anew",
    _Searched,
    frozenset({Cause.WEIGHT_CORRUPTION}),
)
