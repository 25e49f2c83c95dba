"""Labelled samples that a user gives: `x` and `y` of an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.text import MESSAGE, quoted, shown

__all__ = ["check_folder", "read_samples"]

_BROKEN: Final = (zipfile.BadZipFile, zlib.error)


def check_folder(option: str, path: str | None) -> None:
    """Refuse a file to be written at the end, in minutes or hours, whose folder is not there.

    Raises
    ------
    FileNotFoundError
        Naming the option.
    """
    if path is not None and not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{option}: no such folder: {quoted(str(Path(path).parent))}")


def read_samples(path: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return `x` and `y` of an archive.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming ``--data``, what was expected and what came.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--data: no such file: {quoted(path)}")
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("expected an archive, got one array")
            missing = [name for name in ("x", "y") if name not in archive]
            if missing:
                lacks = " and no ".join(missing)
                held = ", ".join(map(shown, sorted(archive.files)[:8]))
                raise ValueError(f"it has no {lacks}, it has {held or 'nothing'}")
            return archive["x"], archive["y"]
    except (ValueError, EOFError, MemoryError, NotImplementedError, *_BROKEN) as error:
        raise ValueError(
            f"--data: expected an .npz file with x and y, {quoted(path)}: {shown(error, MESSAGE)}"
        ) from None
