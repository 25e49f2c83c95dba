import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge import _core


@given(
    size=st.integers(1, 3000),
    block=st.sampled_from([64, 128, 512]),
    flips=st.sets(st.integers(0, 2999)),
    seed=st.integers(0, 2**64 - 1),
    budget=st.integers(16, 4000),
)
def test_check_and_look_find_exactly_the_blocks_that_changed(
    size: int, block: int, flips: set[int], seed: int, budget: int
) -> None:
    live = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    image = _core.WeightImage(live, block_bytes=block)
    guard = _core.ImageGuard(image, seed=seed)
    assert image.block_count == -(-size // block)
    flips = {f for f in flips if f < size}
    for f in flips:
        live[f] ^= 0x40
    expected = sorted({f // block for f in flips})
    assert image.check() == expected
    round_bytes = image.block_count * block
    found = [f.block for _ in range(-(-round_bytes // budget)) for f in guard.look(budget)]
    assert sorted(set(found)) == expected
    assert guard.sweeps >= 1
    image.write(0, live.tobytes())
    assert image.check() == []
    assert image.table_ok()


def test_any_writable_buffer_will_do_and_is_held_until_release() -> None:
    live = bytearray(1000)
    image = _core.WeightImage(live)
    with pytest.raises(BufferError):
        live.append(0)
    image.release()
    live.append(0)
    with mmap.mmap(-1, 4096) as mapped:
        image = _core.WeightImage(memoryview(mapped))
        mapped[600] = 1
        assert image.check() == [1]
        image.release()


def test_after_release_everything_says_so() -> None:
    image = _core.WeightImage(bytearray(1000))
    guard = _core.ImageGuard(image)
    pool = _core.SnapshotPool(image, 2)
    assert not image.released
    image.release()
    image.release()
    assert image.released
    calls: list[Any] = [
        image.check,
        image.table_ok,
        lambda: image.nbytes,
        lambda: image.regions,
        lambda: image.write(0, b"1"),
        lambda: guard.step(512),
        pool.take,
        lambda: pool.restore(0),
        lambda: pool.generations,
        lambda: _core.ImageGuard(image),
        lambda: _core.SnapshotPool(image, 1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="image: expected a live image, got a released one"):
            call()
    assert guard.memory_bytes() > 0


def test_regions_and_blocks_know_each_other() -> None:
    regions = [("a", "m", 0, 64), ("b", "m", 63, 2), ("c", "n", 200, 440)]
    image = _core.WeightImage(bytearray(640), regions, 64)
    assert image.regions == regions
    assert image.block_regions(0) == ["a", "b"]
    assert image.block_regions(2) == []
    assert image.region_blocks("c") == (3, 7)
    with pytest.raises(KeyError, match="name: expected the name of a region, got 'z'"):
        image.region_blocks("z")
    with pytest.raises(ValueError, match="block: expected below block_count = 10, got 10"):
        image.block_regions(10)


def test_refusals() -> None:
    with pytest.raises(TypeError, match="buffer: expected a writable, C-contiguous buffer"):
        _core.WeightImage(b"constant")
    with pytest.raises(ValueError, match="buffer: expected at least 1 byte, got 0"):
        _core.WeightImage(bytearray())
    with pytest.raises(ValueError, match="block_bytes: expected a power of two from 64 to 65536"):
        _core.WeightImage(bytearray(10), block_bytes=100)
    with pytest.raises(ValueError, match="regions: expected offset \\+ nbytes <= 10"):
        _core.WeightImage(bytearray(10), [("a", "m", 8, 3)])
    with pytest.raises(ValueError, match="regions: expected an integer >= 0, got -1"):
        _core.WeightImage(bytearray(10), [("a", "m", -1, 3)])
    with pytest.raises(ValueError, match="regions: expected unique names, got 'a' twice"):
        _core.WeightImage(bytearray(10), [("a", "m", 0, 1), ("a", "m", 0, 1)])
    image = _core.WeightImage(bytearray(1000))
    with pytest.raises(ValueError, match="first: expected"):
        image.check(3)
    with pytest.raises(ValueError, match="count: expected at most block_count - first = 1, got 2"):
        image.check(1, 2)
