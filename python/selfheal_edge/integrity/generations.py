"""Saved states of all images of a model, as one: stored, patched and put back together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.guarded_image import GuardedImage, RestoreReport

__all__ = ["GOLDEN", "Generations", "NoRoomError"]

GOLDEN: Final = 0
"""The generation that is always there."""


class NoRoomError(RuntimeError):
    """Another generation differs in more than there is room for; one has to be dropped first."""


class Generations:
    """What is saved of all images; a generation is a state of each of them.

    Parameters
    ----------
    images
        By name.
    lock
        The maintenance lock, shared with the model.
    """

    def __init__(self, images: Mapping[str, GuardedImage], lock: ModelLock) -> None:
        self._lock = lock
        self._guard(images)

    def _guard(self, images: Mapping[str, GuardedImage]) -> None:
        self._images = dict(images)
        self._set = _core.ImageSet([image.guard for image in images.values()])

    @property
    def active(self) -> int:
        """The generation that the live bytes are meant to be."""
        return self._set.active

    @property
    def generations(self) -> tuple[int, ...]:
        """Saved generations; 0 is golden."""
        with self._lock:
            return tuple(self._set.generations)

    @property
    def next_generation(self) -> int:
        """The smallest number that no generation has had in this process."""
        return self._set.next_generation

    def take(self, changed: bool = False, at_least: int = 0) -> int:
        """Save the live bytes as a new generation; refuse while they are corrupt.

        Parameters
        ----------
        changed
            Whether they are no longer the active generation's, on purpose.
        at_least
            Its number is the next one or, where that is larger, this.

        Raises
        ------
        IntegrityError
            When a block is corrupt: a damaged state is not worth keeping.
        NoRoomError
            When there is no room; drop a generation first.
        """
        with self._lock:
            self._require_snapshots()
            return self._stored(lambda: self._set.take(changed, at_least))

    def patch(self, changes: Mapping[str, Sequence[tuple[int, bytes]]], at_least: int = 0) -> int:
        """Make new bytes the live ones, and a generation of their own: in all images or in none.

        Parameters
        ----------
        changes
            By image, (offset, bytes) that do not overlap. What a runtime has packed from the file's
            bytes must be changed along with them: a generation is one model.
        at_least
            Its number is the next one or, where that is larger, this.

        Returns
        -------
        int
            The generation, which is the active one from now on, and its own origin. `restore` and
            `activate` of the one before lead back.

        Raises
        ------
        IntegrityError
            When a block is corrupt, or damage came meanwhile.
        NoRoomError
            When there is no room for it.
        ValueError
            For an unknown image, and for bytes that overlap or do not lie inside it.

        Notes
        -----
        The calling thread holds the inference lock, so that no answer comes from half of it.
        Nothing has changed if it raises.
        """
        names = list(self._images)
        if unknown := sorted(changes.keys() - self._images.keys()):
            raise ValueError(f"changes: expected images among {names}, got {unknown}")
        rows = [
            (names.index(name), offset, data)
            for name, parts in changes.items()
            for offset, data in sorted(parts, key=lambda part: part[0])
        ]
        with self._lock:
            self._require_snapshots()
            return self._stored(lambda: self._set.patch(rows, at_least))

    def _stored(self, store: Callable[[], int]) -> int:
        try:
            return store()
        except RuntimeError as error:
            corrupt = sum(len(i.image.check()) for i in self._images.values())
            if not corrupt:
                raise NoRoomError(str(error)) from None
            raise IntegrityError(
                f"weights: expected sound bytes to save, got {corrupt} corrupt block(s)"
            ) from None

    def no_room(self) -> str:
        """Return why no other generation can be saved now, or an empty text."""
        with self._lock:
            for image in self._images.values():
                pool = image.pool
                if pool is None:
                    return (
                        "the policy keeps no snapshots, so that nothing could be taken back "
                        "(snapshots=False)"
                    )
                if len(pool.generations) >= pool.max_generations:
                    most = pool.max_generations - 1
                    return (
                        f"there is no room for another generation: {most} are held beside golden "
                        "(max_generations); drop one"
                    )
            pools = [i.pool for n, i in self._images.items() if n in ("source", "input")]
            if not any(pool.free_blocks for pool in pools if pool is not None):
                return (
                    "there is no room for another generation: all saved blocks are taken; drop one"
                )
        return ""

    def origin(self, generation: int) -> int:
        """Return the first generation with the same content on purpose: what it answers like."""
        return self._set.origin(generation)

    def drop(self, generation: int) -> None:
        """Forget a saved generation.

        Raises
        ------
        ValueError
            For golden, for the active generation, for a pinned one, and for one that is not held.
        """
        with self._lock:
            held = sorted(set(self.generations) - {GOLDEN, self.active})
            if isinstance(generation, bool) or generation not in held:
                raise ValueError(
                    f"generation: expected one of {held} (neither golden nor the active one can "
                    f"be dropped), got {generation!r}"
                )
            self._set.drop(generation)

    def pin(self, generation: int) -> None:
        """Forbid dropping a saved generation. Pins are not counted.

        Raises
        ------
        ValueError
            For golden, which is never dropped, and for a generation that is not held.
        """
        with self._lock:
            self._require_saved(generation)
            self._set.pin(generation)

    def unpin(self, generation: int) -> None:
        """Allow dropping a saved generation again.

        Raises
        ------
        ValueError
            As `pin`.
        """
        with self._lock:
            self._require_saved(generation)
            self._set.unpin(generation)

    def _require_saved(self, generation: int) -> None:
        held = [g for g in self.generations if g != GOLDEN]
        if isinstance(generation, bool) or generation not in held:
            raise ValueError(f"generation: expected one of {held}, got {generation!r}")

    def _require_snapshots(self) -> None:
        if not self._set.generations:
            raise RuntimeError("weights: expected a policy with snapshots, got snapshots=False")

    def restore(
        self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]
    ) -> RestoreReport:
        """Make byte ranges, by image, those of `generation`, and expect them from now on.

        In all images or in none: what was refused says how many blocks kept it from being done.
        """
        names = list(self._images)
        rows = [(names.index(n), at, size) for n, parts in ranges.items() for at, size in parts]
        with self._lock:
            report = self._set.restore(generation, rows)
        return RestoreReport(report.rewritten, report.refused)

    def lost(self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]) -> int:
        """Count the damaged blocks that keep these ranges of `generation` from being restored."""
        with self._lock:
            return sum(self._images[n].lost(generation, r) for n, r in ranges.items())

    def activate(self, generation: int) -> None:
        """Take note that the live bytes are meant to be this generation."""
        with self._lock:
            self._set.activate(generation)

    def sound_model(self, generation: int | None = None) -> dict[str, bytes]:
        """Return `sound_bytes` of what does not follow from the rest: source and, if any, input."""
        with self._lock:
            names = ("source", "input")
            return {n: self.sound_bytes(n, generation) for n in names if n in self._images}

    def sound_bytes(self, name: str, generation: int | None = None) -> bytes:
        """Return a copy of an image's live bytes, or of what a generation has saved of them.

        Raises
        ------
        IntegrityError
            While a block of it is corrupt.
        ValueError
            For a generation that is not held.
        """
        with self._lock:
            image = self._images[name]
            if generation is not None:
                if isinstance(generation, bool) or generation not in self.generations:
                    raise ValueError(
                        f"generation: expected one of {self.generations}, got {generation!r}"
                    )
                assert image.pool is not None
                try:
                    return image.pool.read(generation)
                except RuntimeError as error:
                    raise IntegrityError(f"weights: {error}") from None
            copy = bytes(image.live)  # first, and then checked: nothing damaged can be in it
            if corrupt := image.image.check():
                raise IntegrityError(
                    f"weights: expected sound bytes to export, got {len(corrupt)} corrupt block(s)"
                )
            return copy
