"""Recorded feedback, damage to weights, and two causes at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.support import Array

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.corruption import CORRUPTIONS, Corruption
from selfheal_edge.redteam.scenarios.feedback import FEEDBACK, FeedbackScenario, Said
from selfheal_edge.redteam.scenarios.mixture import MIXTURES, Mixture
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

LABELS = np.arange(400) % 10
PREDICTED = np.where(np.arange(400) % 8 == 0, (LABELS + 3) % 10, LABELS)


def said_by(scenario: FeedbackScenario, seed: int = 0) -> list[Said]:
    return scenario.apply(LABELS, PREDICTED, np.random.default_rng(seed))


def false_share(said: list[Said], source: str) -> float:
    mine = [s for s in said if s.source == source]
    return float(np.mean([s.label != LABELS[s.row] for s in mine]))


@pytest.mark.parametrize("scenario", FEEDBACK, ids=lambda s: s.name)
def test_feedback(scenario: FeedbackScenario) -> None:
    said = said_by(scenario)
    assert said == said_by(scenario)
    assert said != said_by(scenario, 1)
    assert all(s.predicted == PREDICTED[s.row] for s in said)
    if scenario.errors_only:
        assert {s.label for s in said} == {None}
        assert np.mean([LABELS[s.row] != s.predicted for s in said]) > 0.7
        return
    assert len(said) == 128
    assert len({s.source for s in said}) == 4
    liar, last = false_share(said, "source 0"), false_share(said, "source 3")
    if scenario.cause is None:
        assert max(liar, last) < 0.15
    elif scenario.cause is Cause.POISONING:
        assert last < 0.15
        is_rare = scenario.kind == "rare"  # a tenth of what one source says
        assert liar > last if is_rare else liar > 0.3
    else:
        # All sources say the same of the same class.
        moved = Counter((LABELS[s.row], s.label) for s in said if s.label != LABELS[s.row])
        assert moved.most_common(1)[0][1] >= 8
        assert last > 0.05


def test_feedback_refuses_what_does_not_fit() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"predicted: expected \[400\]"):
        FEEDBACK[0].apply(LABELS, PREDICTED[:3], rng)
    with pytest.raises(ValueError, match="labels: expected three classes or more"):
        FEEDBACK[0].apply(LABELS % 2, PREDICTED % 2, rng)
    with pytest.raises(ValueError, match="sources: expected 2 or more"):
        FEEDBACK[0].apply(LABELS, PREDICTED, rng, sources=1)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda c: c.kind)
def test_corruption(corruption: Corruption) -> None:
    live: Array = np.random.default_rng(9).integers(256, size=4000).astype(np.uint8)
    offsets = np.concatenate([np.arange(100, 900), np.arange(1500, 3900)])
    before = live.copy()

    def score() -> float:
        return -float(np.abs(live.view(np.int8).astype(int)).sum())

    rounds = corruption.hits(offsets, live, score, np.random.default_rng(1))
    np.testing.assert_array_equal(live, before)
    assert rounds == corruption.hits(offsets, live, score, np.random.default_rng(1))
    for hits in rounds:
        assert {at for at, _ in hits} <= set(offsets.tolist())
    flat = [hit for hits in rounds for hit in hits]
    if corruption.kind == "one bit":
        assert len(flat) == 1
    elif corruption.kind == "run":
        ats = [at for at, _ in flat]
        assert ats == list(range(ats[0], ats[0] + len(ats)))
    elif corruption.kind == "searched":
        assert all(mask & 0xC0 for _, mask in flat)
        for at, mask in flat:
            live[at] ^= np.uint8(mask)
        assert score() < -float(np.abs(before.view(np.int8).astype(int)).sum())
    else:
        assert len(rounds) == 2
        assert len(set(flat)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda m: m.name)
def test_mixtures(mixture: Mixture) -> None:
    digits = load_digits()
    pool, labels = digits.heldout_inputs, digits.heldout_labels
    with Unguarded(digits_model_path()) as ask:
        kind = mixture.first.kinds[0]
        flat = pool if kind == "image" else pool.reshape(-1, 16, 4)
        domain = ask.domain(flat, kind)

        def apply() -> Array:
            return mixture.apply(
                flat[:40], np.random.default_rng(4), domain=domain, ask=ask,
                pool=flat[40:], labels=labels[40:],
            )  # fmt: skip

        if not mixture.fits(domain):
            pytest.skip("of another kind of input")
        made = apply()
        np.testing.assert_array_equal(made, apply())
        assert made.shape == flat[:40].shape
        assert np.mean((made != flat[:40]).reshape(40, -1).any(1)) > 0.9
        assert mixture.causes(0.1) >= {mixture.first.cause}
        assert mixture.causes(0.9) >= {mixture.second.cause}
