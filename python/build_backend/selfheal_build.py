"""The build backend: scikit-build-core, after a look at the machine.

A 32-bit userland on a 64-bit ARM kernel (Raspberry Pi OS does that) reports `aarch64`, so
installers would look for a runtime that has no 32-bit wheels and fail with a riddle. This says
what is the matter before anything is downloaded.
"""

from __future__ import annotations

import platform
import struct
from typing import Any

from scikit_build_core import build as _build
from scikit_build_core.build import (  # noqa: F401 — the hooks that need no look
    build_editable,
    build_sdist,
    build_wheel,
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
