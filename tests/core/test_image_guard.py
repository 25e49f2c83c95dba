import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support import examples

from selfheal_edge import _core

KEY = bytes(range(16))
BLOCK = 64
NBYTES = BLOCK * 20 - 11


class GuardMachine(RuleBasedStateMachine):
    """The guard against plain bytes: whatever is damaged, a sweep brings back."""

    @initialize(parity=st.integers(1, 3), seed=st.integers(0, 2**64 - 1))
    def start(self, parity: int, seed: int) -> None:
        self.live = np.random.default_rng(1).integers(0, 256, NBYTES, dtype=np.uint8)
        self.image = _core.WeightImage(self.live, block_bytes=BLOCK, key=KEY)
        self.pool = _core.SnapshotPool(self.image, 60, 4)
        self.parity = _core.Parity(self.image, 4, parity)
        self.guard = _core.ImageGuard(self.image, self.pool, self.parity, seed)
        self.saved = {0: self.live.tobytes()}
        self.wanted = self.live.tobytes()
        self.held = self.guard.memory_bytes() + self.image.memory_bytes()

    @rule(at=st.integers(0, NBYTES - 1), mask=st.integers(1, 255))
    def flip_one_byte(self, at: int, mask: int) -> None:
        self.live[at] ^= mask
        found = self.guard.step(1 << 20)
        assert [(f.part, f.block, f.healed) for f in found] == [("live", at // BLOCK, True)]
        assert found[0].flips == [(at % BLOCK, mask)]
        assert found[0].wrong_bits == bin(mask).count("1")

    @rule(table=st.integers(0, 1), at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip_a_table(self, table: int, at: int, bit: int) -> None:
        memory = self.image.table_memory()[table]
        before = memory.copy()
        memory[at % memory.size] ^= np.uint8(1 << bit)
        found = self.guard.sweep()
        assert [f.part for f in found] == ["key" if table == 1 else "table"]
        assert (memory == before).all()

    @rule(table=st.integers(0, 1), at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip_the_parity(self, table: int, at: int, bit: int) -> None:
        memory = self.parity.memory()[table]
        before = memory.copy()
        memory[at % memory.size] ^= np.uint8(1 << bit)
        assert [(f.part, f.healed) for f in self.guard.sweep()] == [("parity", True)]
        assert (memory == before).all()

    @rule(offset=st.integers(0, NBYTES), new=st.binary(max_size=200))
    def write(self, offset: int, new: bytes) -> None:
        new = new[: NBYTES - offset]
        self.guard.write(offset, new)
        self.wanted = self.wanted[:offset] + new + self.wanted[offset + len(new) :]

    @rule()
    def take(self) -> None:
        if len(self.saved) < 4 and self.pool.free_blocks >= self.image.block_count:
            self.saved[self.pool.take()] = self.wanted

    @rule(data=st.data(), offset=st.integers(0, NBYTES))
    def restore(self, data: st.DataObject, offset: int) -> None:
        generation = data.draw(st.sampled_from(sorted(self.saved)))
        nbytes = data.draw(st.integers(0, NBYTES - offset))
        report = self.guard.restore(generation, offset, nbytes)
        assert report.refused == 0
        end = offset + nbytes
        self.wanted = self.wanted[:offset] + self.saved[generation][offset:end] + self.wanted[end:]

    @invariant()
    def all_is_as_wanted(self) -> None:
        assert self.live.tobytes() == self.wanted
        assert self.guard.sweep() == []
        assert self.guard.memory_bytes() + self.image.memory_bytes() == self.held


GuardMachine.TestCase.settings = examples(40, stateful_step_count=25)
TestGuard = GuardMachine.TestCase


@given(
    nbytes=st.integers(1, 3000),
    group=st.integers(1, 20),
    parity=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
@examples(60)
def test_parity_alone_repairs_what_it_promises(
    nbytes: int, group: int, parity: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    live = rng.integers(0, 256, nbytes, dtype=np.uint8)
    golden = live.copy()
    image = _core.WeightImage(live, block_bytes=BLOCK, key=KEY)
    code = _core.Parity(image, group, parity)
    guard = _core.ImageGuard(image, None, code, seed)
    for first in range(code.groups):
        members = np.arange(first, image.block_count, code.groups)
        for block in rng.permutation(members)[: code.repairable]:
            live[block * BLOCK : (block + 1) * BLOCK] ^= np.uint8(0xA5)
    assert all(f.source == "parity" for f in guard.sweep())
    assert (live == golden).all()


def test_keyed_hash_and_refusals() -> None:
    counting = bytes(n % 256 for n in range(700))
    assert _core.keyed_hash_backend() in ("avx2", "sse2", "neon", "portable")
    fastest, *others = _core.keyed_hash_backends()
    for name in (*others, fastest):
        _core.set_keyed_hash_backend(name)
        assert _core.keyed_hash_backend() == name
        assert _core.keyed_hash(bytes(range(16)), counting, 7) == 15888738551512585406
    with pytest.raises(ValueError, match=r"name: expected one of .*'portable', got 'abacus'"):
        _core.set_keyed_hash_backend("abacus")
    assert _core.keyed_hash(KEY, b"") == _core.keyed_hash(KEY, b"", 0)
    assert _core.keyed_hash(KEY, b"") != _core.keyed_hash(KEY, b"", 1)
    assert _core.keyed_hash(KEY, b"") != _core.keyed_hash(KEY, bytes(1))
    with pytest.raises(ValueError, match="key: expected 16 bytes, got 3"):
        _core.keyed_hash(b"abc", b"")
    image, other = _core.WeightImage(bytearray(1000)), _core.WeightImage(bytearray(1000))
    pool, parity = _core.SnapshotPool(other, 1), _core.Parity(other)
    with pytest.raises(ValueError, match="pool: expected one of the same image"):
        _core.ImageGuard(image, pool)
    with pytest.raises(ValueError, match="parity: expected one of the same image"):
        _core.ImageGuard(image, None, parity)
    guard = _core.ImageGuard(image)
    with pytest.raises(ValueError, match="generation: expected a guard with a pool"):
        guard.restore(0)
    with pytest.raises(ValueError, match="block: expected below block_count = 2, got 2"):
        guard.heal(2)
    with pytest.raises(ValueError, match="parity_blocks: expected an integer from 1 to 16, got 17"):
        _core.Parity(image, 16, 17)
    image.release()
    with pytest.raises(ValueError, match="got a released one"):
        guard.step(1)
