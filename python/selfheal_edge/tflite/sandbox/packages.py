"""The runtimes: their names here, where each is installed, and which version that is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["PACKAGES", "Package", "RuntimeName", "loaded_version", "runtime_version"]

RuntimeName: TypeAlias = Literal["litert", "tflite_runtime"]


class Package(NamedTuple):
    """Where a runtime comes from."""

    module: str
    distributions: tuple[str, ...]


PACKAGES: Final[Mapping[RuntimeName, Package]] = {
    "litert": Package("ai_edge_litert", ("ai-edge-litert", "ai-edge-litert-nightly")),
    "tflite_runtime": Package("tflite_runtime", ("tflite-runtime", "tflite-runtime-nightly")),
}


@lru_cache(maxsize=4)
def runtime_version(runtime: RuntimeName) -> str:
    """Return the installed version of a runtime, or ``"unknown"``."""
    try:
        return loaded_version(import_module(PACKAGES[runtime].module), runtime)
    except (ImportError, OSError):
        return _version_by_metadata(runtime)


def _version_by_metadata(runtime: RuntimeName) -> str:
    from importlib import metadata  # noqa: PLC0415 — archives and e-mail come with it: 2 MiB

    for name in PACKAGES[runtime].distributions:
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
