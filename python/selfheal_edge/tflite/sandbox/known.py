"""Model files that have been tried, so that no trial is made twice."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from types import ModuleType
from typing import Final, Literal, NamedTuple, TypeAlias, cast

__all__ = [
    "KernelsName",
    "KnownHash",
    "RuntimeName",
    "known_hashes",
    "loaded_version",
    "mark_known",
    "runtime_version",
    "tried_kernels",
]

RuntimeName: TypeAlias = Literal["litert", "tflite_runtime"]
KernelsName: TypeAlias = Literal["default", "builtin", "compiled"]
"""``compiled`` is LiteRT's compiled model with its weight cache, another way through the code."""

_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "litert": ("ai-edge-litert", "ai-edge-litert-nightly"),
    "tflite_runtime": ("tflite-runtime", "tflite-runtime-nightly"),
}


class KnownHash(NamedTuple):
    """What a successful trial is valid for."""

    sha256: str
    runtime: str
    runtime_version: str
    kernels: str
    num_threads: int


known_hashes: set[KnownHash] = set()
"""Trials that succeeded, in this process or by the word of `mark_known`."""


@lru_cache(maxsize=4)
def runtime_version(runtime: RuntimeName) -> str:
    """Return the installed version of a runtime, or ``"unknown"``."""
    from importlib import metadata  # noqa: PLC0415 — costs more than all the rest of this module

    for name in _PACKAGES[runtime]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown"


def loaded_version(package: ModuleType, runtime: RuntimeName) -> str:
    """Return the version of a runtime that was imported, or ``"unknown"``.

    The package's own word comes first: it lies beside the library that is loaded. Metadata may be
    missing, as images of devices are often stripped of it, or be that of another copy on the path.
    """
    return str(getattr(package, "__version__", None) or runtime_version(runtime))


def mark_known(
    sha256: str, runtime: RuntimeName, kernels: KernelsName, num_threads: int
) -> KnownHash:
    """Record that a file is known to be safe on this machine, so that `probe` skips its trial.

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


def tried_kernels(sha256: str, runtime: RuntimeName, num_threads: int) -> tuple[KernelsName, ...]:
    """Return the kernels with which a file is known to be safe, with the installed runtime."""
    version = runtime_version(runtime)
    return tuple(
        sorted(
            cast(KernelsName, known.kernels)
            for known in known_hashes
            if known == KnownHash(sha256, runtime, version, known.kernels, num_threads)
        )
    )
