"""A sweep takes a bounded number of predictions, or a bounded time, whichever way serves them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.inference.test_hot_path import Clock, Own
from tests.support import Array, causes, executing, flip, internals, largest_region, stream

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path


class TestPace:
    def opened(
        self, baseline: she.Baseline, clock: Clock, slow: bool, **policy: Any
    ) -> she.SelfHealingModel:
        monitor = Own(baseline) if slow else None
        return she.SelfHealingModel(
            digits_model_path(),
            baseline,
            clock=clock,
            monitor=monitor,
            policy=she.Policy(rebuild_after_seconds=None, **policy),
        )

    @pytest.mark.parametrize("slow", [False, True])
    def test_in_predictions(
        self, digits_baseline: she.Baseline, samples: Array, slow: bool
    ) -> None:
        """However fast they come: no time passes here."""
        with self.opened(digits_baseline, Clock(), slow, scrub_bytes_per_predict=256) as model:
            blocks = max(image.guard.live_blocks for image in internals(model).images.values())
            model.predict(stream(samples, 2 * blocks - 1))
            assert model.health.sweeps == 0
            model.predict(samples[0])
            assert model.health.sweeps == 1
            flip(model, 4000, 16)
            model.predict(stream(samples, 2 * blocks + 1, seed=1))
            assert causes(model) == ["weight_corruption"]

    @pytest.mark.parametrize("slow", [False, True])
    def test_in_seconds(self, digits_baseline: she.Baseline, samples: Array, slow: bool) -> None:
        """However seldom: ten predictions a second make a round in about one."""
        clock = Clock()
        with self.opened(digits_baseline, clock, slow, scrub_bytes_per_predict=1) as model:
            inputs = stream(samples, 400)
            model.predict(inputs[0])
            for x in inputs[1:10]:
                clock.seconds += 0.1
                model.predict(x)
            assert model.health.sweeps == 0
            for x in inputs[10:15]:
                clock.seconds += 0.1
                model.predict(x)
            assert model.health.sweeps == 1

    @pytest.mark.parametrize("slow", [False, True])
    def test_at_most_an_eighth_before_a_prediction(
        self, digits_baseline: she.Baseline, samples: Array, slow: bool
    ) -> None:
        clock = Clock()
        with self.opened(digits_baseline, clock, slow, scrub_bytes_per_predict=1) as model:
            for n in range(8):
                assert model.health.sweeps == 0, n
                clock.seconds += 1e6
                model.predict(samples[n])
            for n in range(8, 12):
                clock.seconds += 1e6
                model.predict(samples[n])
            assert model.health.sweeps == 1

    @pytest.mark.parametrize("slow", [False, True])
    @pytest.mark.parametrize("start", [0.0, -5e5])
    def test_a_clock_that_jumps_back(
        self, digits_baseline: she.Baseline, samples: Array, slow: bool, start: float
    ) -> None:
        clock = Clock()
        clock.seconds = start
        with self.opened(digits_baseline, clock, slow, scrub_bytes_per_predict=1) as model:
            for n in range(40):
                clock.seconds -= 1000.0
                model.predict(samples[n])
            assert model.health.sweeps == 0, "nothing is due"
            for n in range(40, 55):
                clock.seconds += 0.1
                model.predict(samples[n])
            assert model.health.sweeps == 1, "and it goes on from there"

    def test_zero_bytes_is_never(self, digits_baseline: she.Baseline, samples: Array) -> None:
        clock = Clock()
        policy = {"scrub_bytes_per_predict": 0, "keyed_bytes_per_predict": 0}
        with self.opened(digits_baseline, clock, False, **policy) as model:
            region = largest_region(model)
            flip(model, region.offset + region.nbytes // 2, 1)  # too little for an alarm
            for n in range(50):
                clock.seconds += 10.0
                model.predict(samples[n])
            assert model.events == ()
            assert executing(model) in {block.image for block in model.weights.scrub()}
