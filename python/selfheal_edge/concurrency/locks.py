"""Take turns: one thread at a time, in the process that began, until the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from selfheal_edge import _core
from selfheal_edge.concurrency.process import ProcessGuard
from selfheal_edge.errors import ModelClosedError

__all__ = ["Turns"]


class Turns(_core.TurnScope):
    """A re-entrant lock that also knows when nobody may come in any more.

    Parameters
    ----------
    after
        Called when a thread's outermost turn has ended and others may have theirs: the place for
        what must not run in the middle of one, as the user's callbacks.
    outer
        Turns that a thread takes before these, if it takes both: `after` waits for their end, and
        a thread that has these alone is refused the outer ones rather than left to wait for ever.

    Notes
    -----
    The process is looked at before the lock: in a forked child the lock may be held for ever by a
    thread that only the parent has. Threads get their turns in the order in which they came.

    The core takes the lock at the beginning of a `with` block and gives it back at its end, so that
    whatever a signal's handler raises (`KeyboardInterrupt`, a time limit) leaves no lock behind.
    """

    def __init__(self, after: Callable[[], None], outer: Turns | None = None) -> None:
        super().__init__(outer)
        self._process = ProcessGuard()
        self._after = after
        self._outer = outer

    def check_process(self) -> None:
        """Raise `ForkedProcessError` in a forked child."""
        self._process.check()

    @property
    def closed(self) -> bool:
        """Whether nobody may come in any more."""
        return self.core.closed

    def check_open(self) -> None:
        """Raise `ModelClosedError` when nobody may come in any more."""
        if self.core.closed:
            raise ModelClosedError("model: expected an open model, got a closed one")

    def check(self) -> None:
        """Raise when this thread may not come in; the core asks where it may not."""
        self._process.check()
        if self.inside_inner:
            raise RuntimeError(
                "model: expected work on the weights outside an inference, got it from inside one "
                "(a monitor or a clock) with mode='background'"
            )
        self.check_open()

    def close(self) -> None:
        """Let nobody in any more."""
        self.core.close()

    def ended(self) -> None:
        """Do what has to wait for the end of a turn, unless an outer one goes on."""
        if self._outer is None or not self._outer.core.mine:
            self._after()

    def give_way(self) -> None:
        """Let others have their turn in the middle of what may be interrupted.

        Not inside another turn of the same thread. Raises `ModelClosedError` if the model was
        closed meanwhile.
        """
        if self.core.give_way():
            self.check_open()

    def attempt(self) -> AbstractContextManager[bool]:
        """Take the lock for a block if that needs no waiting, and say whether it was."""
        return self.core.attempt()

    def lock(self) -> AbstractContextManager[None]:
        """Take the lock, for what may also be done when all is over."""
        self._process.check()
        return self.core
