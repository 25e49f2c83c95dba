"""The core outlives what Python closes, drops or never made: it says so, and reads no freed memory.

What is looked for shows under AddressSanitizer: `nox -s sanitize_bindings`.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import Array, answers, run_by, same

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.signals import Measurement

ALL = 1 << 20  # bytes: a whole round before each prediction


@pytest.fixture
def swept(digits_baseline: she.Baseline) -> Any:
    """A model that looks at every byte before each prediction."""
    policy = she.Policy(scrub_bytes_per_predict=ALL, keyed_bytes_per_predict=ALL)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        yield model


class TestParts:
    """Parts of a model that were closed under it."""

    def test_weights(self, swept: she.SelfHealingModel, samples: Array) -> None:
        swept.predict(samples[0])
        parts_of(swept).weights.close()
        for _ in range(3):
            with pytest.raises(RuntimeError, match="expected live images to sweep, got a released"):
                swept.predict(samples[0])
            with pytest.raises(RuntimeError, match="expected live images to sweep, got a released"):
                swept.infer(samples[0])
        swept.close()
        with pytest.raises(ModelClosedError):
            swept.predict(samples[0])

    def test_weights_inside_an_inference(self, swept: she.SelfHealingModel, samples: Array) -> None:
        instance = parts_of(swept).session.instance
        original = instance.run

        def run(inputs: list[Array]) -> list[Array]:
            parts_of(swept).weights.close()
            return original(inputs)

        run_by(swept, run)
        swept.predict(samples[0])  # what it had begun
        with pytest.raises(RuntimeError, match="expected live images"):
            swept.predict(samples[0])

    def test_session(self, swept: she.SelfHealingModel, samples: Array) -> None:
        swept.predict(samples[0])
        parts_of(swept).session.close()
        for _ in range(3):
            with pytest.raises((RuntimeError, ValueError, she.errors.SelfHealError)):
                swept.predict(samples[0])
        swept.close()

    @pytest.mark.parametrize("first", ["session", "weights", "serving"])
    def test_in_every_order(self, swept: she.SelfHealingModel, samples: Array, first: str) -> None:
        parts = parts_of(swept)
        closes: dict[str, Callable[[], None]] = {
            "session": parts.session.close,
            "weights": parts.weights.close,
            "serving": parts.loop.serving.release,
        }
        swept.predict(samples[0])
        closes.pop(first)()
        for close in closes.values():
            close()
            with pytest.raises((RuntimeError, ValueError, she.errors.SelfHealError)):
                swept.predict(samples[0])
        swept.close()
        swept.close()

    def test_the_path_alone(self, swept: she.SelfHealingModel, samples: Array) -> None:
        hot = parts_of(swept).loop.serving.hot
        swept.close()
        gc.collect()
        assert hot.predict(samples[0]) is None
        assert hot.infer(samples[0]) is None
        assert hot.findings == []

    @pytest.mark.slow
    def test_by_another_thread(self, digits_baseline: she.Baseline, samples: Array) -> None:
        for _ in range(20):
            model = she.SelfHealingModel(digits_model_path(), digits_baseline)
            begun = threading.Event()

            def serve(model: she.SelfHealingModel = model, begun: threading.Event = begun) -> None:
                try:
                    while True:
                        model.predict(samples[:50])
                        begun.set()
                except ModelClosedError:
                    pass

            threads = [threading.Thread(target=serve) for _ in range(2)]
            for thread in threads:
                thread.start()
            begun.wait()
            model.close()
            for thread in threads:
                thread.join()


class TestViews:
    """Memory that Python holds beyond its owner."""

    def test_of_the_live_bytes(self, swept: she.SelfHealingModel) -> None:
        views = [
            np.frombuffer(image.live, np.uint8) for image in parts_of(swept).weights.images.values()
        ]
        copies = [view.copy() for view in views]
        swept.close()
        gc.collect()
        assert same(views, copies)

    def test_of_tables_and_snapshots(self) -> None:
        image = _core.WeightImage(bytearray(range(256)) * 16, key=b"k" * 16)
        pool = _core.SnapshotPool(image, 4)
        parity = _core.Parity(image)
        views = [*image.table_memory(), *pool.memory(), *parity.memory()]
        copies = [view.copy() for view in views]
        image.release()
        del image, pool, parity
        gc.collect()
        assert same(views, copies)

    def test_of_a_window(self) -> None:
        buffer = _core.RingBuffer(3)
        buffer.push_many(np.arange(4.0))
        older, newer = buffer.spans
        del buffer
        gc.collect()
        assert [*older, *newer] == [1, 2, 3]

    def test_of_a_bank(self, swept: she.SelfHealingModel) -> None:
        monitor = parts_of(swept).monitor
        assert isinstance(monitor, she.PerformanceMonitor)
        bank = monitor.core.bank
        assert bank is not None
        state = bank.state()
        del monitor
        swept.close()
        gc.collect()
        assert bank.state() == state

    def test_inputs_of_a_dict_that_changes_meanwhile(
        self, swept: she.SelfHealingModel, samples: Array
    ) -> None:
        expected = answers(swept, samples[:4])
        (name,) = (spec.name for spec in parts_of(swept).session.instance.inputs)
        given = {name: samples[:4].copy()}
        held = weakref.ref(given[name])
        seen = []

        class Nosy(she.PerformanceMonitor):
            def update(self, measurement: Measurement) -> tuple[she.Alarm, ...]:
                given.clear()
                seen.append(held() is not None)
                return super().update(measurement)

        baseline = swept.baseline
        with she.SelfHealingModel(digits_model_path(), baseline, monitor=Nosy(baseline)) as model:
            assert same(answers(model, given), expected)
        assert seen == [True] * 4


class TestImages:
    """An image that is released while something of the core refers to it."""

    def parts(self) -> tuple[_core.WeightImage, list[Any]]:
        image = _core.WeightImage(bytearray(range(256)) * 16, key=b"k" * 16)
        pool = _core.SnapshotPool(image, 4)
        parity = _core.Parity(image)
        guard = _core.ImageGuard(image, pool, parity)
        return image, [pool, parity, guard, _core.ImageSet([guard])]

    def test_every_use_says_so(self) -> None:
        image, (pool, _, guard, images) = self.parts()
        image.release()
        image.release()
        for use in (
            image.check,
            pool.take,
            guard.sweep,
            images.take,
            lambda: guard.step(ALL, ALL),
            lambda: guard.look(ALL),
            lambda: guard.heal(0),
            lambda: guard.restore(0),
            lambda: guard.write(0, b"x"),
            lambda: pool.restore(0),
            lambda: pool.read(0),
            lambda: pool.renew_golden(bytes(4096)),
            lambda: images.restore(0, [(0, 0, 9)]),
            lambda: images.patch([(0, 0, b"x")]),
            lambda: image.rebind(bytearray(4096)),
            lambda: _core.ImageGuard(image),
        ):
            with pytest.raises(ValueError, match="expected a live image, got a released one"):
                use()
        assert image.released

    def test_a_release_during_a_check_waits_for_it(self) -> None:
        buffer = bytearray(bytes(range(256)) * (1 << 16))  # 16 MB: long enough to be met
        image = _core.WeightImage(buffer, key=b"k" * 16)
        results: list[list[int]] = []

        def check() -> None:
            try:
                while True:
                    results.append(image.check())
            except ValueError:
                pass

        thread = threading.Thread(target=check)
        thread.start()
        while not results:
            pass
        image.release()
        thread.join()
        assert not any(results)
        buffer.extend(b"x")  # nothing holds it any more


class TestTypes:
    """Parameters of a type, and what comes instead."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda wrong: _core.SnapshotPool(wrong, 4),
            _core.Parity,
            _core.ImageGuard,
            lambda wrong: _core.ImageSet([wrong]),
            lambda wrong: _core.MonitorBank([wrong], 1e4),
            lambda wrong: _core.SignalMonitor(wrong, arl0=1e4),
            lambda wrong: _core.SignalPass([wrong], [wrong]),
        ],
    )
    @pytest.mark.parametrize("wrong", [12345, "image", object(), b"x"])
    def test_of_the_core(self, make: Callable[[Any], object], wrong: object) -> None:
        with pytest.raises(TypeError):
            make(wrong)

    @pytest.mark.parametrize(
        ("make", "cls"),
        [
            (lambda blank: _core.SnapshotPool(blank, 4), _core.WeightImage),
            (_core.Parity, _core.WeightImage),
            (_core.ImageGuard, _core.WeightImage),
            (lambda blank: _core.ImageSet([blank]), _core.ImageGuard),
            (lambda blank: _core.MonitorBank([blank], 1e4), _core.Reference),
            (lambda blank: _core.MonitorBank([[blank]], 1e4), _core.Reference),
            (lambda blank: _core.SignalMonitor(blank, arl0=1e4), _core.Reference),
            (lambda blank: _core.SignalPass([blank], []), _core.TensorLayout),
            (_core.LockScope, _core.LockScope),
        ],
    )
    def test_that_was_never_initialised(self, make: Callable[[Any], object], cls: Any) -> None:
        with pytest.raises((TypeError, RuntimeError)):
            make(cls.__new__(cls))

    @pytest.mark.parametrize(
        "make", [_core.Parity, _core.ImageGuard, lambda x: _core.SnapshotPool(x, 4)]
    )
    def test_none(self, make: Callable[[Any], object]) -> None:
        with pytest.raises(TypeError):
            make(None)

    def test_of_a_path(self, swept: she.SelfHealingModel, samples: Array) -> None:
        hot = parts_of(swept).loop.serving.hot
        engine_type = _core.PythonEngine
        for wrong in (12345, "engine", object(), engine_type.__new__(engine_type)):
            with pytest.raises(TypeError, match="engine: expected"):
                hot.attach(wrong)  # type: ignore[arg-type]
        for wrong in ([None], [12345], [_core.ImageGuard.__new__(_core.ImageGuard)]):
            with pytest.raises((TypeError, RuntimeError)):
                hot.guard(wrong)  # type: ignore[arg-type]
        assert swept.predict(samples[0]) is not None

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            ("inference_lock", None),
            ("inference_lock", 5),
            ("signals", 12345),
            ("signals", _core.SignalPass.__new__(_core.SignalPass)),
            ("monitor", 12345),
            ("monitor", _core.InferenceMonitor.__new__(_core.InferenceMonitor)),
            ("measurement", int),
            ("trusted", None),
            ("inputs", [("x", np.dtype(object), (1,), 0.0, 0)]),
            ("outputs", [("y", np.dtype(object), (1,), 0.0, 0)]),
        ],
    )
    def test_of_a_new_path(self, path_parts: dict[str, Any], name: str, wrong: object) -> None:
        assert _core.HotPath(**path_parts).number == 0
        with pytest.raises(TypeError):
            _core.HotPath(**{**path_parts, name: wrong})

    @pytest.fixture
    def path_parts(self) -> dict[str, Any]:
        return {
            "inference_lock": _core.FairLock(),
            "signals": _core.SignalPass([], []),
            "monitor": lambda *_: (),
            "measurement": Measurement,
            "inputs": [],
            "outputs": [],
            "prediction": she.Prediction,
            "predictions": she.Predictions,
            "trusted": _core.Flag(),
            "first_id": 0,
            "handle": lambda *_: (),
            "ended": lambda: None,
            "clock": None,
            "shape": lambda *_: None,
            "live_bytes": 0,
            "behind_bytes": 0,
            "live_seconds": 0.0,
            "behind_seconds": 0.0,
            "heals": True,
        }


def test_a_path_is_not_changed_by_a_thread_while_another_one_serves(
    swept: she.SelfHealingModel, samples: Array
) -> None:
    hot = parts_of(swept).loop.serving.hot
    lock = parts_of(swept).inference_lock.core
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            inside.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    changes: tuple[Callable[[], None], ...] = (lambda: hot.attach(None), lambda: hot.guard([]))
    try:
        for change in changes:
            with pytest.raises(RuntimeError, match="inference_lock: expected it free"):
                change()
    finally:
        done.set()
        thread.join()
    assert swept.predict(samples[0]) is not None


def test_an_attempt_is_ended_by_the_thread_that_made_it() -> None:
    lock = _core.FairLock()
    attempt = lock.attempt()
    assert attempt.__enter__()
    caught: list[BaseException] = []

    def leave() -> None:
        try:
            attempt.__exit__(None, None, None)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert lock.mine
