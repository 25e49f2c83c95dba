"""One stretch of live memory with everything that guards it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.errors import IntegrityError, ModelFormatError
from selfheal_edge.log import logger
from selfheal_edge.tflite.format.records import Region
from selfheal_edge.tflite.runtimes.protocol import Instance

__all__ = [
    "CorruptBlock",
    "GuardOptions",
    "GuardedImage",
    "RestoreReport",
    "describe_findings",
    "guard_instance",
]

_MOST_FLIPS: Final = 16
_ARENA_SHARE = 16  # generations share blocks worth a sixteenth of the image
_BLOCK_BYTES: Final = 512
_MOST_BLOCKS: Final = 2048  # larger images have larger blocks: tables and lists stay small
_LARGEST_BLOCK: Final = 8192
_LEARNED: Final = 3  # a confirmed generation, one on trial, and what the trial's is refined to
_MOST_LEARNED: Final = 8  # of several conditions, while they take no more than that many bytes:
_LEARNED_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class CorruptBlock:
    """Damage to one block: of the image itself or, by `part`, of what guards it."""

    image: str
    block: int
    offset: int
    """Bytes from the start of the image."""
    nbytes: int
    regions: tuple[str, ...]
    """Names of the regions that share bytes with it."""
    modules: tuple[str, ...]
    """Modules that read those regions."""
    part: str = "live"
    """``"live"`` weights; or ``"table"``, ``"key"``, ``"parity"``, ``"snapshot"``,
    ``"list"`` (which blocks a generation has)."""
    source: str | None = None
    """Where the right bytes came from, once healed: ``"snapshot"``, ``"parity"`` …"""
    flips: tuple[tuple[int, int], ...] = ()
    """(offset in the image, xor mask) of the first 16 wrong bytes, where they could be compared
    with what they should be."""
    wrong_bits: int = 0
    """All bits that are, or were, wrong; likewise."""

    @property
    def healed(self) -> bool:
        """Whether it was restored and verified."""
        return self.source is not None


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What restoring did."""

    rewritten: int
    """Blocks that differed and were written."""
    refused: int
    """Saved blocks that were themselves damaged; nothing was written from them."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What stands behind an image."""

    max_generations: int = 8
    """Snapshots beside golden."""
    snapshots: bool = True
    """Whether there is memory for copies at all, golden included."""
    parity_blocks: int = 1
    """Parity blocks for every `parity_group` blocks; 0: none."""
    parity_group: int = 16
    learned_bytes: int = 0
    """What of an image a learned generation may differ in: there is room for three of them, and for
    up to eight in 64 KiB, beside the sixteenth of the image that all generations share."""
    block_bytes: int = _BLOCK_BYTES
    """Bytes of a block: a power of two."""
    copies_golden: bool = True
    """Whether golden has a copy of its own, or shares the live blocks that nothing has changed."""


def _seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


class GuardedImage:
    """Live bytes with their seals, sweeps, snapshots and parity.

    Parameters
    ----------
    name
        ``"source"``, ``"packed"`` or ``"input"``.
    live
        Writable bytes; kept until `close`. They are golden.
    regions
        What lies where in it.
    options
        What stands behind it.
    elsewhere
        Reads the bytes of golden from where they lie outside of memory, for blocks that nothing in
        memory brings back; None: nowhere. It may raise IntegrityError, ModelFormatError or OSError.

    Notes
    -----
    The key of the hash and the sweeps' orders are drawn from the operating system here.
    """

    def __init__(
        self,
        name: str,
        live: memoryview,
        regions: Sequence[Region],
        options: GuardOptions,
        elsewhere: Callable[[], bytes] | None = None,
    ) -> None:
        self.name = name
        self.live = live
        self.nbytes = live.nbytes
        """Bytes watched: all of the image."""
        self.regions = {region.name: region for region in regions}
        table = [(r.name, ",".join(r.modules), r.offset, r.nbytes) for r in regions if r.nbytes]
        self._elsewhere = elsewhere
        size = options.block_bytes
        self.image = _core.WeightImage(live, table, block_bytes=size, key=os.urandom(16))
        learned = -(-options.learned_bytes // size)
        states = min(_MOST_LEARNED, _LEARNED_BYTES // max(1, options.learned_bytes))
        states = max(_LEARNED, states) + (not options.copies_golden)  # and golden's own
        capacity = max(16, self.image.block_count // _ARENA_SHARE + states * learned)
        self.pool = (
            _core.SnapshotPool(
                self.image, capacity, options.max_generations + 1, options.copies_golden
            )
            if options.snapshots
            else None
        )
        self.parity = (
            _core.Parity(self.image, options.parity_group, options.parity_blocks)
            if options.parity_blocks
            else None
        )
        self.guard = _core.ImageGuard(self.image, self.pool, self.parity, _seed())

    @property
    def sweeps(self) -> int:
        """Complete sweeps of live bytes."""
        return self.guard.sweeps

    def describe(self, blocks: Sequence[int]) -> tuple[CorruptBlock, ...]:
        """Say what the given blocks hold."""
        return tuple(self._describe(block) for block in blocks)

    def _describe(self, block: int) -> CorruptBlock:
        names = tuple(self.image.block_regions(block))
        modules = dict.fromkeys(m for n in names for m in self.regions[n].modules)
        offset = block * self.image.block_bytes
        nbytes = min(self.image.block_bytes, self.nbytes - offset)
        return CorruptBlock(self.name, block, offset, nbytes, names, tuple(modules))

    def report(self, finding: _core.Finding) -> CorruptBlock:
        """Say what the core found, and what became of it."""
        part, source = finding.part, finding.source
        if part in ("live", "table", "snapshot"):
            where = self._describe(finding.block)
        else:
            where = CorruptBlock(self.name, finding.block, 0, 0, (), ())
        return replace(
            where,
            part=part,
            source=source,
            flips=tuple((where.offset + at, mask) for at, mask in finding.flips),
            wrong_bits=finding.wrong_bits,
        )

    def compared(self, blocks: Sequence[CorruptBlock], generation: int) -> tuple[CorruptBlock, ...]:
        """Say what is wrong in live blocks that are not healed yet, where a stored copy tells."""
        if self.pool is None:
            return tuple(blocks)
        try:
            right = np.frombuffer(self.pool.read(generation), np.uint8)
        except RuntimeError:  # a stored block is damaged as well
            return tuple(blocks)
        return tuple(self._compared(block, right) for block in blocks)

    def _compared(self, block: CorruptBlock, right: npt.NDArray[np.uint8]) -> CorruptBlock:
        if block.part != "live" or block.healed:
            return block
        at = slice(block.offset, block.offset + block.nbytes)
        wrong = np.frombuffer(self.live[at], np.uint8) ^ right[at]
        places = np.flatnonzero(wrong)
        flips = tuple((block.offset + int(n), int(wrong[n])) for n in places[:_MOST_FLIPS])
        return replace(block, flips=flips, wrong_bits=int(np.unpackbits(wrong).sum()))

    def step(self, live_bytes: int, behind_bytes: int) -> tuple[CorruptBlock, ...]:
        """Check the next slices and heal at once; return what was damaged, usually nothing."""
        found = self.guard.step(live_bytes, behind_bytes)
        return self._from_elsewhere(found) if found else ()

    def look(self, live_bytes: int) -> tuple[CorruptBlock, ...]:
        """Check the next slice of live bytes, and repair nothing."""
        return tuple(map(self.report, self.guard.look(live_bytes)))

    def heal(self, blocks: Sequence[int]) -> tuple[CorruptBlock, ...]:
        """Heal the given blocks; return those that needed it."""
        found = (self.guard.heal(block) for block in blocks)
        return self._from_elsewhere([finding for finding in found if finding is not None])

    def sweep(self) -> tuple[CorruptBlock, ...]:
        """Check every byte, also of what stands behind, and heal; return what was damaged."""
        return self._from_elsewhere(self.guard.sweep())

    def _from_elsewhere(self, found: list[_core.Finding]) -> tuple[CorruptBlock, ...]:
        """Heal from outside of memory what nothing in it has brought back; the core proves it."""
        lost = [f.block for f in found if f.part == "live" and not f.healed]
        if lost and self._elsewhere is not None:
            try:
                data = self._elsewhere()
            except (IntegrityError, ModelFormatError, OSError) as error:
                logger().warning("%s: the file's bytes cannot be had: %s", self.name, error)
            else:
                healed = {b: f for b in lost if (f := self.guard.heal_from(b, data)) is not None}
                found = [healed.get(f.block, f) if f.part == "live" else f for f in found]
        return tuple(map(self.report, found))

    def ranges_of(self, modules: Collection[str] | None) -> list[tuple[int, int]]:
        """Return (offset, nbytes) of some modules, to the byte; of everything when None."""
        if modules is None:
            return [(0, self.nbytes)]
        return [
            (region.offset, region.nbytes)
            for region in self.regions.values()
            if region.nbytes and not set(region.modules).isdisjoint(modules)
        ]

    def lost(self, generation: int, ranges: Sequence[tuple[int, int]]) -> int:
        """Count the blocks of `generation` in these byte ranges whose stored copy is damaged."""
        assert self.pool is not None
        damaged = self.pool.verify(generation)
        size = self.image.block_bytes
        return sum(
            any(begin < (b + 1) * size and b * size < begin + nbytes for begin, nbytes in ranges)
            for b in damaged
        )

    def follow(self, live: memoryview) -> None:
        """Watch the same content at another place: the runtime was rebuilt.

        Raises
        ------
        RuntimeError, ValueError
            When the content there is another one; the old place is watched as before.
        """
        self.image.rebind(live)
        self.live = live

    @property
    def memory_bytes(self) -> int:
        """Bytes of seals, snapshots, parity and sweeps, without the live bytes."""
        parts = (self.image, self.guard, self.pool, self.parity)
        return sum(part.memory_bytes() for part in parts if part is not None)

    def close(self) -> None:
        """Let go of the live bytes."""
        self.image.release()
        with contextlib.suppress(BufferError):  # a user's array keeps the memory until it goes
            self.live.release()


def _block_bytes(nbytes: int) -> int:
    """Return the bytes of a block, so that an image has some thousands of them at most."""
    size = _BLOCK_BYTES
    while size < _LARGEST_BLOCK and nbytes > size * _MOST_BLOCKS:
        size *= 2
    return size


def describe_findings(
    images: Sequence[GuardedImage], findings: Iterable[tuple[int, _core.Finding]]
) -> tuple[CorruptBlock, ...]:
    """Say what the core found, given by (index in `images`, finding)."""
    return tuple(images[index].report(finding) for index, finding in findings)


def guard_instance(
    source: memoryview,
    regions: Sequence[Region],
    instance: Instance,
    options: GuardOptions,
    correction: _core.InputCorrection | None = None,
    elsewhere: Callable[[], bytes] | None = None,
) -> dict[str, GuardedImage]:
    """Guard the bytes that an instance was built from, and its own, as they are now, by name.

    And the correction of its input, if there is one, of which no two generations share anything.
    Where other images execute, the source has no copy of golden: parity brings it back, or the file
    (`elsewhere`).
    """
    largest = max(source.nbytes, *(live.nbytes for live in instance.images.values()), 1)
    options = replace(options, block_bytes=_block_bytes(largest))
    has_copy = not (instance.images and options.parity_blocks)
    lean = replace(options, copies_golden=has_copy)
    images = {"source": GuardedImage("source", source, regions, lean, elsewhere)}
    for name, live in instance.images.items():
        images[name] = GuardedImage(name, live, instance.image_regions[name], options)
    if correction is not None:
        live = correction.memory.data
        region = Region("input", (), 0, live.nbytes, "other", ())
        room = replace(options, learned_bytes=live.nbytes)
        images["input"] = GuardedImage("input", live, [region], room)
    return images
