"""Damage to what guards the weights: mended, counted, and written down once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from selfheal_edge.diagnosis.diagnoser import Cause
from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.store.journal import Journal

__all__ = ["GuardDamage"]

_log = logging.getLogger("selfheal_edge")


class GuardDamage:
    """What became of damaged tables, keys, parity, copies and lists.

    Parameters
    ----------
    weights, journal
        What is guarded, and where it is written down.
    renew_golden
        Writes golden's damaged copies anew; returns how many blocks.
    """

    def __init__(self, weights: Weights, journal: Journal, renew_golden: Callable[[], int]) -> None:
        self._weights = weights
        self._journal = journal
        self._renew_golden = renew_golden
        self.mended = 0
        """Damages that were mended."""
        self._lost: set[tuple[str, str, int]] = set()
        """Image, part and block of what was not, while these generations are held."""
        self._lost_of: tuple[int, ...] = ()

    def note(self, found: Sequence[CorruptBlock], prediction: int) -> None:
        """Take in what a sweep found; what cannot be mended it finds again, every time."""
        is_renewed = any(b.part == "snapshot" and not b.healed for b in found) and self._renew()
        held = self._weights.generations
        if held != self._lost_of:
            self._lost, self._lost_of = set(), held
        for block in found:
            name = (block.image, block.part, block.block)
            # If it was not golden's, the next sweep finds it again.
            is_mended = block.healed or (is_renewed and block.part == "snapshot")
            if is_mended:
                self.mended += 1
                self._lost.discard(name)
            elif name in self._lost:
                continue
            else:
                self._lost.add(name)
            self._journal.add(
                "repair",
                prediction,
                cause=Cause.WEIGHT_CORRUPTION.value,
                strategy="mend_guard",
                outcome=f"{'healed' if is_mended else 'not healed'}: damage to the "
                f"{block.part} that guards block {block.block} of the {block.image} image",
            )

    def _renew(self) -> bool:
        try:
            return self._renew_golden() > 0
        except Exception:  # the file's bytes are damaged as well, or nothing can be built now
            _log.warning("golden could not be renewed", exc_info=True)
            return False
