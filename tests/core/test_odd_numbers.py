"""What is no real number is no sample: TypeError, and the detector is as before."""

from __future__ import annotations

import fractions
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import selfheal_edge as she

NORMAL = np.random.default_rng(0).normal(0.0, 1.0, 400)
TAKERS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "Cusum": lambda: she.Cusum(0.0, 1.0, h=5.0).update,
    "PageHinkley": lambda: she.PageHinkley(0.0, 1.0, threshold=5.0).update,
    "Ewma": lambda: she.Ewma(0.0, 1.0, arl0=500.0).update,
    "Adwin": lambda: she.Adwin().update,
    "Kswin": lambda: she.Kswin(seed=1).update,
    "Ddm": lambda: she.Ddm().update,
    "HddmA": lambda: she.HddmA().update,
    "DriftDetector": lambda: she.DriftDetector(NORMAL, false_alarm_interval=1e5).update,
    "RingBuffer": lambda: she.RingBuffer(4).push,
    "Moments": lambda: she.Moments().update,
    "Reference": lambda: she.Reference(NORMAL).score,
}
ODD: dict[str, Any] = {
    "complex": 1 + 2j,
    "complex64": np.complex64(1 + 2j),
    "complex128": np.complex128(1 + 2j),
    "complex array": np.array(1 + 2j),
    "date": np.datetime64("2024-05-01"),
    "duration": np.timedelta64(5, "s"),
    "date array": np.array(np.datetime64("2024-05-01")),
    "text": "1.5",
    "NumPy text": np.str_("1.5"),
    "text array": np.array("1.5"),
    "bytes": b"1.5",
    "NumPy bytes": np.bytes_(b"1.5"),
    "record": np.array([(1.5,)], dtype=[("a", "f8")])[0],
    "object": np.array(None, object),
    "none": None,
}


@pytest.mark.parametrize("taker", TAKERS)
def test_no_number_is_refused(taker: str) -> None:
    for odd in ODD.values():
        take = TAKERS[taker]()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(TypeError, match=r"^x: expected a real number, got "):
                take(odd)
        take(0.25)  # it is as before


@pytest.mark.parametrize("taker", TAKERS)
def test_every_real_number_is_taken(taker: str) -> None:
    take = TAKERS[taker]()
    for x in (1, True, 0.5, fractions.Fraction(1, 2), np.float32(0.5), np.int16(1), np.array(0.5)):
        take(x)


ARRAYS: dict[str, Any] = {
    "complex": np.ones(100, np.complex128),
    "dates": np.arange(100).astype("M8[s]"),
    "durations": np.arange(100).astype("m8[s]"),
    "text": np.array([str(i) for i in range(100)]),
    "bytes": np.array([b"1"] * 100),
    "records": np.ones(100, dtype=[("a", "f8")]),
    "objects": np.array([1.0 + 1j] * 100, object),
    "a list of text": ["1"] * 100,
    "a list of complex": [1j] * 100,
}


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays_without_numbers_are_refused(what: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="normal: expected numbers, got"):
            she.DriftDetector(ARRAYS[what], false_alarm_interval=1e5)
        if isinstance(ARRAYS[what], np.ndarray):
            for many in (
                she.Cusum(0.0, 1.0, h=5.0).update_many,
                she.DriftDetector(NORMAL, false_alarm_interval=1e5).update_many,
                she.Moments().update_many,
                she.Reference,
                she.Reference(NORMAL).score_many,
            ):
                with pytest.raises(TypeError, match="expected a 1-D float32 or float64 array"):
                    many(ARRAYS[what])


def test_other_sequences_of_numbers_are_taken() -> None:
    for normal in (NORMAL.tolist(), NORMAL.astype(np.float32), np.arange(100), np.arange(100) > 50):
        she.DriftDetector(normal, false_alarm_interval=1e5)
