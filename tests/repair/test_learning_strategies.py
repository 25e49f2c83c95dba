"""Strategies that learn, on a real model under real runtimes: gains, and what stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.learning.material_of import Digits, digits_of, labelled, offset_by
from tests.support import RUNTIMES

from selfheal_edge.causes import Cause
from selfheal_edge.learning.head import distance
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.selection import Proposal
from selfheal_edge.learning.without import Without
from selfheal_edge.learning.writing import MOST_DISTANCE
from selfheal_edge.repair import proposing
from selfheal_edge.repair.kit import ModelRepairKit
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.protocol import LearningStrategy
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.repair.sensor_correction import SensorCorrection

Array = npt.NDArray[Any]
ALL: tuple[LearningStrategy, ...] = tuple(ModelRepairKit().learning.values())
BRIGHTER = 55
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module", params=RUNTIMES)
def digits(request: pytest.FixtureRequest) -> Iterator[Digits]:
    with digits_of(request.param) as found:
        yield found


@pytest.fixture
def drifted(digits: Digits) -> Array:
    return offset_by(digits.x, BRIGHTER)


@pytest.mark.slow
def test_realigning_recovers_without_a_label(digits: Digits, drifted: Array) -> None:
    half = len(drifted) // 2
    patch = Realign().propose(digits.material(drifted[:half]), Patch())
    assert isinstance(patch, Patch)
    before = digits.accuracy(drifted[half:], digits.y[half:])
    after = digits.accuracy(drifted[half:], digits.y[half:], patch)
    clean = digits.accuracy(digits.x[half:], digits.y[half:])
    assert clean - before > 0.2
    assert after - before > 0.8 * (clean - before)


def test_a_stream_that_did_not_drift_is_left_alone(digits: Digits) -> None:
    found = propose(digits.material(digits.x), ALL)
    assert found.patch is None
    assert found.gain == 0.0
    assert any("mix of calibration's classes" in text for text in found.evidence)


@pytest.mark.parametrize("told", [0, 40])
def test_a_stream_of_few_classes_is_left_alone(digits: Digits, told: int) -> None:
    few = np.flatnonzero(np.isin(digits.y, (0, 3, 7)))
    x, y = digits.x[few], digits.y[few]
    material = digits.material(x, labelled(x[:told], y[:told]), mix_moved=True)
    found = propose(material, ALL)
    lost = digits.accuracy(x, y) - digits.accuracy(x, y, found.patch)
    assert lost <= 0.01


def test_labels_train_the_head_and_are_judged_out_of_fold(digits: Digits, drifted: Array) -> None:
    k = 64
    material = digits.material(drifted[: len(drifted) // 2], labelled(drifted[:k], digits.y[:k]))
    patch = RetrainHead().propose(material, Patch())
    assert isinstance(patch, Patch)
    note = material.noted(patch)
    assert note is not None
    assert note.out_of_fold is not None
    gain = digits.accuracy(drifted[k:], digits.y[k:], patch) - digits.accuracy(
        drifted[k:], digits.y[k:]
    )
    told = float((note.out_of_fold == digits.y[:k]).mean()) - digits.accuracy(
        drifted[:k], digits.y[:k]
    )
    assert gain > 0.05
    assert told == pytest.approx(gain, abs=0.2)


def test_the_best_of_all_is_taken_and_holds_on_the_runtime(digits: Digits, drifted: Array) -> None:
    half, k = len(drifted) // 2, 32
    material = digits.material(drifted[:half], labelled(drifted[:k], digits.y[:k]))
    found = propose(material, ALL)
    assert found.patch is not None
    assert "realign" in found.names
    before = digits.accuracy(drifted[half:], digits.y[half:])
    after = digits.accuracy(drifted[half:], digits.y[half:], found.patch)
    assert after - before > 0.2
    assert found.gain == pytest.approx(after - before, abs=0.15)
    assert all(isinstance(text, str) for text in found.evidence)


def test_random_labels_take_golden_nowhere(digits: Digits) -> None:
    """A poisoner who answers at random on a stream that did not drift."""
    k = 64
    wrong = RNG.integers(0, 10, k)
    found = propose(digits.material(digits.x, labelled(digits.x[:k], wrong)), ALL)
    assert digits.accuracy(digits.x, digits.y, found.patch) >= (
        digits.accuracy(digits.x, digits.y) - 0.01
    )


def test_a_guard_takes_the_weight_from_impossible_labels(digits: Digits, drifted: Array) -> None:
    k = 64
    told = digits.y[:k].copy()
    bad = RNG.permutation(k)[:16]
    told[bad] = (told[bad] + 1 + RNG.integers(0, 9, 16)) % 10
    gains = []
    for is_guarded in (True, False):
        material = digits.material(drifted, labelled(drifted[:k], told))
        aligned = Realign().propose(material, Patch())
        assert isinstance(aligned, Patch)
        patch = RetrainHead(is_guarded=is_guarded).propose(material, aligned)
        assert isinstance(patch, Patch)
        note = material.noted(patch)
        inside = material.embeddings(drifted, patch.inputs)
        assert note is not None
        assert inside is not None
        logits = inside @ note.weights.T + note.bias
        gains.append(float((logits.argmax(axis=1) == digits.y).mean()))
    assert gains[0] >= gains[1]


@pytest.mark.parametrize("weight", [1e3, 1e7])
def test_a_label_that_was_asked_for_against_all_odds_has_no_more_than_its_share(
    digits: Digits, drifted: Array, weight: float
) -> None:
    """A weight is one over a probability: one that is next to nothing outweighs all the others."""
    k = 64
    told = digits.y[:k].copy()
    golden = digits.bench.answers(drifted[:k]).scores
    told[0] = int(np.argsort(golden[0])[-2])  # wrong, and not what the guard takes for impossible
    if told[0] == digits.y[0]:
        told[0] = int(golden[0].argmax())
    heavy = labelled(drifted[:k], told)
    heavy.weights[0] = weight
    patch = RetrainHead(is_guarded=False).propose(digits.material(drifted, heavy), Patch())
    assert isinstance(patch, Patch)
    even = RetrainHead(is_guarded=False).propose(
        digits.material(drifted, labelled(drifted[:k], told)), Patch()
    )
    assert isinstance(even, Patch)
    rest = drifted[k:], digits.y[k:]
    assert digits.accuracy(*rest, patch) >= digits.accuracy(*rest, even) - 0.05


def test_new_priors_move_logits_no_farther_than_their_bound(digits: Digits) -> None:
    few = np.flatnonzero(np.isin(digits.y, (1, 4)))
    x, y = digits.x[few], digits.y[few]
    material = digits.material(x, labelled(x[:40], y[:40]), cause=Cause.LABEL_SHIFT, mix_moved=True)
    patch = NewPriors().propose(material, Patch())
    assert isinstance(patch, Patch)
    note = material.noted(patch)
    assert note is not None
    moved = note.bias - digits.head.bias
    assert moved.max() - moved.min() <= 3.0 + 1e-9
    assert set(np.argsort(moved)[-2:]) == {1, 4}


def test_an_offset_of_all_channels_is_undone(digits: Digits, drifted: Array) -> None:
    material = digits.material(drifted, cause=Cause.SENSOR_FAULT)
    patch = SensorCorrection().propose(material, Patch())
    assert isinstance(patch, Patch)
    assert digits.accuracy(drifted, digits.y, patch) > digits.accuracy(drifted, digits.y) + 0.2


@pytest.mark.parametrize("strategy", ALL, ids=lambda s: s.name)
def test_bad_cases_are_refused_in_words(strategy: LearningStrategy, digits: Digits) -> None:
    drifted = offset_by(digits.x, BRIGHTER)
    few = strategy.propose(digits.material(drifted[:8], cause=Cause.SENSOR_FAULT), Patch())
    assert isinstance(few, str)
    moved = strategy.propose(
        digits.material(drifted, cause=Cause.SENSOR_FAULT, mix_moved=True), Patch()
    )
    assert isinstance(moved, str)


def test_without_a_head_only_inputs_are_touched(digits: Digits, drifted: Array) -> None:
    material = digits.material(drifted, has_head=False)
    patch = Realign().propose(material, Patch())
    assert isinstance(patch, Patch)
    assert patch.changes == ()
    assert patch.inputs is not None
    for strategy in (RetrainHead(), NewPriors()):
        assert isinstance(strategy.propose(material, Patch()), str)
    assert propose(material, ALL).patch is None  # nothing to compare with


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES[:1])
def test_without_an_embedding_only_inputs_are_touched(runtime: Any) -> None:
    with digits_of(runtime, embedding=False) as digits:
        material = digits.material(offset_by(digits.x, BRIGHTER))
        patch = Realign().propose(material, Patch())
        assert isinstance(patch, Patch)
        assert patch.changes == ()
        assert isinstance(RetrainHead().propose(material, Patch()), str)


@pytest.mark.slow
def test_whatever_labels_say_a_head_stays_near_golden(digits: Digits, drifted: Array) -> None:
    k = 200
    told = RNG.integers(0, 10, k)
    material = digits.material(drifted, labelled(drifted[:k], told))
    for start in (Patch(), Realign().propose(material, Patch())):
        assert isinstance(start, Patch)
        patch = RetrainHead(is_guarded=False).propose(material, start)
        assert isinstance(patch, Patch)
        note = material.noted(patch)
        assert note is not None
        moments = digits.reference.embeddings
        assert moments is not None
        mean, spread = moments.of_mix(digits.reference.priors)
        # `into_range` may add one number to all biases, which changes no softmax.
        assert distance(digits.head, note.weights, note.bias, mean, spread) <= MOST_DISTANCE + 1e-6


def test_material_refuses_labels_that_are_no_classes(digits: Digits) -> None:
    with pytest.raises(ValueError, match="expected classes 0 to 9"):
        digits.material(digits.x, labelled(digits.x[:2], np.array([3, 10])))
    with pytest.raises(ValueError, match="as many labels as inputs"):
        digits.material(digits.x, labelled(digits.x[:2], np.array([3])))


def second_best(digits: Digits, inputs: Array, labels: Array) -> Array:
    """Return believable lies: golden's second choice where it is right, else golden's answer."""
    order = np.argsort(-digits.bench.answers(inputs).scores, axis=1, kind="stable")
    return np.where(order[:, 0] == labels, order[:, 1], order[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("count", [16, 32, 64])
def test_what_one_source_has_taught_serves_only_where_it_holds_without_its_word(
    digits: Digits, count: int
) -> None:
    """A source with a key whose lies are believable; the owner says nothing."""
    stream = offset_by(digits.x, 30)
    said = second_best(digits, stream[:count], digits.y[:count])
    told = labelled(stream[:count], said, ("stranger",) * count)
    found = propose(digits.material(stream[:256], told), ALL, "owner")
    rest = slice(256, None)
    golden = digits.accuracy(stream[rest], digits.y[rest])
    assert digits.accuracy(stream[rest], digits.y[rest], found.patch) >= golden - 0.01


def test_the_word_of_an_honest_source_that_is_no_owner_is_heard(
    digits: Digits, drifted: Array
) -> None:
    told = labelled(drifted[:64], digits.y[:64], ("stranger",) * 64)
    found = propose(digits.material(drifted[:256], told), ALL, "owner")
    rest = slice(256, None)
    golden = digits.accuracy(drifted[rest], digits.y[rest])
    assert digits.accuracy(drifted[rest], digits.y[rest], found.patch) >= golden + 0.2


@pytest.mark.slow
def test_of_two_sources_the_one_that_lies_is_left_out(digits: Digits) -> None:
    """What the honest one says judges what the other has taught."""
    drifted, rest = offset_by(digits.x, 20), slice(256, None)
    said = digits.y[100:200].copy()
    said[40:] = second_best(digits, drifted[140:200], said[40:])
    told = labelled(drifted[100:200], said, ("honest",) * 40 + ("liar",) * 60)
    found = propose(digits.material(drifted[:256], told), ALL)
    golden = digits.accuracy(drifted[rest], digits.y[rest])
    assert digits.accuracy(drifted[rest], digits.y[rest], found.patch) >= golden - 0.01
    assert any("is not taken: without liar's word" in text for text in found.evidence)


def test_no_source_is_left_out_without_whose_word_a_candidate_holds(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that hardly hold over golden, the one whose absence costs too much beside it goes."""
    fares = {"a": Without("a", 0.06, -0.1), "b": Without("b", 0.051, 0.0)}
    heard: list[list[str]] = []

    def best(material: Material, strategies: object) -> Proposal:
        del strategies
        heard.append(sorted(set(material.labelled.sources)))
        return Proposal(Patch(), ("made",), (), 0.1)

    monkeypatch.setattr(proposing, "_best", best)
    monkeypatch.setattr(proposing, "without", lambda _m, source, _f, _p: fares[source])
    told = labelled(digits.x[:8], digits.y[:8], ("a", "b") * 4)
    proposing.propose(digits.material(digits.x[:64], told), ALL)
    assert heard == [["a", "b"], [], ["b"]]


def test_a_head_that_learns_a_drift_forgets_little_of_normal_operation(digits: Digits) -> None:
    """What it has forgotten does harm until golden serves again, and refuses the repair."""
    dark, rest = offset_by(digits.x, 80), slice(256, None)
    told = labelled(dark[:64], digits.y[:64])
    patch = RetrainHead().propose(digits.material(dark[:256], told), Patch())
    assert isinstance(patch, Patch)
    golden = digits.accuracy(dark[rest], digits.y[rest])
    assert digits.accuracy(dark[rest], digits.y[rest], patch) >= golden + 0.15
    usual = digits.accuracy(digits.x, digits.y)
    assert digits.accuracy(digits.x, digits.y, patch) >= usual - 0.03
