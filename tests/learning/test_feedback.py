"""Feedback as a user gives it: every id, every source and every mistake gets a clear answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path, load_digits
from selfheal_edge.errors import FeedbackSourceError, ModelClosedError
from selfheal_edge.learning.feedback import Outcome
from selfheal_edge.learning.sources import FeedbackSource
from selfheal_edge.model import parts_of

KEY = b"the operator's own key, 32 bytes"


@pytest.fixture(scope="module")
def digits() -> DigitsData:
    return load_digits()


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


class Clock:
    """Seconds as a test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(baseline: she.Baseline, **more: Any) -> she.SelfHealingModel:
    return she.SelfHealingModel(digits_model_path(), baseline, runtime=RUNTIMES[0], seed=3, **more)


@pytest.fixture
def model(baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    with opened(baseline) as model:
        yield model


def ask(model: she.SelfHealingModel, x: Any) -> she.Prediction:
    found = model.infer(x[None])
    assert isinstance(found, she.Prediction)
    return found


def tell(model: she.SelfHealingModel, *label: Any, **more: Any) -> she.FeedbackReceipt:
    told = model.feedback(*label, **more)
    assert isinstance(told, she.FeedbackReceipt)
    return told


def tell_all(model: she.SelfHealingModel, *label: Any, **more: Any) -> Sequence[Any]:
    told = model.feedback(*label, **more)
    assert isinstance(told, tuple)
    return told


def test_a_label_is_taken_once_and_brings_the_input_it_is_of(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    x = digits.heldout_inputs
    answers = [ask(model, x[n]) for n in range(5)]
    told = tell(model, int(digits.heldout_labels[2]), id=answers[2].id, source=operator)
    assert told
    assert told.outcome is Outcome.ACCEPTED
    assert told.kept == "pool"
    (sample,) = model.trusted_pool.list()
    assert sample.id == answers[2].id
    np.testing.assert_array_equal(sample.input, x[2])
    assert (sample.label, sample.source) == (int(digits.heldout_labels[2]), "operator")
    again = tell(model, int(digits.heldout_labels[2]), id=answers[2].id, source=operator)
    assert not again
    assert again.outcome is Outcome.REPEATED


def test_every_id_is_answered_for_what_it_is(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    found = model.infer(digits.heldout_inputs[:300])
    assert isinstance(found, she.Predictions)
    ids = found.ids

    def outcome(id: int) -> Outcome:
        told = tell(model, correct=False, id=id, source=operator)
        return told.outcome

    assert outcome(int(ids[0])) is Outcome.LATE
    assert outcome(int(ids[43])) is Outcome.LATE
    assert outcome(int(ids[44])) is Outcome.ACCEPTED
    assert outcome(int(ids[-1])) is Outcome.ACCEPTED
    assert outcome(int(ids[-1]) + 1) is Outcome.UNKNOWN
    assert outcome(0) is Outcome.UNKNOWN
    assert len(model.trusted_pool) == 0  # that it is wrong says not what is right


def test_many_ids_at_once_are_all_checked_before_any_is_taken(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    found = model.infer(digits.heldout_inputs[:200])
    assert isinstance(found, she.Predictions)
    labels = digits.heldout_labels[:200].astype(np.int64)
    wrong = labels.copy()
    wrong[150] = 10
    with pytest.raises(ValueError, match=r"label\[150\]: expected a class from 0 to 9, got 10"):
        model.feedback(wrong, id=found.ids, source=operator)
    with pytest.raises(ValueError, match="label: expected 200 labels, one for each id, got 199"):
        model.feedback(labels[1:], id=found.ids, source=operator)
    assert len(model.trusted_pool) == 0
    receipts = tell_all(model, labels, id=found.ids, source=operator)
    assert len(receipts) == 200
    assert all(receipts)
    # Half of them is of one generation, all of them are this source's.
    assert {one.source for one in model.trusted_pool.list()} == {"operator"}
    many = np.concatenate([found.ids, np.arange(10_000)])
    outcomes = [one.outcome for one in tell_all(model, correct=True, id=many, source=operator)]
    assert outcomes[:200] == [Outcome.REPEATED] * 200
    assert set(outcomes[200:]) == {Outcome.UNKNOWN}


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, TypeError, "label, correct: expected at least one of them, got neither"),
    "class too high": ({"label": 10}, ValueError, "label: expected a class from 0 to 9, got 10"),
    "class too low": ({"label": -1}, ValueError, "label: expected a class from 0 to 9, got -1"),
    "a float": ({"label": 3.0}, TypeError, "label: expected an integer from 0 to 9, got float"),
    "NaN": ({"label": float("nan")}, TypeError, "label: expected an integer .* got float"),
    "a bool": ({"label": True}, TypeError, "label: expected an integer from 0 to 9, got bool"),
    "text": ({"label": "three"}, TypeError, "label: expected an integer from 0 to 9, got str"),
    "correct": ({"correct": 1}, TypeError, "correct: expected a bool, .* got int"),
    "id": ({"label": 1, "id": 1.5}, TypeError, "id: expected a prediction's id, got float"),
    "negative id": ({"label": 1, "id": -4}, ValueError, "id: expected a prediction's id, got -4"),
    "ids": (
        {"correct": True, "id": np.zeros((2, 2), np.int64)},
        TypeError,
        r"id: expected a vector of integers, got int64 of shape \[2, 2\]",
    ),
    "source": (
        {"label": 1, "source": 7},
        TypeError,
        "source: expected a FeedbackSource, a string or None, got int",
    ),
    "a control character": (
        {"label": 1, "source": "a\nb"},
        ValueError,
        "name: expected 1 to 64 printable characters",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_what_is_wrong_and_changes_nothing(
    case: str, model: she.SelfHealingModel, digits: DigitsData
) -> None:
    ask(model, digits.heldout_inputs[0])
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=message):
        model.feedback(**arguments)
    assert len(model.trusted_pool) == len(model.quarantine) == 0
    assert model.feedback(int(digits.heldout_labels[0]), source="somebody")


def test_before_the_first_prediction_there_is_nothing_to_speak_of(
    model: she.SelfHealingModel,
) -> None:
    with pytest.raises(ValueError, match="id: expected a prediction before the first feedback"):
        model.feedback(correct=True)
    assert tell(model, correct=True, id=12).outcome is Outcome.UNKNOWN
    assert model.wanted_labels() == ()
    with pytest.raises(ValueError, match="limit: expected 1 to 256, got 0"):
        model.wanted_labels(0)


def test_a_source_is_a_capability_and_no_name(
    model: she.SelfHealingModel, baseline: she.Baseline, digits: DigitsData
) -> None:
    first, second = ask(model, digits.heldout_inputs[0]), ask(model, digits.heldout_inputs[1])
    operator = model.feedback_source("operator", KEY)
    assert model.feedback_source("operator", KEY) is operator
    with pytest.raises(FeedbackSourceError, match="got 'operator' with another key"):
        model.feedback_source("operator", b"another key, also of 32 bytes...")
    with pytest.raises(FeedbackSourceError, match="got 'operator' with another key"):
        model.feedback_source("operator")
    sha256 = baseline.model_sha256
    forged = FeedbackSource("operator", b"another key, also of 32 bytes...", model=sha256)
    with pytest.raises(FeedbackSourceError, match=r"one that feedback_source of the same"):
        model.feedback(1, id=first.id, source=forged)
    # The typed name is not the operator.
    assert model.feedback(int(digits.heldout_labels[0]), id=first.id, source="operator")
    assert model.feedback(int(digits.heldout_labels[1]), id=second.id, source=operator)
    assert [one.source for one in model.trusted_pool.list()] == ["unauthenticated", "operator"]


def test_a_signed_label_holds_for_one_model_one_answer_and_one_time(
    model: she.SelfHealingModel, baseline: she.Baseline, digits: DigitsData
) -> None:
    model.feedback_source("desk", KEY)
    ids = [ask(model, x).id for x in digits.heldout_inputs[:4]]
    labels = digits.heldout_labels[:4].tolist()
    elsewhere = FeedbackSource("desk", KEY, model=baseline.model_sha256)
    for wrong in (3.7, "7", None, True):
        with pytest.raises(TypeError, match="id: expected a prediction's id, got"):
            elsewhere.sign(wrong, 1)  # type: ignore[arg-type]
    signed = [elsewhere.sign(i, label) for i, label in zip(ids, labels, strict=True)]
    assert model.feedback(signed[1])
    for refused, why in (
        (signed[0], "signed before"),
        (signed[1], "signed before"),
        (
            FeedbackSource("desk", KEY, model="00" * 32).sign(ids[2], labels[2]),
            "not that of 'desk'",
        ),
        (FeedbackSource("other", KEY, model=baseline.model_sha256).sign(ids[2], 1), "no source"),
    ):
        told = tell(model, refused)
        assert told.outcome is Outcome.REFUSED
        assert why in told.text
    fields = signed[3].to_dict()
    for name, value in (("label", (labels[3] + 1) % 10), ("id", ids[2]), ("correct", True)):
        changed = type(signed[3]).from_dict({**fields, name: value})
        told = tell(model, changed)
        assert told.outcome is Outcome.REFUSED
    assert model.feedback(type(signed[3]).from_dict(fields))


def test_quotas_are_by_source_and_all_bare_names_share_the_smallest(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    clock = Clock()
    policy = she.Policy(source_labels_per_hour=8, unauthenticated_labels_per_hour=3)
    with opened(baseline, policy=policy, clock=clock) as model:
        found = model.infer(digits.heldout_inputs[:100])
        assert isinstance(found, she.Predictions)
        ids = found.ids.tolist()
        keyed = model.feedback_source("operator", KEY)
        bare = model.feedback_source("kiosk")

        def taken(sources: list[Any]) -> int:
            return sum(bool(model.feedback(correct=True, id=ids.pop(), source=s)) for s in sources)

        assert taken([keyed] * 10) == 8
        assert taken([bare, "a", "b", None, "c"]) == 3
        clock.now += 3600 / 3 + 1
        assert taken(["x", "y"]) == 1
        clock.now -= 500_000  # it goes back: nothing is gained
        assert taken(["x", "y", keyed, keyed, keyed, keyed]) == 0
        clock.now += 900_000_000  # it leaps ahead: no more than an hour's are there
        assert taken([keyed] * 10) == 8


def test_right_or_wrong_alone_is_feedback_and_a_contradiction_is_none(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    one, two, three = (ask(model, x) for x in digits.heldout_inputs[:3])
    assert one.label is not None
    confirmed = tell(model, correct=True, id=one.id, source=operator)
    assert confirmed.kept == "pool"
    assert model.trusted_pool.show(one.id).label == one.label
    denied = tell(model, correct=False, id=two.id, source=operator)
    assert (bool(denied), denied.kept) == (True, None)
    odd = tell(model, three.label, correct=False, id=three.id, source=operator)
    assert odd.outcome is Outcome.REFUSED


def test_threads_and_batches_get_the_rows_of_their_own_ids(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    x, y = digits.heldout_inputs, digits.heldout_labels
    wrong: list[int] = []

    def run(start: int) -> None:
        for k in range(8):
            rows = np.arange(start + 4 * k, start + 4 * k + 4)
            found = model.infer(x[rows])
            assert isinstance(found, she.Predictions)
            tell_all(model, y[rows].astype(np.int64), id=found.ids, source=operator)
            for row, id in zip(rows.tolist(), found.ids.tolist(), strict=True):
                try:
                    sample = model.trusted_pool.show(id)
                except LookupError:
                    continue
                assert sample.input is not None
                if not np.array_equal(sample.input, x[row]):
                    wrong.append(row)

    threads = [threading.Thread(target=run, args=(40 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(model.trusted_pool) > 100


def test_an_inference_that_failed_has_no_id_and_shifts_none(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline) as model:
        operator = model.feedback_source("operator", KEY)
        x = digits.heldout_inputs.astype(np.float32)
        one = ask(model, x[0])
        with pytest.raises(ValueError, match="finite"):
            model.predict(np.full_like(x[:1], np.nan))
        two = ask(model, x[1])
        assert two.id == one.id + 1
        assert model.feedback(correct=True, id=one.id, source=operator)
        assert model.feedback(correct=True, id=two.id, source=operator)
        kept = [sample.input for sample in model.trusted_pool.list()]
        spec = model.inputs[0]
        for row, raw in zip(x[:2], kept, strict=True):
            assert raw is not None
            levels = np.clip(np.rint(row / spec.scale) + spec.zero_point, -128, 127)
            np.testing.assert_array_equal(raw.reshape(-1), levels.reshape(-1))


def test_after_close_what_looks_still_answers(baseline: she.Baseline, digits: DigitsData) -> None:
    model = opened(baseline)
    operator = model.feedback_source("operator", KEY)
    id = ask(model, digits.heldout_inputs[0]).id
    assert model.feedback(correct=True, id=id, source=operator)
    model.close()
    for call in (
        lambda: model.feedback(correct=True, id=id, source=operator),
        model.wanted_labels,
        lambda: model.feedback_source("another", KEY),
    ):
        with pytest.raises(ModelClosedError):
            call()
    assert [one.id for one in model.trusted_pool.list()] == [id]
    assert model.quarantine.list() == ()


def test_an_answer_of_an_older_generation_is_taken_and_said_to_be_one(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    operator = model.feedback_source("operator", KEY)
    one, two = ask(model, digits.heldout_inputs[0]), ask(model, digits.heldout_inputs[1])
    saved = model.snapshot()
    model.rollback(saved)
    three = ask(model, digits.heldout_inputs[2])
    told = [model.feedback(correct=True, id=p.id, source=operator) for p in (one, two, three)]
    outcomes = [receipt.outcome for receipt in told if isinstance(receipt, she.FeedbackReceipt)]
    assert outcomes == [Outcome.OLD_GENERATION, Outcome.OLD_GENERATION, Outcome.ACCEPTED]
    assert [s.generation for s in model.trusted_pool.list()] == [0, 0, saved]


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_the_loop_hears_of_what_was_taken_in(
    mode: Any, baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline, policy=she.Policy(mode=mode)) as model:
        operator = model.feedback_source("operator", KEY)
        ids = [ask(model, x).id for x in digits.heldout_inputs[:40]]
        labels = ((digits.heldout_labels[:40] + 1) % 10).astype(np.int64)
        assert all(tell_all(model, labels, id=ids, source=operator))
        assert model.wait_healed(30)
        told = parts_of(model).loop.labels.told
        assert len(told) == 40
        assert not any(one.correct for one in told[:30])


def named(model: she.SelfHealingModel) -> list[she.Cause | None]:
    return [event.cause for event in model.events if event.kind == "diagnosis"]


def speak(model: she.SelfHealingModel, x: Any, labels: Any, sources: Sequence[Any]) -> None:
    """Serve inputs; of each four in a row, each source labels one."""
    for n in range(0, len(x), 32):
        found = model.infer(x[n : n + 32])
        assert isinstance(found, she.Predictions)
        for k, source in enumerate(sources):
            ids, said = found.ids[k::4], labels[k][n : n + 32][k::4]
            tell_all(model, said, id=ids, source=source)


@pytest.mark.slow
def test_a_change_of_what_inputs_mean_is_named_from_labels_alone(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline) as model:
        sources = [model.feedback_source(f"source {n}", KEY + b"%d" % n) for n in range(4)]
        x, y = digits.heldout_inputs[:320], digits.heldout_labels[:320].astype(np.int64)
        speak(model, x[:160], [y[:160]] * 4, sources)
        assert named(model) == []  # honest labels of an honest model
        turned = np.where(y < 5, (y + 1) % 5, y)
        speak(model, x[160:], [turned[160:]] * 4, sources)
        assert she.Cause.CONCEPT_DRIFT in named(model)
        assert she.Cause.POISONING not in named(model)


@pytest.mark.slow
def test_one_source_that_lies_is_named_as_poisoning(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline) as model:
        sources = [model.feedback_source(f"source {n}", KEY + b"%d" % n) for n in range(4)]
        x, y = digits.heldout_inputs[:320], digits.heldout_labels[:320].astype(np.int64)
        speak(model, x, [(y + 3) % 10, y, y, y], sources)
        assert she.Cause.POISONING in named(model)
        assert she.Cause.CONCEPT_DRIFT not in named(model)


def test_questions_about_doubtful_answers_say_nothing_of_how_often_answers_are_wrong(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline) as model:
        operator = model.feedback_source("operator", KEY)
        x, y = digits.heldout_inputs[:240], digits.heldout_labels[:240].astype(np.int64)
        found = model.infer(x)
        assert isinstance(found, she.Predictions)
        truth = dict(zip(found.ids.tolist(), y.tolist(), strict=True))
        questions = model.wanted_labels(64)
        drawn = [one for one in questions if one.asked.stratum == "any"]
        assert 0 < len(drawn) < len(questions)
        for one in questions:
            assert tell(model, truth[one.id], id=one.id, source=operator)
        assert len(parts_of(model).loop.labels.told) == len(drawn)
        tell(model, truth[volunteered := int(found.ids[-1])], id=volunteered, source=operator)
        assert len(parts_of(model).loop.labels.told) == len(drawn) + 1


def test_health_counts_labels_that_were_asked_for_and_no_others(
    baseline: she.Baseline, digits: DigitsData
) -> None:
    with opened(baseline) as model:
        operator = model.feedback_source("operator", KEY)
        x, y = digits.heldout_inputs[:200], digits.heldout_labels[:200].astype(np.int64)
        found = model.infer(x)
        assert isinstance(found, she.Predictions)
        truth = dict(zip(found.ids.tolist(), y.tolist(), strict=True))
        tell_all(model, y[:40], id=found.ids[:40], source=operator)
        assert model.health.performance.labels == 0
        asked = 0
        while asked < 48:
            questions = model.wanted_labels(16)
            asked += len(questions)
            for one in questions:
                row = found.ids.tolist().index(one.id)
                np.testing.assert_array_equal(one.input, x[row])
                tell(model, truth[one.id], id=one.id, source=operator)
        performance = model.health.performance
        assert 16 <= performance.labels <= 48
        assert performance.basis == "confidences and feedback"
