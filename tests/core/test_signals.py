"""`SignalPass` against plain NumPy, for every dtype and backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.signal_reference import (
    Array,
    Tensor,
    class_signals,
    embedding_signals,
    input_signals,
    output_signals,
    reconstruction_error,
)
from tests.support import examples

from selfheal_edge import _core

DTYPES = st.sampled_from(["int8", "uint8", "int16", "float32"])
SIZES = st.integers(1, 2000) | st.integers(1, 70)
BACKENDS = st.sampled_from(_core.signal_backends())


@st.composite
def tensors(draw: st.DrawFn, elements: int | None = None, *, unit: bool = False) -> Tensor:
    """Draw a tensor; `unit`: so that its largest value is about one."""
    dtype = draw(DTYPES)
    size = draw(SIZES) if elements is None else elements
    channels = draw(st.sampled_from([1, 3, 4, 40, size]))
    if dtype == "float32":
        return Tensor(dtype, size, channels)
    limits = np.iinfo(dtype)
    if unit:
        return Tensor(dtype, size, channels, 1 / (limits.max - limits.min + 1), limits.min)
    scale = draw(st.floats(1e-3, 10))
    return Tensor(dtype, size, channels, scale, draw(st.integers(limits.min, limits.max)))


def fill(tensor: Tensor, rng: np.random.Generator, style: str) -> Array:
    """Return an array: of noise, of one value, at the limits, or with NaN and infinity."""
    size = tensor.elements
    if tensor.dtype == "float32":
        offset = 1000.0 if style == "constant" else rng.normal()
        spread = 0.0 if style == "constant" else 3.0
        x = (offset + spread * rng.normal(size=size)).astype(np.float32)
        if style == "extreme":
            x[rng.random(size) < 0.2] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
        return x
    limits = np.iinfo(tensor.dtype)
    noise = rng.integers(limits.min, limits.max, size, endpoint=True)
    if style == "constant":
        noise[:] = rng.choice([limits.min, noise[0], limits.max])
    elif style == "extreme":
        noise = rng.choice([limits.min, limits.max], size)
    return noise.astype(tensor.dtype)


STYLES = st.sampled_from(["noise", "noise", "constant", "extreme"])
SEEDS = st.integers(0, 2**32 - 1)


def check(got: dict[str, float], expected: dict[str, float], x: Array | None = None) -> None:
    """Compare; an absolute tolerance for what is a difference of larger numbers.

    `x`: floats that were measured. They are added up in short blocks of floats.
    """
    is_float = x is not None and x.dtype == np.float32
    rel = 1e-6 if is_float else 1e-9
    spread = 0.0
    if is_float and x is not None:
        spread = float(np.std(x[np.isfinite(x)], dtype=np.float64))
    assert list(got) == list(expected)
    for name, value in expected.items():
        tolerance = 1e-9 if math.isnan(value) else max(1e-9, 1e-7 * abs(value), 1e-6 * spread)
        assert got[name] == pytest.approx(value, rel=rel, abs=tolerance, nan_ok=True), name


@given(tensor=tensors(), backend=BACKENDS, seed=SEEDS, styles=st.lists(STYLES, max_size=4))
@examples(300)
def test_inputs(tensor: Tensor, backend: str, seed: int, styles: list[str]) -> None:
    rng = np.random.default_rng(seed)
    measured = _core.SignalPass([None, tensor.layout], [], backend=backend)
    assert {number for _, number in measured.names} == {1}
    row = np.empty(len(measured.names))
    previous = None
    for n, style in enumerate(styles):
        x = previous.copy() if previous is not None and n == 3 else fill(tensor, rng, style)
        result = measured.measure([None, x], [], None, row)  # type: ignore[list-item]
        finite = np.isfinite(x.astype(np.float64))
        expected = input_signals(tensor, x, previous)
        if tensor.dtype == "float32" and style == "extreme":
            # 3e38 beside 1: the spread of the rest is below a rounding of the largest.
            spread = max(1e-9, 1e-7 * float(np.abs(x[finite]).max(initial=0.0)))
            for name, value in zip((role for role, _ in measured.names), row, strict=True):
                assert value == pytest.approx(expected[name], rel=1e-6, abs=spread, nan_ok=True)
        else:
            check(dict(zip((role for role, _ in measured.names), row, strict=True)), expected, x)
        same = previous is not None and bool(finite.all()) and np.array_equal(x, previous)
        assert result[:3] == (same, int((~finite).sum()), -1)
        assert math.isnan(result[3])
        assert result[4] == 0
        previous = x
    measured.forget()
    if previous is not None:
        assert not measured.measure([None, previous], [], None, row)[0]  # type: ignore[list-item]


@given(
    tensor=tensors(unit=True),
    backend=BACKENDS,
    seed=SEEDS,
    style=STYLES,
    kind=st.sampled_from(["probabilities", "logits"]),
)
@examples(300)
def test_classes(tensor: Tensor, backend: str, seed: int, style: str, kind: str) -> None:
    rng = np.random.default_rng(seed)
    measured = _core.SignalPass([], [tensor.layout], classifier=kind, backend=backend)
    x = fill(tensor, rng, style)
    if tensor.dtype == "float32" and kind == "probabilities":
        x = np.abs(x)
        if np.isfinite(x).all():
            x = (x / (x.astype(np.float64).sum() + 1e-3)).astype(np.float32)
    row = np.empty(3)
    result = measured.measure([], [x], None, row)
    label, expected = class_signals(tensor, x, kind)
    check(dict(zip(("confidence", "margin", "entropy"), row, strict=True)), expected)
    assert result[2] == label
    assert result[3] == pytest.approx(expected["confidence"], nan_ok=True)
    assert result[4] == int(label < 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_a_part_of_an_embedding(dtype: str) -> None:
    """What is measured of the runs is what would be measured of a tensor of these alone."""
    rng = np.random.default_rng(5)
    starts = [0, 20, 84]
    part = np.concatenate([np.arange(16) + start for start in starts])
    x = rng.integers(0, 100, 100).astype(dtype)
    classes: dict[str, Any] = {
        "classifier": "logits",
        "centroids": rng.normal(0, 9, (4, 48)).astype(np.float32),
        "precision": rng.exponential(1, 48).astype(np.float32),
    }
    output = _core.TensorLayout("float32", 4)
    rows = []
    for size, runs, given_to in ((100, starts, x), (48, [], x[part].copy())):
        layout = _core.TensorLayout(dtype, size)
        measured = _core.SignalPass([], [output], embedding=layout, embedding_part=runs, **classes)
        row = np.empty(len(measured.names))
        measured.measure([], [np.arange(4, dtype=np.float32)], given_to, row)
        rows.append(row)
    assert np.array_equal(rows[0], rows[1])
    several: list[tuple[Any, type[Exception]]] = [
        ([85], ValueError),
        ([-1], ValueError),
        (["a"], TypeError),
    ]
    for bad, error in several:
        with pytest.raises(error, match="embedding_part"):
            _core.SignalPass([], [output], embedding=layout, embedding_part=bad, **classes)


@given(
    tensor=tensors(),
    backend=BACKENDS,
    seed=SEEDS,
    style=STYLES,
    classes=st.integers(1, 5),
    has_centroids=st.booleans(),
)
@examples(300)
def test_embeddings(
    tensor: Tensor, backend: str, seed: int, style: str, classes: int, has_centroids: bool
) -> None:
    rng = np.random.default_rng(seed)
    spread = tensor.scale * (5 if tensor.dtype == "float32" else 100)
    centroids = rng.normal(0, spread, (classes, tensor.elements)).astype(np.float32)
    centroids[0, 0] = np.nan
    precision = rng.exponential(1 / spread**2, tensor.elements).astype(np.float32)
    measured = _core.SignalPass(
        [],
        [_core.TensorLayout("float32", classes)],
        classifier="logits",
        embedding=tensor.layout,
        centroids=centroids if has_centroids else None,
        precision=precision if has_centroids else None,
        backend=backend,
    )
    logits = rng.normal(size=classes).astype(np.float32)
    x = fill(tensor, rng, style)
    row = np.empty(len(measured.names))
    with np.errstate(over="ignore"):
        label = measured.measure([], [logits], x, row)[2]
        expected = embedding_signals(
            tensor, x, centroids[label], precision if has_centroids else None
        )
    names = [role for role, _ in measured.names]
    got = dict(zip(names, row, strict=True))
    distance = got.pop("embedding_distance", None)
    if distance is not None:
        # Summed in float32: sums of squares of 3e38 do not fit, and are infinite.
        wanted = expected.pop("embedding_distance")
        is_far = style == "extreme" and tensor.dtype == "float32" and wanted > 1e18
        assert distance == pytest.approx(math.inf if is_far else wanted, rel=1e-3, nan_ok=True)
    check({name: got[name] for name in expected}, expected, x)


@given(data=st.data(), backend=BACKENDS, seed=SEEDS, styles=st.tuples(STYLES, STYLES))
@examples(300)
def test_outputs(data: st.DataObject, backend: str, seed: int, styles: tuple[str, str]) -> None:
    rng = np.random.default_rng(seed)
    tensor = data.draw(tensors())
    imitation = data.draw(tensors(tensor.elements))
    other = data.draw(tensors())
    measured = _core.SignalPass(
        [tensor.layout], [imitation.layout, None, other.layout], reconstructs=True, backend=backend
    )
    x = fill(tensor, rng, styles[0])
    y, z = fill(imitation, rng, styles[1]), fill(other, rng, "noise")
    row = np.empty(len(measured.names))
    broken = measured.measure([x], [y, None, z], None, row)[4]
    got = dict(zip(measured.names, row.tolist(), strict=True))
    spread = 1e-7 * max(
        (
            float(np.abs(v[np.isfinite(v)]).max(initial=0.0))
            for v in (tensor.real(x), imitation.real(y))
        ),
    )
    expected = output_signals([imitation, other], [y, z])
    for role in ("output_mean", "output_std"):
        for place, number in enumerate((0, 2)):
            assert got[role, number] == pytest.approx(
                expected[role][place], rel=1e-6, abs=max(1e-9, spread), nan_ok=True
            )
    error = reconstruction_error(tensor.real(x), imitation.real(y))
    assert got["reconstruction_error", 0] == pytest.approx(
        error, rel=1e-6, abs=max(1e-9, 1e-2 * spread * spread), nan_ok=True
    )
    assert broken == int(not np.isfinite(y.astype(float)).all())
    measured.measure([x], [None, None, z], None, row)
    assert np.isnan(row[measured.names.index(("output_mean", 0))])


@given(tensor=tensors(), seed=SEEDS, style=STYLES)
def test_backends_agree_to_the_bit(tensor: Tensor, seed: int, style: str) -> None:
    rng = np.random.default_rng(seed)
    x, y = fill(tensor, rng, style), fill(tensor, rng, style)
    rows = []
    for backend in _core.signal_backends():
        measured = _core.SignalPass(
            [tensor.layout], [tensor.layout], reconstructs=True, backend=backend
        )
        row = np.empty(len(measured.names))
        measured.measure([x], [y], None, row)
        measured.measure([y], [x], None, row)
        rows.append(row.tobytes())
    assert len(set(rows)) == 1


class TestRefused:
    def test_layouts(self) -> None:
        with pytest.raises(ValueError, match="dtype: expected 'int8', 'uint8', 'int16' or 'floa"):
            _core.TensorLayout("int32", 1)
        with pytest.raises(ValueError, match="elements: expected an integer >= 1, got 0"):
            _core.TensorLayout("int8", 0)
        with pytest.raises(ValueError, match=r"inputs\.scale: expected a finite number > 0"):
            _core.SignalPass([_core.TensorLayout("int8", 1, scale=0)], [])
        for far in (40_000, -40_000, 2**31 - 1, -(2**31)):
            with pytest.raises(
                ValueError, match=r"inputs\.zero_point: expected -32768 to 32768, g"
            ):
                _core.SignalPass([_core.TensorLayout("int8", 1, zero_point=far)], [])
        with pytest.raises(ValueError, match=r"backend: expected one of .*'portable', got 'mmx'"):
            _core.SignalPass([], [], backend="mmx")
        with pytest.raises(ValueError, match="classifier: expected 'probabilities', 'logits' or"):
            _core.SignalPass([], [], classifier="odds")
        with pytest.raises(ValueError, match="classifier: expected an output 0 that is measured"):
            _core.SignalPass([], [None], classifier="logits")

    def test_arrays(self) -> None:
        measured = _core.SignalPass([_core.TensorLayout("int8", 4)], [])
        row = np.empty(len(measured.names))
        x = np.zeros(4, np.int8)
        bad: list[tuple[Any, Any, type[Exception], str]] = [
            ([], row, ValueError, "inputs: expected 1 arrays, got 0"),
            ([x.astype(float)], row, TypeError, "inputs: expected int8 arrays of 4 elements, got"),
            ([x[:3]], row, ValueError, "inputs: expected int8 arrays of 4 elements, got int8"),
            ([np.zeros(8, np.int8)[::2]], row, ValueError, "inputs: expected a C-contiguous"),
            ([None], row, TypeError, "inputs: expected int8 arrays of 4 elements, got NoneType"),
            ([x], row[:-1], ValueError, "row: expected a writable float64 array of 6 numbers"),
            (
                [x],
                np.empty(row.size, np.float32),
                ValueError,
                "row: expected a writable float64 array",
            ),
        ]
        for inputs, to, error, message in bad:
            with pytest.raises(error, match=message):
                measured.measure(inputs, [], None, to)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 12, 16, 31])
def test_the_same_answer_is_noticed(dtype: str, size: int) -> None:
    """Any element that differs is a difference, wherever it lies in the words compared."""
    layout = _core.TensorLayout(dtype, size)
    rng = np.random.default_rng(size)
    for classifier in (None, "probabilities"):
        measured = _core.SignalPass([], [layout, layout], classifier=classifier)
        row = np.empty(len(measured.names))

        def same(first: Any, second: Any, measured: Any = measured, row: Any = row) -> bool:
            return bool(measured.measure([], [first, second], None, row)[5])

        output = rng.integers(1, 100, size).astype(dtype)
        other = rng.integers(1, 100, size).astype(dtype)
        assert not same(output, other)
        assert same(output, other)
        for place in range(size):
            output[place] += 1
            assert not same(output, other)
            assert same(output, other)
        other[-1] += 1  # of a classifier, output 0 decides
        assert same(output, other) is (classifier is not None)
        assert same(output, other)
        measured.forget()
        assert not same(output, other)
