"""What the user decides: budgets, and which response follows which cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selfheal_edge.diagnosis import Cause

__all__ = ["Policy"]


def _responses() -> dict[Cause, tuple[str, ...]]:
    ladder = ("rollback_block", "rollback_module", "rollback_model", "rebuild", "mark_untrusted")
    return {
        Cause.WEIGHT_CORRUPTION: ladder,
        Cause.RUNTIME_FAULT: ("rebuild", "rollback_model", "mark_untrusted"),
    }


def _check_names(argument: str, names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{argument}: expected a tuple of names, got {names!r}")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: expected names of strategies, got {names!r}")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a model guards itself. Immutable; the defaults suit most devices."""

    scrub_bytes_per_predict: int = 16384
    """Bytes of weights checked before each prediction; a sweep takes size / budget predictions.
    0 leaves checking to `weights.scrub()`."""
    nonfinite: Literal["raise", "skip"] = "raise"
    """NaN or infinity in a float input: refuse it, or serve it (untrusted) and count it."""
    responses: Mapping[Cause, tuple[str, ...]] = field(default_factory=_responses)
    """Strategies for each cause, in the order in which they are tried until one is proven."""
    default_response: tuple[str, ...] = ("mark_untrusted",)
    """For causes that `responses` does not name."""
    max_events: int = 1024
    """Events kept in memory; older ones are dropped."""
    max_generations: int = 8
    """Snapshots of the weights beside golden."""
    rediagnose_after: int = 256
    """Predictions after which a trouble that goes on is looked at again; doubles each time."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, least in (
            ("scrub_bytes_per_predict", 0),
            ("max_events", 1),
            ("max_generations", 1),
            ("rediagnose_after", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        if self.nonfinite not in ("raise", "skip"):
            raise ValueError(f"nonfinite: expected 'raise' or 'skip', got {self.nonfinite!r}")
        for cause, strategies in self.responses.items():
            if not isinstance(cause, Cause):
                raise TypeError(f"responses: expected keys of type Cause, got {cause!r}")
            _check_names(f"responses[{cause}]", strategies)
        _check_names("default_response", self.default_response)

    def response(self, cause: Cause) -> tuple[str, ...]:
        """Return the strategies to try for a cause, in order."""
        return tuple(self.responses.get(cause, self.default_response))

    def strategies(self) -> frozenset[str]:
        """Return the names of all strategies that this policy may ask for."""
        return frozenset(self.default_response).union(*self.responses.values())
