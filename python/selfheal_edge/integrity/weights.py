"""The bytes that decide a model's answers: watched, saved, restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.generations import GOLDEN, Generations
from selfheal_edge.integrity.guarded_image import CorruptBlock, GuardedImage, RestoreReport
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.format.records import Region

__all__ = ["GOLDEN", "CorruptBlock", "GuardedImage", "Heal", "RestoreReport", "Weights"]

Heal: TypeAlias = Callable[[tuple[CorruptBlock, ...]], None]
"""Handles what a sweep found."""

_IDLE_SLICE: Final = 65536  # bytes between two looks at the clock


class Weights(Generations):
    """All images of one model: checked, healed, saved and put back.

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
        super().__init__(images, lock)
        self._coverage = coverage
        self._clock = clock
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

    def step(
        self, live_bytes: int, behind_bytes: int = 0, *, heal: bool = True
    ) -> tuple[CorruptBlock, ...]:
        """Check the next slice of every image; return what was damaged, usually nothing.

        Parameters
        ----------
        live_bytes, behind_bytes
            Budgets of the sweep of live bytes and of the one behind them, for each image.
        heal
            Whether the core repairs at once what it finds; otherwise it is only reported.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._lock:
            for image in self._images.values():
                if heal:
                    found += image.step(live_bytes, behind_bytes)
                else:
                    seen = image.look(live_bytes)
                    found += image.compared(seen, self.active) if seen else ()
        return found

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

    def check(self, *, heal: bool = False) -> tuple[CorruptBlock, ...]:
        """Check every live byte now; repair what does not hold, or nothing."""
        with self._lock:
            found = self._compared()
        return self.heal_blocks(found) if heal and found else found

    def _compared(self) -> tuple[CorruptBlock, ...]:
        # A call of its own: on Python 3.13 a loop that ends with an `if` without `else` has a jump
        # at which what a signal's handler raises leaves a `with` block without its `__exit__`.
        found: tuple[CorruptBlock, ...] = ()
        for image in self._images.values():
            if blocks := image.image.check():
                found += image.compared(image.describe(blocks), self.active)
        return found

    def mend(self) -> tuple[CorruptBlock, ...]:
        """Check every byte of the images and of all that guards them, and heal at once.

        Nothing is written to the journal and no runtime is rebuilt: `scrub` does the whole.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._lock:
            for image in self._images.values():
                found += image.sweep()
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
        """Check every byte now; have what is corrupt healed, or only report it."""
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
            if not image.image.check():
                found += image.sweep()
        return found

    def follow(self, images: Mapping[str, memoryview]) -> None:
        """Watch the runtime's own images where they are now, if their content is the same.

        Raises
        ------
        IntegrityError
            When it is another one: what the runtime built is not what it had built before.
        """
        with self._lock:
            expected = self._images.keys() - {"source", "input"}
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

    def move(self, images: Mapping[str, memoryview]) -> None:
        """Watch the same content of all images elsewhere: another instance serves from there.

        Raises
        ------
        IntegrityError
            When it is another one; all are watched where they were then.
        """
        with self._lock:
            before = {name: image.live for name, image in self._images.items()}
            try:
                for name, image in self._images.items():
                    image.follow(images[name])
            except (LookupError, RuntimeError, ValueError) as error:
                for name, live in before.items():
                    self._images[name].follow(live)
                raise IntegrityError(
                    f"weights: expected the same content elsewhere, got another: {error}"
                ) from None

    def replace(self, images: Mapping[str, GuardedImage]) -> None:
        """Guard other images from now on; their content is golden, and all snapshots are gone."""
        with self._lock:
            self._guard(images)

    @property
    def sweeps(self) -> int:
        """Complete sweeps of the slowest image."""
        if self._sweeps_when_closed is not None:
            return self._sweeps_when_closed
        return min(image.sweeps for image in self._images.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of checksums and snapshots."""
        images = sum(image.memory_bytes for image in self._images.values())
        return images + self._set.memory_bytes()

    def close(self) -> None:
        """Let go of all memory."""
        self._sweeps_when_closed = self.sweeps
        for image in self._images.values():
            image.close()
