"""A state of a few bytes may not ask for gigabytes."""

import copy
from typing import Any

import numpy as np
import pytest

from selfheal_edge import _core


def changed(blob: bytes, offset: int, value: bytes) -> bytes:
    """The blob with other bytes, under a checksum that holds."""
    body = blob[:offset] + value + blob[offset + len(value) : -4]
    return body + _core.crc32c(body).to_bytes(4, "little")


PAYLOAD = 20
HUNGRY: dict[str, tuple[Any, int, bytes]] = {
    "RingBuffer": (_core.RingBuffer(1), PAYLOAD, (1 << 28).to_bytes(8, "little")),
    "Moments": (_core.Moments(1), PAYLOAD, (1 << 26).to_bytes(8, "little")),
    "Kswin": (_core.Kswin(seed=1), PAYLOAD + 8, (1 << 24).to_bytes(4, "little")),
}


@pytest.mark.parametrize("name", HUNGRY)
def test_a_small_state_asks_for_little_memory(name: str) -> None:
    small, offset, size = HUNGRY[name]
    with pytest.raises(_core.StateTooLargeError, match=r"expected an object of at most \d+ bytes"):
        type(small).from_state(changed(small.state(), offset, size))


def test_a_state_that_is_known_to_be_large_is_restored() -> None:
    large = _core.RingBuffer(3 << 20)
    with pytest.raises(_core.StateTooLargeError):
        _core.RingBuffer.from_state(large.state())
    restored = _core.RingBuffer.from_state(large.state(), max_bytes=24 << 20)
    assert restored.capacity == large.capacity
    assert copy.deepcopy(large).capacity == large.capacity
    full = _core.RingBuffer(3 << 20)
    full.push_many(np.zeros(3 << 20))
    assert len(_core.RingBuffer.from_state(full.state())) == 3 << 20
