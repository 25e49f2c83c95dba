"""The build backend: scikit-build-core, after a look at the machine, with pybind11 kept.

A 32-bit userland on a 64-bit ARM kernel (Raspberry Pi OS does that) reports `aarch64`, so
installers would look for a runtime that has no 32-bit wheels and fail with a riddle. This says
what is the matter before anything is downloaded.

Installers build in an environment that they make anew each time, under another name. The compiler's
command line names the folder of pybind11's headers, so every binding would be compiled again by the
next install, though nothing has changed. A copy that stays in `build/` gives it one name.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import struct
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from scikit_build_core import build as _build
from scikit_build_core.build import (  # noqa: F401 — the hooks that need no look
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)


def _refuse_mixed_userland() -> None:
    if struct.calcsize("P") == 4 and platform.machine() == "aarch64":
        raise SystemExit(
            "selfheal-edge: this Python is 32-bit on a 64-bit kernel, so installers take the "
            "machine for aarch64, where other packages are needed than here. Run the same command "
            "under 'linux32' (package util-linux), for example: linux32 pip install selfheal-edge"
        )


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return what building a wheel needs."""
    _refuse_mixed_userland()
    return list(_build.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return what building an editable install needs."""
    _refuse_mixed_userland()
    return list(_build.get_requires_for_build_editable(config_settings))


def _kept_pybind11() -> Path | None:
    """Copy pybind11 to `build/` once a version; None where there is none to copy or no place."""
    found = importlib.util.find_spec("pybind11")
    if found is None or not found.submodule_search_locations:
        return None
    package = Path(found.submodule_search_locations[0])
    kept = Path("build", f"pybind11-{metadata.version('pybind11')}").resolve()
    if kept.is_dir():
        return kept
    try:
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as made:
            for part in ("include", "share"):
                shutil.copytree(package / part, Path(made, "pybind11", part))
            os.replace(Path(made, "pybind11"), kept)
    except OSError:  # another install was faster, or nothing can be written here
        return kept if kept.is_dir() else None
    return kept


def _with_kept_pybind11(config_settings: dict[str, Any] | None) -> dict[str, Any]:
    settings = dict(config_settings or {})
    kept = _kept_pybind11()
    if kept is not None:
        settings.setdefault("cmake.define.pybind11_DIR", str(kept / "share/cmake/pybind11"))
    return settings


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel."""
    settings = _with_kept_pybind11(config_settings)
    return str(_build.build_wheel(wheel_directory, settings, metadata_directory))


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build an editable install."""
    settings = _with_kept_pybind11(config_settings)
    return str(_build.build_editable(wheel_directory, settings, metadata_directory))
