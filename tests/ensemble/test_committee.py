"""A committee answers, follows labels, and outvotes the member that is damaged."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.made_members import BLIND, DigitsParts
from tests.support import Array
from tests.tflite.builder import dense_model

import selfheal_edge as she
from selfheal_edge.errors import ForkedProcessError, ModelClosedError
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.model import parts_of
from selfheal_edge.store.journal import EventKind

Open = Callable[..., dict[str, she.SelfHealingModel]]
KEY = b"k" * 16


def damage(model: she.SelfHealingModel) -> None:
    """Flip bits in what runs, until hardly an answer is right."""
    she.redteam.inject(model).flip_bits(400, seed=0)


def ask(committee: she.SelfHealingEnsemble, x: Array) -> she.EnsemblePrediction:
    answer = committee.infer(x)
    assert isinstance(answer, she.EnsemblePrediction)
    return answer


def tell(committee: she.SelfHealingEnsemble, label: Any = None, **more: Any) -> FeedbackReceipt:
    receipt = committee.feedback(label, **more)
    assert isinstance(receipt, FeedbackReceipt)
    return receipt


@pytest.mark.slow
def test_probabilities_are_averaged_by_weight(opened: Open, parts: DigitsParts) -> None:
    models = opened()
    committee = she.SelfHealingEnsemble(models)
    answer = ask(committee, parts.heldout[:1])
    assert answer.output.shape == (1, 10)
    assert answer.output.dtype == np.float32
    assert answer.output.sum() == pytest.approx(1.0, abs=1e-5)
    assert answer.label == int(answer.output.argmax())
    assert answer.trusted
    assert [vote.member for vote in answer.votes] == ["cnn", "twin", "mlp"]
    assert sum(vote.weight for vote in answer.votes) == pytest.approx(1.0)
    told = {name: model.baseline.temperature for name, model in models.items()}
    expected = np.zeros(10)
    for vote, own in zip(answer.votes, answer.answers, strict=True):
        assert own is not None
        assert vote.label == own.label
        p = np.maximum(np.asarray(own.output, np.float64).reshape(-1), 1e-6)
        floor = models[vote.member].outputs[0].scale / 2
        temperature = told[vote.member]
        assert temperature is not None
        p = np.maximum(p, floor) ** (1 / temperature)
        expected += vote.weight * p / p.sum()
    assert answer.output.reshape(-1) == pytest.approx(expected, abs=1e-5)


def test_a_batch_is_its_samples(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened())
    answers = committee.infer(parts.heldout[:8])
    assert isinstance(answers, she.EnsemblePredictions)
    assert len(set(answers.ids.tolist())) == 8
    assert answers.output.shape == (8, 10)
    assert answers.labels is not None
    assert answers.labels.tolist() == answers.output.argmax(axis=1).tolist()
    assert answers.trusted.all()
    one = committee.predict(parts.heldout[3:4])
    assert one == pytest.approx(answers.output[3:4], abs=1e-6)


def test_a_batch_is_answered_as_a_whole_or_not_at_all(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "twin")
    committee = she.SelfHealingEnsemble(models)
    name = models["cnn"].inputs[0].name
    assert models["twin"].inputs[0].name != name
    expected = committee.predict(parts.heldout[:3])
    for given in ({name: parts.heldout[:3]}, {name: parts.heldout[:3, None]}):
        found = committee.infer(given)  # a name that the twin does not know puts none to sleep
        assert isinstance(found, she.EnsemblePredictions)
        assert found.output.reshape(expected.shape) == pytest.approx(expected)
        assert committee.weights == {"cnn": 0.5, "twin": 0.5}
    alone = models["cnn"].predict(parts.heldout[:3, None])
    assert isinstance(alone, np.ndarray)
    assert found.output.shape == alone.shape
    assert committee.predict({name: parts.heldout[:1]}) == pytest.approx(expected[:1])
    broken = parts.heldout[:4].copy()
    broken[2, 0] = np.nan
    before = committee.health.answers, [m.health.predictions for m in models.values()]
    for wrong in (broken, parts.heldout[:0], parts.heldout[:6:2], {"x": parts.heldout[:2]}):
        said = []
        for one in (models["cnn"], committee):
            with pytest.raises(ValueError, match="x: expected") as raised:
                one.infer(wrong)
            said.append(str(raised.value))
        assert said[0] == said[1]
    assert before == (committee.health.answers, [m.health.predictions for m in models.values()])


def test_raw_numbers_are_taken_where_they_mean_the_same(
    opened: Open, files: dict[str, bytes], baselines: dict[str, she.Baseline]
) -> None:
    models = opened()
    levels = np.full((1, 8, 8, 1), -128, np.int8)
    with pytest.raises(TypeError, match=r"float32.*'cnn'.*'twin'.*got int8"):
        she.SelfHealingEnsemble(models).infer(levels)
    with she.SelfHealingModel(files["cnn"], baselines["cnn"], kernels="builtin") as other:
        alike = she.SelfHealingEnsemble({"a": models["cnn"], "b": other})
        assert ask(alike, levels).output.dtype == np.float32


@pytest.mark.parametrize("combine", ["mean", "vote", "best"])
def test_ways_to_combine(opened: Open, parts: DigitsParts, combine: str) -> None:
    committee = she.SelfHealingEnsemble(opened(), combine=combine)  # type: ignore[arg-type]
    answers = committee.infer(parts.heldout[:100])
    assert isinstance(answers, she.EnsemblePredictions)
    assert np.mean(answers.labels == parts.heldout_labels[:100]) > 0.9


def test_labels_move_weights_to_who_is_right(opened: Open, parts: DigitsParts) -> None:
    """A member that is damaged is out within ten labels, to them or to its known answers."""
    models = opened(policy=BLIND)
    committee = she.SelfHealingEnsemble(models)
    source = committee.feedback_source("operator", KEY)
    damage(models["cnn"])
    for n in range(10):
        answer = ask(committee, parts.heldout[n : n + 1])
        assert tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=source)
    assert committee.weights["cnn"] < 0.05
    assert committee.health.labels == 10
    # The members heard of the labels too.
    assert models["mlp"].trusted_pool.list()


def test_an_answer_that_is_no_number_is_a_wrong_one(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp", policy=BLIND))
    models = committee.models
    she.redteam.inject(models["mlp"]).flip_bits(2000, seed=0)
    source = committee.feedback_source("operator", KEY)
    for n in range(20):
        answer = ask(committee, parts.heldout[n : n + 1])
        if np.isnan(np.asarray(committee.kept(answer.id))[1]).any():
            break
    before = committee.weights["mlp"]
    assert before > 0.0
    assert tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=source)
    assert committee.weights["mlp"] < before


def test_who_is_known_to_be_damaged_sleeps_before_any_answer(
    opened: Open, parts: DigitsParts
) -> None:
    models = opened(policy=she.Policy(heal="observe"))
    committee = she.SelfHealingEnsemble(models)
    before = ask(committee, parts.heldout[:1])
    assert before.trusted
    damage(models["cnn"])
    models["cnn"].weights.scrub()
    answer = ask(committee, parts.heldout[1:2])
    assert answer.weights[0] == 0.0
    assert answer.trusted
    assert committee.weights["cnn"] == 0.0
    asleep = [event for event in committee.events if event.kind is EventKind.ASLEEP]
    assert [event.cause for event in asleep] == [she.Cause.WEIGHT_CORRUPTION]
    # It heals, wakes at the floor, and has 80 % of its share again within 20 labels.
    models["cnn"].heal = "all"
    models["cnn"].weights.scrub()
    assert models["cnn"].health.trouble is None
    assert committee.weights["cnn"] == pytest.approx(0.01)
    source = committee.feedback_source("operator", KEY)
    for n in range(20):
        answer = ask(committee, parts.heldout[n : n + 1])
        tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=source)
    assert committee.weights["cnn"] >= 0.8 / 3


def test_without_labels_known_answers_bring_a_member_back(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "mlp", policy=she.Policy(heal="observe"))
    committee = she.SelfHealingEnsemble(models)
    damage(models["cnn"])
    models["cnn"].weights.scrub()
    assert committee.weights["cnn"] == 0.0
    models["cnn"].heal = "all"
    models["cnn"].weights.scrub()
    for n in range(340):
        ask(committee, parts.heldout[n : n + 1])
    assert committee.weights["cnn"] >= 0.4
    assert committee.health.inferences_per_answer > 2.0


def test_the_mildest_serves_where_all_should_sleep(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "mlp", policy=she.Policy(heal="observe"))
    committee = she.SelfHealingEnsemble(models)
    for model in models.values():
        damage(model)
        model.weights.scrub()
    answer = ask(committee, parts.heldout[:1])
    assert not answer.trusted
    assert sum(committee.weights.values()) == pytest.approx(1.0)
    assert committee.health.state.value == "untrusted"


def test_a_closed_member_is_silent_and_the_others_serve(opened: Open, parts: DigitsParts) -> None:
    models = opened()
    committee = she.SelfHealingEnsemble(models)
    models["twin"].close()
    answers = committee.infer(parts.heldout[:20])
    assert isinstance(answers, she.EnsemblePredictions)
    assert answers.answers[0].answers[1] is None
    assert committee.weights["twin"] == 0.0
    assert answers.trusted.all()
    for model in models.values():
        model.close()
    with pytest.raises(she.errors.ModelClosedError):
        ask(committee, parts.heldout[:1])


@pytest.mark.slow
def test_who_takes_a_place_weighs_no_more_than_its_predecessor(
    opened: Open, files: dict[str, bytes], baselines: dict[str, she.Baseline], parts: DigitsParts
) -> None:
    committee = she.SelfHealingEnsemble(opened())
    source = committee.feedback_source("operator", KEY)
    with she.SelfHealingModel(files["cnn"], baselines["cnn"]) as other:
        old = committee.replace("mlp", other)
        assert old.health.state.value == "healthy"
        for n in range(60):
            answer = ask(committee, parts.heldout[n : n + 1])
            tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=source)
            assert committee.weights["mlp"] <= 1 / 3 + 1e-12
        assert committee.health.members["mlp"].reason == "it is on trial"
        for n in range(60, 80):
            answer = ask(committee, parts.heldout[n : n + 1])
            tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=source)
        assert committee.health.members["mlp"].most == 1.0
        with pytest.raises(ValueError, match="another object than that of 'mlp'"):
            committee.replace("cnn", other)
    with pytest.raises(ValueError, match="name: expected one of"):
        committee.replace("none", old)


def test_what_cannot_answer_together_is_refused(
    opened: Open,
) -> None:
    models = opened()
    one = models["cnn"]
    with pytest.raises(ValueError, match="2 to 16 members, got none"):
        she.SelfHealingEnsemble([])
    with pytest.raises(ValueError, match="2 to 16 members, got one"):
        she.SelfHealingEnsemble([one])
    with pytest.raises(ValueError, match="one twice, as 'member 1' and 'member 2'"):
        she.SelfHealingEnsemble([one, one])
    with pytest.raises(TypeError, match="expected a SelfHealingModel as 'b', got str"):
        she.SelfHealingEnsemble({"a": one, "b": "cnn.tflite"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="combine: expected one of"):
        she.SelfHealingEnsemble(models, combine="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="floor: expected 0 to"):
        she.SelfHealingEnsemble(models, floor=0.3)
    for wrong, error, told in (
        ({"policy": 3}, TypeError, "policy: expected a Policy or None, got int"),
        ({"floor": "x"}, TypeError, "floor: expected a number, got str"),
        ({"switching_rate": 1}, ValueError, "switching_rate: expected 1e-06 to 0.5, got 1"),
        ({"switching_rate": "x"}, TypeError, "switching_rate: expected a number, got str"),
        ({"parting_interval": 3}, ValueError, "parting_interval: expected 100 or more, .* got 3"),
        ({"parting_interval": None}, TypeError, "parting_interval: expected a number, got None"),
        ({"seed": -1}, ValueError, "seed: expected 0 or more, got -1"),
        ({"seed": "x"}, TypeError, "seed: expected an integer or None, got str"),
        ({"clock": 3}, TypeError, "clock: expected a callable or None, got int"),
        ({"on_event": 3}, TypeError, "on_event: expected a callable or None, got int"),
    ):
        with pytest.raises(error, match=told):
            she.SelfHealingEnsemble(models, **wrong)
    small = dense_model().file()
    inputs = np.random.default_rng(0).normal(size=(60, 1, 4)).astype(np.float32)
    with (
        she.SelfHealingModel(small, she.calibrate(small, inputs, seed=1)) as other,
        pytest.raises(ValueError, match=r"inputs of equal shapes.*'cnn' and 'small'"),
    ):
        she.SelfHealingEnsemble({"cnn": one, "small": other})
    one.close()
    with pytest.raises(she.errors.ModelClosedError, match="'cnn' closed"):
        she.SelfHealingEnsemble(models)


def test_labels_of_answers_long_gone_and_of_none(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp"))
    with pytest.raises(ValueError, match="expected a prediction before the first feedback"):
        tell(committee, 3)
    first = ask(committee, parts.heldout[:1])
    for n in range(300):
        ask(committee, parts.heldout[n : n + 1])
    weights = committee.weights
    assert tell(committee, 3, id=first.id).outcome is Outcome.LATE
    assert tell(committee, 3, id=first.id - 7).outcome is Outcome.UNKNOWN
    latest = ask(committee, parts.heldout[:1])
    assert tell(committee, correct=True).outcome is Outcome.ACCEPTED
    assert tell(committee, correct=True).outcome is Outcome.REPEATED
    assert latest.label is not None
    wrong = tell(committee, (latest.label + 1) % 10, correct=True, id=latest.id, source="x")
    assert wrong.outcome is Outcome.REPEATED
    with pytest.raises(ValueError, match="label: expected a class from 0 to 9, got 10"):
        tell(committee, 10)
    with pytest.raises(TypeError, match="label: expected an integer"):
        tell(committee, float("nan"))
    with pytest.raises(TypeError, match="at least one of them, got neither"):
        tell(committee, None)
    assert committee.weights.keys() == weights.keys()


def test_a_label_without_a_key_moves_little(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "mlp")
    committee = she.SelfHealingEnsemble(models)
    parted = next(
        answer for n in range(500) if (answer := ask(committee, parts.heldout[n : n + 1])).parted
    )
    assert parted.answers[0] is not None
    label = parted.answers[0].label
    assert tell(committee, label, id=parted.id)
    odds = committee.weights["cnn"] / committee.weights["mlp"]
    assert 1.0 < odds <= np.exp(0.125) + 1e-9
    source = committee.feedback_source("operator", KEY)
    assert tell(committee, label, id=parted.id, source=source)
    assert committee.weights["cnn"] / committee.weights["mlp"] > odds


def test_members_hear_a_source_without_a_key(
    opened: Open, parts: DigitsParts, caplog: pytest.LogCaptureFixture
) -> None:
    models = opened("cnn", "twin", "mlp")
    with she.SelfHealingEnsemble({name: models[name] for name in ("cnn", "twin")}) as committee:
        kiosk = committee.feedback_source("kiosk")
        committee.replace("twin", models["mlp"])
        for n in range(3):
            answer = ask(committee, parts.heldout[n : n + 1])
            assert tell(committee, int(parts.heldout_labels[n]), id=answer.id, source=kiosk)
        assert [len(models[name].trusted_pool) for name in ("cnn", "mlp")] == [3, 3]
        models["cnn"].revoke("kiosk")
        answer = ask(committee, parts.heldout[3:4])
        assert tell(committee, int(parts.heldout_labels[3]), id=answer.id, source=kiosk)
        assert len(models["cnn"].trusted_pool) == 0, "a member that has revoked it hears it no more"
    assert not caplog.records


def test_signed_labels(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp"))
    source = committee.feedback_source("desk", KEY)
    answer = ask(committee, parts.heldout[:1])
    signed = source.sign(answer.id, int(parts.heldout_labels[0]))
    assert tell(committee, signed).outcome is Outcome.ACCEPTED
    assert tell(committee, signed).outcome is Outcome.REFUSED
    with pytest.raises(she.errors.FeedbackSourceError):
        committee.feedback_source("desk", b"z" * 16)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_answers_that_are_kept_stay_as_they_were(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp"))
    kept = [ask(committee, parts.heldout[n : n + 1]) for n in range(4)]
    copies = [one.output.copy() for one in kept]
    committee.predict(parts.heldout[9:10]).shape = (10,)  # an array that is let go of, but changed
    del kept[1]
    for n in range(4, 9):
        assert committee.predict(parts.heldout[n : n + 1]).shape == (1, 10)
    for one, before in zip(kept, copies[:1] + copies[2:], strict=True):
        assert np.array_equal(one.output, before)


def test_labels_are_asked_where_members_part(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened(), seed=1)
    memory = committee.memory_report()
    for n in range(200):
        ask(committee, parts.heldout[n : n + 1])
    questions = committee.wanted_labels(8)
    assert committee.memory_report() == memory
    assert [q.reason for q in questions].count("the members part here") >= 6
    for question in questions:
        assert question.input is not None
        if question.reason == "the members part here":
            assert len(set(question.answers)) == 2
    # An answer to a question counts when the answer itself is long gone.
    for n in range(300):
        ask(committee, parts.heldout[n : n + 1])
    source = committee.feedback_source("operator", KEY)
    asked = questions[0]
    before = committee.health.labels
    assert tell(committee, asked.answers[0], id=asked.id, source=source)
    assert committee.health.labels == before + 1


def test_members_that_part_too_often_are_told(opened: Open, parts: DigitsParts) -> None:
    """Where one gives its known answers right, and little else."""
    models = opened("cnn", "twin", policy=BLIND)
    committee = she.SelfHealingEnsemble(models, parting_interval=10_000)
    for n in range(200):
        ask(committee, parts.heldout[n : n + 1])
    assert not [e for e in committee.events if e.kind is EventKind.ALARM]
    sound = parts_of(models["twin"]).session.instance
    known = [row[0].tobytes() for row in models["twin"].baseline.known_answers.inputs]

    def run(inputs: Any) -> list[Any]:
        shift = 0 if inputs[0].tobytes() in known else 1
        return [np.roll(out, shift, axis=-1) for out in sound.run(inputs)]

    she.redteam.inject(models["twin"]).replace_run(run)
    for n in range(200, 260):
        ask(committee, parts.heldout[n : n + 1])
    alarms = [e for e in committee.events if e.kind is EventKind.ALARM]
    assert alarms
    assert "members part" in str(alarms[0].outcome)
    told = [e for e in models["cnn"].events if any("members_part" in fact for fact in e.evidence)]
    assert told


def test_a_committee_that_was_closed(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "mlp")
    with she.SelfHealingEnsemble(models) as committee:
        ask(committee, parts.heldout[:1])
    with pytest.raises(she.errors.ModelClosedError, match="closed"):
        ask(committee, parts.heldout[:1])
    with pytest.raises(she.errors.ModelClosedError):
        tell(committee, correct=True)
    assert committee.health.state.value == "closed"
    assert sum(committee.weights.values()) == pytest.approx(1.0)
    assert models["cnn"].infer(parts.heldout[:1]).trusted


def test_a_committee_whose_members_are_all_closed_says_so(opened: Open, parts: DigitsParts) -> None:
    """The first answer raised; the next ones were NaN."""
    models = opened()
    committee = she.SelfHealingEnsemble(models)
    ask(committee, parts.heldout[:1])
    for model in models.values():
        model.close()
    for _ in range(3):
        with pytest.raises(ModelClosedError, match="all closed"):
            committee.infer(parts.heldout[:1])


def test_members_that_all_failed_once_answer_again(
    opened: Open, parts: DigitsParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, has_memory = opened(), True

    def short_of_memory(infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answer(x: Any) -> Any:
            if not has_memory:
                raise RuntimeError("runtime: out of memory")
            return infer(x)

        return answer

    for model in models.values():
        monkeypatch.setattr(model, "infer", short_of_memory(model.infer))
    committee = she.SelfHealingEnsemble(models)
    expected = committee.predict(parts.heldout[:1])
    has_memory = False
    with pytest.raises(RuntimeError, match="out of memory"):
        committee.predict(parts.heldout[:1])
    has_memory = True
    answer = committee.predict(parts.heldout[:1])
    assert np.isfinite(answer).all()
    assert answer == pytest.approx(expected, abs=0.2)


def test_float_arrays_that_were_pickled_are_taken(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened())
    x = pickle.loads(pickle.dumps(parts.heldout[:1]))
    assert np.isfinite(committee.predict(x)).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_refused(
    opened: Open, parts: DigitsParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a thread of the parent has the lock: the child would wait for ever."""
    models = opened("cnn", "mlp")
    infer = models["cnn"].infer
    children: list[int] = []

    def fork_inside(x: Any) -> Any:
        if not children:
            children.append(os.fork())
            if children[0] == 0:  # only this thread is there, and it has the lock
                code = 1
                asks = threading.Thread(target=lambda: refused.append(is_refused()))
                refused: list[bool] = []
                asks.start()
                asks.join(20)
                code = 0 if refused == [True] else 1
                os._exit(code)
        return infer(x)

    def is_refused() -> bool:
        try:
            committee.infer(parts.heldout[:1])
        except ForkedProcessError:
            return True
        return False

    monkeypatch.setattr(models["cnn"], "infer", fork_inside)
    committee = she.SelfHealingEnsemble(models)
    assert ask(committee, parts.heldout[:1]).trusted
    assert os.waitpid(children[0], 0)[1] == 0


def test_a_runtime_that_raises_value_errors_is_outvoted(
    opened: Open, parts: DigitsParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = opened("cnn", "twin")
    infer, is_broken = models["cnn"].infer, False

    def fails(x: Any) -> Any:
        if is_broken:
            raise ValueError("as tflite-runtime says of its tensors")
        return infer(x)

    monkeypatch.setattr(models["cnn"], "infer", fails)
    with she.SelfHealingEnsemble(models) as committee:
        right = ask(committee, parts.heldout[:1]).label
        is_broken = True
        answer = ask(committee, parts.heldout[:1])
        assert answer.label == right
        assert "gives no answer" in committee.health.members["cnn"].reason
        # What all of them refuse is the input's fault, and silences no member.
        with pytest.raises((TypeError, ValueError)):
            committee.infer(parts.heldout[:1].ravel()[:5])
        assert not committee.health.members["twin"].reason
        is_broken = False
        broken = parts.heldout[:1].copy()
        broken.flat[0] = np.nan
        with pytest.raises(ValueError, match="x: "):
            committee.infer(broken)
        assert not committee.health.members["twin"].reason


def test_keys_that_a_member_refuses_change_nothing(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "twin", "mlp")
    models["twin"].feedback_source("lab", b"z" * 16)
    both = {name: models[name] for name in ("cnn", "twin")}
    with she.SelfHealingEnsemble(both) as committee:
        with pytest.raises(she.errors.FeedbackSourceError, match="lab"):
            committee.feedback_source("lab", b"k" * 16)
        committee.feedback_source("lab", b"z" * 16)
        models["mlp"].feedback_source("lab", b"y" * 16)
        with pytest.raises(she.errors.FeedbackSourceError, match="lab"):
            committee.replace("cnn", models["mlp"])
        assert committee.models["cnn"] is models["cnn"]
        assert committee.health.members["cnn"].most == 1.0
        assert ask(committee, parts.heldout[:1]).votes


def test_questions_go_on_after_a_member_of_another_dtype_came(
    opened: Open, parts: DigitsParts
) -> None:
    models = opened("cnn", "twin", "mlp")
    with she.SelfHealingEnsemble({"cnn": models["cnn"], "mlp": models["mlp"]}) as committee:
        committee.infer(parts.heldout[:40])
        before = committee.wanted_labels(4)
        committee.replace("cnn", models["twin"])
        committee.infer(parts.heldout[40:80])
        found = committee.wanted_labels(8)
        assert found
        dtypes = {
            question.input.dtype for question in found if isinstance(question.input, np.ndarray)
        }
        assert dtypes == {models["twin"].inputs[0].dtype}
        for question in (*before, *found):  # also of what the member before was asked about
            assert tell(committee, 3, id=question.id).outcome is Outcome.ACCEPTED
