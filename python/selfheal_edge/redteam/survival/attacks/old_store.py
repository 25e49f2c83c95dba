"""The store of the first hour is put back, again and again: old state, old labels, old counters."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["OLD_STORE"]

_SAID: Final = 8


class _Replay(Attacker):
    _old: bytes | None = None
    _said: tuple[tuple[int, int], ...] = ()

    def after(self, turn: Turn, answers: Answers) -> None:
        """Keep what the flash holds; later put it back, cut the power, and say again what was."""
        path = turn.target.store_file
        if self._old is None:
            turn.restart()  # so that all of it is in the one file
            self._old = b"" if path is None or not path.exists() else path.read_bytes()
            rows = range(min(_SAID, len(answers.ids)))
            self._said = tuple((max(0, int(answers.labels[r])), int(answers.ids[r])) for r in rows)
            return
        if path is not None and self._old:
            for beside in self._beside(path):
                beside.unlink()
            path.write_bytes(self._old)
            turn.spent.writes += 1
        turn.restart(clean=False)
        if self.setup.classes:
            taken = [turn.say(label, id, "colleague", key=True) for label, id in self._said]
            turn.notes["old labels taken"] = turn.notes.get("old labels taken", 0) + sum(taken)

    @staticmethod
    def _beside(path: Path) -> list[Path]:
        found = path.parent.glob(f"{path.name}-*")
        return [one for one in found if one.suffix != ".lock"]


OLD_STORE: Final = Attack(
    "replay of an old store",
    "design",
    Technique("AML.T0031", "Erode AI Model Integrity"),
    "the store of the first hour is put back each hour, and its labels are said again",
    _Replay,
    days=0.5,
)
