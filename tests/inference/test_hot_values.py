"""What goes in and comes out in one call of the core: the same bits as the slower, obvious way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.inference.test_bit_exact import opened
from tests.inference.test_hot_path import bank_state, is_hot
from tests.made_models import mirror
from tests.support import MODELS, Array, Raw, answers, examples, kinds, named, random_batch, same

import selfheal_edge as she
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.arrays import dequantize, quantize
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

pytestmark = pytest.mark.usefixtures("plain_calibration")

SIZE = 64
SCHEMES = (
    ("int8", 0.1, -3),
    ("uint8", 1 / 128, 128),
    ("int16", 4 / 32768, 0),
    ("int8", 1e-38, 127),  # steps overflow
    ("uint8", 3e30, 0),  # and vanish
)


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda s: f"{s[0]} {s[1]:.0e}")
def mirrored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[she.SelfHealingModel]:
    """A model that gives back its levels."""
    dtype, scale, zero_point = request.param
    path = tmp_path_factory.mktemp("mirror") / "mirror.tflite"
    path.write_bytes(mirror(dtype, scale, zero_point, SIZE))
    info = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    inputs = rng.integers(info.min, info.max, (60, 1, SIZE), dtype, endpoint=True)
    with she.SelfHealingModel(path, she.calibrate(path, inputs, seed=1)) as model:
        yield model


EXTREMES = (0.0, -0.0, 1e30, -1e30, 3.4e38, -3.4e38, 1e-45, -1e-45, 1.1754942e-38, 1e-38)
REALS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([np.float32(x).item() for x in EXTREMES]),
)
HALVES = st.integers(-70_000, 70_000).map(lambda n: n / 2)
FORMS = {"single": (1, SIZE), "leading": (3, 1, SIZE), "first": (3, SIZE)}


def as_the_slow_way(model: she.SelfHealingModel, x: Array) -> Array:
    """What levels stand for, once reals have been rounded to them, by NumPy."""
    (spec,), (result,) = model.inputs, model.outputs
    return dequantize(quantize(x, spec), result)


@pytest.mark.parametrize("form", FORMS)
@examples(60)
@given(data=st.data())
def test_any_reals(mirrored: she.SelfHealingModel, form: str, data: st.DataObject) -> None:
    shape = FORMS[form]
    x = data.draw(hnp.arrays(np.float32, shape, elements=REALS, fill=REALS))
    y = mirrored.predict(x)
    assert isinstance(y, np.ndarray)
    assert y.dtype == np.float32
    assert y.shape == (*shape, 1)
    assert y.tobytes() == as_the_slow_way(mirrored, x).tobytes()
    assert is_hot(mirrored, x)


@examples(60)
@given(halves=hnp.arrays(np.float64, (2, 1, SIZE), elements=HALVES))
def test_half_way_values_go_to_the_even_neighbour(
    mirrored: she.SelfHealingModel, halves: Array
) -> None:
    x = (halves * np.float32(mirrored.inputs[0].scale)).astype(np.float32)
    for near in (x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(np.inf))):
        if np.isfinite(near).all():
            y = np.asarray(mirrored.predict(near))
            assert y.tobytes() == as_the_slow_way(mirrored, near).tobytes()


def test_every_level_comes_back(mirrored: she.SelfHealingModel) -> None:
    (spec,) = mirrored.inputs
    info = np.iinfo(spec.dtype)
    levels = np.arange(info.min, info.max + 1).astype(spec.dtype).reshape(-1, 1, SIZE)
    y = np.asarray(mirrored.predict(levels))
    assert y.dtype == spec.dtype
    assert y.tobytes() == levels.tobytes()
    assert is_hot(mirrored, levels)
    reals = dequantize(levels, spec)
    if np.isfinite(reals).all():
        real = np.asarray(mirrored.predict(reals))
        assert real.tobytes() == as_the_slow_way(mirrored, reals).tobytes()


class TestOut:
    def test_filled_in_place(self, mirrored: she.SelfHealingModel) -> None:
        dtype = mirrored.inputs[0].dtype
        for shape in FORMS.values():
            for kind in (dtype, np.dtype(np.float32)):
                x = np.ones(shape, kind)
                out = np.zeros((*shape, 1), kind)
                assert mirrored.predict(x, out) is out
                assert same([out], [np.asarray(mirrored.predict(x))])
                assert is_hot(mirrored, x, out)

    @pytest.mark.parametrize(
        ("make", "error", "says"),
        [
            (lambda _: np.zeros((3, 1, SIZE, 1), np.float64), ValueError, "out: expected .* float"),
            (lambda d: np.zeros((3, 1, SIZE), d), ValueError, "out: expected"),
            (lambda d: np.zeros((4, 1, SIZE, 1), d), ValueError, "out: expected"),
            (lambda d: np.zeros((3, 1, 2 * SIZE, 1), d)[:, :, ::2], ValueError, "non-contiguous"),
            (lambda _: [0] * SIZE, TypeError, "out: expected an array, got list"),
        ],
    )
    def test_refused_before_anything_runs(
        self, mirrored: she.SelfHealingModel, make: Any, error: type[Exception], says: str
    ) -> None:
        dtype = mirrored.inputs[0].dtype
        before = mirrored.health.predictions
        with pytest.raises(error, match=says):
            mirrored.predict(np.ones((3, 1, SIZE), dtype), make(dtype))
        assert mirrored.health.predictions == before

    def test_read_only_stays_as_it_is(self, mirrored: she.SelfHealingModel) -> None:
        dtype = mirrored.inputs[0].dtype
        out = np.zeros((1, SIZE, 1), dtype)
        out.flags.writeable = False
        with pytest.raises(ValueError, match=r"out: expected a writable .* got a read-only one"):
            mirrored.predict(np.ones((1, SIZE), dtype), out)
        assert not out.any()

    @pytest.mark.parametrize("kind", ["own", "real"])
    @pytest.mark.parametrize("ahead", [-2 * SIZE, -SIZE // 2, 0, 1, SIZE // 2, SIZE, 2 * SIZE])
    def test_may_share_memory_with_the_input(
        self, mirrored: she.SelfHealingModel, kind: str, ahead: int
    ) -> None:
        """An answer must not be written over inputs that are still to be read."""
        (spec,) = mirrored.inputs
        dtype = spec.dtype if kind == "own" else np.dtype(np.float32)
        rng = np.random.default_rng(5)
        memory = np.zeros(9 * SIZE, dtype)
        x = memory[3 * SIZE : 6 * SIZE].reshape(3, 1, SIZE)
        out = memory[3 * SIZE + ahead : 6 * SIZE + ahead].reshape(3, 1, SIZE, 1)
        values = rng.integers(0, 100, x.shape)
        x[...] = values if kind == "own" else values * np.float32(spec.scale)
        expected = np.asarray(mirrored.predict(x.copy()))
        assert mirrored.predict(x, out) is out
        assert out.tobytes() == expected.tobytes()


class Sub(np.ndarray[Any, Any]):
    """An array of the user's own kind."""


class TestBadInput:
    CASES: tuple[tuple[str, Any, type[Exception], str], ...] = (
        ("strided", lambda x: np.repeat(x, 2, axis=2)[:, :, ::2], ValueError, "C-contiguous"),
        ("fortran", lambda x: np.asfortranarray(np.tile(x, (2, 1, 1))), ValueError, "C-contig"),
        ("wide", lambda x: x.astype(np.float64), TypeError, "x: expected dtype .* got float64"),
        ("masked", np.ma.masked_array, TypeError, "got a masked one"),
        ("empty", lambda x: x[:0], ValueError, "x: expected a batch of at least one sample"),
        ("shape", lambda x: x[:, :, :-1].copy(), ValueError, "x: expected shape"),
        ("rank", lambda x: x[np.newaxis], ValueError, "x: expected shape"),
        ("list", lambda x: x.tolist(), TypeError, "x: expected a NumPy array, got list"),
        ("none", lambda _: None, TypeError, "x: expected a NumPy array, got NoneType"),
        ("swapped", lambda x: x.astype(">f4"), TypeError, "x: expected native byte order"),
        ("nan", lambda x: np.full(x.shape, np.nan, np.float32), ValueError, "that are NaN or inf"),
        ("inf", lambda x: np.full(x.shape, np.inf, np.float32), ValueError, "that are NaN or inf"),
    )

    @pytest.mark.parametrize(("name", "make", "error", "says"), CASES, ids=[c[0] for c in CASES])
    def test_refused_and_unharmed(
        self,
        mirrored: she.SelfHealingModel,
        name: str,
        make: Any,
        error: type[Exception],
        says: str,
    ) -> None:
        del name
        x = np.arange(4 * SIZE, dtype=mirrored.inputs[0].dtype).reshape(4, 1, SIZE)
        expected = np.asarray(mirrored.predict(x))
        monitor = parts_of(mirrored).monitor
        before = (mirrored.health.predictions, bank_state(mirrored), monitor.count)
        with pytest.raises(error, match=says):
            mirrored.predict(make(x))
        assert (mirrored.health.predictions, bank_state(mirrored), monitor.count) == before
        assert np.asarray(mirrored.predict(x)).tobytes() == expected.tobytes()

    def test_subclass_and_read_only(self, mirrored: she.SelfHealingModel) -> None:
        """Both are served: the first the slower way, whose answers are plain arrays."""
        x = np.arange(4 * SIZE, dtype=mirrored.inputs[0].dtype).reshape(4, 1, SIZE)
        expected = np.asarray(mirrored.predict(x))
        assert not is_hot(mirrored, x.view(Sub))
        own = mirrored.predict(x.view(Sub))
        assert type(own) is np.ndarray
        assert own.tobytes() == expected.tobytes()
        x.flags.writeable = False
        assert same([np.asarray(mirrored.predict(x))], [expected])
        assert is_hot(mirrored, x)

    def test_unaligned(self, mirrored: she.SelfHealingModel) -> None:
        memory = np.zeros(4 * SIZE + 1, np.uint8)
        x = memory[1:].view(np.float32).reshape(1, SIZE)
        with pytest.raises(ValueError, match="x: expected an aligned array"):
            mirrored.predict(x)


def raw_of(path: Path, model: she.SelfHealingModel) -> Raw:
    place = model.health.fingerprint
    return Raw(path, place.runtime, place.kernels)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [24, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", MODELS)
def test_public_models(shared_models: Path, runtime: RuntimeName, name: str, count: int) -> None:
    """The raw interpreter of the same kernels, bit for bit, in every form."""
    path = shared_models / f"{name}.tflite"
    with opened(path, runtime) as model:
        raw = raw_of(path, model)
        size = 8
        for first in range(0, count, size):
            batch = random_batch(model.inputs, size, seed=100 + first)
            expected = [raw.run([rows[n] for rows in batch]) for n in range(size)]
            stacked = [np.stack([e[i] for e in expected]) for i in range(len(model.outputs))]
            if first % 3 == 0:
                got = [answers(model, named(model.inputs, [r[n] for r in batch])) for n in range(8)]
                assert all(same(a, e) for a, e in zip(got, expected, strict=True)), first
            elif first % 3 == 1 or any(s.shape[0] != 1 for s in (*model.inputs, *model.outputs)):
                assert same(answers(model, named(model.inputs, batch)), stacked), first
            else:
                rows = named(model.inputs, [r[:, 0] for r in batch])
                assert same(answers(model, rows), [s[:, 0] for s in stacked]), first
        served = model.health.predictions
        assert is_hot(model, named(model.inputs, random_batch(model.inputs, 1, seed=1)))
        assert model.health.predictions == served + 1 == count + 1
        assert "diagnosis" not in kinds(model) or not model.weights.scrub()


@pytest.mark.parametrize("name", [n for n in MODELS if "int8" in n and n != "split_concat_uint8"])
def test_public_models_of_reals(shared_models: Path, runtime: RuntimeName, name: str) -> None:
    path = shared_models / f"{name}.tflite"
    with opened(path, runtime) as model:
        raw = raw_of(path, model)
        (spec,), (result,) = model.inputs, model.outputs
        assert spec.quantized
        rng = np.random.default_rng(8)
        span = 300 * spec.scale
        for _ in range(6):
            x = rng.uniform(-span, span, (3, *spec.shape)).astype(np.float32)
            levels = quantize(x, spec)
            expected = [dequantize(raw.run([row])[0], result) for row in levels]
            assert same(answers(model, x), [np.stack(expected)])
