"""Model files that have been probed, so that none is probed twice."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Final, Literal, NamedTuple, TypeAlias, cast

__all__ = [
    "KernelsName",
    "KnownHash",
    "RuntimeName",
    "TrialName",
    "is_known",
    "known_hashes",
    "loaded_version",
    "mark_known",
    "runtime_version",
    "tried_kernels",
]

RuntimeName: TypeAlias = Literal["litert", "tflite_runtime"]
KernelsName: TypeAlias = Literal["default", "builtin", "compiled"]
"""``compiled`` is LiteRT's compiled model with its weight cache, another way through the code."""
TrialName: TypeAlias = Literal["default", "builtin", "compiled", "compared"]
"""What was tried: kernels; or, as ``compared``, that compiled they answer as the interpreter."""

_MODULES: Final = {"litert": "ai_edge_litert", "tflite_runtime": "tflite_runtime"}
_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "litert": ("ai-edge-litert", "ai-edge-litert-nightly"),
    "tflite_runtime": ("tflite-runtime", "tflite-runtime-nightly"),
}


class KnownHash(NamedTuple):
    """What a successful probe is valid for."""

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
    try:
        return loaded_version(import_module(_MODULES[runtime]), runtime)
    except (ImportError, OSError):
        return _version_by_metadata(runtime)


def _version_by_metadata(runtime: RuntimeName) -> str:
    from importlib import metadata  # noqa: PLC0415 — archives and e-mail come with it: 2 MiB

    for name in _PACKAGES[runtime]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def loaded_version(package: ModuleType, runtime: RuntimeName) -> str:
    """Return the version of a runtime that was imported, or ``"unknown"``.

    The package's own word comes first: it lies beside the library that is loaded. Metadata may be
    missing, as images of devices are often stripped of it, or be that of another copy on the path.
    """
    return str(getattr(package, "__version__", None) or _version_by_metadata(runtime))


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
