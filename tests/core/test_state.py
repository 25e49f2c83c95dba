from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfheal_edge as she
from selfheal_edge import _core


def examples() -> dict[str, Any]:
    chart = _core.Cusum(0.0, 1.0, h=4.0)
    chart.update_many(np.array([1.0, 2.0, np.nan, 1.0]))
    page_hinkley = _core.PageHinkley(0.0, 1.0, threshold=4.0, sides="upper")
    page_hinkley.update(2.0)
    moments = _core.Moments(5)
    moments.update_many(np.arange(8.0))
    ring = _core.RingBuffer(3, 2, "float32")
    ring.push_many(np.ones((5, 2), "float32"))
    reference = _core.Reference(np.arange(10.0))
    objects = [chart, page_hinkley, moments, ring, reference]
    return {type(o).__name__: o for o in objects}


EXAMPLES = examples()
each_class = pytest.mark.parametrize("name", EXAMPLES)


@each_class
def test_round_trip(name: str) -> None:
    blob = EXAMPLES[name].state()
    assert type(EXAMPLES[name]).from_state(blob).state() == blob


@each_class
@given(data=st.data())
def test_any_flipped_byte_is_refused(name: str, data: Any) -> None:
    blob = bytearray(EXAMPLES[name].state())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(_core.StateError):
        type(EXAMPLES[name]).from_state(bytes(blob))


@each_class
def test_any_truncation_is_refused(name: str) -> None:
    blob = EXAMPLES[name].state()
    for size in range(len(blob)):
        with pytest.raises(_core.StateTruncatedError):
            type(EXAMPLES[name]).from_state(blob[:size])


@each_class
def test_another_class_is_refused(name: str) -> None:
    for other, example in EXAMPLES.items():
        if other != name:
            with pytest.raises(_core.StateTypeError, match="state: expected type"):
                type(EXAMPLES[name]).from_state(example.state())


@each_class
@given(data=st.data())
def test_a_forged_payload_is_refused_or_gives_an_object(name: str, data: Any) -> None:
    """With the right checksum, whatever the payload says: an error or an object that works."""
    blob = bytearray(EXAMPLES[name].state()[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(20, len(blob) - 1))] = data.draw(st.integers(0, 255))
    # Large windows are legal, and would only cost the test memory.
    if name in {"RingBuffer", "Moments"}:
        blob[22:28] = bytes(6)
    forged = bytes(blob) + _core.crc32c(blob).to_bytes(4, "little")
    try:
        made = type(EXAMPLES[name]).from_state(forged)
    except _core.StateCorruptError:
        return
    for x in (0.0, 1e300, -1e300, float("nan"), 3.0):
        if name == "Reference":
            made.score(x)
        elif name == "RingBuffer":
            made.push(np.zeros(made.width, made.dtype))
            made.to_array()
        else:
            made.update(x)
            made.state()
    if name in {"Cusum", "PageHinkley"}:
        assert made.statistic >= 0
        assert made.magnitude >= 0


@each_class
def test_a_newer_version_is_refused(name: str) -> None:
    for offset in (4, 6):  # of the codec, of the type
        blob = bytearray(EXAMPLES[name].state()[:-4])
        blob[offset] += 1
        blob += _core.crc32c(blob).to_bytes(4, "little")
        with pytest.raises(_core.StateVersionError):
            type(EXAMPLES[name]).from_state(bytes(blob))


def test_a_bad_state_raises_an_error_of_ours() -> None:
    with pytest.raises(she.errors.StateError) as caught:
        she.Cusum.from_state(b"no state")
    assert isinstance(caught.value, she.errors.SelfHealError)
    assert isinstance(caught.value, ValueError)
