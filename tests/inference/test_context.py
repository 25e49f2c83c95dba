"""What a prediction comes with is kept with it, and nothing else changes."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Array, examples, flip, largest_region, stream

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.inference.context import ContextLog
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.signals import Measurement

NAMES = ("temperature", "volts", "load")


@pytest.mark.slow
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 150),
            st.integers(0, 150),
            st.dictionaries(st.sampled_from(NAMES), st.floats(-1e6, 1e6), max_size=3),
        ),
        max_size=12,
    )
)
@examples(200)
def test_the_log_is_a_window_of_the_predictions(
    steps: list[tuple[int, int, dict[str, float]]],
) -> None:
    """Against a deque with one dict a prediction; a step may fail before its end."""
    log = ContextLog()
    window: deque[dict[str, float]] = deque(maxlen=256)
    number = 0
    for count, reached, values in steps:
        served = min(reached, count)
        if values:
            log.begin(number + 1, count, values)
        number += served
        window.extend([values] * served)
        if values:
            log.end(number)
        found = log.latest(number)
        assert set(found) == {name for row in window for name in row}
        for name, column in found.items():
            assert column.tolist() == pytest.approx(
                [row.get(name, np.nan) for row in window], nan_ok=True
            )


def test_a_prediction_with_context_is_the_same_prediction(
    digits_baseline: she.Baseline, samples: Array
) -> None:
    x = stream(samples, 40, seed=2)
    found = []
    for context in (None, {"temperature": 61.0}, {}):
        with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as model:
            one = [model.infer(row, context=context) for row in x[:10]]
            many = model.infer(x[10:], context)
            assert isinstance(many, she.Predictions)
            found.append(
                (
                    [(p.id, p.label, p.confidence, p.trusted) for p in one],  # type: ignore[union-attr]
                    many.ids.tolist(),
                    np.asarray(many.output).tobytes(),
                )
            )
            if context:
                assert model.context["temperature"].tolist() == [61.0] * 40
            else:
                assert model.context == {}
    assert found[0] == found[1] == found[2]


def test_the_latest_256_are_kept(digits_baseline: she.Baseline, samples: Array) -> None:
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as model:
        x = samples[:1]
        model.predict(x[0])
        model.infer(x[0], {"temperature": 20, "volts": np.float32(3.5)})
        model.infer(x[0], context={"temperature": 21.0})
        model.infer(x[0])
        assert model.context["temperature"].tolist() == pytest.approx(
            [np.nan, 20.0, 21.0, np.nan], nan_ok=True
        )
        assert model.context["volts"].tolist() == pytest.approx(
            [np.nan, 3.5, np.nan, np.nan], nan_ok=True
        )
        model.infer(np.repeat(x, 300, 0), context={"load": 0.5})
        assert list(model.context) == ["load"]
        assert model.context["load"].tolist() == [0.5] * 256


def test_it_is_known_when_the_alarm_is_handled(
    digits_baseline: she.Baseline, samples: Array
) -> None:
    seen: list[dict[str, float]] = []

    class Asking(she.PerformanceMonitor):
        """Asks for the context of the prediction that it is given."""

        def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
            known = model.context if self.count else {}
            seen.append({name: column[-1] for name, column in known.items()})
            return super().update(measurement)

    with she.SelfHealingModel(
        digits_model_path(),
        digits_baseline,
        policy=she.Policy(scrub_bytes_per_predict=1 << 20),
        monitor=Asking(digits_baseline),
        seed=1,
    ) as model:
        for n in range(4):
            if n == 2:
                flip(model, largest_region(model).offset + 3, 64)  # healed before the run
            model.infer(samples[n], {"temperature": float(n)})
        assert model.context["temperature"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert seen[1:] == [{"temperature": float(n)} for n in (1, 2, 3)]


def test_an_inference_that_fails_leaves_no_context(
    digits_baseline: she.Baseline, samples: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as model:
        model.infer(samples[0], {"temperature": 1.0})
        serving = parts_of(model).loop.serving

        def fail(*_: object, **__: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(serving, "_served", fail)
            with pytest.raises(MemoryError):
                model.infer(samples[0], {"temperature": 2.0})
        model.infer(samples[0])
        assert model.context["temperature"].tolist() == pytest.approx([1.0, np.nan], nan_ok=True)


BAD: list[tuple[Any, type[Exception], str]] = [
    (61.0, TypeError, r"context: expected a dict of numbers by name, such as .* got float"),
    ({"temperature": np.nan}, ValueError, "context: expected a finite number for 'temperature', g"),
    ({"temperature": np.inf}, ValueError, "context: expected a finite number for 'temperature', g"),
    ({"temperature": "hot"}, TypeError, "context: expected a number for 'temperature', got str"),
    ({"temperature": None}, TypeError, "context: expected a number for 'temperature', got None"),
    ({"t": np.zeros(2)}, TypeError, "context: expected a number for 't', got ndarray"),
    ({3: 1.0}, TypeError, "context: expected names that are strings, got int"),
    ({"": 1.0}, ValueError, "context: expected names of 1 to 64 characters, got ''"),
    ({"n" * 65: 1.0}, ValueError, "context: expected names of 1 to 64 characters"),
    ({str(n): 0.0 for n in range(9)}, ValueError, "context: expected at most 8 names, got 9"),
]


@pytest.mark.parametrize(("context", "error", "message"), BAD)
def test_what_is_no_context_is_refused_before_anything_runs(
    digits_baseline: she.Baseline,
    samples: Array,
    context: Any,
    error: type[Exception],
    message: str,
) -> None:
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as model:
        with pytest.raises(error, match=message):
            model.infer(samples[0], context=context)
        assert model.health.predictions == 0
        assert model.context == {}
