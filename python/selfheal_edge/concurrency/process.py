"""Notice that a process was forked."""

from __future__ import annotations

import os

from selfheal_edge.errors import ForkedProcessError

__all__ = ["ProcessGuard"]

_epoch = 0


def _forked() -> None:
    global _epoch  # noqa: PLW0603 — counts the forks between this process and the first
    _epoch += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class ProcessGuard:
    """Remember the process that made an object, and refuse its use in a forked child.

    A child shares the pages of the weights with its parent and none of the runtime's threads: what
    it heals it heals behind the parent's back, and what it runs may wait for ever.
    """

    def __init__(self) -> None:
        self._epoch = _epoch

    def check(self) -> None:
        """Raise in a child.

        Raises
        ------
        ForkedProcessError
            In any process but the one that made this guard.
        """
        if self._epoch != _epoch:
            raise ForkedProcessError(
                "model: expected use in the process that opened it, got use in a forked child; "
                "open the model after the fork"
            )
