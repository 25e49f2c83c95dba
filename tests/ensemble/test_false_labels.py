"""Labels that are false: how far one source can move what members weigh."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from tests.ensemble.conftest import Open
from tests.made_members import DigitsParts

import selfheal_edge as she
from selfheal_edge import _core

KEY = b"0123456789abcdef"
MANY = she.Policy(heal="observe", source_labels_per_hour=100_000)
TEN_POINTS = 0.1
Losses = npt.NDArray[np.float64]


def rounds(
    rng: np.random.Generator, members: int, parting: float, count: int
) -> Iterator[tuple[bool, Losses, int, int]]:
    """Yield whether members part, what is true, who is right and who is wrong there."""
    for _ in range(count):
        right, wrong = rng.permutation(members)[:2]
        parts = bool(rng.random() < parting)
        losses = rng.random(members) * 0.05
        losses[wrong] = 0.9 if parts else losses[wrong]
        yield parts, losses, int(right), int(wrong)


def exchanged(losses: Losses, right: int, wrong: int) -> Losses:
    """Return what a lie makes of a round: the one that is right looks wrong."""
    told = np.full(len(losses), 1.0)
    told[wrong] = losses[right]
    return told


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("parting", [0.01, 0.06])
def test_a_fifth_of_lies_moves_no_weight_by_more_than_ten_points(
    members: int, parting: float
) -> None:
    """They are told where members part, and always against the same member if it is right there."""
    rng = np.random.default_rng(members)
    true, lied = _core.FixedShare(members), _core.FixedShare(members)
    owed = 0.0
    for parts, losses, right, wrong in rounds(rng, members, parting, 2000):
        owed += 0.2
        lies = parts and owed >= 1.0 and wrong != 0
        owed -= 1.0 if lies else 0.0
        true.hear(losses)
        lied.hear(exchanged(losses, right, wrong) if lies else losses)
        assert np.abs(true.weights - lied.weights).max() <= TEN_POINTS


def test_what_lies_cannot_explain_moves_weights_at_once_and_is_forgiven() -> None:
    share = _core.FixedShare(3)
    bad = np.array([0.95, 0.05, 0.1])
    for _ in range(10):
        share.hear(bad)
    assert share.weights[0] < 0.05
    for _ in range(60):
        share.hear(np.array([0.05, 0.05, 0.1]))
    assert share.weights[0] > 0.2


def test_partings_that_are_chosen_count_for_as_many_as_there_are() -> None:
    """A source that speaks of partings alone does not make a member look damaged."""
    share = _core.FixedShare(2)
    for _ in range(100):
        share.hear(np.array([1.0, 0.0]), importance=0.06)
    assert share.weights[0] >= 0.5 - TEN_POINTS / 2
    for _ in range(10):
        share.hear(np.array([1.0, 0.0]))
    assert share.weights[0] < 0.05


def test_a_true_label_is_followed_all_the_way() -> None:
    """As fixed share says: what the owner says needs no more than what it says."""
    share = _core.FixedShare(2, rates=[0.01], floor=0.0)
    share.update(np.array([1.0, 0.0]))
    assert share.weights[0] == pytest.approx(0.99 / (1 + np.e) + 0.005)


def told(
    committee: she.SelfHealingEnsemble,
    parts: DigitsParts,
    source: she.FeedbackSource | None,
    said: Callable[[she.EnsemblePrediction, int], int],
    count: int,
) -> None:
    for n in range(count):
        answer = committee.infer(parts.heldout[n : n + 1])
        assert isinstance(answer, she.EnsemblePrediction)
        if answer.parted:  # it speaks of no other
            label = said(answer, int(parts.heldout_labels[n]))
            committee.feedback(label, id=answer.id, source=source)


def for_the_first(answer: she.EnsemblePrediction, _label: int) -> int:
    first = answer.answers[0]
    assert first is not None
    assert first.label is not None
    return first.label


@pytest.mark.parametrize("owner", [None, "operator"])
def test_a_source_that_speaks_of_partings_alone(
    opened: Open, parts: DigitsParts, owner: str | None
) -> None:
    """It says that the first is right, always: only of the owner that is believed."""
    policy = she.Policy(heal="observe", source_labels_per_hour=100_000, owner=owner)
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp", policy=MANY), policy=policy)
    source = committee.feedback_source("operator", KEY)
    told(committee, parts, source, for_the_first, 300)
    moved = committee.weights["cnn"] - 0.5
    if owner is None:
        assert 0.0 < moved <= TEN_POINTS / 2
    else:
        assert moved > 3 * TEN_POINTS
