"""The bytes that decide a model's answers: watched, saved, restored."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from selfheal_edge import _core
from selfheal_edge.errors import IntegrityError
from selfheal_edge.tflite.protocol import CoverageTable, Instance
from selfheal_edge.tflite.records import Region
from selfheal_edge.turns import Turns

__all__ = ["GOLDEN", "CorruptBlock", "GuardedImage", "RestoreReport", "Weights"]

GOLDEN: Final = 0
"""The generation that is always there."""

_ARENA_SHARE: Final = 4  # generations share blocks worth a quarter of the image


@dataclass(frozen=True, slots=True)
class CorruptBlock:
    """A block whose checksum does not hold."""

    image: str
    block: int
    offset: int
    nbytes: int
    regions: tuple[str, ...]
    """Names of the regions that share bytes with it."""
    modules: tuple[str, ...]
    """Modules that read those regions."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What restoring did."""

    rewritten: int
    """Blocks that differed and were written."""
    refused: int
    """Saved blocks that were themselves damaged; nothing was written from them."""


class GuardedImage:
    """One stretch of live memory with its checksums, its sweep and its snapshots.

    Parameters
    ----------
    name
        ``"source"`` or ``"packed"``.
    live
        Writable bytes; kept until `close`.
    regions
        What lies where in it.
    max_generations
        Snapshots beside golden; 0 for an image that can be made again.
    """

    def __init__(
        self, name: str, live: memoryview, regions: Sequence[Region], max_generations: int
    ) -> None:
        self.name = name
        self.live = live
        self.nbytes = live.nbytes
        """Bytes watched: all of the image."""
        self.regions = {region.name: region for region in regions}
        table = [(r.name, ",".join(r.modules), r.offset, r.nbytes) for r in regions if r.nbytes]
        self.image = _core.WeightImage(live, table)
        capacity = max(16, self.image.block_count // _ARENA_SHARE) if max_generations else 0
        self.pool = _core.SnapshotPool(self.image, capacity, max_generations + 1)
        self.scrubber = _core.Scrubber(self.image, secrets.randbits(64))

    def digest(self) -> bytes:
        """Return a SHA-256 of the live bytes."""
        return hashlib.sha256(self.live).digest()

    def describe(self, blocks: Sequence[int]) -> tuple[CorruptBlock, ...]:
        """Say what the given blocks hold."""
        return tuple(self._describe(block) for block in blocks)

    def _describe(self, block: int) -> CorruptBlock:
        names = tuple(self.image.block_regions(block))
        modules = dict.fromkeys(m for n in names for m in self.regions[n].modules)
        offset = block * self.image.block_bytes
        nbytes = min(self.image.block_bytes, self.nbytes - offset)
        return CorruptBlock(self.name, block, offset, nbytes, names, tuple(modules))

    def blocks_of(self, modules: Collection[str] | None) -> list[tuple[int, int]]:
        """Return (first, count) of the blocks of some modules; of all when None."""
        if modules is None:
            return [(0, self.image.block_count)]
        return [
            self.image.region_blocks(region.name)
            for region in self.regions.values()
            if region.nbytes and not set(region.modules).isdisjoint(modules)
        ]

    def restore(self, generation: int, ranges: Sequence[tuple[int, int]]) -> RestoreReport:
        """Make block ranges those of `generation`, and take them as the expected state."""
        rewritten = refused = 0
        for first, count in ranges:
            report = self.pool.restore(generation, first, count)
            rewritten += report.rewritten
            refused += report.refused
        return RestoreReport(rewritten, refused)

    @property
    def memory_bytes(self) -> int:
        """Bytes of checksums, snapshots and sweep, without the live bytes."""
        parts = (self.image, self.pool, self.scrubber)
        return sum(part.memory_bytes() for part in parts)

    def close(self) -> None:
        """Let go of the live bytes."""
        self.image.release()
        with contextlib.suppress(BufferError):  # somebody's array keeps the memory; it lets go last
            self.live.release()


class Weights:
    """All images of one model.

    Parameters
    ----------
    source
        The image of the model file; snapshots are taken of it, and all else is made from it.
    coverage
        Returns the coverage table of the running instance.
    heal
        Called with the corrupt blocks that `scrub` found.
    turns
        Shared with the model: no check while another thread runs, heals or closes it.
    """

    def __init__(
        self,
        source: GuardedImage,
        coverage: Callable[[], CoverageTable],
        heal: Callable[[tuple[CorruptBlock, ...]], None],
        turns: Turns,
    ) -> None:
        self._images = {source.name: source}
        self._source = source
        self._digests: dict[tuple[str, int], bytes] = {}  # by image and generation
        self._coverage = coverage
        self._heal = heal
        self._turns = turns
        self._active = GOLDEN
        self._sweeps_when_closed: int | None = None

    def check_open(self) -> None:
        """Raise `ModelClosedError` after the model was closed, and in a forked child."""
        with self._turns:
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
        with self._turns:
            return tuple(self._source.pool.generations)

    def step(self, budget_bytes: int) -> tuple[CorruptBlock, ...]:
        """Check the next slice of every image; return what is corrupt, usually nothing."""
        found: tuple[CorruptBlock, ...] = ()
        with self._turns:
            for image in self._images.values():
                blocks = image.scrubber.step(budget_bytes)
                if blocks:
                    found += image.describe(blocks)
        return found

    def check(self) -> tuple[CorruptBlock, ...]:
        """Check every byte now; repair nothing.

        Raises
        ------
        IntegrityError
            When a table of checksums is itself damaged, so that nothing can be told.
        """
        found: tuple[CorruptBlock, ...] = ()
        with self._turns:
            for image in self._images.values():
                if not image.image.table_ok():
                    raise IntegrityError(
                        f"weights: expected an undamaged table of checksums for the {image.name} "
                        "image, got a damaged one"
                    )
                found += image.describe(image.image.check())
        return found

    def scrub(self, repair: bool = True) -> tuple[CorruptBlock, ...]:
        """Check every byte now, and heal what is corrupt.

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
        Cost: one checksum of all images, some 10 µs per 100 kB where CRC instructions exist.
        """
        with self._turns:
            found = self.check()
            if found and repair:
                self._heal(found)
            return found

    def take(self) -> int:
        """Save the live bytes as a new generation; refuse while they are corrupt.

        Raises
        ------
        IntegrityError
            When a block is corrupt: a damaged state is not worth keeping.
        RuntimeError
            When there is no room; drop a generation first.
        """
        with self._turns:
            found = self.check()
            if found:
                raise IntegrityError(
                    f"weights: expected sound bytes to save, got {len(found)} corrupt block(s)"
                )
            return int(self._source.pool.take())

    def drop(self, generation: int) -> None:
        """Forget a saved generation.

        Raises
        ------
        ValueError
            For golden, for the active generation, and for one that is not held.
        """
        with self._turns:
            held = [g for g in self.generations if g not in (GOLDEN, self._active)]
            if isinstance(generation, bool) or generation not in held:
                raise ValueError(
                    f"generation: expected one of {held} (neither golden nor the active one can "
                    f"be dropped), got {generation!r}"
                )
            self._source.pool.drop(generation)

    def restore(
        self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]
    ) -> RestoreReport:
        """Make block ranges, by image, those of `generation`.

        An image that the runtime made has one saved state, the one it was born with.
        """
        with self._turns:
            reports = [
                self._images[name].restore(generation if name == "source" else GOLDEN, part)
                for name, part in ranges.items()
            ]
        return RestoreReport(sum(r.rewritten for r in reports), sum(r.refused for r in reports))

    def settle(self, generation: int) -> None:
        """Take the source, restored to another generation, as what it is meant to be now."""
        with self._turns:
            self._source.image.accept(0, self._source.image.block_count)
            self._active = generation

    def rebind(self, instance: Instance) -> None:
        """Watch the images of a new instance instead of those of the one before.

        Raises
        ------
        IntegrityError
            When the runtime made other bytes from the same source than the first time.
        """
        with self._turns:
            fresh = {
                name: GuardedImage(name, view, instance.image_regions[name], 0)
                for name, view in instance.images.items()
            }
            changed = [
                name
                for name, image in fresh.items()
                if self._digests.setdefault((name, self._active), image.digest()) != image.digest()
            ]
            if changed:
                raise IntegrityError(
                    f"weights: expected the {changed[0]} image that these source bytes gave "
                    "before, got another"
                )
            for name, image in self._images.items():
                if name != "source":
                    image.close()
            self._images = {"source": self._source, **fresh}

    @property
    def sweeps(self) -> int:
        """Complete sweeps of the slowest image."""
        if self._sweeps_when_closed is not None:
            return self._sweeps_when_closed
        return min(image.scrubber.sweeps for image in self._images.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of checksums and snapshots."""
        return sum(image.memory_bytes for image in self._images.values())

    def close(self) -> None:
        """Let go of all memory."""
        self._sweeps_when_closed = self.sweeps
        for image in self._images.values():
            image.close()
