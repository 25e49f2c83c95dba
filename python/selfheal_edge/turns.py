"""Take turns: one thread at a time, in the process that began, until the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from selfheal_edge import _core
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
    outer
        Turns that a thread takes before these, if it takes both: `after` waits for their end, and
        a thread that has these alone is refused the outer ones rather than left to wait for ever.

    Notes
    -----
    The process is looked at before the lock: in a forked child the lock may be held for ever by a
    thread that only the parent has. Threads get their turns in the order in which they came.
    """

    def __init__(self, after: Callable[[], None], outer: Turns | None = None) -> None:
        self._process = ProcessGuard()
        self._after = after
        self._outer = outer
        self._inner: Turns | None = None
        if outer is not None:
            outer._inner = self
        self.core = _core.TurnLock()
        """For the hot path, which takes its turns without Python."""

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

    def close(self) -> None:
        """Let nobody in any more."""
        self.core.close()

    def __enter__(self) -> None:
        """Wait for the turn; raise when there will be none."""
        self._process.check()
        if self._inner is not None and self._inner.core.mine and not self.core.mine:
            raise RuntimeError(
                "model: expected work on the weights outside an inference, got it from inside one "
                "(a monitor or a clock) with mode='background'"
            )
        self.core.enter()
        try:
            self.check_open()
        except ModelClosedError:
            self.core.leave()
            raise

    def __exit__(self, *_: object) -> None:
        """End the turn."""
        if self.core.leave():
            self.ended()

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

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Take the lock if that needs no waiting; say whether it was."""
        is_mine = self.core.try_enter()
        try:
            yield is_mine
        finally:
            if is_mine:
                self.core.leave()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Take the lock, for what may also be done when all is over."""
        self._process.check()
        self.core.enter()
        try:
            yield
        finally:
            self.core.leave()
