"""The bytes that decide a model's answers: watched, saved, restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.guarded_image import CorruptBlock, GuardedImage, RestoreReport
from selfheal_edge.tflite.format.records import Region
from selfheal_edge.tflite.runtimes.protocol import CoverageTable

__all__ = ["GOLDEN", "CorruptBlock", "GuardedImage", "Heal", "RestoreReport", "Weights"]

Heal: TypeAlias = Callable[[tuple[CorruptBlock, ...]], None]
"""Handles what a sweep found."""

GOLDEN: Final = 0
"""The generation that is always there."""

_IDLE_SLICE: Final = 65536  # bytes between two looks at the clock


class Weights:
    """All images of one model.

    Parameters
    ----------
    images
        By name.
    coverage
        Returns the coverage table of the running instance.
    lock
        The maintenance lock, shared with the model: no check while another thread heals it or
        closes it.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        images: Mapping[str, GuardedImage],
        coverage: Callable[[], CoverageTable],
        lock: ModelLock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._images = dict(images)
        self._coverage = coverage
        self._lock = lock
        self._clock = clock
        self._active = GOLDEN
        self._origins = {GOLDEN: GOLDEN}
        self._sweeps_when_closed: int | None = None

    def check_open(self) -> None:
        """Raise `ModelClosedError` after the model was closed, and in a forked child."""
        with self._lock:
            pass

    @property
    def images(self) -> Mapping[str, GuardedImage]:
        """The watched stretches of memory, by name."""
        return MappingProxyType(self._images)

    @property
    def coverage(self) -> CoverageTable:
        """How each region of the model file is guarded."""
        return self._coverage()

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every region of the model file."""
        return tuple(row.region for row in self._coverage().rows)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of all modules that have weights: what `rollback(modules=...)` takes."""
        return tuple(dict.fromkeys(m for region in self.regions for m in region.modules))

    @property
    def nbytes(self) -> int:
        """Bytes watched."""
        return sum(image.nbytes for image in self._images.values())

    @property
    def active(self) -> int:
        """The generation that the live bytes are meant to be."""
        return self._active

    @property
    def generations(self) -> tuple[int, ...]:
        """Saved generations; 0 is golden."""
        with self._lock:
            pool = self._images["source"].pool
            return () if pool is None else tuple(pool.generations)

    def step(
        self, fast_bytes: int, keyed_bytes: int = 0, *, heal: bool = True
    ) -> tuple[CorruptBlock, ...]:
        """Check the next slice of every image; return what was damaged, usually nothing.

        Parameters
        ----------
        fast_bytes, keyed_bytes
            Budgets of the fast sweep and of the keyed one, for each image.
        heal
            Whether the core repairs at once what it finds; otherwise it is only reported.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._lock:
            for image in self._images.values():
                if heal:
                    found += image.step(fast_bytes, keyed_bytes)
                else:
                    found += image.look(fast_bytes)
        return found

    def describe(self, findings: Sequence[tuple[int, _core.Finding]]) -> tuple[CorruptBlock, ...]:
        """Say what the core found, given by (index in `images`, finding)."""
        images = tuple(self._images.values())
        return tuple(images[index].report(finding) for index, finding in findings)

    def idle(self, seconds: float, heal: Heal) -> tuple[CorruptBlock, ...]:
        """Use idle time for both sweeps, so many seconds at most; heal what they find."""
        if not seconds >= 0:
            raise ValueError(f"seconds: expected a number of at least 0, got {seconds!r}")
        found: tuple[CorruptBlock, ...] = ()
        end = self._clock() + seconds
        left = 4 * self.nbytes  # no image with all that guards it is larger
        while left > 0 and self._clock() < end:
            with self._lock:
                now = self.step(_IDLE_SLICE, _IDLE_SLICE)
                if now:
                    heal(now)
            found += now
            left -= _IDLE_SLICE
        return found

    def check(self, keyed: bool = True) -> tuple[CorruptBlock, ...]:
        """Check every byte now; repair nothing.

        Parameters
        ----------
        keyed
            By keyed hash, which chosen flips do not pass; False by checksum alone, some two times
            faster.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._lock:
            for image in self._images.values():
                found += image.describe(image.image.check(keyed=keyed))
        return found

    def sound_bytes(self, name: str) -> bytes:
        """Return a copy of an image's live bytes.

        Raises
        ------
        IntegrityError
            While a block of it is corrupt.
        """
        with self._lock:
            image = self._images[name]
            copy = bytes(image.live)  # first, and then checked: nothing damaged can be in it
            if corrupt := image.image.check(keyed=True):
                raise IntegrityError(
                    f"weights: expected sound bytes to export, got {len(corrupt)} corrupt block(s)"
                )
            return copy

    def mend(self) -> tuple[CorruptBlock, ...]:
        """Check every byte of the images and of all that guards them, and heal at once.

        Nothing is written to the journal and no runtime is rebuilt: `scrub` does the whole.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._lock:
            for image in self._images.values():
                found += tuple(map(image.report, image.guard.sweep()))
        return found

    def heal_blocks(self, corrupt: Sequence[CorruptBlock]) -> tuple[CorruptBlock, ...]:
        """Heal corrupt blocks from whatever verifies; return those that needed it."""
        found: tuple[CorruptBlock, ...] = ()
        live = [b for b in corrupt if b.part == "live"]
        wanted = {name: [b.block for b in live if b.image == name] for name in self._images}
        with self._lock:
            for name, image in self._images.items():
                found += image.heal(wanted[name])
        return found

    def scrub(self, heal: Heal | None) -> tuple[CorruptBlock, ...]:
        """Check every byte now by keyed hash; have what is corrupt healed, or only report it."""
        with self._lock:
            found = self.check()
            if heal is None:
                return found
            if found:
                heal(found)
            if guards := self._mend_guards():
                heal(guards)
                found += guards
            return found

    def _mend_guards(self) -> tuple[CorruptBlock, ...]:
        """Mend tables, parity and snapshots, unless live bytes resist: those are not ours here."""
        found: tuple[CorruptBlock, ...] = ()
        for image in self._images.values():
            if not image.image.check(keyed=True):
                found += tuple(map(image.report, image.guard.sweep()))
        return found

    def take(self, changed: bool = False) -> int:
        """Save the live bytes as a new generation; refuse while they are corrupt.

        Parameters
        ----------
        changed
            Whether they are no longer the active generation's, on purpose.

        Raises
        ------
        IntegrityError
            When a block is corrupt: a damaged state is not worth keeping.
        RuntimeError
            When there is no room; drop a generation first.
        """
        with self._lock:
            found = self.check()
            if found:
                raise IntegrityError(
                    f"weights: expected sound bytes to save, got {len(found)} corrupt block(s)"
                )
            pools = self._pools()
            # One number for all images: a pool that could store where another could not is ahead.
            generation = max(pool.next_generation for pool in pools)
            taken: list[_core.SnapshotPool] = []
            try:
                for pool in pools:
                    pool.take(generation)
                    taken.append(pool)
            except BaseException:
                for pool in taken:
                    pool.drop(generation)
                if self.check():  # damaged since it was looked at
                    raise IntegrityError(
                        "weights: expected sound bytes to save, got damage"
                    ) from None
                raise
            self._origins[generation] = generation if changed else self._origins[self._active]
            self._origins = {g: self._origins[g] for g in self.generations}
            return generation

    def origin(self, generation: int) -> int:
        """Return the first generation with the same content on purpose: what it answers like."""
        return self._origins[generation]

    def drop(self, generation: int) -> None:
        """Forget a saved generation.

        Raises
        ------
        ValueError
            For golden, for the active generation, for a pinned one, and for one that is not held.
        """
        with self._lock:
            held = sorted(set(self.generations) - {GOLDEN, self._active})
            if isinstance(generation, bool) or generation not in held:
                raise ValueError(
                    f"generation: expected one of {held} (neither golden nor the active one can "
                    f"be dropped), got {generation!r}"
                )
            for pool in self._pools():
                pool.drop(generation)

    def pin(self, generation: int) -> None:
        """Forbid dropping a saved generation. Pins are not counted.

        Raises
        ------
        ValueError
            For golden, which is never dropped, and for a generation that is not held.
        """
        with self._lock:
            for pool in self._saved(generation):
                pool.pin(generation)

    def unpin(self, generation: int) -> None:
        """Allow dropping a saved generation again.

        Raises
        ------
        ValueError
            As `pin`.
        """
        with self._lock:
            for pool in self._saved(generation):
                pool.unpin(generation)

    def _saved(self, generation: int) -> list[_core.SnapshotPool]:
        held = [g for g in self.generations if g != GOLDEN]
        if isinstance(generation, bool) or generation not in held:
            raise ValueError(f"generation: expected one of {held}, got {generation!r}")
        return self._pools()

    def _pools(self) -> list[_core.SnapshotPool]:
        pools = [image.pool for image in self._images.values() if image.pool is not None]
        if not pools:
            raise RuntimeError("weights: expected a policy with snapshots, got snapshots=False")
        return pools

    def restore(
        self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]
    ) -> RestoreReport:
        """Make byte ranges, by image, those of `generation`, and expect them from now on."""
        with self._lock:
            reports = [self._images[n].restore(generation, r) for n, r in ranges.items()]
        return RestoreReport(sum(r.rewritten for r in reports), sum(r.refused for r in reports))

    def lost(self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]) -> int:
        """Count the damaged blocks that keep these ranges of `generation` from being restored."""
        with self._lock:
            return sum(self._images[n].lost(generation, r) for n, r in ranges.items())

    def activate(self, generation: int) -> None:
        """Take note that the live bytes are meant to be this generation."""
        with self._lock:
            self._active = generation

    def follow(self, images: Mapping[str, memoryview]) -> None:
        """Watch the runtime's own images where they are now, if their content is the same.

        Raises
        ------
        IntegrityError
            When it is another one: what the runtime built is not what it had built before.
        """
        with self._lock:
            expected = self._images.keys() - {"source"}
            if images.keys() != expected:
                raise IntegrityError(
                    f"weights: expected the runtime to build with the images {sorted(expected)}, "
                    f"got {sorted(images)}"
                )
            for name, live in images.items():
                try:
                    self._images[name].follow(live)
                except (RuntimeError, ValueError) as error:
                    raise IntegrityError(
                        f"weights: expected the {name} image as it was before the rebuild: {error}"
                    ) from None

    def replace(self, images: Mapping[str, GuardedImage]) -> None:
        """Guard other images from now on; their content is golden, and all snapshots are gone."""
        with self._lock:
            self._images = dict(images)
            self._active = GOLDEN
            self._origins = {GOLDEN: GOLDEN}

    @property
    def sweeps(self) -> int:
        """Complete sweeps of the slowest image."""
        if self._sweeps_when_closed is not None:
            return self._sweeps_when_closed
        return min(image.sweeps for image in self._images.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of checksums and snapshots."""
        return sum(image.memory_bytes for image in self._images.values())

    def close(self) -> None:
        """Let go of all memory."""
        self._sweeps_when_closed = self.sweeps
        for image in self._images.values():
            image.close()
