"""The chart on the mix of predicted classes: exact run lengths, its promise, and what it tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

from selfheal_edge import _core

Labels = npt.NDArray[np.int64]

EVEN = np.full(10, 0.1)
SKEWED = np.array([0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01])
ARL0 = 13e5  # one of thirteen parts of a monitor that promises 1e5


def draw(seed: int, shares: npt.NDArray[np.float64], count: int, stay: float = 0.0) -> Labels:
    """Return labels, each kept from the one before with probability `stay`."""
    rng = np.random.default_rng(seed)
    fresh = rng.choice(len(shares), count, p=shares)
    keeps = rng.random(count) < stay
    keeps[0] = False
    kept: Labels = fresh[np.maximum.accumulate(np.where(keeps, 0, np.arange(count)))]
    return kept


def raised(label: int, share: float) -> npt.NDArray[np.float64]:
    """Return the even mix with one class at `share`."""
    shares = np.full(10, (1.0 - share) / 9.0)
    shares[label] = share
    return shares


def run_length(chain: tuple[float, float], chart: tuple[int, int, int], falling: bool) -> float:
    """Return the mean run length by the linear system of all states."""
    begin, stay, limit = chart
    moves = np.eye(2 * (limit + 1))
    for level in range(limit + 1):
        for inside in (0, 1):
            for event, chance in ((1, chain[inside]), (0, 1.0 - chain[inside])):
                weight = (stay if inside else begin) if event else 1
                to = level + weight * (1 if bool(event) != falling else -1)
                if max(0, to) <= limit:
                    moves[2 * level + inside, 2 * max(0, to) + event] -= chance
    return float(np.linalg.solve(moves, np.ones(len(moves)))[0])


@given(
    begin=st.floats(0.01, 0.4),
    stay=st.floats(0.0, 0.9),
    chart=st.tuples(st.integers(1, 12), st.integers(0, 8), st.integers(1, 40)),
    falling=st.booleans(),
)
@examples(200)
def test_run_lengths_are_those_of_the_chain(
    begin: float, stay: float, chart: tuple[int, int, int], falling: bool
) -> None:
    share = begin / (begin + 1.0 - stay)
    step = share * (1.0 - stay) * chart[0] + share * stay * chart[1] - (1.0 - share)
    expected = run_length((begin, stay), chart, falling)
    if (step > 0.0) == falling and 0.0 < expected < 1e9:  # the solver's own digits end there
        assert _core.count_run_length(begin, stay, *chart, falling) == pytest.approx(expected, 1e-5)


class Slow:
    """What `LabelMix` does without a latch, one class and one step after the other."""

    def __init__(self, mix: _core.LabelMix) -> None:
        self.events = mix.reference.events
        self.charts = [mix.charts(i) for i in range(len(self.events))]
        self.named = {e["label"] for e in self.events if e["label"] is not None}
        self.levels = [[0, 0, 0] for _ in self.events]
        self.before: int | None = None

    def holds(self, event: dict[str, Any], label: int) -> bool:
        rest = event["label"] is None
        same = label not in self.named if rest else label == event["label"]
        return bool(same != event["complement"])

    def update(self, label: int) -> float:
        """Return the largest level over its limit; above 1 is an alarm, and its class restarts."""
        largest = 0.0
        for event, charts, levels in zip(self.events, self.charts, self.levels, strict=True):
            inside = self.before is not None and self.holds(event, self.before)
            for k, (begin, stay, limit) in enumerate(charts):
                weight = (stay if inside else begin) if self.holds(event, label) else -1
                levels[k] = max(0, levels[k] + (-weight if k == 2 else weight)) if limit else 0
                largest = max(largest, levels[k] / (limit + 1))
            if any(level > chart[2] for level, chart in zip(levels, charts, strict=True)):
                levels[:] = [0, 0, 0]
        self.before = label
        return largest


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["even", "skewed", "pair", "many", "major"]),
    stay=st.sampled_from([0.0, 0.5]),
    changes=st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 1.0)), min_size=1, max_size=4),
)
@examples(60)
def test_as_one_class_after_the_other(
    seed: int, kind: str, stay: float, changes: list[tuple[int, float]]
) -> None:
    shares = {
        "even": EVEN,
        "skewed": SKEWED,
        "pair": np.array([0.7, 0.3]),
        "many": np.arange(60, 0, -1) / np.arange(61).sum(),
        "major": np.array([0.8, 0.1, 0.05, 0.05]),
    }[kind]
    mix = _core.LabelMix(_core.LabelReference(draw(seed, shares, 800, stay), len(shares)), 1e3)
    slow = Slow(mix)
    for part, (label, share) in enumerate(changes):
        moved = (1.0 - share) * shares
        moved[label % len(shares)] += share
        for one in draw(seed + part, moved, 150, stay).tolist():
            largest = slow.update(one)
            assert mix.update(one) == (largest >= 1.0)
            assert mix.change["statistic"] == pytest.approx(largest)


def false_alarms(mix: _core.LabelMix, shares: npt.NDArray[np.float64], stay: float) -> float:
    """Return the rate of false alarms of all charts together, over the promised one, exactly."""
    rate = 0.0
    named = [
        event["label"]
        for event in mix.reference.events
        if event["label"] is not None and not event["complement"]
    ]
    for i, event in enumerate(mix.reference.events):
        rest = event["label"] is None
        share = 1.0 - shares[named].sum() if rest else shares[event["label"]]
        share = 1.0 - share if event["complement"] else share
        begin, on = (1.0 - stay) * share, stay + (1.0 - stay) * share
        for k, chart in enumerate(mix.charts(i)):
            if chart[2]:
                rate += 1.0 / _core.count_run_length(begin, on, *chart, k == 2)
    return rate * mix.arl0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "count", "stay"),
    [
        # A Latin square: each two of the three meet; that all three do is a campaign.
        pytest.param(
            *(shares, count, stay),
            marks=() if (i + j + k) % 3 == 0 else pytest.mark.long,
            id=f"{name}-{count}-{stay}",
        )
        for i, (name, shares) in enumerate([("even", EVEN), ("skewed", SKEWED)])
        for j, count in enumerate([100, 300, 1000, 10_000])
        for k, stay in enumerate([0.0, 0.5, 0.9])
    ],
)
def test_nine_calibrations_of_ten_keep_the_promise(
    shares: npt.NDArray[np.float64], count: int, stay: float
) -> None:
    kept = 0
    for seed in range(30):
        reference = _core.LabelReference(draw(seed, shares, count, stay), len(shares))
        if not reference.is_supported:
            kept += 1  # no chart, no false alarm
            continue
        mix = _core.LabelMix(reference, ARL0)
        kept += false_alarms(mix, shares, stay) <= 1.0
    assert kept >= 27


@pytest.mark.slow
@pytest.mark.parametrize(("share", "within"), [(0.3, 200), (0.6, 50), (0.9, 25)])
def test_a_class_that_triples_is_told_within_200(share: float, within: int) -> None:
    delays = []
    for seed in range(20):
        mix = _core.LabelMix(_core.LabelReference(draw(seed, EVEN, 1000), 10), ARL0)
        mix.update_many(draw(seed + 100, EVEN, 200))
        told = mix.update_many(draw(seed + 200, raised(3, share), 2000))
        assert told.size
        delays.append(int(told[0]) + 1)
    assert np.mean(delays) <= within


def test_a_rare_class_that_takes_over_is_told() -> None:
    shares = np.ones(1001)
    shares[:20] = 50.0
    mix = _core.LabelMix(_core.LabelReference(draw(1, shares / shares.sum(), 4000), 1001), ARL0)
    assert len(mix.reference.events) <= 35
    told = mix.update_many(np.full(60, 777))
    assert told.size
    assert mix.update(-1) is False


def test_a_lasting_change_is_told_once() -> None:
    mix = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 1000), 10), ARL0, latch=True)
    assert mix.update_many(draw(2, EVEN, 2000)).size == 0
    told = mix.update_many(draw(3, raised(3, 0.9), 3000))
    # That the others are rarer follows from it.
    assert told.size == 1
    assert mix.latched
    assert mix.update_many(draw(4, EVEN, 2000)).size == 0
    assert not mix.latched
    assert mix.update_many(draw(5, raised(3, 0.9), 1000)).size == 1
    moved = mix.update_many(draw(6, raised(7, 0.9), 40))
    assert moved.size == 1
    assert not mix.update(-1)


def test_it_says_which_class_and_since_when() -> None:
    sizes = []
    for seed in range(10):
        mix = _core.LabelMix(_core.LabelReference(draw(seed, EVEN, 1000), 10), ARL0)
        mix.update_many(draw(seed + 50, EVEN, 500))
        for label in draw(seed + 100, raised(4, 0.6), 200).tolist():
            if mix.update(label):
                break
        change = mix.change
        assert (change["label"], change["direction"]) == (4, 1)
        assert 450 < change["onset"] < 530
        assert change["earliest"] <= 501
        assert 0.3 < change["share"] <= 1.0
        assert change["reference"] == pytest.approx(0.1, abs=0.04)
        sizes.append(change["magnitude"])
    assert np.mean(sizes) == pytest.approx(np.log(0.6 / 0.4 / (0.1 / 0.9)), abs=0.7)


@pytest.mark.parametrize(("label", "direction", "share"), [(0, -1, 0.0), (0, 1, 1.0), (2, -1, 0.0)])
def test_a_class_may_be_rarer_or_the_majority(label: int, direction: int, share: float) -> None:
    shares = np.array([0.6, 0.2, 0.2])
    moved = (1.0 - share) * np.where(np.arange(3) == label, 0.0, shares) / (1.0 - shares[label])
    moved[label] = share
    mix = _core.LabelMix(_core.LabelReference(draw(1, shares, 2000), 3), ARL0)
    told = []
    for one in draw(2, moved, 400).tolist():
        if mix.update(one):
            told.append((mix.change["label"], mix.change["direction"]))
    assert (label, direction) in told


@pytest.mark.slow
def test_the_earliest_onset_covers() -> None:
    covered = 0
    for seed in range(60):
        mix = _core.LabelMix(_core.LabelReference(draw(seed, EVEN, 2000), 10), ARL0)
        mix.update_many(draw(seed + 500, EVEN, 400))
        for label in draw(seed + 900, raised(3, 0.3), 2000).tolist():
            if mix.update(label):
                break
        covered += mix.change["earliest"] <= 400
    assert covered >= 54


def test_what_is_accepted_is_normal() -> None:
    mix = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 1000), 10), ARL0, latch=True)
    usual = raised(3, 0.5)
    assert mix.update_many(draw(2, usual, 2000)).size == 1
    assert not mix.looks_normal
    mix.accept()
    assert mix.looks_normal
    assert not mix.latched
    assert mix.reference.samples > 1900
    assert mix.update_many(draw(3, usual, 3000)).size == 0
    assert mix.update_many(draw(4, raised(5, 0.6), 200)).size >= 1


def test_before_anything_was_told_nothing_is_accepted() -> None:
    mix = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 1000), 10), ARL0, latch=True)
    before = mix.state()
    mix.accept()
    assert mix.state() == before


def test_inferences_without_a_label_leave_charts_alone() -> None:
    mix = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 1000), 10), ARL0)
    apart = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 1000), 10), ARL0)
    labels = draw(2, raised(3, 0.5), 20)
    together = mix.update_many(labels)
    gaps = np.stack([labels, np.full_like(labels, -1)], axis=1).ravel()
    assert np.array_equal(apart.update_many(gaps), 2 * together)
    assert apart.count == 2 * mix.count


def test_a_state_continues_bit_for_bit() -> None:
    labels = draw(9, raised(2, 0.4), 9000, 0.3)
    for latch in (False, True):
        whole = _core.LabelMix(_core.LabelReference(draw(1, EVEN, 800, 0.3), 10), 1e3, latch)
        for part in np.split(labels, [17, 300, 5000]):
            parted = _core.LabelMix.from_state(whole.state())
            assert np.array_equal(whole.update_many(part), parted.update_many(part))
            assert whole.state() == parted.state()
            assert whole.change == parted.change


@pytest.mark.slow
@given(data=st.data())
def test_a_forged_state_is_refused_or_gives_one_that_works(data: Any) -> None:
    mix = _core.LabelMix(_core.LabelReference(draw(1, SKEWED, 400), 10), 1e3, latch=True)
    mix.update_many(draw(2, raised(3, 0.9), 50))
    whole = data.draw(st.sampled_from([mix.state(), mix.reference.state()]))
    blob = bytearray(whole[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(20, len(blob) - 1))] = data.draw(st.integers(0, 255))
    forged = bytes(blob) + _core.crc32c(blob).to_bytes(4, "little")
    try:
        if whole == mix.state():
            made = _core.LabelMix.from_state(forged)
        else:
            made = _core.LabelMix(_core.LabelReference.from_state(forged), 1e4)
    except _core.StateError:
        return
    made.update_many(draw(3, raised(5, 0.8), 300))
    made.accept()
    assert isinstance(made.change["share"], float)
    made.update_many(draw(4, EVEN, 300))


@pytest.mark.parametrize(
    ("labels", "classes", "why"),
    [
        (np.sort(draw(1, EVEN, 1000)), 10, "independent_labels"),
        (draw(1, EVEN, 40), 10, "independent_labels"),
        (draw(1, EVEN, 400, 0.95), 10, "independent_labels"),
        (np.zeros(1000, np.int64), 2, "changes"),
        (np.repeat([0, 1], 500), 2, "changes"),
    ],
)
def test_what_a_calibration_cannot_support(labels: Labels, classes: int, why: str) -> None:
    reference = _core.LabelReference(labels, classes)
    assert not reference.is_supported
    if why == "changes":
        assert reference.changes < 10
    else:
        assert reference.independent_labels < 50


def test_a_mix_that_follows_the_day_is_not_supported() -> None:
    rng = np.random.default_rng(1)
    phase = np.sin(np.arange(4000) * 2.0 * np.pi / 2000)
    labels = (rng.random(4000) < 0.5 + 0.4 * phase).astype(np.int64)
    reference = _core.LabelReference(labels, 2)
    assert reference.wanders
    assert not reference.is_supported


def test_scenes_that_last_are_memory() -> None:
    """Labels that flicker within long scenes: neighbours alone would say too short a memory."""
    scene = draw(1, EVEN, 20_000, 0.97)
    rng = np.random.default_rng(2)
    labels = np.where(rng.random(20_000) < 0.5, scene, rng.integers(0, 10, 20_000))
    reference = _core.LabelReference(labels.astype(np.int64), 10)
    assert reference.bunching > 3.0
    if reference.is_supported:
        mix = _core.LabelMix(reference, 1e4)
        later = draw(3, EVEN, 200_000, 0.97)
        flicker = np.random.default_rng(4)
        stream = np.where(
            flicker.random(200_000) < 0.5, later, flicker.integers(0, 10, 200_000)
        ).astype(np.int64)
        assert mix.update_many(stream).size <= 30


@pytest.mark.parametrize(
    ("labels", "classes", "match"),
    [
        (np.zeros(10), 3, "labels: expected a 1-D int64 array"),
        (np.zeros((2, 2), np.int64), 3, "labels: expected a 1-D int64 array"),
        (np.full(10, 3), 3, "labels: expected less than classes"),
        (np.full(10, -1), 3, "labels: expected one label"),
        (np.zeros(10, np.int64), 0, "classes: expected"),
    ],
)
def test_what_is_refused(labels: npt.NDArray[Any], classes: int, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        _core.LabelReference(labels, classes)
    with pytest.raises(ValueError, match="arl0: expected"):
        _core.LabelMix(_core.LabelReference(draw(1, EVEN, 100), 10), 1.0)
