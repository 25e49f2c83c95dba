"""Inner layers that are refined: what it gains, that it can be repeated, ended, and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.learning.material_of import Digits, digits_of, labelled, offset_by
from tests.support import RUNTIMES

from selfheal_edge.errors import ModelClosedError
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.repair.kit import ModelRepairKit
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.refine import Refine
from selfheal_edge.repair.retrain_head import RetrainHead

BRIGHTER = 55
TOLD = 64


@pytest.fixture(scope="module", params=RUNTIMES)
def digits(request: pytest.FixtureRequest) -> Iterator[Digits]:
    with digits_of(request.param) as found:
        yield found


def material_of(digits: Digits, told: int = TOLD) -> Material:
    x = offset_by(digits.x, BRIGHTER)
    return digits.material(x[:200], labelled(x[:told], digits.y[:told]))


def head_of(material: Material) -> Patch:
    found = RetrainHead().propose(material, material.golden)
    assert isinstance(found, Patch)
    return found


@pytest.mark.slow
def test_it_gains_on_inputs_that_it_has_not_seen_and_can_be_repeated(digits: Digits) -> None:
    material = material_of(digits)
    start = head_of(material)
    found = Refine().propose(material, start)
    assert isinstance(found, Patch)
    assert "inner layers refined" in found.text
    note = material.noted(found)
    assert note is not None
    assert note.inner
    assert set(note.inner) <= set(found.changes), "they are in the file's bytes"
    x, y = offset_by(digits.x, BRIGHTER)[200:], digits.y[200:]
    gains = [digits.accuracy(x, y, p) - digits.accuracy(x, y) for p in (start, found)]
    assert gains[1] > 0.1
    assert gains[1] > gains[0] - 0.02
    # What a note says of it is what the runtime does.
    inside = material.embeddings(x, found.inputs, note.inner)
    assert inside is not None
    named = (inside @ note.weights.T + note.bias).argmax(axis=1)
    assert (named == digits.bench.answers(x, found).labels).mean() > 0.95
    again = material_of(digits)
    repeated = Refine().propose(again, head_of(again))
    assert isinstance(repeated, Patch)
    assert repeated.changes == found.changes


def test_labels_judge_the_run_that_has_not_learned_them(digits: Digits) -> None:
    rng = np.random.default_rng(5)
    x = offset_by(digits.x, BRIGHTER)
    lot = rng.integers(0, 10, TOLD)  # labels that nothing in the inputs tells
    material = digits.material(x[:200], labelled(x[:TOLD], lot))
    head = RetrainHead(is_guarded=False).propose(material, material.golden)
    assert isinstance(head, Patch)
    found = Refine().propose(material, head)
    assert isinstance(found, Patch)
    note = material.noted(found)
    assert note is not None
    assert note.out_of_fold is not None
    assert (note.out_of_fold == lot).mean() < 0.35, "a tenth is right by chance"


def test_it_is_one_of_what_is_chosen_among(digits: Digits) -> None:
    kit = ModelRepairKit().learning
    material = material_of(digits)
    found = propose(material, [kit[name] for name in ("realign", "retrain_head", "refine")])
    assert any("refine" in name for name in found.details)
    assert found.patch is not None


def test_it_ends_between_two_steps_when_the_model_closes(digits: Digits) -> None:
    material = material_of(digits)
    start = head_of(material)
    bench = Bench(digits.session, "probabilities", has_embedding=True)
    stopped = replace(material, bench=bench)
    bench.stop()
    with pytest.raises(ModelClosedError, match="stays open"):
        Refine().propose(stopped, start)
    bench.close()


def test_it_says_why_it_does_nothing(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    few = digits.material(digits.x[:8])
    assert Refine().propose(few, few.golden) == "8 inputs of at least 32"
    none = material_of(digits, 0)
    assert "nothing is known of the condition" in str(Refine().propose(none, none.golden))
    headless = digits.material(digits.x[:64], has_head=False)
    assert "no last layer" in str(Refine().propose(headless, headless.golden))
    material = material_of(digits)
    start = head_of(material)
    monkeypatch.setattr("selfheal_edge.repair.refine._PRODUCTS", 1)
    assert "are too many: inner layers are left alone" in str(Refine().propose(material, start))


def test_a_pool_of_one_class_is_refined_or_left_but_never_breaks(digits: Digits) -> None:
    x = offset_by(digits.x, BRIGHTER)
    one = np.flatnonzero(digits.y == 3)[:16]
    material = digits.material(x[:200], labelled(x[one], digits.y[one]))
    found = propose(material, [RetrainHead(), Refine()])
    rest = digits.y != 3
    lost = digits.accuracy(x[rest], digits.y[rest]) - digits.accuracy(
        x[rest], digits.y[rest], found.patch
    )
    assert lost < 0.05
