"""Model files that have been probed, so that none is probed twice."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, cast

from selfheal_edge.tflite.sandbox.packages import RuntimeName, runtime_version

__all__ = [
    "KernelsName",
    "KnownHash",
    "TrialName",
    "is_known",
    "known_hashes",
    "mark_known",
    "tried_kernels",
]

KernelsName: TypeAlias = Literal["default", "builtin", "compiled"]
"""``compiled`` is LiteRT's compiled model with its weight cache, another way through the code."""
TrialName: TypeAlias = Literal["default", "builtin", "compiled", "compared"]
"""What was tried: kernels; or, as ``compared``, that compiled they answer as the interpreter."""


class KnownHash(NamedTuple):
    """What a successful probe is valid for."""

    sha256: str
    runtime: str
    runtime_version: str
    kernels: str
    num_threads: int


known_hashes: set[KnownHash] = set()
"""Trials that succeeded, in this process or by the word of `mark_known`."""


def is_known(sha256: str, runtime: RuntimeName, kernels: TrialName, num_threads: int) -> bool:
    """Whether a probe of this file is on record."""
    return (
        KnownHash(sha256, runtime, runtime_version(runtime), kernels, num_threads) in known_hashes
    )


def mark_known(
    sha256: str, runtime: RuntimeName, kernels: TrialName, num_threads: int
) -> KnownHash:
    """Record that a file is known to be safe on this machine, so that `probe` is skipped.

    Parameters
    ----------
    sha256
        SHA-256 of the whole file, in hexadecimal, from a source that is trusted.
    runtime, kernels, num_threads
        What it was tried with.
    """
    known = KnownHash(sha256, runtime, runtime_version(runtime), kernels, num_threads)
    known_hashes.add(known)
    return known


def tried_kernels(sha256: str, runtime: RuntimeName, num_threads: int) -> tuple[TrialName, ...]:
    """Return what a file was tried with, successfully, with the installed runtime."""
    version = runtime_version(runtime)
    return tuple(
        sorted(
            cast(TrialName, known.kernels)
            for known in known_hashes
            if known == KnownHash(sha256, runtime, version, known.kernels, num_threads)
        )
    )
