from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support import examples

from selfheal_edge import _core

BLOCK = 64
BLOCKS = 7
NBYTES = BLOCK * BLOCKS - 13
CAPACITY = 6
MAX_GENERATIONS = 4


def blocks_of(data: bytes) -> list[bytes]:
    return [data[i * BLOCK : (i + 1) * BLOCK] for i in range(BLOCKS)]


class PoolMachine(RuleBasedStateMachine):
    """The pool against whole copies of plain bytes."""

    @initialize()
    def start(self) -> None:
        self.live = np.random.default_rng(1).integers(0, 256, NBYTES, dtype=np.uint8)
        self.image = _core.WeightImage(self.live, block_bytes=BLOCK, key=bytes(range(16)))
        self.pool = _core.SnapshotPool(self.image, CAPACITY, MAX_GENERATIONS)
        self.saved: dict[int, bytes] = {0: self.live.tobytes()}
        self.accepted = self.live.tobytes()
        self.pinned: set[int] = set()
        self.ever = {0}
        self.held = self.pool.memory_bytes()

    def changed(self, data: bytes) -> set[tuple[int, bytes]]:
        golden = blocks_of(self.saved[0])
        return {(i, b) for i, b in enumerate(blocks_of(data)) if b != golden[i]}

    def stored(self) -> set[tuple[int, bytes]]:
        return set().union(*(self.changed(data) for data in self.saved.values()))

    def draw_generation(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.saved))))

    @rule(at=st.integers(0, NBYTES - 1), value=st.integers(0, 3))
    def corrupt(self, at: int, value: int) -> None:
        self.live[at] = value

    @rule()
    def take(self) -> None:
        now = self.live.tobytes()
        if now != self.accepted:
            with pytest.raises(RuntimeError, match="take: expected"):
                self.pool.take()
            return
        fits = len(self.stored() | self.changed(now)) <= CAPACITY
        if fits and len(self.saved) < MAX_GENERATIONS:
            generation = self.pool.take()
            assert generation not in self.ever
            self.ever.add(generation)
            self.saved[generation] = now
        else:
            with pytest.raises(RuntimeError, match="take: expected"):
                self.pool.take()

    @rule(data=st.data())
    def restore(self, data: Any) -> None:
        generation = self.draw_generation(data)
        first = data.draw(st.integers(0, BLOCKS))
        count = data.draw(st.none() | st.integers(0, BLOCKS - first))
        end = BLOCKS if count is None else first + count
        before = blocks_of(self.live.tobytes())
        wanted = blocks_of(self.saved[generation])
        report = self.pool.restore(generation, first, count)
        assert report.rewritten == sum(before[i] != wanted[i] for i in range(first, end))
        assert (report.refused, report.refused_blocks) == (0, [])
        assert blocks_of(self.live.tobytes()) == before[:first] + wanted[first:end] + before[end:]
        old = blocks_of(self.accepted)
        self.accepted = b"".join(old[:first] + wanted[first:end] + old[end:])

    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        generation = self.draw_generation(data)
        if generation == 0 or generation in self.pinned:
            with pytest.raises(ValueError, match="generation: expected"):
                self.pool.drop(generation)
        else:
            self.pool.drop(generation)
            del self.saved[generation]

    @rule(data=st.data())
    def pin(self, data: Any) -> None:
        generation = self.draw_generation(data)
        self.pool.pin(generation)
        self.pinned.add(generation)

    @rule(data=st.data())
    def unpin(self, data: Any) -> None:
        generation = self.draw_generation(data)
        if generation == 0:
            with pytest.raises(ValueError, match="golden"):
                self.pool.unpin(0)
        else:
            self.pool.unpin(generation)
            self.pinned.discard(generation)

    @rule(offset=st.integers(0, NBYTES), data=st.data())
    def change(self, offset: int, data: Any) -> None:
        new = data.draw(st.binary(max_size=NBYTES - offset))
        end = offset + len(new)
        partly = {offset // BLOCK} if offset % BLOCK else set()
        if end % BLOCK and end != NBYTES:
            partly.add(end // BLOCK)
        corrupt = set(self.image.check())
        if new and partly & corrupt:
            with pytest.raises(RuntimeError, match="write: expected sound blocks"):
                self.image.write(offset, new)
        else:
            self.image.write(offset, new)
            self.accepted = self.accepted[:offset] + new + self.accepted[end:]

    @precondition(lambda self: len(self.ever) > len(self.saved))
    @rule(data=st.data())
    def use_a_dropped_generation(self, data: Any) -> None:
        gone = data.draw(st.sampled_from(sorted(self.ever - self.saved.keys())))
        for call in (
            self.pool.restore,
            self.pool.drop,
            self.pool.pin,
            self.pool.unpin,
            self.pool.verify,
            self.pool.changed_blocks,
        ):
            with pytest.raises(KeyError, match="generation: expected one that is held"):
                call(gone)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.pool.generations == sorted(self.saved)
        assert self.pool.free_blocks == CAPACITY - len(self.stored())
        assert self.pool.memory_bytes() == self.held
        old, new = blocks_of(self.accepted), blocks_of(self.live.tobytes())
        assert self.image.check() == [i for i in range(BLOCKS) if old[i] != new[i]]
        assert self.image.table_ok()
        for generation, data in self.saved.items():
            assert self.pool.verify(generation) == []
            assert self.pool.changed_blocks(generation) == sorted(i for i, _ in self.changed(data))


PoolMachine.TestCase.settings = examples(60, stateful_step_count=40)
TestPool = PoolMachine.TestCase


def test_refusals() -> None:
    live = bytearray(1000)
    image = _core.WeightImage(live)
    with pytest.raises(ValueError, match="capacity_blocks: expected an integer >= 0, got -1"):
        _core.SnapshotPool(image, -1)
    with pytest.raises(ValueError, match="max_generations: expected an integer from 1 to 4096"):
        _core.SnapshotPool(image, 1, 5000)
    live[0] = 1
    with pytest.raises(RuntimeError, match="image: expected undamaged bytes to copy as golden"):
        _core.SnapshotPool(image, 1)
