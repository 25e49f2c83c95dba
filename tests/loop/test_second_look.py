"""While an attack lasts answers come from moved copies, or suspects get none."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support import RUNTIMES, Array, digits_baseline, infer_one

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.moved_copies import COST, moved_copies, raw_copies
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.loop.second_look import SecondLook
from selfheal_edge.model import parts_of
from selfheal_edge.redteam.scenarios.domain import Domain
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.unguarded import Unguarded
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

DIGITS = load_digits()
CLEAN: Array = DIGITS.heldout_inputs[:100]
TRUTH: npt.NDArray[np.int64] = DIGITS.heldout_labels[:100].astype(np.int64)


def profile() -> Profile:
    found = Profile.found(digits_baseline().profile)
    assert found is not None
    return found


@functools.cache
def crafted() -> tuple[Array, float]:
    """Inputs that a square attack leaves, and golden's accuracy on them."""
    scenario = next(one for one in SCENARIOS if one.name == "attack, square")
    scale, zero_point = profile().quantization.tolist()
    with Unguarded(digits_model_path().read_bytes()) as ask:
        x = scenario.apply(
            CLEAN,
            np.random.default_rng(5),
            domain=Domain.of(DIGITS.calibration_inputs, scale=scale, zero_point=int(zero_point)),
            ask=ask,
            pool=DIGITS.calibration_inputs,
            labels=DIGITS.calibration_labels,
        )
        return x, float(np.mean(ask(x).argmax(axis=1) == TRUTH))


def attacked(**rules: Any) -> she.SelfHealingModel:
    """Return a model that has named the attack which it is under."""
    rules = {"diagnosis_inferences_per_minute": 1 << 20, "heal": "corruption", **rules}
    model = she.SelfHealingModel(
        digits_model_path(),
        digits_baseline(),
        policy=she.Policy(**rules),
        runtime=RUNTIMES[0],
        seed=1,
    )
    bad, _ = crafted()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(CLEAN), 64):
        infer_one(model, CLEAN[at][None])
    for at in rng.integers(0, len(CLEAN), 512):
        infer_one(model, (bad if rng.random() < 0.5 else CLEAN)[at][None])
        if model.diagnosis is not None and model.diagnosis.cause is Cause.ADVERSARIAL_INPUT:
            return model
    raise AssertionError(str(model.events))


@pytest.mark.slow
def test_votes_give_back_what_an_attack_has_taken() -> None:
    bad, alone = crafted()
    assert alone < 0.1
    with attacked(under_attack="vote") as model:
        event = next(e for e in model.events if e.strategy == "vote")
        assert "4 copies, moved by one step" in str(event.outcome)
        found = [infer_one(model, row[None]) for row in bad]
        right = float(np.mean([one.label == y for one, y in zip(found, TRUTH, strict=True)]))
        assert right > alone + 0.3
        assert not any(one.trusted for one in found)
        # The same for `predict`, and for a batch.
        for row, one in zip(bad[:8], found[:8], strict=True):
            np.testing.assert_array_equal(model.predict(row[None]), one.output)
            assert isinstance(one.output, np.ndarray)
            assert one.output.argmax() == one.label
        batch = model.infer(bad[:8])
        assert isinstance(batch, she.Predictions)
        assert batch.labels is not None
        assert batch.labels.tolist() == [one.label for one in found[:8]]
        # When it is over, answers are the model's own again, by the quick way.
        rng = np.random.default_rng(1)
        for at in rng.integers(0, len(CLEAN), 1024):
            infer_one(model, CLEAN[at][None])
            if model.diagnosis is None or model.diagnosis.cause is not Cause.ADVERSARIAL_INPUT:
                break
        else:
            raise AssertionError(str(model.diagnosis))
        with Unguarded(digits_model_path().read_bytes()) as ask:
            own = ask(bad[:32]).argmax(axis=1)
        plain = model.predict(bad[:32])
        assert isinstance(plain, np.ndarray)
        assert plain.argmax(axis=1).tolist() == own.tolist()


def test_who_abstains_names_no_class() -> None:
    bad, _ = crafted()
    with attacked(under_attack="abstain", abstain_value=0.0) as model:
        found = [infer_one(model, row[None]) for row in bad[:64]]
        suspects = [one for one in found if one.quarantined]
        assert len(suspects) > 32
        for one in found:
            assert (one.label is None) == one.quarantined
            assert (one.confidence is None) == one.quarantined
        assert all(not np.any(np.asarray(one.output)) for one in suspects)
        assert any(np.any(np.asarray(one.output)) for one in found if not one.quarantined)


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (300, np.int8, [127, 127]),
        (-1e9, np.int8, [-128, -128]),
        (float("inf"), np.uint8, [255, 255]),
        (0.6, np.int8, [1, 1]),
        (float("nan"), np.int8, [3, 4]),
        (float("nan"), np.float32, [np.nan, np.nan]),
        (1e300, np.float32, [np.inf, np.inf]),
    ],
)
def test_what_an_answer_cannot_hold_stands_in_no_answers_way(
    value: float, dtype: Any, said: list[float]
) -> None:
    """It raised, or wrapped round, while the attack lasted."""
    own = np.array([[3, 4]], dtype)
    spec = TensorSpec("out", (1, 2), own.dtype, 1.0, 0)
    look = SecondLook("abstain", None, None, spec, lambda *_: None, value=value)
    given = look.give(own, own, is_suspect=True)
    assert given is not None
    assert given.output.dtype == dtype
    np.testing.assert_array_equal(given.output, [said])


def test_a_budget_of_nothing_leaves_answers_as_they_are() -> None:
    bad, _ = crafted()
    with attacked(under_attack="vote") as model, Unguarded(digits_model_path().read_bytes()) as ask:
        examiner = parts_of(model).loop.examiner
        examiner._per_minute, examiner._tokens = 0, 0.0  # noqa: SLF001 — spent
        own = ask(bad[:32]).argmax(axis=1)
        assert [infer_one(model, row[None]).label for row in bad[:32]] == own.tolist()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": None}, "no classes"),
        ({"is_stateful": True}, "recurrent"),
        ({"cost": 0.02}, "would cost 2.0% of calibration's accuracy"),
        ({"cost": None}, "of an older release"),
    ],
)
def test_why_there_are_no_votes(changes: dict[str, Any], why: str) -> None:
    found = profile()
    assert found.bounds[COST] <= 0.01
    if "cost" in changes:
        bounds = {k: v for k, v in found.bounds.items() if k != COST}
        cost = changes["cost"]
        found = replace(found, bounds=bounds if cost is None else {**bounds, COST: cost})
    with she.SelfHealingModel(digits_model_path(), digits_baseline(), runtime=RUNTIMES[0]) as model:
        look = SecondLook(
            "vote",
            found,
            changes.get("kind", "probabilities"),
            model.outputs[0],
            lambda _inputs, _reserve: None,
            is_stateful=changes.get("is_stateful", False),
        )
    assert why in look.refused


def test_copies_are_moved_by_one_step() -> None:
    layout = profile().layout
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    down, up, right, left = moved_copies(layout, x)
    np.testing.assert_array_equal(down[0, 1:], x[0, :-1])
    np.testing.assert_array_equal(up[0, :-1], x[0, 1:])
    np.testing.assert_array_equal(right[0, :, 1:], x[0, :, :-1])
    np.testing.assert_array_equal(left[0, :, :-1], x[0, :, 1:])
    np.testing.assert_array_equal(down[0, 0], x[0, 0])
    raw = raw_copies(profile(), CLEAN[:3])
    assert raw.shape == (4, *CLEAN[:3].shape)
    assert raw.dtype == CLEAN.dtype


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ({"under_attack": "hide"}, ValueError),
        ({"abstain_value": "0"}, TypeError),
        ({"abstain_value": True}, TypeError),
    ],
)
def test_policies_that_are_none(rules: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(rules))):
        she.Policy(**rules)
