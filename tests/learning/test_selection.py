"""Which candidate serves: by labels, by what needs none, and golden unless there is evidence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.learning.material_of import Digits, digits_of, labelled, offset_by
from tests.support import RUNTIMES

from selfheal_edge.causes import Cause
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.learning.selection import Proposal, Standing, choose, keeps_its_place

COUNT = 200


@pytest.fixture(scope="module", params=RUNTIMES[:1])
def digits(request: pytest.FixtureRequest) -> Iterator[Digits]:
    with digits_of(request.param) as found:
        yield found


def brighter(material: Material, by: float) -> Patch:
    """Return a patch that makes inputs brighter, or darker, by a part of their range."""
    scale = float(material.reference.quantization[0])
    offset = np.full(1, by * scale, np.float32)
    assert material.head is not None
    patch = Patch(inputs=InputMap(material.reference.axis, np.ones(1, np.float32), offset))
    return material.note(patch, Note(material.head.weights, material.head.bias))


def proposed(patch: Patch, sources: frozenset[str] | None = None) -> Proposal:
    return Proposal(patch, ("it",), (), 0.1, sources=sources)


@pytest.mark.slow
def test_the_right_correction_is_taken_and_the_wrong_one_is_not(digits: Digits) -> None:
    drifted = offset_by(digits.x, 55)[:COUNT]
    told = labelled(drifted[:48], digits.y[:48])
    material = digits.material(drifted, told)
    right, wrong = brighter(material, -55), brighter(material, 30)
    found = choose(material, [("wrong", wrong), ("right", right)])
    assert found.patch is right
    assert found.names == ("right",)
    assert found.gain > 0.1
    assert choose(material, [("wrong", wrong)]).patch is None


def test_without_labels_a_surer_answer_in_the_expected_mix_is_evidence(digits: Digits) -> None:
    drifted = offset_by(digits.x, 55)[:COUNT]
    material = digits.material(drifted)
    right, wrong = brighter(material, -55), brighter(material, 30)
    assert choose(material, [("right", right)]).patch is right
    assert choose(material, [("wrong", wrong)]).patch is None


def test_inputs_carried_into_the_condition_speak_without_labels(digits: Digits) -> None:
    """Their classes are known: what a candidate makes of them tells a gain that is too small to
    show in the window's answers."""
    drifted = offset_by(digits.x, 30)[:COUNT]
    held = digits.reference.inputs
    found = {}
    for name, carried in (("in it", offset_by(held, 55)), ("not in it", held)):
        material = digits.material(drifted)
        material.__dict__["carried"] = carried
        right = brighter(material, -30)
        found[name] = choose(material, [("right", right)])
    assert found["in it"].details["right"][0] > found["not in it"].details["right"][0] + 0.02
    assert "of carried inputs +" in found["in it"].evidence[0]
    assert "of carried inputs -" in found["not in it"].evidence[0]


def test_a_candidate_no_better_than_golden_is_not_taken(digits: Digits) -> None:
    x = digits.x[:COUNT]
    material = digits.material(x, labelled(x[:64], digits.y[:64]))
    same = brighter(material, 0.0)
    found = choose(material, [("same", same)])
    assert found.patch is None
    assert found.gain == 0.0
    assert found.evidence[-1] == "golden stays"


def test_of_two_alike_the_simpler_one_is_taken(digits: Digits) -> None:
    drifted = offset_by(digits.x, 55)[:COUNT]
    material = digits.material(drifted, labelled(drifted[:48], digits.y[:48]))
    first, second = brighter(material, -55), brighter(material, -55)
    assert choose(material, [("a", first), ("a+b", second)]).patch is first


def test_labels_against_a_candidate_outweigh_its_confidence(digits: Digits) -> None:
    """Every label on which the two part speaks for golden."""
    drifted = offset_by(digits.x, 55)[:COUNT]
    golden = digits.bench.answers(drifted).labels
    material = digits.material(drifted, labelled(drifted[:150], golden[:150]))
    assert choose(material, [("right", brighter(material, -55))]).patch is None


def test_nothing_is_asked_twice(digits: Digits) -> None:
    drifted = offset_by(digits.x, 55)[:COUNT]
    material = digits.material(drifted, labelled(drifted[:48], digits.y[:48]))
    candidates = [("right", brighter(material, -55))]
    choose(material, candidates)
    asked = digits.bench.asked
    choose(material, candidates)
    assert digits.bench.asked == asked


def test_where_no_cause_is_known_known_inputs_have_to_bear_a_candidate_out(
    digits: Digits,
) -> None:
    """How sure its answers are may be the doing of an attacker, who crafts the window."""
    drifted = offset_by(digits.x, 55)[:COUNT]
    held = digits.reference.inputs
    for carried, is_taken in ((offset_by(held, 55), True), (held, False), (None, False)):
        material = digits.material(drifted, cause=Cause.UNKNOWN)
        material.__dict__["carried"] = carried
        right = brighter(material, -55)
        found = choose(material, [("right", right)])
        assert (found.patch is right) == is_taken
    told = labelled(drifted[:48], digits.y[:48])
    material = digits.material(drifted, told, cause=Cause.UNKNOWN)
    assert choose(material, [("right", brighter(material, -55))]).patch is not None


def test_a_small_gain_that_only_carried_inputs_and_answers_expect_is_not_taken(
    digits: Digits,
) -> None:
    """Repairs of whose gain they were not sure cost a point or more in one case of 25."""
    drifted = offset_by(digits.x, 30)[:COUNT]
    held = digits.reference.inputs
    for carried, is_taken in ((offset_by(held, 30), False), (offset_by(held, 60), True)):
        material = digits.material(drifted)
        material.__dict__["carried"] = carried
        right = brighter(material, -30)
        found = choose(material, [("right", right)])
        gain, sd = found.details["right"]
        assert gain > 0.75 * sd, "it was enough before"
        assert (found.patch is right) == is_taken == (gain > 1.645 * sd)


def test_what_serves_is_not_replaced_by_what_is_worse_though_better_than_golden(
    digits: Digits,
) -> None:
    """A refinement is compared with golden first: half a correction beats that as well."""
    drifted = offset_by(digits.x, 55)[:COUNT]
    material = digits.material(drifted, labelled(drifted[:48], digits.y[:48]))
    whole, half = brighter(material, -55), brighter(material, -20)
    none = np.empty(0, np.int64)
    assert choose(material, [("half", half)]).patch is half
    said = keeps_its_place(material, Standing(whole, none), proposed(half))
    assert "against what serves" in said
    assert "right where it is wrong" in said
    assert keeps_its_place(material, Standing(half, none), proposed(whole)) == ""
    said = keeps_its_place(material, Standing(half, none), proposed(half))
    assert said == "it is what serves"


def test_labels_that_what_serves_has_learned_do_not_keep_it(digits: Digits) -> None:
    """Of its own lesson any head is right: those labels say nothing of the two."""
    drifted = offset_by(digits.x, 55)[:COUNT]
    material = digits.material(drifted, labelled(drifted[:48], digits.y[:48]))
    whole, half = brighter(material, -55), brighter(material, -20)
    said = [
        keeps_its_place(material, Standing(whole, learned), proposed(half))
        for learned in (np.arange(40), np.arange(48))
    ]
    assert "of 8 labels" in said[0]
    assert "labels" not in said[1]  # how sure answers are is left


def test_what_was_learned_without_a_liar_is_compared_without_his_labels(digits: Digits) -> None:
    """It has answers of its own to the labels of those alone who were heard."""
    drifted = offset_by(digits.x, 55)[:COUNT]
    sources = ("owner",) * 24 + ("liar",) * 24
    lies = np.concatenate([digits.y[:24], (digits.y[24:48] + 1) % 10])
    material = digits.material(drifted, labelled(drifted[:48], lies, sources))
    half, whole = brighter(material, -20), brighter(material, -55)
    assert material.head is not None
    right = np.asarray(digits.y[:24], np.int64)
    head = Note(material.head.weights, material.head.bias, out_of_fold=right)
    learned = material.note(whole, head)
    heard = proposed(learned, frozenset({"owner"}))
    assert keeps_its_place(material, Standing(half, np.empty(0, np.int64)), heard) == ""
