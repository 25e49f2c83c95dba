"""What is learned and what judges are kept apart by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.learning.material_of import digits_of, labelled, offset_by
from tests.learning.test_pool import parts, recent_of
from tests.support import Array

from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.contents import leaders, nearest_others, reach_among
from selfheal_edge.learning.questions import Askable, Parting
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.tflite.runtimes.protocol import RuntimeName


def copies(inputs: Array, rng: np.random.Generator) -> Array:
    """Return inputs of which each element is another by a step or two."""
    steps = rng.integers(-2, 3, inputs.shape)
    found: Array = np.clip(inputs.astype(np.int16) + steps, -128, 127).astype(np.int8)
    return found


def seen(bench: Bench, inputs: Array) -> Array:
    """Return golden's embeddings."""
    found = bench.answers(inputs).embeddings
    assert found is not None
    return found


@pytest.mark.slow
def test_copies_of_what_is_learned_do_not_judge_a_head(runtime: RuntimeName) -> None:
    """Labels that are drawn by lot cannot be told: only copies of inputs can be remembered."""
    rng = np.random.default_rng(0)
    with digits_of(runtime) as digits:
        once, lot = digits.x[:40], rng.permutation(np.arange(40) % 10)
        inputs = np.concatenate([once, *(copies(once, rng) for _ in range(3))])
        material = digits.material(digits.x[100:228], labelled(inputs, np.tile(lot, 4)))
        made = RetrainHead(is_guarded=False).propose(material, material.golden)
        assert not isinstance(made, str)
        note = material.noted(made)
        assert note is not None
        assert note.out_of_fold is not None
        right = float((note.out_of_fold == np.tile(lot, 4)).mean())
        assert right < 0.3, "a tenth is right by chance"
        assert (material.contents == np.tile(material.contents[:40], 4)).all()
        # Other inputs are not taken for copies, as a rule.
        assert len(np.unique(material.contents)) >= 30


@pytest.mark.slow
def test_copies_that_a_drift_has_changed_are_known(runtime: RuntimeName) -> None:
    """A drift that goes on moves a scene's copies away from the one whose label was learned."""
    rng = np.random.default_rng(0)
    with digits_of(runtime) as digits:
        nearest = nearest_others(seen(digits.bench, digits.reference.inputs))
        scenes, others = digits.x[:64], digits.x[64:256]
        learned = seen(digits.bench, copies(scenes, rng))
        again = seen(digits.bench, offset_by(copies(scenes, rng), 12))
        fresh = seen(digits.bench, offset_by(others, 12))
        reach = reach_among(nearest, len(learned) + 1)
        known = [int(leaders(one[None], reach, learned)[0]) == -1 for one in again]
        mistaken = [int(leaders(one[None], reach, learned)[0]) == -1 for one in fresh]
    assert np.mean(known) > 0.95
    assert np.mean(mistaken) < 1 / 3


def test_reach_is_no_wider_than_new_inputs_allow() -> None:
    """The more there is to lie near to, the nearer a copy has to be."""
    rng = np.random.default_rng(3)
    nearest = nearest_others(rng.normal(size=(256, 6)))
    reaches = [reach_among(nearest, count) for count in (1, 16, 64, 256, 1024)]
    assert reaches == sorted(reaches, reverse=True)
    for count, reach in zip((64, 256), reaches[2:4], strict=True):
        learned, fresh = rng.normal(size=(count, 6)), rng.normal(size=(400, 6))
        found = np.square(fresh[:, None] - learned).mean(axis=2).min(axis=1) < reach**2
        assert found.mean() < 0.4
    few = nearest_others(rng.normal(size=(16, 6)))
    assert reach_among(few, 256) < reach_among(few, 8)


def test_copies_in_calibration_are_one_content() -> None:
    """Nights that are nearly as the days: as if the nights were not there."""
    rng = np.random.default_rng(4)
    days = rng.normal(size=(128, 6))
    both = np.concatenate([days, days + 0.01])
    for count in (16, 128):
        reach = reach_among(nearest_others(both), count)
        assert abs(reach / reach_among(nearest_others(days), count) - 1.0) < 0.1


def test_a_content_is_its_first_row_and_what_lies_near() -> None:
    rng = np.random.default_rng(1)
    known = rng.normal(size=(200, 8)).astype(np.float32)
    reach = reach_among(nearest_others(known), 240)
    fresh = rng.normal(size=(20, 8)).astype(np.float32)
    rows = np.concatenate([fresh, fresh + np.float32(0.01), known[:5] + np.float32(0.01)])
    found = leaders(rows, reach, known)
    assert (found[40:] == -1).all()
    assert np.array_equal(found[20:40], np.where(found[:20] < 0, -1, found[:20]))
    assert (found[:20] >= 0).mean() > 0.4
    assert len(leaders(rows[:0], reach, known)) == 0


@given(st.integers(0, 999), st.integers(0, 40), st.floats(0.0, 4.0))
def test_leaders_lead_themselves(seed: int, count: int, reach: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    found = leaders(rows, reach)
    assert (found <= np.arange(count)).all()
    assert np.array_equal(found[found], found)


def test_what_may_not_judge_decides_nothing() -> None:
    recent = recent_of(32)
    golden = recent.predicted
    may_judge = np.arange(32) % 2 == 0
    found = Askable(
        recent.ids, recent.inputs, recent.probabilities, recent.embeddings, golden,
        recent.generations,
    )  # fmt: skip
    decisive = 0
    for seed in range(40):
        questions = parts(rows=40, seed=seed).questions
        asked = questions.ask(12, found, parting=Parting(golden, golden + 1, 5, may_judge))
        told = {one.id for one in asked if one.asked.is_decisive}
        assert told <= set(recent.ids[may_judge].tolist())
        assert set(questions.judging((5,))) == told
        assert all(one.asked.generation == 5 for one in asked)
        decisive += len(told)
    assert decisive > 200
