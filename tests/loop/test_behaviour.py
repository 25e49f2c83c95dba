"""What the loop makes of clean streams, broken sensors, drift, damage, and all at once."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Literal

import numpy as np
import pytest
from tests.support import (
    RUNTIMES,
    Array,
    DoNothing,
    answers,
    bytes_of,
    causes,
    executing,
    flip,
    infer_one,
    kinds,
    largest_region,
    pristine,
    run_by,
    same,
    stream,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.diagnosis.symptoms import Symptoms
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.tflite.coverage.table import Coverage


def serve(model: she.SelfHealingModel, inputs: Array) -> list[she.Prediction]:
    return [infer_one(model, x) for x in inputs]


def shifted(inputs: Array, gain: float = 1.0, offset: float = 0.0, noise: float = 0.0) -> Array:
    """Return images as a sensor with another gain, offset and noise gives them."""
    rng = np.random.default_rng(7)
    ink = inputs.astype(np.float64) + 128
    ink = ink * gain + offset + rng.normal(0, noise or 1e-9, ink.shape)
    levels: Array = (np.clip(np.rint(ink), 0, 255) - 128).astype(np.int8)
    return levels


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clean_stream_is_quiet(digits_baseline: she.Baseline, samples: Array, seed: int) -> None:
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        model.predict(stream(samples, 10_000, seed))
        assert model.events == ()
        assert model.health.alarms == 0
        assert model.health.state == "healthy"


class TestSensor:
    def test_stuck(self, model: she.SelfHealingModel, samples: Array) -> None:
        serve(model, stream(samples, 100))
        last = serve(model, np.repeat(samples[3:4], 30, axis=0))[-1]
        assert causes(model)[0] == "sensor_fault"
        assert model.health.trouble == "sensor_fault"
        assert not last.trusted

    @pytest.mark.parametrize("level", [-128, 0, 127])
    def test_dead_with_noise(self, model: she.SelfHealingModel, samples: Array, level: int) -> None:
        """All the same level, but for one pixel that flickers: never equal, yet flat."""
        serve(model, stream(samples, 100))
        dead = np.full((40, *samples.shape[1:]), level, np.int8)
        for n, image in enumerate(dead):
            image[0, n % 8, (n // 8) % 8, 0] = level + (1 if level < 127 else -1)
        serve(model, dead)
        assert causes(model)[0] == "sensor_fault"

    @pytest.mark.parametrize("change", [{"offset": 255.0}, {"gain": 4.0}])
    def test_saturated(
        self, model: she.SelfHealingModel, samples: Array, change: dict[str, float]
    ) -> None:
        serve(model, stream(samples, 300))
        predictions = serve(model, shifted(stream(samples, 100, seed=1), **change))
        assert causes(model)[0] == "sensor_fault"
        assert not predictions[-1].trusted

    def test_a_fault_and_its_end(self, model: she.SelfHealingModel, samples: Array) -> None:
        serve(model, stream(samples, 100))
        serve(model, np.repeat(samples[3:4], 60, axis=0))
        assert model.health.trouble == "sensor_fault"
        after = serve(model, stream(samples, 600, seed=2))
        assert kinds(model)[-1] == "recovered"
        assert model.events[-1].cause == "sensor_fault"
        assert model.health.trouble is None
        assert model.health.state == "healthy"
        assert after[-1].trusted


DRIFTS: dict[str, tuple[dict[str, float], str, str]] = {
    # One gain and one offset for all pixels, at once: sudden light is the same map.
    "brightness": ({"offset": 40}, "sensor_fault", "offset"),
    "contrast": ({"gain": 0.6}, "sensor_fault", "gain"),
    "noise": ({"noise": 40}, "covariate_drift", "sudden"),
}


class TestDrift:
    @pytest.mark.parametrize("kind", DRIFTS)
    def test_named(self, model: she.SelfHealingModel, samples: Array, kind: str) -> None:
        serve(model, stream(samples, 200))
        assert kinds(model) == []
        change, cause, named = DRIFTS[kind]
        drifted = serve(model, shifted(stream(samples, 400, seed=1), **change))
        assert set(causes(model)) == {cause}
        assert model.diagnosis is not None
        assert model.diagnosis.kind == named
        assert kinds(model)[0] == "alarm"
        assert not drifted[-1].trusted
        first = next(n for n, p in enumerate(drifted) if p.alarms)
        assert not drifted[first].trusted  # in doubt from the alarm on
        assert "input_" in " ".join(str(event) for event in model.events)

    def test_slow_light(self, model: she.SelfHealingModel, samples: Array) -> None:
        """The same map, which comes slowly, is drift."""
        x = stream(samples, 400)
        slowly = [shifted(x[n : n + 1], offset=round(n / 8)) for n in range(len(x))]
        serve(model, np.concatenate(slowly))
        assert causes(model)[0] == "covariate_drift"

    def test_its_end(self, model: she.SelfHealingModel, samples: Array) -> None:
        serve(model, shifted(stream(samples, 300), offset=40))
        assert model.health.trouble == "sensor_fault"
        after = serve(model, stream(samples, 600, seed=1))
        assert model.health.trouble is None
        assert after[-1].trusted
        assert kinds(model)[-1] == "regime", "normal inputs are known at once"
        assert model.weights.active == 0
        assert "unknown" not in causes(model)
        serve(model, shifted(stream(samples, 300, seed=2), offset=40))
        assert model.health.trouble == "sensor_fault"  # and it is heard again
        assert model.weights.active == 1

    def test_damage_during_it(self, model: she.SelfHealingModel, samples: Array) -> None:
        model.heal = "corruption"
        x = shifted(stream(samples, 400), offset=40)
        expected = answers(model, x)[0]
        assert model.health.trouble == "sensor_fault"
        she.redteam.inject(model).flip_bits(100, seed=1)
        model.weights.scrub()
        assert same([expected], answers(model, x))
        assert causes(model)[-1] == "weight_corruption"
        assert model.health.repairs == 1
        assert model.health.trouble == "sensor_fault"  # healing does not end a drift
        assert model.health.state == "untrusted"

    def test_it_during_damage(self, digits_baseline: she.Baseline, samples: Array) -> None:
        """While damage resists, and after it is healed by hand, a drift is still heard."""
        kit = she.ModelRepairKit(DoNothing("rollback_block"), DoNothing("rollback_model"))
        policy = she.Policy(
            responses={she.Cause.WEIGHT_CORRUPTION: ("rollback_block", "rollback_model")}
        )
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, policy=policy, repair_kit=kit
        ) as model:
            flip(model, largest_region(model).offset)
            model.weights.scrub()
            serve(model, shifted(stream(samples, 200), offset=40))
            assert model.health.state == "untrusted"
            model.rollback()
            serve(model, shifted(stream(samples, 300, seed=1), offset=40))
            assert model.health.trouble == "sensor_fault"


class TestEvents:
    def test_in_order_and_bounded(self, digits_baseline: she.Baseline) -> None:
        heard: list[she.Event] = []
        policy = she.Policy(max_events=10)
        with she.SelfHealingModel(
            digits_model_path(),
            digits_baseline,
            policy=policy,
            on_event=heard.append,
            clock=iter(range(10**6)).__next__,
        ) as model:
            for _ in range(30):
                model.snapshot()
                model.weights.drop(model.weights.generations[-1])
            assert len(model.events) == 10
            assert [e.seq for e in model.events] == list(range(20, 30))
            assert [e.seq for e in heard] == list(range(30))
            assert [e.monotonic for e in heard] == list(range(1, 31))  # 0: when it was opened
            assert "snapshot" in str(heard[0])

    def test_a_callback_that_raises(
        self,
        digits_baseline: she.Baseline,
        samples: Array,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(event: she.Event) -> None:
            raise ZeroDivisionError(event.kind)

        with (
            caplog.at_level(logging.ERROR),
            she.SelfHealingModel(digits_model_path(), digits_baseline, on_event=fail) as model,
        ):
            expected = answers(model, samples[:5])
            flip(model, 100)
            assert len(model.weights.scrub()) == 1
            assert same(answers(model, samples[:5]), expected)
        assert caplog.text.count("ZeroDivisionError") >= 2

    @pytest.mark.parametrize(
        "what", ["predict", "scrub", "rollback", "snapshot", "health", "close"]
    )
    def test_a_callback_that_uses_the_model(
        self, digits_baseline: she.Baseline, samples: Array, what: str
    ) -> None:
        """It is called when nothing is half done, so it may do anything."""
        heard: list[str] = []
        held: list[she.SelfHealingModel] = []
        calls = {
            "predict": lambda m: m.predict(samples[0]),
            "scrub": lambda m: m.weights.scrub(),
            "rollback": lambda m: m.rollback(),
            "snapshot": lambda m: m.snapshot(),
            "health": lambda m: m.health,
            "close": lambda m: m.close(),
        }

        def use(event: she.Event) -> None:
            heard.append(event.kind)
            if event.kind in ("diagnosis", "repair"):
                calls[what](held[0])

        policy = she.Policy(scrub_bytes_per_predict=512)  # all of it within the hundred samples
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, policy=policy, on_event=use
        ) as model:
            assert max(i.nbytes for i in model.weights.images.values()) < 100 * 512
            held.append(model)
            expected = answers(model, samples[:100])
            she.redteam.inject(model).flip_bits(20, seed=1)
            assert same(answers(model, samples[:100]), expected) or model.health.corrupt_blocks
            assert heard[:2] == ["diagnosis", "repair"]
            if what == "close":
                assert model.health.state == "closed"
            else:
                assert model.health.state == "healthy"
                assert same(answers(model, samples[:100]), expected)

    def test_a_callback_that_never_stops(self, digits_baseline: she.Baseline) -> None:
        """Every event causes another: bounded, not for ever, and no recursion."""
        held: list[she.SelfHealingModel] = []
        depth = [0, 0]

        def use_the_model(_: she.Event) -> None:
            depth[0] += 1
            depth[1] = max(depth)
            held[0].rollback()
            depth[0] -= 1

        policy = she.Policy(max_events=50)
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, policy=policy, on_event=use_the_model
        ) as model:
            held.append(model)
            model.rollback()
            assert depth[1] == 1
            assert len(model.events) == 50

    def test_what_a_callback_cannot_hold_up(
        self, digits_baseline: she.Baseline, samples: Array
    ) -> None:
        """A callback may wait for another thread that uses the model."""
        import threading

        held: list[she.SelfHealingModel] = []
        answered = threading.Event()

        def ask() -> None:
            held[0].predict(samples[0])
            answered.set()

        def wait(event: she.Event) -> None:
            if event.kind != "snapshot":
                return
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join(10)

        with she.SelfHealingModel(digits_model_path(), digits_baseline, on_event=wait) as model:
            held.append(model)
            model.snapshot()
            assert answered.is_set()


class TestIds:
    def test_unique(self, digits_baseline: she.Baseline, samples: Array) -> None:
        ids = set()
        for _ in range(3):
            with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
                for x in samples[:20]:
                    ids.add(infer_one(model, x).id)
                    model.predict(x)
        assert len(ids) == 60

    def test_seeded(self, digits_baseline: she.Baseline, samples: Array) -> None:
        found = []
        for _ in range(2):
            with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=5) as model:
                found.append(infer_one(model, samples[0]).id)
        assert found[0] == found[1]
        assert 0 < found[0] < 2**63, "what arrays and databases hold"


class TestPrediction:
    def test_says_what_predict_says(
        self, model: she.SelfHealingModel, samples: Array, digits: Any
    ) -> None:
        predictions = serve(model, samples[:100])
        raw = answers(model, samples[:100])[0]
        for p, y in zip(predictions, raw, strict=True):
            assert isinstance(p.output, np.ndarray)
            assert p.output.tobytes() == y.tobytes()
            assert p.label == int(y.argmax())
            assert p.confidence == pytest.approx((int(y.max()) + 128) / 256)
            assert p.trusted
            assert p.alarms == ()
        right = np.mean(
            [p.label == t for p, t in zip(predictions, digits.heldout_labels[:100], strict=True)]
        )
        assert right > 0.95

    def test_real_numbers(self, model: she.SelfHealingModel, samples: Array) -> None:
        spec = model.inputs[0]
        real = (samples[0].astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
        assert same([np.asarray(infer_one(model, real).output)], answers(model, real))
        assert infer_one(model, real).label == infer_one(model, samples[0]).label


class TestOtherDevice:
    """A baseline from elsewhere is commissioned at the first start, and the event says so."""

    def test_another_machine(self, digits_baseline: she.Baseline, samples: Array) -> None:
        there = dataclasses.replace(digits_baseline.fingerprint, machine="armv7l")
        wrong = she.Baseline.from_bytes(digits_baseline.to_bytes()).known_answers
        for output in wrong.outputs:
            output[0][...] ^= 1
        elsewhere = dataclasses.replace(
            digits_baseline, fingerprint=there, known_answers=wrong, tried_kernels=()
        )
        with she.SelfHealingModel(digits_model_path(), elsewhere) as model:
            (event,) = model.events
            assert event.kind == "commissioned"
            assert "differ and were recorded anew" in str(event.outcome)
            assert "armv7l" in event.evidence[0]
            flip(model, 3000)
            assert len(model.weights.scrub()) == 1
            assert model.health.state == "healthy"  # proven by the answers of this device
            commissioned = model.baseline
            model.predict(samples[0])
        with she.SelfHealingModel(digits_model_path(), commissioned) as model:
            assert model.events == ()

    @pytest.mark.skipif(len(RUNTIMES) < 2, reason="needs both runtimes in one environment")
    def test_another_runtime(self, samples: Array, digits: Any) -> None:
        baseline = she.calibrate(
            digits_model_path(), digits.calibration_inputs, runtime="tflite_runtime"
        )
        with she.SelfHealingModel(digits_model_path(), baseline, runtime="litert") as model:
            assert kinds(model) == ["commissioned"]
            model.predict(samples)
            assert model.health.alarms == 0

    def test_other_kernels(self, digits_baseline: she.Baseline, samples: Array) -> None:
        other: Any = "default" if digits_baseline.fingerprint.kernels == "builtin" else "builtin"
        with she.SelfHealingModel(digits_model_path(), digits_baseline, kernels=other) as model:
            assert kinds(model) == ["commissioned"]
            flip(model, largest_region(model).offset)
            assert len(model.weights.scrub()) == 1
            assert model.health.state == "healthy"
            assert model.health.fingerprint.kernels == other
            assert bytes_of(model) == pristine(digits_model_path(), model)
            model.predict(samples[:10])

    def test_flips_confirm_the_coverage_table(
        self, model: she.SelfHealingModel, samples: Array
    ) -> None:
        expected = answers(model, samples[:50])
        model.commission()
        weights = len(model.weights.coverage.weights)
        said = f"flips in {weights} regions of weights: {weights} showed what runs, 0 contradicted"
        assert said in model.events[-1].evidence[-1]
        assert same(answers(model, samples[:50]), expected)  # the serving model was not touched

    @pytest.mark.slow
    def test_flips_lower_a_table_that_is_too_good(
        self, digits_baseline: she.Baseline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the runtime copies when it is built must not pass for executing."""
        if "litert" not in RUNTIMES:
            pytest.skip("tflite-runtime's default kernels do execute these weights")
        from selfheal_edge.tflite.coverage.rules import cover
        from selfheal_edge.tflite.coverage.table import CoverageTable

        def too_good(*given: Any, **more: Any) -> CoverageTable:
            rows = cover(*given, **more).rows
            return CoverageTable(
                tuple(dataclasses.replace(row, coverage=Coverage.EXECUTING) for row in rows)
            )

        monkeypatch.setattr("selfheal_edge.tflite.runtimes.interpreter.cover", too_good)
        monkeypatch.setattr(
            "selfheal_edge.tflite.runtimes.litert.LiteRt._unsuitable", lambda *_: "not here"
        )
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, runtime="litert", kernels="default"
        ) as model:
            assert model.health.coverage.worst is Coverage.EXECUTING
            model.commission()
            assert model.health.coverage.worst is not Coverage.EXECUTING
            assert "0 contradicted" not in model.events[-1].evidence[-1]

    def test_not_from_damaged_bytes(self, model: she.SelfHealingModel) -> None:
        flip(model, 3000, image="source")
        with pytest.raises(she.errors.IntegrityError, match="expected sound bytes"):
            model.commission()
        model.weights.scrub()
        model.commission()
        assert "are the same" in str(model.events[-1].outcome)


def test_a_runtime_fault_heals_by_rebuild(digits_baseline: she.Baseline, samples: Array) -> None:
    """Checksums hold, answers do not: the runtime's own memory, which a rebuild renews."""
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        expected = answers(model, samples[:50])
        run = parts_of(model).session.instance.run
        run_by(model, lambda inputs: [np.roll(y // 3, 3) for y in run(inputs)])
        for x in stream(samples, 400):
            model.predict(x)
            if model.health.repairs:
                break
        assert causes(model)[-1] == "runtime_fault"
        assert model.health.repairs == 1
        assert model.health.trouble is None
        assert same(answers(model, samples[:50]), expected)


def test_commissioning_renews_the_runtime(
    model: she.SelfHealingModel, samples: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known answers are never taken from an instance whose memory may be damaged."""
    expected = answers(model, samples[:20])
    instance = parts_of(model).session.instance
    run = instance.run
    monkeypatch.setattr(instance, "run", lambda inputs: [np.roll(y, 3) for y in run(inputs)])
    model.commission()
    assert "are the same" in str(model.events[-1].outcome)
    assert same(answers(model, samples[:20]), expected)


@pytest.mark.parametrize("mode", ["inline", "background"])
@pytest.mark.parametrize("snapshots", [True, False], ids=["copies", "parity"])
def test_all_damage_is_seen_before_its_kind_is_named(
    digits_baseline: she.Baseline,
    samples: Array,
    mode: Literal["inline", "background"],
    snapshots: bool,
) -> None:
    """The sweep comes to one row of blocks; what was searched shows in all of them alone."""
    found: list[tuple[int, str]] = []

    class Asked(she.AttackDiagnoser):
        def diagnose(self, symptoms: Symptoms) -> she.Diagnosis:
            told = super().diagnose(symptoms)
            found.append((symptoms.corrupt_blocks, told.kind))
            return told

    policy = she.Policy(
        mode=mode, scrub_bytes_per_predict=8192, snapshots=snapshots, parity_blocks=4
    )
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, diagnoser=Asked(), policy=policy
    ) as model:
        region = largest_region(model)
        for part in range(5):
            flip(model, region.offset + part * region.nbytes // 5, 0x80)
        while not found:
            model.predict(samples[:1])
            assert model.wait_healed(30)
        assert found == [(5, "searched")]
        assert model.health.corrupt_blocks == 5
        assert [str(e.outcome).partition(":")[0] for e in model.events if e.kind == "repair"] == [
            "healed"
        ]


class TestReplacedParts:
    def test_monitor(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Twitchy(she.PerformanceMonitor):
            def update(self, measurement: Measurement) -> tuple[she.Alarm, ...]:
                super().update(measurement)
                if self.count % 100 == 0:
                    return (she.Alarm("mood", 1, 1.0, self.count, 1.0, 1.0),)
                return ()

        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, monitor=Twitchy(digits_baseline)
        ) as model:
            expected = model.predict(samples)
            assert model.health.alarms == 5
            assert causes(model)[0] == "unknown"
            assert np.array_equal(np.asarray(model.predict(samples)), np.asarray(expected))

    def test_a_monitor_that_fails_once(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Failing(she.PerformanceMonitor):
            has_failed = False

            def update(self, measurement: Measurement) -> tuple[she.Alarm, ...]:
                if self.count == 2 and not self.has_failed:
                    self.has_failed = True
                    raise LookupError("lost")
                return super().update(measurement)

        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, monitor=Failing(digits_baseline)
        ) as model:
            with pytest.raises(LookupError):
                model.predict(samples[:10])
            assert np.asarray(model.predict(samples[:10])).shape == (10, 1, 10)

    def test_diagnoser(self, digits_baseline: she.Baseline, samples: Array) -> None:
        class Sure(she.AttackDiagnoser):
            def diagnose(self, symptoms: Symptoms) -> she.Diagnosis:
                if symptoms.corrupt_blocks:
                    return super().diagnose(symptoms)
                return she.Diagnosis(she.Cause.POISONING, 0.9, ())

        with she.SelfHealingModel(digits_model_path(), digits_baseline, diagnoser=Sure()) as model:
            serve(model, shifted(stream(samples, 200), offset=60))
            assert causes(model)[0] == "poisoning"

    @pytest.mark.parametrize("mode", ["inline", "background"])
    @pytest.mark.parametrize("answer", ["nothing", "an error"])
    def test_a_diagnoser_that_fails(
        self,
        digits_baseline: she.Baseline,
        samples: Array,
        mode: Literal["inline", "background"],
        answer: str,
    ) -> None:
        """The repair goes on, is proven and told; the caller has an answer."""

        class Failing(she.AttackDiagnoser):
            def diagnose(self, symptoms: Symptoms) -> Any:
                del symptoms
                if answer == "an error":
                    raise LookupError("lost")

        with she.SelfHealingModel(
            digits_model_path(),
            digits_baseline,
            diagnoser=Failing(),
            policy=she.Policy(mode=mode, scrub_bytes_per_predict=1 << 20),
        ) as model:
            expected = np.asarray(model.predict(samples[:10]))
            flip(model, largest_region(model).offset)
            assert np.asarray(model.predict(samples[:10])).tobytes() == expected.tobytes()
            assert model.wait_healed(30)
            assert kinds(model) == ["diagnosis", "repair"]
            assert causes(model) == ["weight_corruption"]
            assert model.health.state == "healthy"

    def test_min_confidence(self, digits_baseline: she.Baseline, samples: Array) -> None:
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, diagnoser=she.AttackDiagnoser(1.0)
        ) as model:
            serve(model, shifted(stream(samples, 300), gain=0.8))
            assert causes(model)[0] in ("unknown", "covariate_drift")
        with pytest.raises(ValueError, match="min_confidence: expected 0 to 1, got 2"):
            she.AttackDiagnoser(2.0)

    def test_kit(self, digits_baseline: she.Baseline) -> None:
        mine = DoNothing("rollback_block")
        with she.SelfHealingModel(
            digits_model_path(), digits_baseline, repair_kit=she.ModelRepairKit(mine)
        ) as model:
            flip(model, 3000)
            model.weights.scrub()
            assert mine.calls == 1
            assert model.health.state == "healthy"


class TestReports:
    def test_memory(self, model: she.SelfHealingModel, samples: Array) -> None:
        model.predict(samples)
        report = model.memory_report()
        total = report.pop("total")
        assert total == sum(report.values())
        assert report.pop("model file") == 0  # read again from its path when it is needed
        assert all(n > 0 for n in report.values())
        assert report["source image"] == model.weights.images["source"].nbytes
        assert report["source image"] >= digits_model_path().stat().st_size
        assert total < 3 * 2**20
        model.predict(samples)
        assert model.memory_report()["total"] == total  # fixed after the first prediction

    def test_health(self, model: she.SelfHealingModel, samples: Array) -> None:
        for _ in range(2):
            model.predict(samples)
        health = model.health
        assert (health.state, health.trouble, health.generation) == ("healthy", None, 0)
        assert health.predictions == 1000
        # Of what executes as the budget has it, of the rest as time goes by.
        assert health.detection_latency.predictions is not None
        if health.detection_latency.predictions < 1000:
            assert model.weights.images[executing(model)].sweeps > 0
        assert "bytes" in str(health.coverage)
        with pytest.raises(dataclasses.FrozenInstanceError):
            health.state = "closed"  # type: ignore[assignment,misc]

    def test_names(self, model: she.SelfHealingModel) -> None:
        images = model.weights.images
        assert set(images) <= {"source", "packed", "input"}
        assert model.weights.nbytes == sum(image.nbytes for image in images.values())
        assert sum(r.nbytes for r in model.weights.regions) == images["source"].nbytes
        for image in images.values():
            assert sum(r.nbytes for r in image.regions.values()) == image.nbytes
        assert all(m.count("/") >= 2 for m in model.weights.modules)
        assert isinstance(str(model), str)
        assert str(model.health.fingerprint)


class TestInjector:
    def test_flips(self, model: she.SelfHealingModel) -> None:
        before = np.frombuffer(bytes_of(model), np.uint8)
        flips = she.redteam.inject(model).flip_bits(25, seed=3)
        after = np.frombuffer(bytes_of(model), np.uint8)
        assert len(set(flips)) == 25
        assert int(np.unpackbits(before ^ after).sum()) == 25
        for f in flips:
            assert (before[f.offset] ^ after[f.offset]) & (1 << f.bit)
        model.weights.scrub()

    def test_refused(self, model: she.SelfHealingModel) -> None:
        door = she.redteam.inject(model)
        with pytest.raises(ValueError, match=r"image: expected one of \[.*'source'\], got 'heap'"):
            door.memory("heap")
        for count in (0, -1, 10**9):
            with pytest.raises(ValueError, match=f"count: expected 1 to .* got {count}"):
                door.flip_bits(count)
