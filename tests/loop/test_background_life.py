"""The spare, closing and forking while a thread heals."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.concurrency.test_fork import in_child
from tests.concurrency.test_threads import together
from tests.inference.test_bit_exact import opened as opened_public
from tests.inference.test_hot_path import damage
from tests.loop.test_background import SOON, Held, held_up, opened, policy
from tests.support import Array, DoNothing, answers, kinds, open_files, random_batch, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.inference.spare import Spare
from selfheal_edge.model import parts_of
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.tflite.runtimes.protocol import RuntimeName


def spare_of(model: she.SelfHealingModel) -> Spare:
    spare = parts_of(model).spare
    assert spare is not None
    return spare


class TestSpare:
    def test_a_damaged_one_is_rebuilt(self, digits_baseline: she.Baseline, samples: Array) -> None:
        held = Held()
        kit = she.ModelRepairKit(held)
        with opened(digits_baseline, hot_spare=True, repair_kit=kit, **held_up()) as model:
            expected = answers(model, samples[:50])[0]
            old = spare_of(model).instance
            built = spare_of(model)._built
            assert built is not None
            for image in built[1].values():
                np.asarray(image.live)[1000::7] ^= 64
            damage(model)
            model.predict(samples[0])
            assert held.reached.wait(SOON)
            assert spare_of(model).instance is not old
            given = [model.infer(x) for x in samples[:50]]
            assert same([np.asarray(p.output) for p in given], list(expected))
            assert all(p.trusted for p in given)
            held.go.set()
            assert model.wait_healed(SOON)
            assert not parts_of(model).loop.serving.on_spare
            assert same(answers(model, samples[:50]), [expected])

    @pytest.mark.parametrize("mode", ["inline", "background"])
    def test_scrub_leaves_the_model_serving(
        self, digits_baseline: she.Baseline, samples: Array, mode: str
    ) -> None:
        """The spare is not swept: it must not stay a moment longer than it has to."""
        rules = she.Policy(mode=mode, hot_spare=True)  # type: ignore[arg-type]
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=rules) as model:
            expected = answers(model, samples[:50])
            damage(model)
            assert len(model.weights.scrub()) == 1
            assert not parts_of(model).loop.serving.on_spare
            assert model.health.state == "healthy"
            assert same(answers(model, samples[:50]), expected)

    def test_serves_while_nothing_helps(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        """Long after: it is looked at again, and the user's rollback brings the model back."""
        rules = {
            "responses": {she.Cause.WEIGHT_CORRUPTION: ("mark_untrusted",)},
            "rediagnose_after": 10,
        }
        with opened(digits_baseline, hot_spare=True, **rules) as model:
            expected = answers(model, samples[:200])[0]
            damage(model)
            model.predict(samples[0])
            assert model.wait_healed(SOON)
            assert parts_of(model).loop.serving.on_spare
            for n in range(60):
                p = model.infer(samples[n])
                assert not p.trusted or np.asarray(p.output).tobytes() == expected[n].tobytes()
                assert model.wait_healed(SOON)
            assert model.health.state == "healthy"
            assert model.health.trouble == "weight_corruption"
            model.rollback()
            assert not parts_of(model).loop.serving.on_spare
            assert model.health.trouble is None
            assert same(answers(model, samples[:200]), [expected])

    def test_its_memory_is_told(self, digits_baseline: she.Baseline) -> None:
        with opened(digits_baseline) as model:
            without = model.memory_report()
        assert "hot spare" not in without
        with opened(digits_baseline, hot_spare=True) as model:
            report = model.memory_report()
            images = sum(image.nbytes for image in model.weights.images.values())
            guards = report["checksums and snapshots"]
            assert images < report["hot spare"] < images + guards, "without copies of its own"
            assert report["total"] == sum(n for k, n in report.items() if k != "total")

    def test_refused_to_a_recurrent_model(self, shared_models: Path, runtime: RuntimeName) -> None:
        path = shared_models / "mnist_lstm_int8.tflite"
        with opened_public(path, runtime) as model:
            baseline = model.baseline
        before = open_files()
        for mode in ("inline", "background"):
            with pytest.raises(ValueError, match=r"policy\.hot_spare: expected False"):
                she.SelfHealingModel(
                    path,
                    baseline,
                    runtime=runtime,
                    policy=she.Policy(mode=mode, hot_spare=True),
                )
        assert open_files() == before, "nothing stays open"

    def test_a_recurrent_model_heals_in_the_background(
        self, shared_models: Path, runtime: RuntimeName
    ) -> None:
        path = shared_models / "mnist_lstm_int8.tflite"
        with opened_public(path, runtime) as first:
            baseline = first.baseline
        with she.SelfHealingModel(path, baseline, runtime=runtime, policy=policy()) as model:
            (x,) = random_batch(model.inputs, 4, seed=3)
            model.predict(x)
            damage(model)
            assert not model.infer(x[0]).trusted
            assert model.wait_healed(SOON)
            assert model.weights.scrub() == ()
            assert model.health.state == "healthy"


class TestClosing:
    def test_while_it_heals(self, digits_baseline: she.Baseline, samples: Array) -> None:
        held = Held()
        kit = she.ModelRepairKit(held)
        with opened(digits_baseline, repair_kit=kit, **held_up()) as model:
            damage(model)
            model.predict(samples[0])
            assert held.reached.wait(SOON)
            timer = threading.Timer(0.1, held.go.set)
            timer.start()
            together(model.close, model.close, timeout_s=SOON)
            timer.join()
            assert model.health.state == "closed"
            with pytest.raises(ModelClosedError):
                model.predict(samples[0])
            assert kinds(model)[-1] == "closed"
            assert kinds(model).count("closed") == 1

    def test_from_on_event_in_the_worker(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        threads: list[str] = []
        closed = threading.Event()

        def on_event(_: she.Event) -> None:
            threads.append(threading.current_thread().name)
            model.close()
            closed.set()

        with opened(digits_baseline, on_event=on_event) as model:
            damage(model)
            with contextlib.suppress(ModelClosedError):
                for _ in range(1000):
                    model.predict(samples[0])
            assert closed.wait(SOON)
            assert model.health.state == "closed"

    @pytest.mark.parametrize("who", ["worker", "caller"])
    def test_from_a_strategy(self, digits_baseline: she.Baseline, samples: Array, who: str) -> None:
        """Also while the worker waits for the maintenance lock that the closing thread holds."""

        class Closing(DoNothing):
            def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
                if who == "caller":  # the worker begins a job meanwhile, and waits
                    model.predict(samples[0])
                model.close()
                return super().apply(target, case)

        kit = she.ModelRepairKit(Closing("closing"))
        with opened(digits_baseline, repair_kit=kit, **held_up("closing")) as model:
            damage(model)

            def work() -> None:
                if who == "worker":
                    model.predict(samples[0])
                    model.wait_healed(SOON)
                else:
                    with contextlib.suppress(ModelClosedError):
                        model.weights.scrub()

            together(work, timeout_s=SOON)
            assert model.health.state == "closed"

    def test_waiting_inside_the_loop_does_not_hang(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        said: list[bool] = []

        class Waiting(DoNothing):
            def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
                super().apply(target, case)
                said.append(model.wait_healed())
                return RepairOutcome(False, "waited")

        def on_event(_: she.Event) -> None:
            if threading.current_thread().name == "selfheal-edge healing":
                said.append(model.wait_healed())

        kit = she.ModelRepairKit(Waiting("waiting"))
        parts = {"repair_kit": kit, "on_event": on_event, **held_up("waiting")}
        with opened(digits_baseline, **parts) as model:
            damage(model)
            model.predict(samples[0])
            assert model.wait_healed(SOON)
            assert said
            assert not any(said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_it_heals(digits_baseline: she.Baseline, samples: Array) -> None:
    """The child has no worker, and locks that the parent's holds."""
    held = Held()
    kit = she.ModelRepairKit(held)
    with opened(digits_baseline, repair_kit=kit, hot_spare=True, **held_up()) as model:
        expected = answers(model, samples[:20])
        damage(model)
        model.predict(samples[0])
        assert held.reached.wait(SOON)
        for call in (
            lambda: model.predict(samples[0]),
            model.weights.scrub,
            model.wait_healed,
            model.rollback,
            lambda: model.health,
        ):
            assert in_child(call).startswith("ForkedProcessError")
        assert in_child(model.close) == "None"
        held.go.set()
        assert model.wait_healed(SOON)
        assert same(answers(model, samples[:20]), expected)
        assert model.health.state == "healthy"
