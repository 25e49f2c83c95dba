"""What the user decides: budgets, and which response follows which cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from selfheal_edge.causes import Cause
from selfheal_edge.tflite.sandbox.policy import ProbePolicy

__all__ = ["Policy"]


_MOST_PARITY: Final = 16


def _responses() -> dict[Cause, tuple[str, ...]]:
    ladder = ("rollback_block", "rollback_module", "rollback_model", "rebuild")
    return {
        Cause.WEIGHT_CORRUPTION: (*ladder, "reload_golden", "mark_untrusted"),
        Cause.RUNTIME_FAULT: ("rebuild", "rollback_model", "reload_golden", "mark_untrusted"),
    }


def _check_names(argument: str, names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{argument}: expected a tuple of names, got {names!r}")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: expected names of strategies, got {names!r}")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a model guards itself. Immutable; the defaults suit most devices."""

    scrub_bytes_per_predict: int = 64
    """Bytes of each image that are checked before each prediction at least, however fast they
    come: a sweep takes at most size / budget predictions. Below a block (512) a block is checked
    every few predictions. 0 leaves checking to `weights.scrub()` and `weights.idle()`."""
    sweep_seconds: float | None = 1.0
    """The time in which a sweep shall be complete, when predictions come seldom: as much as that
    takes is checked before each, but never more than an eighth of an image. None: the bytes per
    prediction alone count."""
    keyed_bytes_per_predict: int = 8
    """The same for the keyed hash, which finds flips chosen to keep their checksum: the slower
    sweep, over the weights and all that guards them. 0 leaves it to `weights.scrub()` and
    `weights.idle()`."""
    keyed_sweep_seconds: float | None = 10.0
    """The time in which the keyed sweep shall be complete; at most a 64th before a prediction."""
    mode: Literal["inline", "background"] = "inline"
    """Who heals. ``"inline"``: the call that notices, before it answers. ``"background"``: a thread
    of its own, while predictions go on: what was damaged is put right at once, but until the
    repair is proven they come from the hot spare or are marked untrusted."""
    hot_spare: bool = False
    """Keep a second instance, built from golden, which serves within microseconds while the first
    is being healed. Costs the memory of another model; see `memory_report`."""
    snapshots: bool = True
    """Keep golden and later generations in memory: the size of each image once, and a quarter for
    generations. Without them parity alone repairs, and there is no rollback."""
    parity_blocks: int = 1
    """Parity blocks for every 16 blocks of 512 bytes, 0 to 16: costs that many sixteenths of the
    memory and repairs that many damaged blocks among each 16 where no copy verifies. 0: none."""
    known_answers_every: int | None = 20_000
    """Predictions after which the known answers are asked again: they notice damage that no
    checksum sees, in the runtime's own memory. None: only when there is doubt."""
    rebuild_after_predictions: int | None = None
    """Predictions after which the runtime is built anew from verified bytes, which bounds in time
    whatever damage there may be in memory of its own."""
    rebuild_after_seconds: float | None = 3600.0
    """The same in seconds; whichever comes first. None for both: never. A recurrent model keeps
    its state."""
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
    probe: ProbePolicy = field(default_factory=ProbePolicy)
    """What the trial of an unknown model file in a child process may cost, and which files the user
    vouches for."""
    rediagnose_after: int = 256
    """Predictions after which a trouble that goes on is looked at again; doubles each time."""

    def __post_init__(self) -> None:  # noqa: PLR0912 — one check a field
        """Check every field."""
        for name, least in (
            ("scrub_bytes_per_predict", 0),
            ("keyed_bytes_per_predict", 0),
            ("parity_blocks", 0),
            ("max_events", 1),
            ("max_generations", 1),
            ("rediagnose_after", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        for name in ("known_answers_every", "rebuild_after_predictions"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name}: expected an integer or None, got {value!r}")
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        for name in ("rebuild_after_seconds", "sweep_seconds", "keyed_sweep_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and (isinstance(seconds, bool) or not seconds > 0):
                raise ValueError(f"{name}: expected a number above 0 or None, got {seconds!r}")
        if self.mode not in ("inline", "background"):
            raise ValueError(f"mode: expected 'inline' or 'background', got {self.mode!r}")
        if not isinstance(self.hot_spare, bool):
            raise TypeError(f"hot_spare: expected a bool, got {self.hot_spare!r}")
        if self.parity_blocks > _MOST_PARITY:
            raise ValueError(f"parity_blocks: expected 0 to 16, got {self.parity_blocks}")
        if not (self.snapshots or self.parity_blocks):
            raise ValueError(
                "snapshots, parity_blocks: expected at least one source of repair, got none"
            )
        if not isinstance(self.probe, ProbePolicy):
            raise TypeError(f"probe: expected a ProbePolicy, got {self.probe!r}")
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
