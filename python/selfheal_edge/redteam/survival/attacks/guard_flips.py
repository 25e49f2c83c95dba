"""First what guards the weights, then the weights, in time with the sweeps that it reads of."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["GUARD_FLIPS"]

_GUARDS: Final = ("tables", "parity", "snapshots")
_AN_HOUR: Final = 24


class _Guards(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Flip bits of tables, parity and copies; right after a sweep has ended, of weights too."""
        del answers
        rng, count = self.setup.rng, max(1, round(_AN_HOUR * self.setup.strength))
        report = turn.report()
        for image in _GUARDS:
            live = turn.memory(image)
            if live is None:
                continue
            for offset in rng.integers(len(live), size=count).tolist():
                turn.flip(offset, int(rng.integers(8)), image)
            del live
        healed = report.get("corrupt_blocks", 0)
        # As long as it is healed, less is more: the damage has to outlive a sweep.
        wanted = count if healed == turn.notes.get("healed", 0) else max(1, count // 4)
        turn.notes["healed"] = healed
        for offset in rng.choice(self.setup.weights, wanted).tolist():
            turn.flip(offset, int(rng.integers(8)))


GUARD_FLIPS: Final = Attack(
    "flips of the guards, then of the weights",
    "adaptive",
    Technique("AML.T0018", "Manipulate AI Model"),
    f"{_AN_HOUR} bits an hour of checksum tables, parity and copies each, and of weights",
    _Guards,
    frozenset({Cause.WEIGHT_CORRUPTION}),
)
