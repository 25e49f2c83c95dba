"""What probing a model file may cost, and which files are not probed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from selfheal_edge.text import quoted

__all__ = ["MEMORY_BYTES", "MOST_SECONDS", "TIMEOUT_S", "ProbePolicy"]

# To refuse a sound model on a small device that is busy is worse than to wait for a bad one.
TIMEOUT_S: Final = 60.0
MEMORY_BYTES: Final = 512 * 2**20
MOST_SECONDS: Final = 3600
_LEAST_BYTES: Final = 2**20
_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """What probing an unknown model file in a child process may cost, and which files skip it."""

    seconds: float = TIMEOUT_S
    """Wall time, more than 0 and at most 3600. Raise it for large models on slow devices."""
    memory_bytes: int = MEMORY_BYTES
    """What the model may use beyond what the runtime takes, 1 MiB or more. Raise it for models of
    hundreds of megabytes."""
    vouched: tuple[str, ...] = ()
    """SHA-256 of model files, in hexadecimal, that skip the probe because the user knows them: one
    that makes the runtime crash takes this process with it."""
    python: str | None = None
    """The Python interpreter of the child process. None takes what `multiprocessing` was told, or
    else `sys.executable`; an application that embeds Python, or is frozen, has to name one."""

    def __post_init__(self) -> None:
        """Check every field."""
        seconds, size = self.seconds, self.memory_bytes
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"seconds: expected a number, got {seconds!r}")
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(
                f"seconds: expected more than 0 and at most {MOST_SECONDS}, got {seconds}"
            )
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"memory_bytes: expected an integer, got {size!r}")
        if size < _LEAST_BYTES:
            raise ValueError(f"memory_bytes: expected at least {_LEAST_BYTES}, got {size}")
        if not isinstance(self.vouched, (tuple, list, set, frozenset)) or not all(
            isinstance(digest, str) for digest in self.vouched
        ):
            raise TypeError(f"vouched: expected a tuple of SHA-256 sums, got {self.vouched!r}")
        for digest in self.vouched:
            if len(digest) != _DIGITS or not set(digest) <= set("0123456789abcdef"):
                raise ValueError(
                    f"vouched: expected SHA-256 in {_DIGITS} lower-case hexadecimal digits, "
                    f"got {quoted(digest)}"
                )
        if self.python is not None and not isinstance(self.python, str):
            raise TypeError(f"python: expected a path or None, got {self.python!r}")
