"""The C library's heap: what it has handed out, and what it can give back."""

from __future__ import annotations

import ctypes

__all__ = ["allocated_bytes", "give_back"]


def allocated_bytes() -> int | None:
    """Return the bytes that malloc has handed out, or None where it does not tell."""

    class MallInfo2(ctypes.Structure):
        _fields_ = [
            (name, ctypes.c_size_t)
            for name in (
                "arena",
                "ordblks",
                "smblks",
                "hblks",
                "hblkhd",
                "usmblks",
                "fsmblks",
                "uordblks",
                "fordblks",
                "keepcost",
            )
        ]

    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo2.restype = MallInfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def give_back() -> None:
    """Return to the system what malloc keeps of memory that is free: some 0.1 ms.

    Opening a model makes instances, copies and tables that are dropped again. The C library keeps
    such memory for what may come, and a process that serves for months asks for no more.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return
    trim(ctypes.c_size_t(0))
