"""What `SignalPass` keeps of the latest inferences, against a deque."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.signal_reference import Array
from tests.support import examples

from selfheal_edge import _core

N = 256  # inferences of which labels, outputs and embeddings are kept
DTYPES = st.sampled_from(["int8", "uint8", "int16", "float32"])


def noise(rng: np.random.Generator, dtype: str, size: int) -> Array:
    return rng.integers(0, 120, size).astype(dtype)


def rows_kept(nbytes: int, budget: int) -> int:
    """Return of how many inferences inputs of `nbytes` together are kept."""
    few = max(1, min(8, (2 << 20) // nbytes))
    return max(few, min(N, budget // nbytes))


class Kept:
    """The latest inferences, in deques."""

    def __init__(self, input_rows: int) -> None:
        self.first: deque[Array] = deque(maxlen=input_rows)
        self.second: deque[Array] = deque(maxlen=input_rows)
        self.outputs: deque[Array] = deque(maxlen=N)
        self.embeddings: deque[Array] = deque(maxlen=N)
        self.labels: deque[int] = deque(maxlen=N)

    def forget(self) -> None:
        for kept in (self.first, self.second, self.outputs, self.embeddings, self.labels):
            kept.clear()

    def check(self, measured: _core.SignalPass) -> None:
        inputs, outputs, embeddings, labels = measured.recent()
        assert len(inputs) == 2
        assert outputs is not None
        assert embeddings is not None
        pairs: list[tuple[npt.NDArray[Any], deque[Array]]] = [
            (inputs[0], self.first),
            (inputs[1], self.second),
            (outputs, self.outputs),
            (embeddings, self.embeddings),
        ]
        for got, wanted in pairs:
            assert got.shape[0] == len(wanted)
            for row, one in zip(got, wanted, strict=True):
                assert row.dtype == one.dtype
                assert row.tobytes() == one.tobytes()
        assert labels.dtype == np.int64
        assert labels.tolist() == list(self.labels)


@given(
    dtypes=st.tuples(DTYPES, DTYPES, DTYPES, DTYPES),
    sizes=st.tuples(st.integers(1, 90), st.integers(1, 40)),
    classes=st.integers(2, 40),
    width=st.integers(1, 70),
    budget=st.integers(1, 40_000),
    backend=st.sampled_from(_core.signal_backends()),
    steps=st.lists(st.integers(1, 300) | st.just(0), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
@examples(60)
def test_recent_is_what_a_deque_holds(
    dtypes: tuple[str, str, str, str],
    sizes: tuple[int, int],
    classes: int,
    width: int,
    budget: int,
    backend: str,
    steps: list[int],
    seed: int,
) -> None:
    """Rows, oldest first, are copies of the raw tensors; a step of 0 forgets them."""
    rng = np.random.default_rng(seed)
    layout = _core.TensorLayout
    measured = _core.SignalPass(
        [layout(dtypes[0], sizes[0]), None, layout(dtypes[1], sizes[1])],
        [layout(dtypes[2], classes)],
        classifier="logits",
        embedding=layout(dtypes[3], width),
        recent_bytes=budget,
        backend=backend,
    )
    before = measured.memory_bytes()
    nbytes = sum(n * np.dtype(d).itemsize for n, d in zip(sizes, dtypes, strict=False))
    kept = Kept(rows_kept(nbytes, budget))
    row = np.empty(len(measured.names))
    kept.check(measured)
    previous: list[Array] | None = None
    for step in steps:
        if step == 0:
            measured.forget()
            kept.forget()
            previous = None
        for _ in range(step):
            first, second = noise(rng, dtypes[0], sizes[0]), noise(rng, dtypes[1], sizes[1])
            output, inner = noise(rng, dtypes[2], classes), noise(rng, dtypes[3], width)
            if previous is not None and rng.random() < 0.3:
                first, second, output = (one.copy() for one in previous)
            repeats, _, label, *_, same = measured.measure(
                [first, None, second],  # type: ignore[list-item]
                [output],
                inner,
                row,
            )
            now = [first, second, output]
            is_equal = [
                previous is not None and np.array_equal(a, b)
                for a, b in zip(now, previous or now, strict=True)
            ]
            assert (repeats, same) == (all(is_equal[:2]), is_equal[2])
            previous = now
            kept.first.append(first)
            kept.second.append(second)
            kept.outputs.append(output)
            kept.embeddings.append(inner)
            kept.labels.append(label)
        kept.check(measured)
    assert measured.memory_bytes() == before


def test_the_rows_are_copies() -> None:
    measured = _core.SignalPass([_core.TensorLayout("int8", 4)], [])
    row = np.empty(len(measured.names))
    x = np.arange(4, dtype=np.int8)
    measured.measure([x], [], None, row)
    (got,), outputs, embeddings, labels = measured.recent()
    assert (outputs, embeddings, labels.tolist()) == (None, None, [-1])
    got[:] = 9
    x[:] = 7
    assert measured.recent()[0][0].tolist() == [[0, 1, 2, 3]]


def test_no_budget_keeps_nothing_but_compares_all_the_same() -> None:
    layout = _core.TensorLayout("uint8", 70)
    measured = _core.SignalPass(
        [layout], [layout], classifier="logits", embedding=layout, recent_bytes=0
    )
    row = np.empty(len(measured.names))
    x = np.arange(70, dtype=np.uint8)
    assert not measured.measure([x], [x], x, row)[0]
    assert measured.measure([x], [x], x, row)[0]
    assert measured.measure([x], [x], x, row)[5]
    (inputs,), outputs, embeddings, labels = measured.recent()
    assert (inputs.shape, outputs, embeddings, len(labels)) == ((0, 70), None, None, 0)
    bounded = _core.SignalPass([layout], [layout], classifier="logits", embedding=layout)
    assert bounded.memory_bytes() - measured.memory_bytes() > 256 * 3 * 70


@pytest.mark.parametrize(("elements", "rows"), [(1 << 17, 8), (3 << 18, 2), (3 << 20, 1)])
def test_large_inputs_are_kept_as_often_as_they_fit(elements: int, rows: int) -> None:
    """And an input of which one is kept is held once."""
    measured = _core.SignalPass([_core.TensorLayout("int8", elements)], [])
    extra = (rows + 1 if rows > 1 else 1) * elements
    assert extra <= measured.memory_bytes() <= extra + 20_000
    row = np.empty(len(measured.names))
    kept: deque[Array] = deque(maxlen=rows)
    for n in range(rows + 3):
        kept.append(np.full(elements, n, np.int8))
        measured.measure([kept[-1]], [], None, row)
        change = row[[role for role, _ in measured.names].index("input_change")]
        assert np.isnan(change) if n == 0 else change == 1.0
    assert np.array_equal(measured.recent()[0][0], np.stack(kept))


@pytest.mark.parametrize("elements", [4096, 4097])
def test_outputs_and_embeddings_of_more_than_4_kib_are_not_kept(elements: int) -> None:
    layout = _core.TensorLayout("int8", elements)
    measured = _core.SignalPass([], [layout], classifier="logits", embedding=layout)
    row = np.empty(len(measured.names))
    x = np.zeros(elements, np.int8)
    x[5] = 1
    measured.measure([], [x], x, row)
    inputs, outputs, embeddings, labels = measured.recent()
    assert (inputs, labels.tolist()) == ([], [5])
    assert (outputs is None, embeddings is None) == (elements > 4096, elements > 4096)
    assert measured.measure([], [x], x, row)[5]


def test_an_answer_of_another_size_has_a_row_of_zeros() -> None:
    layout = _core.TensorLayout("int8", 3)
    measured = _core.SignalPass([], [layout], classifier="logits", embedding=layout)
    row = np.empty(len(measured.names))
    x = np.array([1, 5, 2], np.int8)
    measured.measure([], [x], x, row)
    measured.measure([], [None], None, row)
    assert not measured.measure([], [x], x, row)[5]
    _, outputs, embeddings, labels = measured.recent()
    assert outputs is not None
    assert embeddings is not None
    assert outputs.tolist() == embeddings.tolist() == [[1, 5, 2], [0, 0, 0], [1, 5, 2]]
    assert labels.tolist() == [1, -1, 1]


def test_a_budget_that_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="recent_bytes: expected an integer >= 0, got -1"):
        _core.SignalPass([], [], recent_bytes=-1)
