"""One helper process for several probes."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from contextvars import ContextVar
from typing import Any, Final

__all__ = ["helpers", "sharing_helpers"]


helpers: Final[ContextVar[dict[Hashable, Any] | None]] = ContextVar("helpers", default=None)
"""Helpers by kind, within `sharing_helpers`; None outside."""


@contextlib.contextmanager
def sharing_helpers() -> Iterator[None]:
    """Within it, the probes of a context share warm helpers, which end with the outermost scope.

    A helper takes 0.2 s to start; a model that is opened with kernels of choice is probed twice.
    """
    if helpers.get() is not None:
        yield
        return
    begun: dict[Hashable, Any] = {}
    token = helpers.set(begun)
    try:
        yield
    finally:
        helpers.reset(token)
        for helper in begun.values():
            helper.close()
