"""What every bound function says of itself, and of arguments that it cannot take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selfheal_edge import _core as typed

_core: Any = typed  # the stub would refuse most of what is given here
CHART = _core.Cusum(0.0, 1.0, h=5.0)
REFERENCE = _core.Reference(np.random.default_rng(1).normal(size=200))


def test_signatures_can_be_read() -> None:
    assert str(inspect.signature(_core.Cusum.__init__)) == (
        "(self, mean=None, std=None, *, k=None, h=None, arl0=None, sides='both', compat=None, "
        "min_instances=None, track_onset=True, latch=False)"
    )
    assert str(inspect.signature(CHART.update_many)) == "(samples)"
    assert str(inspect.signature(_core.Cusum.from_state)) == "(state)"
    assert str(inspect.signature(_core.crc32c)) == "(buffer, value=0)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.Cusum(0.0, "1", h=5.0), r"std: expected a number or None, got str"),
        (lambda: _core.Cusum(0.0, 1.0, h=5.0, sides=3), r"sides: expected a string, got int"),
        (lambda: _core.RingBuffer(2**70), r"capacity: expected an integer, got one that does not"),
        (lambda: _core.RingBuffer("3"), r"capacity: expected an integer, got str"),
        (_core.RingBuffer, r"__init__: expected argument 'capacity'"),
        (lambda: _core.RingBuffer(3, None, "float32", 4), r"__init__: expected 4 argument\(s\)"),
        (lambda: _core.RingBuffer(3, rows=4), r"__init__: expected no argument 'rows'"),
        (lambda: _core.RingBuffer(3, capacity=4), r"__init__: expected one value of 'capacity'"),
        (lambda: _core.MonitorBank([REFERENCE], arl0=None), r"arl0: expected a number, got None"),
        (lambda: _core.MonitorBank.update(CHART, 1), r"self: expected MonitorBank, got .*Cusum"),
        (lambda: _core.MonitorBank.__init__(CHART, [], 1e4), r"self: expected .*MonitorBank, got"),
        (
            lambda: _core.LabelMix(REFERENCE, 1e4),
            r"reference: expected LabelReference, got .*Refer",
        ),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_a_name_that_is_not_interned_is_found() -> None:
    name = "".join(["cap", "acity"])
    assert _core.RingBuffer(**{name: 3}).capacity == 3


def test_an_object_is_made_once() -> None:
    chart = _core.Cusum(0.0, 1.0, h=5.0)
    chart.update(3.0)
    chart.__init__(0.0, 1.0, h=9.0)
    assert (chart.h, chart.count) == (5.0, 1)


def test_a_derived_class_must_make_it() -> None:
    class Derived(typed.Cusum):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="__init__"):
        Derived()


def test_attributes_refuse_what_they_cannot_hold() -> None:
    bank: Any = _core.MonitorBank([REFERENCE], arl0=1e4)
    with pytest.raises(TypeError, match="regime: expected"):
        bank.regime = "1"
    with pytest.raises(AttributeError, match="regime"):
        del bank.regime
    with pytest.raises(AttributeError):
        bank.signals = 3
