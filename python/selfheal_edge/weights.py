"""The public view of a model's guarded bytes: what can be seen, checked, kept and exported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from selfheal_edge.integrity.guarded_image import CorruptBlock, GuardedImage
from selfheal_edge.integrity.weights import Heal, Weights
from selfheal_edge.store.file_format import write_atomically
from selfheal_edge.tflite.correction_file import correction_path, with_correction
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.format.records import Region

__all__ = ["ImageView", "ModelWeights", "write_model"]


@dataclass(frozen=True, slots=True, eq=False)
class ImageView:
    """One watched stretch of memory, as it is at the moment.

    Notes
    -----
    Where its bytes can be damaged on purpose is `selfheal_edge.redteam.inject`.
    """

    name: str
    """``"source"``, our copy of the model file; ``"packed"``, the runtime's re-laid copy; or
    ``"input"``, what inputs are corrected by."""
    nbytes: int
    """Bytes watched: all of it."""
    regions: Mapping[str, Region]
    """What lies where in it, by name."""
    sweeps: int
    """Complete sweeps so far."""


class GenerationKeeper(Protocol):
    """Keeps generations beyond the process."""

    def pin(self, number: int, is_pinned: bool) -> None:
        """Take note that one must not be dropped, or may."""
        ...

    def drop(self, number: int) -> None:
        """Forget one."""
        ...


class ModelWeights:
    """The guarded bytes of one model: `SelfHealingModel.weights`.

    Looks and asks; what changes the bytes is the model's (`rollback`) or the loop's. All methods
    raise `ModelClosedError` after the model was closed.

    Parameters
    ----------
    weights
        The images with all that guards them.
    copy
        The model as it is built, and the user's file.
    heal
        Handles what a check found.
    kept
        What keeps generations beyond the process, if anything does.
    """

    def __init__(
        self, weights: Weights, copy: ModelCopy, heal: Heal, kept: GenerationKeeper | None = None
    ) -> None:
        self.attach(weights, copy, heal, kept)

    def attach(
        self, weights: Weights, copy: ModelCopy, heal: Heal, kept: GenerationKeeper | None = None
    ) -> None:
        """Look at these from now on: the model before an update serves again."""
        self._kept = kept
        self._weights = weights
        self._heal = heal
        self._copy = copy

    @property
    def images(self) -> Mapping[str, ImageView]:
        """The watched stretches of memory, by name, as `ImageView` has them."""
        return MappingProxyType(
            {name: _view_of(image) for name, image in self._weights.images.items()}
        )

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every region of the model file."""
        return self._weights.regions

    @property
    def coverage(self) -> CoverageTable:
        """How each region of the model file is guarded."""
        return self._weights.coverage

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of all modules that have weights: what `rollback(modules=...)` takes."""
        return self._weights.modules

    @property
    def nbytes(self) -> int:
        """Bytes watched, of all images."""
        return self._weights.nbytes

    @property
    def generations(self) -> tuple[int, ...]:
        """Saved generations; 0 is golden. None with ``Policy(snapshots=False)``."""
        return self._weights.generations

    @property
    def active(self) -> int:
        """The generation that the live bytes are meant to be."""
        return self._weights.active

    @property
    def sweeps(self) -> int:
        """Complete sweeps of the slowest image."""
        return self._weights.sweeps

    def scrub(self, repair: bool = True) -> tuple[CorruptBlock, ...]:
        """Check every byte now, by keyed hash, and heal what is corrupt.

        Parameters
        ----------
        repair
            False only reports.

        Returns
        -------
        tuple of CorruptBlock
            What was found, also when it has been healed.

        Notes
        -----
        Cost: one keyed hash of all images, below 50 µs per 100 kB on a desktop, and as much again
        for what guards them.
        """
        return self._weights.scrub(self._heal if repair else None)

    def idle(self, seconds: float) -> tuple[CorruptBlock, ...]:
        """Use idle time for both sweeps; heal what they find.

        Parameters
        ----------
        seconds
            How long at most, 0 or more; it ends earlier when every byte has been checked by keyed
            hash.

        Returns
        -------
        tuple of CorruptBlock
            What was found, also when it has been healed.

        Raises
        ------
        ValueError
            For a negative number of seconds.

        Notes
        -----
        May be called from another thread; predictions wait for one slice at most, some 100 µs.
        """
        return self._weights.idle(seconds, self._heal)

    def pin(self, generation: int) -> None:
        """Forbid dropping a saved generation. Pins are not counted.

        Raises
        ------
        ValueError
            For golden, which is never dropped, and for a generation that is not held.
        """
        self._weights.pin(generation)
        if self._kept is not None:
            self._kept.pin(generation, True)

    def unpin(self, generation: int) -> None:
        """Allow dropping a saved generation again.

        Raises
        ------
        ValueError
            As `pin`.
        """
        self._weights.unpin(generation)
        if self._kept is not None:
            self._kept.pin(generation, False)

    def drop(self, generation: int) -> None:
        """Forget a saved generation, and make room for others.

        Raises
        ------
        ValueError
            For golden, for the active generation, for a pinned one, and for one that is not held.
        """
        self._weights.drop(generation)
        if self._kept is not None:
            self._kept.drop(generation)

    def export(self, path: str | os.PathLike[str], generation: int | None = None) -> str | None:
        """Write the model as it serves now, or as it was saved, to a TFLite file.

        The user's file with the weights of that generation: SignatureDefs and names are as
        they were, and what we added for watching is not in it. After a crash the old file or the
        new one is there, whole.

        Parameters
        ----------
        path
            Replaced if it exists.
        generation
            One of `generations`; None for the live bytes.

        Returns
        -------
        str or None
            Path of a file beside it, where this generation corrects the input and the graph does
            not allow it to be a part of the model: an input of more than four axes, or one that is
            an output as well. `read_correction` of `selfheal_edge.tflite.correction_file` reads
            it. None where inputs go in as they come.

        Raises
        ------
        IntegrityError
            While a block is corrupt: a damaged model is not worth keeping.
        ValueError
            For a generation that is not held.
        """
        sound = self._weights.sound_model(generation)
        return write_model(path, self._copy.file_with(sound["source"]), sound.get("input", b""))


def write_model(path: str | os.PathLike[str], file: bytes, inputs: bytes) -> str | None:
    """Write a model and, beside it, its correction of inputs; return where that is.

    What lies beside names the model by its hash, and is written first: a crash in between leaves an
    old model and what says that it belongs to another one.
    """
    beside, (file, content) = correction_path(path), with_correction(file, inputs)
    if content is not None:
        write_atomically(beside, content)
    write_atomically(path, file)
    if content is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        return None
    return beside


def _view_of(image: GuardedImage) -> ImageView:
    return ImageView(image.name, image.nbytes, MappingProxyType(image.regions), image.sweeps)
