"""What is compared bit for bit is computed with the usual floating-point environment."""

from __future__ import annotations

import ctypes
from typing import Any, Final

__all__ = ["UsualFloats"]

_DEFAULT: Final = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl
_ENVIRONMENT_BYTES: Final = 64  # fenv_t takes 8 on ARM and 32 on x86
_found: list[Any] = []


def _library() -> Any:
    """Return the C library, or None where it has no floating-point environments."""
    if not _found:
        try:
            library = ctypes.CDLL(None)
            library.fegetenv, library.fesetenv  # noqa: B018 — are they there?
        except (OSError, AttributeError, TypeError):
            library = None
        _found.append(library)
    return _found[0]


class UsualFloats:
    """For the length of a `with` block: rounding to nearest, denormals kept, no traps.

    A thread may have changed all of that, for itself and for the threads that it starts (audio
    code flushes denormals, interval arithmetic rounds up). Answers, and weights that a runtime
    packs, would differ in their last bits from what they were, and look like damage.

    One thread at a time; entering and leaving take about 2 µs. Does nothing where the C library
    has no `fesetenv`.
    """

    def __enter__(self) -> None:
        self._before = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
        library = _library()
        if library is not None:
            library.fegetenv(self._before)
            library.fesetenv(_DEFAULT)

    def __exit__(self, *_: object) -> None:
        library = _library()
        if library is not None:
            library.fesetenv(self._before)
