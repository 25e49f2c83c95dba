from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfheal_edge import _core

from . import oracles


@pytest.fixture(name="backend", params=_core.crc32c_backends())
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.crc32c_backend()
    _core.set_crc32c_backend(request.param)
    yield request.param
    _core.set_crc32c_backend(before)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.binary(max_size=2000), cut=st.integers(0, 2000), offset=st.integers(0, 8))
def test_equals_the_definition(backend: str, data: bytes, cut: int, offset: int) -> None:
    assert _core.crc32c_backend() == backend
    view = memoryview(b"." * offset + data)[offset:]
    assert _core.crc32c(view) == oracles.crc32c(data)
    assert _core.crc32c(data[cut:], _core.crc32c(data[:cut])) == oracles.crc32c(data)


def test_large_buffers_agree_between_backends() -> None:
    data = np.random.default_rng(0).integers(0, 256, 1_000_003, dtype=np.uint8)
    before = _core.crc32c_backend()
    values = set()
    for name in _core.crc32c_backends():
        _core.set_crc32c_backend(name)
        values.add(_core.crc32c(data))
    _core.set_crc32c_backend(before)
    assert len(values) == 1


@pytest.mark.usefixtures("backend")
def test_vector_and_refusals() -> None:
    assert _core.crc32c(b"123456789") == 0xE3069283
    with pytest.raises(ValueError, match=r"name: expected one of .*, got 'abacus'"):
        _core.set_crc32c_backend("abacus")
    with pytest.raises(TypeError, match="buffer: expected a C-contiguous buffer, got str"):
        _core.crc32c("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="buffer: expected a C-contiguous buffer"):
        _core.crc32c(np.zeros(6, "uint8")[::2])
