"""Bytes of the store are changed on the flash, and the power is cut."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["STORE_DAMAGE"]

_BYTES: Final = 64
_HEADER: Final = 100
"""Bytes at the file's beginning; damaged there, nothing can be read at all."""


class _Damage(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Change bytes anywhere in the file, its head in every third hour; cut the power."""
        del answers
        path = turn.target.store_file
        if path is not None and path.exists():
            rng = self.setup.rng
            size = path.stat().st_size
            first = 0 if turn.step % 3 == 2 else min(_HEADER, size - 1)
            with path.open("r+b") as file:
                for _ in range(max(1, round(_BYTES * self.setup.strength))):
                    at = int(rng.integers(first, max(first + 1, size)))
                    file.seek(at)
                    old = file.read(1)
                    file.seek(at)
                    file.write(bytes([old[0] ^ int(rng.integers(1, 256))]))
            turn.spent.writes += 1
        turn.restart(clean=False)


STORE_DAMAGE: Final = Attack(
    "damage to the store",
    "design",
    Technique("AML.T0076", "Corrupt AI Model"),
    f"{_BYTES} bytes of the store changed each hour, and the process killed",
    _Damage,
    days=0.5,
)
