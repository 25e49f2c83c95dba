"""A model's locks: one thread at a time, in the process that began, until the model is closed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from selfheal_edge import _core
from selfheal_edge.concurrency.process import ProcessGuard
from selfheal_edge.errors import ModelClosedError

__all__ = ["ModelLock"]


class ModelLock(_core.LockScope):
    """A re-entrant lock that also knows when the model was closed.

    Parameters
    ----------
    after
        Called when a thread has given the lock back and others may take it: the place for
        what must not run in the middle of one, as the user's callbacks.
    outer
        The lock that a thread takes before this one, if it takes both: `after` waits for its end,
        and a thread that has this one alone is refused the outer one rather than left to wait for
        ever.
    what
        What is closed, in messages.

    Notes
    -----
    The process is looked at before the lock: in a forked child the lock may be held for ever by a
    thread that only the parent has. Threads get the lock in the order in which they came.

    The core takes the lock at the beginning of a `with` block and gives it back at its end, so that
    whatever a signal's handler raises (`KeyboardInterrupt`, a time limit) leaves no lock behind.
    """

    def __init__(
        self, after: Callable[[], None], outer: ModelLock | None = None, what: str = "model"
    ) -> None:
        super().__init__(outer)
        self._what = what
        self._process = ProcessGuard()
        self._after = after
        self._outer = outer

    def check_process(self) -> None:
        """Raise `ForkedProcessError` in a forked child."""
        self._process.check()

    @property
    def closed(self) -> bool:
        """Whether the model was closed."""
        return self.core.closed

    def check_open(self) -> None:
        """Raise `ModelClosedError` after `close`."""
        if self.core.closed:
            what = self._what
            raise ModelClosedError(f"{what}: expected an open {what}, got a closed one")

    def check(self) -> None:
        """Raise where this thread may not take the lock: the core calls this to say why."""
        self._process.check()
        if self.inside_inner:
            raise RuntimeError(
                "model: expected work on the weights outside an inference, got it from inside one "
                "(a monitor or a clock) with mode='background'"
            )
        self.check_open()

    def close(self) -> None:
        """Refuse every thread from now on."""
        self.core.close()

    def ended(self) -> None:
        """Do what has to wait until the lock is given back, unless the outer one is still held."""
        if self._outer is None or not self._outer.core.mine:
            self._after()

    def give_way(self) -> None:
        """Let other threads have the lock in the middle of what may be interrupted.

        Not where the same thread has taken it twice. Raises `ModelClosedError` if the model was
        closed meanwhile.
        """
        if self.core.give_way():
            self.check_open()

    def attempt(self) -> AbstractContextManager[bool]:
        """Take the lock for a block if that needs no waiting, and say whether it was."""
        return self.core.attempt()

    def lock(self) -> AbstractContextManager[None]:
        """Take the lock, for what may also be done after `close`."""
        self._process.check()
        return self.core
