"""Every scenario on images, spectrograms and vectors, and what attacks achieve."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support import Array, all_hold
from tests.tflite.builder import Builder

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios import SCENARIOS, Domain, Scenario, kind_of, stream
from selfheal_edge.redteam.scenarios.search import margin
from selfheal_edge.redteam.scenarios.streams import craft
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

COUNT = 24
SCALE, ZERO = 0.05, 3


def _inputs(shape: tuple[int, ...], dtype: str, count: int = 60) -> Array:
    """Return smooth samples of three classes, in another range for each feature."""
    rng = np.random.default_rng(5)
    classes = rng.normal(size=(3, *shape))
    real = classes[np.arange(count) % 3] + 0.3 * rng.normal(size=(count, *shape))
    real.reshape(count, -1)[:, 1] = 0.5  # a blank pixel, or feature
    if dtype == "float32":
        return np.asarray(real, dtype)
    return np.asarray(
        np.clip(np.rint(real / SCALE) + ZERO, -128 if dtype == "int8" else 0, 127)
    ).astype(dtype)


def _asked(raw: Array) -> Any:
    """Answer as a linear model would: three classes."""
    rows = np.asarray(raw, np.float64).reshape(len(raw), -1)
    rows = rows / (np.abs(rows).max() + 1e-9)
    logits = rows @ np.random.default_rng(2).normal(size=(rows.shape[1], 3))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


DOMAINS: dict[str, tuple[tuple[int, ...], str]] = {
    "image": ((1, 9, 8, 1), "int8"),
    "coloured": ((8, 9, 3), "uint8"),
    "channels first": ((3, 8, 9), "int8"),
    "spectrogram": ((1, 20, 6, 1), "int8"),
    "vector": ((12,), "int8"),
    "floats": ((1, 12), "float32"),
}


SEARCHED = ("spectrogram", "floats")
"""Domains in which the fast tier searches: integers of several axes, and a float vector."""


def _case(name: str) -> tuple[Domain, Array]:
    shape, dtype = DOMAINS[name]
    inputs = _inputs(shape, dtype)
    scale = 0.0 if dtype == "float32" else SCALE
    return Domain.of(inputs, scale=scale, zero_point=ZERO if scale else 0), inputs


def _fitting() -> Iterator[Any]:
    for name in DOMAINS:
        domain, _ = _case(name)
        fitting = [scenario for scenario in SCENARIOS if scenario.fits(domain)]
        for searches in (False, True):
            chosen = {
                scenario.name: scenario
                for scenario in fitting
                if (scenario.cause is Cause.ADVERSARIAL_INPUT) == searches
            }
            # A search does the same whatever the numbers stand for.
            marks = [pytest.mark.long] if searches and name not in SEARCHED else []
            which = f"{name}, searches" if searches else name
            yield pytest.param(name, chosen, id=which, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenarios"), list(_fitting()))
def test_every_scenario(name: str, scenarios: dict[str, Scenario]) -> None:
    all_hold(functools.partial(changes_what_it_says, *_case(name)), scenarios)


def changes_what_it_says(domain: Domain, inputs: Array, scenario: Scenario) -> None:
    served, labels = inputs[:COUNT], np.arange(len(inputs) - COUNT) % 3
    before = served.copy()

    def apply(seed: int, share: float) -> Array:
        return scenario.apply(
            served, np.random.default_rng(seed), domain=domain, share=share,
            ask=_asked, pool=inputs[COUNT:], labels=labels,
        )  # fmt: skip

    changed = apply(1, 1.0)
    assert (changed.shape, changed.dtype) == (served.shape, served.dtype)
    assert np.all(np.isfinite(changed.astype(np.float64)))
    np.testing.assert_array_equal(changed, apply(1, 1.0))
    if scenario.kind not in ("unchanged", "stuck"):
        assert np.any(changed != served)
    untouched = (apply(1, 0.5) == served).reshape(COUNT, -1).all(1)
    assert untouched.sum() >= COUNT // 2
    np.testing.assert_array_equal(apply(1, 0.0), served)
    np.testing.assert_array_equal(served, before)


def test_parts_share_no_family() -> None:
    parts: dict[str, set[str]] = defaultdict(set)
    modules: dict[str, set[str]] = defaultdict(set)
    for scenario in SCENARIOS:
        parts[scenario.family].add(scenario.part)
        modules[scenario.change.__module__].add(scenario.part)
    assert all(len(p) == 1 for p in parts.values()), parts
    assert all(len(p) == 1 for p in modules.values()), modules
    assert len({s.name for s in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("part", ["tuning", "measured"])
@pytest.mark.parametrize("name", DOMAINS)
def test_each_part_has_every_hard_cause(name: str, part: str) -> None:
    domain, _ = _case(name)
    found = {s.cause for s in SCENARIOS if s.part == part and s.fits(domain)}
    assert found == {
        None,
        Cause.SENSOR_FAULT,
        Cause.COVARIATE_DRIFT,
        Cause.LABEL_SHIFT,
        Cause.ADVERSARIAL_INPUT,
    }
    kinds = {s.kind for s in SCENARIOS if s.part == part and s.cause == Cause.SENSOR_FAULT}
    assert kinds == {
        "stuck", "flat", "saturated", "clipped", "dropped", "one channel", "swapped", "noisy",
        "gain", "offset",
    }  # fmt: skip


@pytest.mark.parametrize("name", DOMAINS)
def test_raw_and_real_are_the_same(name: str) -> None:
    domain, inputs = _case(name)
    real = domain.real(inputs)
    assert real.shape[1:] == domain.axes
    np.testing.assert_array_equal(domain.raw(real), inputs)


def test_kinds_by_shape() -> None:
    assert kind_of((49, 10)) == kind_of((1, 49, 10, 1)) == kind_of((100, 6)) == "spectrogram"
    assert kind_of((96, 96, 3)) == kind_of((3, 32, 32)) == kind_of((28, 28)) == "image"
    assert kind_of((640,)) == kind_of((1, 1)) == "vector"


def test_what_does_not_fit_is_refused() -> None:
    domain, inputs = _case("vector")
    rng = np.random.default_rng(0)
    by_name = {s.name: s for s in SCENARIOS}
    with pytest.raises(ValueError, match=r"inputs: expected int8\[12\] a sample, got int8\[11\]"):
        by_name["sensor, stuck"].apply(inputs[:, :11], rng, domain=domain)
    with pytest.raises(ValueError, match="share: expected 0 to 1"):
        by_name["sensor, stuck"].apply(inputs, rng, domain=domain, share=1.5)
    with pytest.raises(ValueError, match="does not apply to this vector"):
        by_name["weather, fog, sudden"].apply(inputs, rng, domain=domain)
    with pytest.raises(ValueError, match="draws from a labelled pool"):
        by_name["labels, one class"].apply(inputs, rng, domain=domain)
    with pytest.raises(ValueError, match="labels: expected two classes or more"):
        by_name["labels, one class"].apply(
            inputs, rng, domain=domain, pool=inputs, labels=np.zeros(len(inputs), int)
        )
    with pytest.raises(ValueError, match="ask: this scenario needs a model"):
        by_name["attack, square"].apply(inputs, rng, domain=domain)
    with pytest.raises(ValueError, match="kind: spectrogram does not fit"):
        Domain.of(inputs, kind="spectrogram")
    with pytest.raises(ValueError, match="2 samples or more"):
        Domain.of(inputs[:1])


ATTACKS = [s for s in SCENARIOS if s.is_crafted and s.name != "attack, universal"]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ATTACKS, ids=lambda s: s.name)
def test_attacks_mislead_more_than_noise_of_their_size(scenario: Scenario) -> None:
    digits = load_digits()
    pool = digits.heldout_inputs[:150]
    with Unguarded(digits_model_path()) as ask:
        domain = ask.domain(digits.calibration_inputs)
        rng = np.random.default_rng(0)
        made = craft(scenario, domain, pool, ask, rng)
        natural = ask(pool).argmax(1)
        change = domain.real(made.inputs) - domain.real(pool)
        # The same change of every sample, its elements in another order.
        flat = change.reshape(len(pool), -1)
        mixed = rng.permuted(flat, axis=1).reshape(change.shape)
        noise = ask(domain.raw(domain.inside(domain.real(pool) + mixed))).argmax(1) != natural
        assert made.flipped.mean() >= 0.5
        assert made.flipped.mean() > noise.mean() + 0.2
        assert ask.questions <= 10 + 400 * len(pool)


def test_questions_never_repeat_and_stay_near_the_boundary() -> None:
    digits = load_digits()
    scenario = next(s for s in SCENARIOS if s.name == "questions, adaptive step")
    with Unguarded(digits_model_path()) as ask:
        domain = ask.domain(digits.calibration_inputs)
        made = stream(
            scenario, domain, digits.heldout_inputs, np.random.default_rng(0), ask=ask
        ).inputs[128:]
        assert len(np.unique(made.reshape(len(made), -1), axis=0)) == len(made)

        def width(raw: Array) -> float:
            answers = ask(raw)
            return float(np.median(margin(answers, answers.argmax(1))))

        assert width(made) < 0.6 * width(digits.heldout_inputs)


def test_a_stream_serves_each_sample_once() -> None:
    digits = load_digits()
    scenario = next(s for s in SCENARIOS if s.name == "healthy, each once")
    with Unguarded(digits_model_path()) as ask:
        domain = ask.domain(digits.calibration_inputs)
    made = stream(scenario, domain, digits.heldout_inputs, np.random.default_rng(0))
    assert made.inputs.shape == (384, 8, 8, 1)
    assert made.onset == 128
    assert len(np.unique(made.inputs.reshape(384, -1), axis=0)) == 384


def test_label_shift_moves_classes_alone() -> None:
    digits = load_digits()
    scenario = next(s for s in SCENARIOS if s.name == "labels, a class triples, sudden")
    with Unguarded(digits_model_path()) as ask:
        domain = ask.domain(digits.calibration_inputs)
        made = stream(
            scenario, domain, digits.heldout_inputs, np.random.default_rng(3),
            labels=digits.heldout_labels,
        )  # fmt: skip
        shares = np.bincount(ask(made.inputs[128:]).argmax(1), minlength=10) / 256
    assert 0.22 < shares.max() < 0.38
    assert np.sort(shares)[-2] < 0.2


def test_a_model_without_classes_is_refused() -> None:
    builder = Builder()
    graph = builder.graph()
    x, y = graph.tensor([1, 4]), graph.tensor([1, 4])
    graph.operator("ABS", [x], [y])
    graph.tree.update(inputs=[x], outputs=[y])
    with pytest.raises(ValueError, match="expected a classifier with one input"):
        Unguarded(builder.file())
