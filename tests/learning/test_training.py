"""A head trained on few samples: the optimum, what bounds it, and how its strength is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

from selfheal_edge import _core
from selfheal_edge.learning.folds import folds_of, groups_of
from selfheal_edge.learning.guard import capped_weights, credibility
from selfheal_edge.learning.training import PULLS, HeadTrainer, TrainedHead, log_softmax

SEEDS = st.integers(0, 2**32 - 1)


class Task:
    """Samples around class centres, and a head that knows them a little."""

    def __init__(
        self, seed: int, n: int = 40, dimensions: int = 7, rows: int = 3, shift: float = 1.0
    ) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.classes = max(2, rows)
        self.labels = rng.integers(0, self.classes, n)
        centres = rng.normal(0, 1.5, (self.classes, dimensions))
        self.x = (centres[self.labels] + rng.normal(0, 1, (n, dimensions)) + shift).astype("f4")
        self.weights = rng.normal(0, 0.3, (rows, dimensions))
        self.bias = rng.normal(0, 0.3, rows)
        self.mean, self.spread = rng.normal(0, 1, dimensions), rng.uniform(0.5, 2, dimensions)
        self.trust = rng.uniform(0.1, 2, n)

    def trainer(self, **others: Any) -> HeadTrainer:
        trainer = HeadTrainer(len(self.weights), self.x.shape[1], len(self.x))
        start = {"weights": self.weights, "bias": self.bias, "mean": self.mean}
        trainer.load(**{"embeddings": self.x, **start, "spread": self.spread, **others})
        return trainer

    def gradient(self, found: TrainedHead, pull: float, targets: Any = None) -> float:
        """Return the length of the objective's gradient, in units of the spread."""
        logs = log_softmax(self.x @ found.weights.T + found.bias)
        aimed = np.eye(self.classes)[self.labels] if targets is None else targets
        u = np.c_[(self.x - self.mean) / self.spread, np.ones(len(self.x))]
        off = (np.exp(logs) - aimed) * self.trust[:, None]
        moved = found.weights - self.weights
        change = np.c_[moved * self.spread, found.bias - self.bias + moved @ self.mean]
        data = off.T @ u
        return float(np.linalg.norm((data[1:] if len(change) == 1 else data) + pull * change))


def near(found: TrainedHead, other: TrainedHead, rel: float = 1e-3) -> bool:
    size = max(found.change, other.change, 1e-6)
    away = np.abs(found.weights - other.weights).max(), np.abs(found.bias - other.bias).max()
    return bool(max(away) <= rel * size)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 4, 8, 60])
def test_the_gradient_vanishes_where_a_fit_ends(rows: int, n: int) -> None:
    task = Task(rows * 100 + n, n, rows=rows)
    trainer = task.trainer()
    soft = np.exp(log_softmax(task.rng.normal(0, 2, (n, task.classes))))
    for pull in (0.3, 5.0, 80.0):
        for targets in (task.labels, soft):
            found = trainer.fit(targets, task.trust, pull, tolerance=1e-6, reach=1e3)
            left = task.gradient(found, pull, None if targets is task.labels else soft)
            assert found.is_converged
            assert left <= pull * 1e-4 * (1 + found.change)


@given(seed=SEEDS, n=st.integers(2, 60))
@examples(40)
def test_order_scale_and_absence_change_nothing(seed: int, n: int) -> None:
    task = Task(seed, n)
    found = task.trainer().fit(task.labels, task.trust, 2.0, tolerance=1e-6)
    order = task.rng.permutation(n)
    shuffled = task.trainer(embeddings=task.x[order])
    assert near(shuffled.fit(task.labels[order], task.trust[order], 2.0, tolerance=1e-6), found)
    # Embeddings in other units, and the head with them.
    other = task.trainer(
        embeddings=task.x * np.float32(8),
        weights=task.weights / 8,
        mean=task.mean * 8,
        spread=task.spread * 8,
    ).fit(task.labels, task.trust, 2.0, tolerance=1e-6)
    assert np.allclose(other.weights * 8, found.weights, atol=1e-3 * (1 + found.change))
    # A sample of weight 0, and one that is twice there with half of its weight.
    trust = task.trust.copy()
    trust[0] = 0.0
    without = Task(seed, n)
    without.x, without.labels = task.x[1:], task.labels[1:]
    absent = task.trainer().fit(task.labels, trust, 2.0, tolerance=1e-6)
    assert near(without.trainer().fit(without.labels, trust[1:], 2.0, tolerance=1e-6), absent)
    twice = task.trainer(embeddings=task.x)
    halves = np.r_[trust, trust] / 2
    double = HeadTrainer(3, 7, 2 * n)
    double.load(np.r_[task.x, task.x], task.weights, task.bias, task.mean, task.spread)
    labels = np.r_[task.labels, task.labels]
    again = double.fit(labels, halves, 2.0, tolerance=1e-6)
    assert near(twice.fit(task.labels, trust, 2.0, tolerance=1e-6), again)


@given(seed=SEEDS, rows=st.integers(1, 4))
@examples(30)
def test_a_pull_without_bound_gives_the_start(seed: int, rows: int) -> None:
    task = Task(seed, rows=rows)
    trainer = task.trainer()
    held = trainer.fit(task.labels, task.trust, np.inf)
    assert np.array_equal(held.weights, task.weights)
    assert np.array_equal(held.bias, task.bias)
    assert held.is_converged
    changes = [trainer.fit(task.labels, task.trust, p).change for p in (1e9, 100.0, 1.0, 0.1)]
    assert changes == sorted(changes)
    assert changes[0] < 1e-5


@given(seed=SEEDS, n=st.integers(2, 40), size=st.floats(0.01, 50))
@examples(40)
def test_one_sample_moves_the_head_by_no_more_than_is_promised(
    seed: int, n: int, size: float
) -> None:
    """Left out or with another label, however far away it lies."""
    task = Task(seed, n)
    task.x[0] *= np.float32(size)
    pull, reach = 1.5, 2.0
    trainer = task.trainer()
    whole = trainer.fit(task.labels, task.trust, pull, tolerance=1e-6, reach=reach)
    trust = task.trust.copy()
    trust[0] = 0.0
    without = trainer.fit(task.labels, trust, pull, tolerance=1e-6, reach=reach)
    moved = whole.weights - without.weights
    offset = whole.bias - without.bias + moved @ task.mean
    distance = np.sqrt(np.square(moved * task.spread).sum() + np.square(offset).sum())
    most = np.sqrt(2) * task.trust[0] * reach * np.sqrt(8) / pull
    assert distance <= most * 1.001 + 1e-4


FLOATS = st.floats(-(2.0**127), 2.0**127, width=32)


@given(data=st.data(), n=st.integers(1, 6), rows=st.integers(1, 3))
@examples(80)
def test_what_is_finite_gives_what_is_finite(data: Any, n: int, rows: int) -> None:
    x = np.array(data.draw(st.lists(FLOATS, min_size=2 * n, max_size=2 * n)), "f4").reshape(n, 2)
    spread = np.array(data.draw(st.lists(st.floats(1e-30, 1e30), min_size=2, max_size=2)))
    pull = data.draw(st.floats(1e-6, 1e12))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    trainer = HeadTrainer(rows, 2, n)
    weights = np.full((rows, 2), data.draw(st.sampled_from([0.0, 1e-3, 1.0])))
    if weights.any() and np.abs(x).max() > 1e38:
        x /= np.float32(4)  # logits have 32 bits
    trainer.load(x, weights, np.zeros(rows), np.zeros(2), spread)
    found = trainer.fit(labels, np.ones(n), pull)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias).all()
    assert np.isfinite([found.loss, found.change]).all()


def test_what_is_wrong_is_refused_by_name() -> None:
    task = Task(1)
    trainer = task.trainer()
    good = task.labels, task.trust
    for name in ("embeddings", "weights", "mean", "spread"):
        for bad in (np.nan, np.inf):
            given_ = {"embeddings": task.x, "weights": task.weights, "mean": task.mean}
            broken = {**given_, "spread": task.spread}[name].copy()
            broken.flat[1] = bad
            with pytest.raises(ValueError, match=r"^(embeddings|logits|mean|spread): expected"):
                task.trainer(**{name: broken})
    with pytest.raises(ValueError, match=r"embeddings: expected shape \(n, 7\), got"):
        task.trainer(embeddings=task.x[:, 1:])
    with pytest.raises(ValueError, match=r"weights, bias: expected shapes"):
        task.trainer(weights=task.weights[1:])
    with pytest.raises(ValueError, match=r"embeddings: expected at most 40 samples, got 80"):
        trainer.load(np.r_[task.x, task.x], task.weights, task.bias)
    with pytest.raises(ValueError, match=r"embeddings: expected samples \(load\), got none"):
        trainer.fit(*good, 1.0)
    trainer = task.trainer()
    with pytest.raises(ValueError, match=r"targets: expected classes, got float64"):
        trainer.fit(task.labels.astype(float), task.trust, 1.0)
    with pytest.raises(ValueError, match=r"labels: expected classes from 0 to 2, got 3"):
        trainer.fit(task.labels + 3 * (task.labels == 0), task.trust, 1.0)
    with pytest.raises(ValueError, match=r"targets: expected rows that sum to 1"):
        trainer.fit(np.full((40, 3), 0.5), task.trust, 1.0)
    with pytest.raises(ValueError, match=r"sample_weights: expected"):
        trainer.fit(task.labels, -task.trust, 1.0)
    with pytest.raises(ValueError, match=r"sample_weights: expected 40 numbers, got 39"):
        trainer.fit(task.labels, task.trust[1:], 1.0)
    for pull in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"pull: expected more than 0"):
            trainer.fit(*good, pull)
    with pytest.raises(ValueError, match=r"rows: expected 1 or more, got 0"):
        HeadTrainer(0, 3, 4)
    with pytest.raises(ValueError, match=r"max_bytes: expected at least \d+ for 1000 classes"):
        HeadTrainer(1000, 1280, 512, max_bytes=1 << 20)
    with pytest.raises(TypeError, match=r"embeddings: expected a 2-D float32 array"):
        _core.SoftmaxHead(2, 2, 2).load(
            np.zeros((2, 2)),  # type: ignore[arg-type]
            np.zeros(2),
            np.ones(2),
            np.zeros((2, 2)),
        )


# ---------------------------------------------------------------- cross-validation


@pytest.mark.parametrize("rows", [1, 4])
def test_held_out_answers_are_those_of_heads_that_never_saw_the_samples(rows: int) -> None:
    task = Task(5, 30, rows=rows)
    folds = np.arange(30) % 5
    folds[:6] = -1  # rehearsal
    trust = task.trust.copy()
    trust[7] = 0.0
    trainer = task.trainer()
    found = trainer.cross_validate(task.labels, trust, folds, (10.0, 1.0))
    assert found.pulls == (np.inf, 10.0, 1.0)
    assert found.samples.tolist() == [i for i in range(6, 30) if i != 7]
    for i, pull in enumerate(found.pulls):
        for at, sample in enumerate(found.samples):
            taught = np.where(folds == folds[sample], 0.0, trust)
            head = trainer.fit(task.labels, taught, pull)
            logs = log_softmax(task.x[sample : sample + 1] @ head.weights.T + head.bias)[0]
            loss = min(-logs[task.labels[sample]], -np.log(0.01))
            assert found.losses[i, at] == pytest.approx(loss, abs=0.05)
            if np.abs(np.diff(np.sort(logs)[-2:])) > 0.1:
                assert found.answers[i, at] == logs.argmax()
    right = found.answers == task.labels[found.samples]
    assert found.accuracy == pytest.approx(np.average(right, axis=1, weights=found.weights))
    assert found.gained.tolist() == [(r & ~right[0]).sum() for r in right]
    assert found.loss[found.best] == found.loss.min()
    assert found.lost.tolist() == [(~r & right[0]).sum() for r in right]


def test_the_strength_follows_the_evidence() -> None:
    """Labels at random teach nothing; labels of another mapping teach much."""
    strong = weak = stopped = 0
    for seed in range(12):
        task = Task(seed, 64, 16, 4)
        folds = folds_of(np.arange(64), task.labels)
        noise = task.rng.integers(0, 4, 64)
        trainer = task.trainer(weights=np.zeros((4, 16)), bias=np.zeros(4))
        ones = np.ones(64)
        by_chance = trainer.cross_validate(noise, ones, folds)
        strong += by_chance.pulls[by_chance.chosen] >= 30.0
        real = trainer.cross_validate(task.labels, ones, folds)
        weak += real.pulls[real.chosen] <= 30.0 and real.accuracy[real.chosen] > 0.6
        assert real.pulls[1:] == PULLS[: len(real.pulls) - 1]
        assert len(real.pulls) == len(PULLS) + 1 or real.is_past
        assert len(by_chance.pulls) >= 4
        stopped += len(by_chance.pulls) < len(PULLS) + 1
    assert stopped >= 6
    assert strong >= 11
    assert weak >= 11


def test_copies_and_neighbours_are_held_out_together() -> None:
    x = np.array([[1.0], [2.0], [1.0], [3.0], [4.0], [5.0]], np.float32)
    assert groups_of(x).tolist() == [0, 1, 0, 3, 4, 5]
    sources, seconds = np.array([0, 0, 0, 0, 1, 1]), np.array([1.0, 2.0, 400.0, 401.0, 2.0, 900.0])
    assert groups_of(x, sources, seconds).tolist() == [0, 0, 0, 0, 4, 5]
    assert groups_of(x, None, seconds).tolist() == [0, 0, 0, 0, 0, 5]
    assert groups_of(x[:0]).tolist() == []


@given(seed=SEEDS, k=st.integers(1, 80), most=st.integers(2, 9))
@examples(60)
def test_folds_keep_groups_whole_and_are_even(seed: int, k: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, k)
    groups = rng.integers(0, k, k)
    folds = folds_of(groups, labels, most)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    single = folds_of(np.arange(k), labels, most)
    sizes = np.bincount(single, minlength=min(most, k))
    assert len(sizes) == min(most, k)
    for label in range(4):
        counts = np.bincount(single[labels == label], minlength=len(sizes))
        assert np.ptp(counts) <= 1
    assert np.ptp(sizes) <= 4


# ---------------------------------------------------------------- what guards against bad labels


def test_a_label_is_as_credible_as_the_model_before_any_label_finds_it() -> None:
    chances = np.array([[0.9, 0.08, 0.02], [0.01, 0.01, 0.98], [0.4, 0.3, 0.3]])
    found = credibility(chances, np.array([0, 1, 2]))
    assert found[0] > 0.9
    assert found[1] < 0.25
    assert found[1] < found[2] < found[0]
    for bad, name in ((chances * np.nan, "chances"), (chances[1:], "chances, labels")):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            credibility(bad, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"labels: expected classes below 3"):
        credibility(chances, np.array([0, 1, 3]))


def test_bad_labels_of_one_class_give_each_other_away() -> None:
    """Alone, a surprising label may be right; twelve that surprise alike, all of one class, are
    not: they count for less than as many that are scattered."""
    classes = 10
    true = np.repeat(np.arange(classes), 6)
    chances = np.full((60, classes), 0.4 / 9)
    chances[np.arange(60), true] = 0.6
    bad = np.arange(0, 60, 5)
    aimed, scattered = true.copy(), true.copy()
    aimed[bad] = 3
    scattered[bad] = (true[bad] + 1 + np.arange(12) % 9) % classes
    surprising = bad[true[bad] != 3]
    honest = np.setdiff1d(np.arange(60), bad)
    found = credibility(chances, aimed)
    assert found[surprising].mean() < 0.8 * credibility(chances, scattered)[surprising].mean()
    assert found[honest].mean() > 0.85
    # Where the model is unsure of everything, neighbours tell: classes lie together.
    places = 10.0 * np.eye(classes)[true] + np.random.default_rng(0).normal(size=(60, classes))
    unsure = np.full((60, classes), 1.0 / classes)
    found = credibility(unsure, aimed, places)
    assert found[honest].mean() > found[surprising].mean() + 0.2
    # A sample that is sent again and again is no witness of itself.
    copies = np.repeat(places[:1], 60, axis=0)
    assert np.allclose(
        credibility(unsure, np.zeros(60, np.int64), copies),
        credibility(unsure / 2, np.zeros(60, np.int64)),
        atol=0.05,
    )


@given(seed=SEEDS, k=st.integers(1, 60), most=st.floats(0.02, 1.0))
@examples(80)
def test_no_sample_and_no_source_has_more_than_its_share(seed: int, k: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.exponential(1, k) * (rng.random(k) < 0.9)
    sources = rng.integers(0, 6, k)
    capped = capped_weights(weights, most_of_all=most)
    assert (capped <= weights).all()
    assert ((capped > 0) == (weights > 0)).all()
    if capped.any() and most * (weights > 0).sum() > 1:
        assert capped.max() <= most * capped.sum() * 1.000001
        untouched = capped == weights
        assert untouched.all() or capped[~untouched].max() == pytest.approx(capped.max())
        assert untouched.all() or capped.max() == pytest.approx(most * capped.sum())
    elif capped.any():
        assert capped[capped > 0] == pytest.approx(weights[weights > 0].min()) or most == 1.0
    both = capped_weights(weights, sources, most_of_all=1.0, most_by_source=most)
    total = np.bincount(sources, both)
    present = np.bincount(sources, weights) > 0
    if most * present.sum() > 1:
        assert total.max() <= most * total.sum() * 1.000001
    for name in ("most_of_all", "most_by_source"):
        wrong: Any = {name: 0.0}
        with pytest.raises(ValueError, match=f"{name}: expected above 0"):
            capped_weights(weights, sources, **wrong)
