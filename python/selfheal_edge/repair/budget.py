"""What repairs by learning may cost, so that no attacker can have a device do nothing else."""

from __future__ import annotations

import json
import math
import time
from _thread import allocate_lock  # `threading` is for programs that start threads
from collections.abc import Callable
from typing import Final

from selfheal_edge.errors import IntegrityError

__all__ = ["RepairBudget"]

_HOUR: Final = 3600.0
_SAVED_HOURS: Final = 4.0


class RepairBudget:
    """Repairs and seconds of CPU time, both as token buckets that fill by the hour.

    One object may be given to several models of a process: they share it. Restoring damaged bytes
    does not ask it. Any thread may call it.

    Parameters
    ----------
    repairs_per_hour, seconds_per_hour
        What is added in an hour, at least 0; up to four hours' worth is saved up, and at least one
        repair and a tenth of a second where it is not 0.
    clock
        Monotonic seconds. One that jumps back adds nothing until it is where it was; one that jumps
        ahead, no more than what can be saved up.

    Raises
    ------
    ValueError
        For rates below 0, or that are no numbers.
    """

    def __init__(
        self,
        repairs_per_hour: float = 4.0,
        seconds_per_hour: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, rate in (
            ("repairs_per_hour", repairs_per_hour),
            ("seconds_per_hour", seconds_per_hour),
        ):
            if not 0 <= rate < math.inf:
                raise ValueError(f"{name}: expected a number of at least 0, got {rate!r}")
        self._rates = repairs_per_hour / _HOUR, seconds_per_hour / _HOUR
        self._most = (
            max(1.0, _SAVED_HOURS * repairs_per_hour) if repairs_per_hour else 0.0,
            max(0.1, _SAVED_HOURS * seconds_per_hour) if seconds_per_hour else 0.0,
        )
        self._left = list(self._most)
        self._clock = clock
        self._filled: float | None = None
        self._lock = allocate_lock()

    def _fill(self) -> None:
        now = self._clock()
        if not math.isfinite(now):
            return
        if self._filled is None:
            self._filled = now
        # Of a clock that swings, the same hour counts once.
        since = max(0.0, now - self._filled)
        for kind, rate in enumerate(self._rates):
            self._left[kind] = min(self._most[kind], self._left[kind] + since * rate)
        self._filled += since

    def begin(self) -> str:
        """Take a repair; return why there is none, or an empty text."""
        with self._lock:
            self._fill()
            if self._left[0] < 1.0:
                return f"the budget has {self._left[0]:.2f} of a repair left"
            if self._left[1] <= 0.0:
                return f"the budget is {-self._left[1]:.1f} s of CPU time in debt"
            self._left[0] -= 1.0
            return ""

    def spend(self, seconds: float) -> None:
        """Take what a repair has cost; it may leave a debt, which is filled first."""
        with self._lock:
            self._left[1] -= max(0.0, seconds)

    def use_up(self) -> None:
        """Leave nothing: what was left is not known."""
        with self._lock:
            self._left = [min(left, 0.0) for left in self._left]

    @property
    def left(self) -> tuple[float, float]:
        """Repairs and seconds that are left now."""
        with self._lock:
            self._fill()
            return self._left[0], self._left[1]

    def to_bytes(self) -> bytes:
        """Return what `go_on_with` takes."""
        return json.dumps(self.left).encode()

    def go_on_with(self, data: bytes) -> None:
        """Have no more left than the process before: a restart buys nothing.

        Raises
        ------
        IntegrityError
            When it is not what `to_bytes` returned.
        """
        try:
            repairs, seconds = map(float, json.loads(data))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise IntegrityError(f"budget: expected a readable row: {error!r}") from None
        if not (math.isfinite(repairs) and math.isfinite(seconds)):
            raise IntegrityError(f"budget: expected finite numbers, got {repairs} and {seconds}")
        with self._lock:
            self._left = [min(self._left[0], repairs), min(self._left[1], seconds)]
