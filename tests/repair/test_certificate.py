"""How many labels cannot change a learned repair's answers: the vote, and real heads behind it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from tests.learning.material_of import Digits, digits_of, labelled, offset_by
from tests.support import RUNTIMES

from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.repair.certificate import (
    HEADS,
    Certificate,
    certify,
    named,
    partitions,
    standing,
    vote,
)
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.protocol import LearningStrategy
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.retrain_head import RetrainHead

RECIPE: tuple[LearningStrategy, ...] = (Realign(), RetrainHead(), NewPriors())
TOLD = 40


@pytest.fixture(scope="module", params=RUNTIMES)
def digits(request: pytest.FixtureRequest) -> Iterator[Digits]:
    with digits_of(request.param) as found:
        yield found


def winner(votes: tuple[int, ...]) -> int:
    return int(np.bincount(votes, minlength=3).argmax())


def test_as_many_voters_may_turn_as_is_said_and_no_more() -> None:
    for votes in itertools.product(range(3), repeat=5):
        winners, radii = standing(np.array(votes)[:, None], 3)
        assert winners[0] == winner(votes)
        turned = {
            count: {
                winner(tuple(new[who.index(n)] if n in who else v for n, v in enumerate(votes)))
                for who in itertools.combinations(range(5), count)
                for new in itertools.product(range(3), repeat=count)
            }
            for count in range(3)
        }
        assert all(turned[count] == {winner(votes)} for count in range(min(3, radii[0] + 1)))
        if radii[0] + 1 < 3:
            assert len(turned[radii[0] + 1]) > 1


@pytest.mark.slow
def test_what_stands_whatever_one_source_says_does(digits: Digits) -> None:
    x = offset_by(digits.x, 55)[:96]
    names = tuple(f"source {n % 6}" for n in range(TOLD))
    honest = digits.y[:TOLD]
    found = []
    for said in ("", *sorted(set(names))[:3]):
        lies = np.array([(y + (name == said)) % 10 for y, name in zip(honest, names, strict=True)])
        material = digits.material(x, labelled(x[:TOLD], lies, names))
        nothing = named(material, RECIPE, np.zeros(TOLD, bool))
        found.append(vote(material, RECIPE, partitions(material.labelled)[1], nothing))
    winners, radii = found[0]
    stands = radii >= 1
    assert stands.sum() > 0
    for turned, _ in found[1:]:
        np.testing.assert_array_equal(turned[stands], winners[stands])


def test_a_repair_is_certified(digits: Digits) -> None:
    x = offset_by(digits.x, 55)[:96]
    material = digits.material(x, labelled(x[:TOLD], digits.y[:TOLD]))
    patch = Patch()
    for strategy in RECIPE:
        made = strategy.propose(material, patch)
        patch = patch if isinstance(made, str) else made
    found = certify(material, RECIPE, patch)
    assert found is not None
    assert (found.inputs, found.heads, found.told) == (96, HEADS, TOLD)
    assert 0.5 < found.labels[0] <= 1.0
    assert list(found.labels) == sorted(found.labels, reverse=True)
    assert found.labels[1] > 0.3, "one label in 40 teaches little"
    assert found.source == found.hour, "one source has said all, and in one hour"
    assert Certificate.from_dict(found.to_dict()) == found
    assert "9 heads" in str(found)


def test_what_no_label_has_taught_has_none(digits: Digits) -> None:
    x = offset_by(digits.x, 55)[:64]
    assert certify(digits.material(x), RECIPE, Patch()) is None
    told = labelled(x[:8], digits.y[:8])
    assert certify(digits.material(x, told, has_head=False), RECIPE, Patch()) is None


def test_hours_and_sources_part() -> None:
    told = Labelled(
        np.zeros((4, 1), np.int8),
        np.zeros(4, np.int64),
        np.ones(4, np.float32),
        ("a", "b", "a", "b"),
        np.arange(4),
        np.exp2(-np.array([0.0, 1800.0, 3700.0, 7300.0]) / 864000.0),
    )
    label, source, hour = partitions(told)
    assert hour.tolist() == [0, 0, 1, 2]
    assert source[0] == source[2] != source[1] == source[3]
    assert ((label >= 0) & (label < HEADS)).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_a_row_that_is_none_is_refused(share: float) -> None:
    fields = Certificate(1, HEADS, 8, (1.0,) * 5, 1.0, 1.0).to_dict()
    with pytest.raises(ValueError, match="expected shares"):
        Certificate.from_dict({**fields, "source": share})
