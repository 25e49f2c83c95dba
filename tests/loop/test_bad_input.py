"""Every mistake gets a message with argument, expected and got, and the model serves on."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.support import RUNTIMES, Array, answers, infer_one, internals, named, random_batch, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import (
    BaselineMismatchError,
    ModelClosedError,
    ModelFormatError,
    RuntimeUnavailableError,
)
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.arrays import read_batch

I8 = np.int8


@pytest.fixture
def guarded(model: she.SelfHealingModel, samples: Array) -> Iterator[she.SelfHealingModel]:
    """A model that must answer as before when the test is over, without any event."""
    expected = answers(model, samples[:20])
    yield model
    assert same(answers(model, samples[:20]), expected)
    assert model.events == ()
    assert model.health.state == "healthy"


def unaligned(shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    return np.frombuffer(bytes(4 * count + 1), np.float32, count, offset=1).reshape(shape)


masked: Any = np.ma.masked_array

BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (
        np.zeros((1, 8, 9, 1), I8),
        ValueError,
        r"x: expected shape \(1, 8, 8, 1\), or a batch of it, got \(1, 8, 9, 1\)",
    ),
    "rank": (np.zeros((8, 8), I8), ValueError, r"x: expected shape .* got \(8, 8\)"),
    "too many axes": (np.zeros((2, 2, 1, 8, 8, 1), I8), ValueError, r"got \(2, 2, 1, 8, 8, 1\)"),
    "scalar": (np.zeros((), I8), ValueError, r"x: expected shape .* got \(\)"),
    "dtype": (
        np.zeros((1, 8, 8, 1)),
        TypeError,
        "x: expected dtype int8 or float32, got float64",
    ),
    "unsigned": (np.zeros((1, 8, 8, 1), np.uint8), TypeError, "got uint8"),
    "object": (np.zeros((1, 8, 8, 1), object), TypeError, "got object"),
    "text": (np.full((1, 8, 8, 1), "a"), TypeError, "x: expected dtype .* got str"),
    "complex": (np.zeros((1, 8, 8, 1), np.complex64), TypeError, "got complex64"),
    "list": ([[0] * 64], TypeError, "x: expected a NumPy array, got list"),
    "none": (None, TypeError, "x: expected a NumPy array, got NoneType"),
    "byte-swapped": (
        np.zeros((1, 8, 8, 1), np.dtype(np.float32).newbyteorder()),
        TypeError,
        "x: expected native byte order, got >f4",
    ),
    "not contiguous": (
        np.zeros((1, 8, 16, 1), I8)[:, :, ::2],
        ValueError,
        r"x: expected a C-contiguous array, got strides \(128, 16, 2, 1\)",
    ),
    "fortran": (np.asfortranarray(np.zeros((3, 1, 8, 8, 1), I8)), ValueError, "C-contiguous"),
    "backwards": (np.zeros((4, 8, 8, 1), I8)[::-1], ValueError, "C-contiguous"),
    "unaligned": (unaligned((1, 8, 8, 1)), ValueError, "x: expected an aligned array, got"),
    "masked": (
        masked(np.zeros((1, 8, 8, 1), I8)),
        TypeError,
        "x: expected an array without a mask",
    ),
    "empty batch": (
        np.zeros((0, 8, 8, 1), I8),
        ValueError,
        "x: expected a batch of at least one sample, got an empty one",
    ),
    "empty leading batch": (np.zeros((0, 1, 8, 8, 1), I8), ValueError, "at least one sample"),
    "nan": (
        np.full((1, 8, 8, 1), np.nan, np.float32),
        ValueError,
        "x: expected finite values, got 64 that are NaN or infinite",
    ),
    "infinity in a batch": (
        np.array([0.0] * 64 + [np.inf] * 3 + [0.0] * 61, np.float32).reshape(2, 8, 8, 1),
        ValueError,
        "got 3 that are NaN or infinite",
    ),
    "wrong name": (
        {"picture": np.zeros((1, 8, 8, 1), I8)},
        ValueError,
        r"x: expected the names \['serving_default_image:0'\], got \['picture'\]",
    ),
    "empty dict": ({}, ValueError, r"x: expected the names .* got \[\]"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("method", ["predict", "infer"])
def test_bad_x(guarded: she.SelfHealingModel, method: str, what: str) -> None:
    value, error, message = BAD[what]
    before = guarded.health.predictions
    with pytest.raises(error, match=message):
        getattr(guarded, method)(value)
    assert guarded.health.predictions == before


def test_infer_of_a_batch(guarded: she.SelfHealingModel, samples: Array) -> None:
    """By the form of `x`, not by how many there are."""
    assert isinstance(guarded.infer(samples[0]), she.Prediction)
    for x in (samples[:2], samples[:1], samples[:2, 0]):
        found = guarded.infer(x)
        assert isinstance(found, she.Predictions)
        assert len(found) == len(x)
        assert np.array_equal(np.asarray(found.output), np.asarray(guarded.predict(x)))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((1, 11), I8), ValueError, r"out: expected int8 \(1, 10\), got int8 \(1, 11\)"),
        (np.zeros((1, 10), np.float32), ValueError, "got float32"),
        (np.zeros((10,), I8), ValueError, r"got int8 \(10,\)"),
        ([0] * 10, TypeError, "out: expected an array, got list"),
        (masked(np.zeros((1, 10), I8)), TypeError, "out: expected an array without a mask"),
        (np.zeros((1, 10), ">f4"), ValueError, "out: expected native byte order, got >f4"),
        (np.zeros((1, 20), I8)[:, ::2], ValueError, "out: expected a writable C-contiguous array"),
        (np.broadcast_to(np.zeros(1, I8), (1, 10)), ValueError, "got a read-only one"),
    ],
)
def test_bad_out(
    guarded: she.SelfHealingModel, samples: Array, out: Any, error: type[Exception], message: str
) -> None:
    before = guarded.health.predictions
    with pytest.raises(error, match=message):
        guarded.predict(samples[0], out)
    assert guarded.health.predictions == before


class Mine(np.ndarray[Any, Any]):
    """An array of the user's own kind."""


def test_no_thread_waits_for_the_reading_of_arrays(
    guarded: she.SelfHealingModel, samples: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of reals takes long to look at; a caller waits for inferences alone."""
    has_turn: list[bool] = []
    read = read_batch

    def look(*given: Any, **named: Any) -> Any:
        has_turn.append(parts_of(guarded).inference_lock.core.mine)
        return read(*given, **named)

    monkeypatch.setattr("selfheal_edge.model.read_batch", look)
    mine = samples.view(Mine)  # which the core leaves to Python
    guarded.predict({guarded.inputs[0].name: mine[:20]})
    guarded.infer(mine[0])
    assert has_turn == [False, False]


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_model_is_one_object(
    guarded: she.SelfHealingModel, copier: Callable[[object], object]
) -> None:
    """A copy would own the same runtime, and close it for both."""
    with pytest.raises(TypeError, match=r"model: expected to stay the one object .* got copied"):
        copier(guarded)


def test_out_of_a_model_with_several_outputs(shared_models: Path) -> None:
    path = shared_models / "split_concat_uint8.tflite"
    from selfheal_edge.tflite.session import Session

    session = Session(path)
    specs = session.instance.inputs
    session.close()
    x = random_batch(specs, 50, seed=1)
    with she.SelfHealingModel(path, she.calibrate(path, named(specs, x), seed=1)) as model:
        good = named(specs, [rows[0] for rows in x])
        assert isinstance(good, dict)
        with pytest.raises(TypeError, match="out: expected None for a model with 5 outputs"):
            model.predict(good, np.zeros(3, np.uint8))
        with pytest.raises(
            TypeError, match=r"x: expected a dict of arrays by name \(.*got ndarray"
        ):
            model.predict(next(iter(good.values())))
        with pytest.raises(ValueError, match=r"x: expected the names \["):
            model.predict({**good, "more": x[0][0]})
        with pytest.raises(ValueError, match=r"expected batches of one size, got \[2, 3\]"):
            model.predict(
                {
                    spec.name: rows[: 2 + (n > 0)]
                    for n, (spec, rows) in enumerate(zip(specs, x, strict=True))
                }
            )
        with pytest.raises(ValueError, match="expected one form for all inputs"):
            model.predict(
                {
                    spec.name: rows[0] if n else rows[:1]
                    for n, (spec, rows) in enumerate(zip(specs, x, strict=True))
                }
            )
        wrong = {**good, specs[1].name: np.zeros(7, np.float64)}
        with pytest.raises(TypeError, match=rf"x\['{specs[1].name}'\]: expected dtype uint8"):
            model.predict(wrong)
        assert isinstance(model.predict(good), dict)


class TestNonfinite:
    """NaN in float input is refused, or served untrusted and counted, as the policy says."""

    def test_skip(self, digits_baseline: she.Baseline, samples: Array) -> None:
        policy = she.Policy(nonfinite="skip")
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
            spec = model.inputs[0]
            good = (samples[0].astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
            expected = answers(model, good)
            bad = good.copy()
            bad[0, 3, :2, 0] = (np.nan, np.inf)
            p = infer_one(model, bad)
            assert not p.trusted
            assert [a.signal for a in p.alarms] == ["input_nonfinite"]
            assert model.health.nonfinite == 2
            assert model.health.trouble == "sensor_fault"
            assert same(answers(model, good), expected)

    @pytest.mark.slow
    def test_a_float_model(self, shared_models: Path) -> None:
        path = shared_models / "resnet8_cifar10_float32.tflite"
        x = np.random.default_rng(0).uniform(0, 255, (50, 1, 32, 32, 3)).astype(np.float32)
        baseline = she.calibrate(path, x, seed=1)
        bad = x[0].copy()
        bad[0, 0, 0, 0] = np.nan
        with she.SelfHealingModel(path, baseline) as model:
            with pytest.raises(ValueError, match="got 1 that are NaN or infinite"):
                model.predict(bad)
            assert model.infer(x[0]).trusted
        with she.SelfHealingModel(path, baseline, policy=she.Policy(nonfinite="skip")) as model:
            expected = answers(model, x[1])
            p = infer_one(model, bad)
            assert not p.trusted
            assert model.health.nonfinite == 1
            assert same(answers(model, x[1]), expected)
            huge = np.full_like(x[0], 3e38)
            q = infer_one(model, huge)  # finite, but the answer need not be
            assert isinstance(q.output, np.ndarray)
            if not np.isfinite(q.output).all():
                assert (q.label, q.confidence) == (None, None)
                assert not q.trusted


class TestCalibrate:
    """What cannot be learned from is refused."""

    CASES: ClassVar[dict[str, tuple[dict[str, Any], type[Exception], str]]] = {
        "too few": ({"inputs": 49}, ValueError, "inputs: expected a batch of at least 50"),
        "one sample": ({"inputs": None}, ValueError, "inputs: expected a batch of at least 50"),
        "too often": ({"false_alarm_interval": 9}, ValueError, "expected 10 to 1e12 predictions"),
        "never": ({"false_alarm_interval": float("inf")}, ValueError, "got inf"),
        "nan": ({"false_alarm_interval": float("nan")}, ValueError, "got nan"),
        "no number": ({"false_alarm_interval": None}, TypeError, "false_alarm_interval: expected"),
        "a flag": ({"false_alarm_interval": True}, TypeError, "false_alarm_interval: expected"),
        "no unit": ({"false_alarm_interval": "30", "rate_hz": 1}, ValueError, "such as '30 d'"),
        "a bad unit": ({"false_alarm_interval": "30 y", "rate_hz": 1}, ValueError, "got '30 y'"),
        "two points": (
            {"false_alarm_interval": "1.2.3 d", "rate_hz": 1},
            ValueError,
            "false_alarm_interval: expected .* got '1.2.3 d'",
        ),
        "negative": ({"false_alarm_interval": "-3 d", "rate_hz": 1}, ValueError, "got '-3 d'"),
        "no rate": ({"false_alarm_interval": "30 d"}, ValueError, "rate_hz: expected"),
        "rate 0": ({"false_alarm_interval": "30 d", "rate_hz": 0}, ValueError, "rate_hz: .*got 0"),
        "rate nan": (
            {"false_alarm_interval": "30 d", "rate_hz": float("nan")},
            ValueError,
            "rate_hz: expected a positive number",
        ),
        "rate text": (
            {"false_alarm_interval": "30 d", "rate_hz": "5"},
            TypeError,
            "rate_hz: expected a number, got '5'",
        ),
        "labels short": ({"labels": [1, 2]}, ValueError, r"labels: expected 60 integers.*\(2,\)"),
        "labels real": ({"labels": np.zeros(60)}, ValueError, "dtype float64"),
        "labels high": ({"labels": np.full(60, 10)}, ValueError, "expected classes 0 to 9"),
        "labels low": ({"labels": np.full(60, -1)}, ValueError, "got -1 to -1"),
        "threads 0": ({"num_threads": 0}, ValueError, "num_threads: expected .* got 0"),
        "threads -1": ({"num_threads": -1}, ValueError, "num_threads: expected .* got -1"),
        "threads real": ({"num_threads": 1.0}, ValueError, "num_threads: expected .* got 1.0"),
        "threads flag": ({"num_threads": True}, ValueError, "num_threads: expected .* got True"),
        "runtime": ({"runtime": "tensorflow"}, ValueError, "runtime: .*'tensorflow'"),
        "kernels": ({"kernels": "xnnpack"}, ValueError, "kernels: .*'xnnpack'"),
    }

    @pytest.mark.parametrize("what", CASES)
    def test_refused(self, digits: DigitsData, what: str) -> None:
        changed, error, message = self.CASES[what]
        options: dict[str, Any] = {"inputs": 60, **changed}
        count = options.pop("inputs")
        x = digits.calibration_inputs[:1] if count is None else digits.calibration_inputs[:count]
        with pytest.raises(error, match=message):
            she.calibrate(digits_model_path(), x, **options)

    def test_a_duration(self, digits: DigitsData) -> None:
        baseline = she.calibrate(
            digits_model_path(),
            digits.calibration_inputs[:60],
            false_alarm_interval="1.5 d",
            rate_hz=2,
        )
        assert baseline.false_alarm_interval == 1.5 * 86400 * 2

    def test_labels_for_a_model_without_classes(self, shared_models: Path) -> None:
        x = np.random.default_rng(0).integers(-128, 128, (60, 640)).astype(np.int8)
        with pytest.raises(ValueError, match="labels: expected None, because no classes"):
            she.calibrate(
                shared_models / "ad_autoencoder_int8.tflite", x, labels=np.zeros(60, np.int64)
            )

    def test_the_runtime_that_is_not_here(self, digits: DigitsData) -> None:
        missing = [n for n in ("litert", "tflite_runtime") if n not in RUNTIMES]
        if not missing:
            pytest.skip("both runtimes are here")
        name: Any = missing[0]
        with pytest.raises(RuntimeUnavailableError, match=f"runtime: expected {name} to be"):
            she.calibrate(digits_model_path(), digits.calibration_inputs, runtime=name)


class TestFiles:
    """Paths that lead nowhere, and files that are something else."""

    def test_no_such_file(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nowhere\.tflite"):
            she.SelfHealingModel(tmp_path / "nowhere.tflite", digits_baseline)

    def test_a_folder(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        with pytest.raises(ModelFormatError, match="expected a file, got a directory"):
            she.SelfHealingModel(tmp_path, digits_baseline)

    def test_something_else(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        path = tmp_path / "text.tflite"
        path.write_text("this is no model")
        with pytest.raises(ModelFormatError):
            she.SelfHealingModel(path, digits_baseline)

    def test_another_model(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        """One byte more: the same answers, and yet another file."""
        path = tmp_path / "other.tflite"
        path.write_bytes(digits_model_path().read_bytes() + bytes(4))
        with pytest.raises(BaselineMismatchError, match="baseline: expected one for the model"):
            she.SelfHealingModel(path, digits_baseline)

    def test_no_baseline(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="baseline: expected a Baseline, got str"):
            she.SelfHealingModel(digits_model_path(), str(tmp_path))  # type: ignore[arg-type]

    def test_options(self, digits_baseline: she.Baseline) -> None:
        path = digits_model_path()
        for options, message in (
            ({"num_threads": 0}, "num_threads: expected"),
            ({"runtime": "onnx"}, "runtime: expected"),
            ({"kernels": "fast"}, "kernels: expected"),
        ):
            with pytest.raises(ValueError, match=message):
                she.SelfHealingModel(path, digits_baseline, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scrub_bytes_per_predict": -1}, ValueError, "scrub_bytes_per_predict: expected"),
        ({"scrub_bytes_per_predict": 1.5}, ValueError, "got 1.5"),
        ({"integrity_budget": 1.5}, ValueError, "integrity_budget: expected"),
        ({"verify": "after"}, ValueError, "verify: expected one of"),
        ({"max_events": 0}, ValueError, "max_events: expected an integer of at least 1, got 0"),
        ({"max_generations": 0}, ValueError, "max_generations: expected"),
        ({"rediagnose_after": 0}, ValueError, "rediagnose_after: expected"),
        ({"nonfinite": "ignore"}, ValueError, "nonfinite: expected 'raise' or 'skip'"),
        ({"responses": {"unknown": ("rebuild",)}}, TypeError, "expected keys of type Cause"),
        ({"responses": {she.Cause.UNKNOWN: "rebuild"}}, TypeError, "expected a tuple of names"),
        ({"default_response": "rebuild"}, TypeError, "default_response: expected a tuple"),
        ({"default_response": (1,)}, TypeError, "default_response: expected names"),
    ],
)
def test_bad_policy(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        she.Policy(**options)


Call = Callable[[she.SelfHealingModel], object]
X = np.zeros((1, 8, 8, 1), I8)
CALLS: dict[str, Call] = {
    "predict": lambda m: m.predict(X),
    "predict a bad shape": lambda m: m.predict(np.zeros(3, I8)),
    "infer": lambda m: m.infer(X),
    "snapshot": lambda m: m.snapshot(),
    "rollback": lambda m: m.rollback(),
    "commission": lambda m: m.commission(),
    "enter": lambda m: m.__enter__(),
    "scrub": lambda m: m.weights.scrub(),
    "check": lambda m: internals(m).check(),
    "step": lambda m: internals(m).step(512),
    "take": lambda m: internals(m).take(),
    "drop": lambda m: m.weights.drop(1),
    "restore": lambda m: internals(m).restore(0, {"source": [(0, 1)]}),
    "activate": lambda m: internals(m).activate(0),
    "generations": lambda m: m.weights.generations,
    "memory": lambda m: she.redteam.inject(m).memory(),
    "flip_bits": lambda m: she.redteam.inject(m).flip_bits(1),
}


class TestClosed:
    @pytest.mark.parametrize("what", CALLS)
    def test_use_after_close(self, model: she.SelfHealingModel, what: str) -> None:
        model.snapshot()
        model.close()
        with pytest.raises(ModelClosedError, match="expected an open model, got a closed one"):
            CALLS[what](model)

    def test_what_may_still_be_read(self, model: she.SelfHealingModel, samples: Array) -> None:
        for _ in range(2):
            model.predict(samples)
        sweeps = model.health.sweeps
        model.close()
        model.close()
        assert model.health.state == "closed"
        assert model.health.sweeps == sweeps
        assert model.health.predictions == 2 * len(samples)
        assert model.events[-1].kind == "closed"
        assert model.memory_report()["total"] > 0
        assert model.weights.modules
        assert "closed" in repr(model)
        assert model.inputs[0].shape == (1, 8, 8, 1)

    def test_a_view_that_outlives_the_model(self, model: she.SelfHealingModel) -> None:
        memory = she.redteam.inject(model).memory()
        model.close()
        assert model.health.state == "closed"
        memory[0] ^= 1  # still mapped: no crash
        del memory

    def test_all_is_let_go_where_a_part_fails(
        self, model: she.SelfHealingModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise OSError("no")

        monkeypatch.setattr(parts_of(model).weights, "close", fail)
        with pytest.raises(OSError, match="no"):
            model.close()
        assert model.health.state == "closed"
        with pytest.raises(ModelClosedError):
            parts_of(model).session.instance.run([])

    def test_closing_while_others_predict(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        model = she.SelfHealingModel(digits_model_path(), digits_baseline)
        ends: list[BaseException] = []
        begun = threading.Barrier(4)

        def use(call: Callable[[], object]) -> None:
            begun.wait()
            try:
                for _ in range(100_000):
                    call()
            except BaseException as error:
                ends.append(error)

        calls = (lambda: model.predict(samples[0]), model.weights.scrub, model.snapshot)
        threads = [threading.Thread(target=use, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        begun.wait()
        threading.Event().wait(0.05)
        model.close()
        for thread in threads:
            thread.join(30)
        closed = [e for e in ends if isinstance(e, ModelClosedError)]
        full = [e for e in ends if "take: expected" in str(e)]
        assert len(closed) + len(full) == 3
