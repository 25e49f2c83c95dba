"""Every exception that this package raises on purpose, under one root."""

from __future__ import annotations

from selfheal_edge.text import MESSAGE, shown

__all__ = [
    "BaselineFormatError",
    "BaselineMismatchError",
    "BudgetExhaustedError",
    "FeedbackSourceError",
    "ForkedProcessError",
    "IntegrityError",
    "ModelClosedError",
    "ModelFormatError",
    "ProbeError",
    "ProbeLimitError",
    "RuntimeUnavailableError",
    "SelfHealError",
    "StateError",
    "StoreError",
    "StoreVersionError",
]


class SelfHealError(Exception):
    """Root of all errors of this package; never raised itself.

    Its text is fit to be shown, whatever a file has brought into it: see `selfheal_edge.text`.
    """

    def __str__(self) -> str:
        return shown(super().__str__(), MESSAGE)


class ModelFormatError(SelfHealError, ValueError):
    """A model file is not a TFLite model, is damaged, or makes a runtime refuse, hang or crash.

    The message names the place in the file, what was expected and what was found.
    """


class ProbeLimitError(ModelFormatError):
    """The probe of a file in a child process reached a limit; `ProbePolicy` may allow more."""


class RuntimeUnavailableError(SelfHealError, ImportError):
    """The TFLite runtime that was asked for is not installed, or cannot be imported here."""


class BaselineMismatchError(SelfHealError, ValueError):
    """A sound baseline belongs to another model than the one it was given with."""


class BaselineFormatError(SelfHealError, ValueError):
    """A baseline file is damaged, is not a baseline, is too new, or its signature is wrong."""


class IntegrityError(SelfHealError, RuntimeError):
    """Weights are corrupt, and no source that verifies is left to restore them from."""


class StoreError(SelfHealError, OSError):
    """The store cannot be opened, read or written, or belongs to another writer."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of this package."""


class ModelClosedError(SelfHealError, RuntimeError):
    """A model is used after `close()`, or after its `with` block has ended."""


class BudgetExhaustedError(SelfHealError, RuntimeError):
    """A repair is to begin, and the budget of repairs does not allow it now."""


class FeedbackSourceError(SelfHealError, ValueError):
    """A source of feedback has another key, or none, or is not known to the model."""


class ForkedProcessError(SelfHealError, RuntimeError):
    """An object that belongs to one process is used in a child made by `fork`."""


class ProbeError(SelfHealError, RuntimeError):
    """The child process that probes a model could not be started or did not answer.

    This says nothing about the model: it was not tried.
    """


# At the end: the core's own errors are built on the root above.
from selfheal_edge._core import StateError  # noqa: E402
