"""Take turns: one thread at a time, in the process that began, until the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from selfheal_edge.errors import ModelClosedError
from selfheal_edge.process import ProcessGuard

__all__ = ["Turns"]


class Turns:
    """A re-entrant lock that also knows when nobody may come in any more.

    Parameters
    ----------
    after
        Called when a thread's outermost turn has ended and others may have theirs: the place for
        what must not run in the middle of one, as the user's callbacks.

    Notes
    -----
    The process is looked at before the lock: in a forked child the lock may be held for ever by a
    thread that only the parent has.
    """

    def __init__(self, after: Callable[[], None]) -> None:
        self._process = ProcessGuard()
        self._after = after
        self._depth = 0
        self.lock = threading.RLock()
        """For what may also be done when all is over."""
        self.closed = False

    def check_process(self) -> None:
        """Raise `ForkedProcessError` in a forked child."""
        self._process.check()

    def __enter__(self) -> None:
        """Wait for the turn; raise when there will be none."""
        self._process.check()
        self.lock.acquire()
        if self.closed:
            self.lock.release()
            raise ModelClosedError("model: expected an open model, got a closed one")
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        """End the turn."""
        self._depth -= 1
        outermost = self._depth == 0
        self.lock.release()
        if outermost:
            self._after()
