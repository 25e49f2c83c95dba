"""What repairs by learning may cost, so that no attacker can have a device do nothing else."""

from __future__ import annotations

import json
import math
import os
import time
from _thread import allocate_lock  # `threading` is for programs that start threads
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from selfheal_edge.errors import BudgetExhaustedError, IntegrityError
from selfheal_edge.repair.budget_file import BudgetFile

__all__ = ["RepairBudget"]

_HOUR: Final = 3600.0
_SAVED_HOURS: Final = 4.0


class RepairBudget:
    """Repairs and seconds of CPU time, both as token buckets that fill by the hour.

    One object may be given to several models of a process: they share it. With `path`, all
    processes of a device share what that file says, and give the same rates. Restoring damaged
    bytes does not ask it. Any thread may call it.

    Parameters
    ----------
    repairs_per_hour, seconds_per_hour
        What is added in an hour, at least 0; up to four hours' worth is saved up, and at least one
        repair and a tenth of a second where it is not 0.
    clock
        Monotonic seconds, with `path` those of the machine. One that jumps back adds nothing until
        it is where it was; one that jumps ahead, no more than what can be saved up.
    path
        File for all processes of a device, made if it is not there (mode 0600); None: this object
        alone. A restart of a process or of the device buys nothing: the time while the device was
        off fills nothing. A file that cannot be read as one leaves nothing, and fills by the hour;
        while it cannot be written, or another process holds it for more than 0.1 s, no repair
        begins. Each repair costs two synchronous writes of 4 KiB.
    key
        With it the file is authenticated by HMAC-SHA-256; without, who can write to it can fill it.

    Raises
    ------
    ValueError
        For rates below 0, or that are no numbers.
    OSError
        When the file can be neither read nor made.
    StoreVersionError
        When a newer release has written it; it stays as it is.
    """

    def __init__(
        self,
        repairs_per_hour: float = 4.0,
        seconds_per_hour: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        path: str | os.PathLike[str] | None = None,
        key: bytes | None = None,
    ) -> None:
        for name, rate in (
            ("repairs_per_hour", repairs_per_hour),
            ("seconds_per_hour", seconds_per_hour),
        ):
            if not 0 <= rate < math.inf:
                raise ValueError(f"{name}: expected a number of at least 0, got {rate!r}")
        if key is not None and path is None:
            raise ValueError("key: expected None without a path, got a key")
        self._rates = repairs_per_hour / _HOUR, seconds_per_hour / _HOUR
        self._most = (
            max(1.0, _SAVED_HOURS * repairs_per_hour) if repairs_per_hour else 0.0,
            max(0.1, _SAVED_HOURS * seconds_per_hour) if seconds_per_hour else 0.0,
        )
        self._left = list(self._most)
        self._clock = clock
        self._filled: float | None = None
        self._lock = allocate_lock()
        self._file = None if path is None else BudgetFile(path, key)
        self._owed = 0.0
        """Seconds that were spent while the file could not be written."""
        if self._file is not None:
            with self._held():
                pass

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Let no other thread or process change what is left meanwhile, and keep what comes of it.

        Raises
        ------
        OSError
            When the file cannot be read or written now.
        """
        with self._lock:
            if self._file is None:
                self._fill()
                yield
                return
            with self._file.held() as kept:
                if kept.left is not None:
                    most = zip(kept.left, self._most, strict=True)
                    self._left = [min(left, limit) for left, limit in most]
                    self._filled = kept.filled
                self._fill()
                self._left[1] -= self._owed
                yield
                kept.write(self._left, self._filled)
            self._owed = 0.0

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

    def begin(self) -> None:
        """Take a repair.

        Raises
        ------
        BudgetExhaustedError
            Where none is left, seconds are owed, or what a device shares cannot be asked; nothing
            is taken then.
        """
        try:
            with self._held():
                refused = self._why_not()
                if not refused:
                    self._left[0] -= 1.0
        except OSError as error:
            text = f"the budget that this device's processes share cannot be asked: {error}"
            raise BudgetExhaustedError(text) from error
        if refused:
            raise BudgetExhaustedError(refused)

    def _why_not(self) -> str:
        if self._left[0] < 1.0:
            return f"the budget has {self._left[0]:.2f} of a repair left"
        if self._left[1] <= 0.0:
            return f"the budget is {-self._left[1]:.1f} s of CPU time in debt"
        return ""

    def spend(self, seconds: float) -> None:
        """Take what a repair has cost; it may leave a debt, which is filled first."""
        seconds = max(0.0, seconds)
        try:
            with self._held():
                self._left[1] -= seconds
        except OSError:
            with self._lock:
                self._owed += seconds

    def use_up(self) -> None:
        """Leave nothing: what was left is not known. What a device shares knows it itself."""
        if self._file is not None:
            return
        with self._lock:
            self._left = [min(left, 0.0) for left in self._left]

    @property
    def left(self) -> tuple[float, float]:
        """Repairs and seconds that are left now; of a file that cannot be asked, as it was last."""
        with self._lock:
            if self._file is not None:
                kept = self._file.look()
                if kept is not None:
                    self._left, self._filled = list(kept.left or (0.0, 0.0)), kept.filled
            self._fill()
            return self._left[0], self._left[1]

    def to_bytes(self) -> bytes:
        """Return what `go_on_with` takes."""
        return json.dumps(self.left).encode()

    def go_on_with(self, data: bytes) -> None:
        """Have no more left than the process before: a restart buys nothing.

        What all processes of a device share stays as their file says.

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
        if self._file is not None:
            return
        with self._lock:
            self._left = [min(self._left[0], repairs), min(self._left[1], seconds)]
