"""The package's logger, loaded when there is something to say.

A process that guards a model and logs nothing need not hold `logging` (0.7 MiB).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["logger"]


def logger() -> Logger:
    """Return the logger ``selfheal_edge``."""
    found: Logger = import_module("logging").getLogger("selfheal_edge")
    return found
