"""Pool and quarantine as a state machine: disjoint, of constant size, and within all quotas."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support import examples

from selfheal_edge.errors import IntegrityError
from selfheal_edge.learning.admission import ClassPlaces, Neighbour
from selfheal_edge.learning.feedback import Claim, Doubt, FeedbackIntake, Outcome, RecentAnswers
from selfheal_edge.learning.pool import TrustedPool, capped_weights
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import Askable, Parting, Questions
from selfheal_edge.learning.samples import Sample, SampleShape, SampleTable
from selfheal_edge.learning.sources import SourceTable
from selfheal_edge.monitoring.embedding import Embedding

CLASSES = 4
SHAPE = SampleShape((("|i1", (3, 2)),), width=5)
ROW = SampleTable(SHAPE, 1 << 20).rows.itemsize
RNG = np.random.default_rng(0)
CENTROIDS = 6.0 * np.eye(CLASSES, 5, dtype=np.float32)
EMBEDDING = Embedding(
    0, np.arange(CLASSES), CENTROIDS, np.ones(5, np.float32), np.ones(CLASSES, np.float32)
)
MODEL = "ab" * 32
FIRST = 1000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def parts(
    rows: int = 16, clock: Clock | None = None, seed: int = 0, quota: int = 10_000
) -> FeedbackIntake:
    clock = Clock() if clock is None else clock
    rng = np.random.default_rng(seed)
    guard = contextlib.nullcontext
    pool = TrustedPool(
        SHAPE,
        rows * ROW,
        places=ClassPlaces(EMBEDDING, CLASSES),
        clock=clock,
        rng=lambda: rng,
        guard=guard,
    )

    def released(one: Sample, who: object) -> str:
        return intake.release(one, who)

    quarantine = Quarantine(SHAPE, rows * (ROW + 400), guard=guard, released=released)
    questions = Questions(SHAPE, rows * (ROW + 100), clock=clock, rng=lambda: rng, guard=guard)
    sources = SourceTable(MODEL, quota, quota)
    intake = FeedbackIntake(sources, pool, quarantine, questions, clock=clock, guard=guard)
    intake.lowest = FIRST
    return intake


def inputs_of(ids: np.ndarray) -> np.ndarray:
    """Of each prediction another input, but that every 16th is met again and again."""
    told = np.where(ids % 16 == 0, 7, ids)
    shifts = told[:, None] // np.array([1, 7, 49, 343, 2401, 16807])
    return np.asarray((shifts % 7).astype(np.int8).reshape(-1, 3, 2))


def recent_of(number: int, generation: int = 0, first: int = FIRST) -> RecentAnswers:
    numbers = np.arange(max(1, number - 31), number + 1)
    true = numbers % CLASSES
    noise = np.stack([np.sin(numbers * (k + 1.7)) for k in range(5)], axis=1)
    embeddings = (CENTROIDS[true] + noise).astype(np.float32)
    probabilities = np.full((len(numbers), CLASSES), 0.1, np.float32)
    probabilities[np.arange(len(numbers)), true] = 0.7
    return RecentAnswers(
        first + numbers,
        true.astype(np.int64),
        np.full(len(numbers), generation, np.int64),
        (inputs_of(numbers),),
        probabilities,
        embeddings,
        embeddings,
        first,
    )


class Loop(RuleBasedStateMachine):
    """Predict, label, lie, suspect, release, confirm, ask, wait and restart, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.intake = parts(clock=self.clock)
        self.number = 0
        self.memory = self.bytes_held()
        self.incident = 0
        self.confirmed: set[bytes] = set()
        self.released: set[bytes] = set()
        self.sources = [self.intake.sources.add(f"s{n}", b"%032d" % n) for n in range(3)]

    def bytes_held(self) -> tuple[int, ...]:
        intake = self.intake
        parts = intake.pool, intake.quarantine, intake.questions
        return tuple(part.memory_bytes for part in parts)

    @rule(count=st.integers(1, 20))
    def predict(self, count: int) -> None:
        self.number += count

    @rule(
        back=st.integers(-1, 40),
        count=st.integers(1, 12),
        wrong=st.sampled_from([0, 0, 1, 2]),
        who=st.integers(0, 3),
    )
    def label(self, back: int, count: int, wrong: int, who: int) -> None:
        source: Any = self.sources[who] if who < 3 else "somebody"
        ids = [FIRST + max(0, self.number - back) + k for k in range(count)]
        claims = [Claim(id, (id - FIRST + wrong) % CLASSES, None, source) for id in ids]
        receipts, records = self.intake.take(claims, recent_of(self.number))
        assert sum(map(bool, receipts)) == len(records)
        held = {one.id: one for one in self.intake.pool.list()}
        for claim, receipt in zip(claims, receipts, strict=True):
            if receipt.kept == "pool" and claim.id in held:  # the next may have taken its place
                assert held[claim.id].label == claim.label
            if not FIRST < claim.id <= FIRST + self.number:
                assert receipt.outcome is Outcome.UNKNOWN

    @rule(first=st.integers(0, 31), count=st.integers(1, 20))
    def suspect(self, first: int, count: int) -> None:
        recent = recent_of(self.number)
        self.incident += 1
        rows = range(min(first, len(recent.ids)), min(first + count, len(recent.ids)))
        samples = [recent.sample(row, self.clock.now) for row in rows]
        self.intake.suspect(samples, Doubt("attack", "made up", self.incident))
        held = {one.incident: 0 for one in self.intake.quarantine.list()}
        for one in self.intake.quarantine.list():
            held[one.incident] += 1
        assert max(held.values(), default=0) <= self.intake.quarantine.quota

    @rule(which=st.integers(0, 15), label=st.none() | st.integers(0, CLASSES - 1))
    def release(self, which: int, label: int | None) -> None:
        listed = self.intake.quarantine.list()
        if listed:
            one = listed[which % len(listed)]
            self.intake.quarantine.release(one.id, source=self.sources[0], label=label)
            assert one.id not in {left.id for left in self.intake.quarantine.list()}
            self.confirmed.discard(one.sample.digest)

    @rule(which=st.integers(0, 15))
    def confirm(self, which: int) -> None:
        listed = self.intake.quarantine.list()
        if listed:
            one = listed[which % len(listed)]
            self.intake.quarantine.confirm(one.id)
            self.confirmed.add(one.sample.digest)

    @rule(limit=st.integers(1, 8))
    def ask(self, limit: int) -> None:
        recent = recent_of(self.number)
        found = Askable(
            recent.ids,
            recent.inputs,
            recent.probabilities,
            recent.embeddings,
            recent.predicted,
            recent.generations,
        )
        taken = self.intake.answered | {one.id for one in self.intake.quarantine.list()}
        questions = self.intake.questions.ask(limit, found, taken)
        assert len(questions) <= limit
        assert all(0 < one.asked.probability <= 1 for one in questions)

    @rule(seconds=st.floats(-1e6, 1e7))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=st.integers(0, 2))
    def distrust(self, which: int) -> None:
        self.incident += 1
        self.intake.distrust(f"s{which}", "poisoning", "it lies", self.incident)
        assert f"s{which}" not in {one.source for one in self.intake.pool.list()}
        self.intake.distrust(None, "", "", 0)

    @rule()
    def restart(self) -> None:
        before = self.intake
        self.intake = parts(clock=self.clock)
        self.intake.go_on_with(before.to_plain())
        self.intake.go_on_with_answered(before.answered_to_plain())
        for old, new in (
            (before.pool.table, self.intake.pool.table),
            (before.quarantine.table, self.intake.quarantine.table),
            (before.questions.table, self.intake.questions.table),
        ):
            new.go_on_with(old.to_bytes(self.clock.now, 0.0), self.clock.now, 0.0)
        self.intake.quarantine.confirmed[:] = before.quarantine.confirmed
        self.intake.quarantine.confirmations = before.quarantine.confirmations
        self.sources = [self.intake.sources.add(f"s{n}", b"%032d" % n) for n in range(3)]
        kept = [one.id for one in before.pool.list()]
        assert [one.id for one in self.intake.pool.list()] == kept

    @invariant()
    def pool_and_quarantine_are_disjoint(self) -> None:
        pool, quarantine = self.intake.pool.list(), self.intake.quarantine.list()
        assert not {one.id for one in pool} & {one.id for one in quarantine}
        digests = [one.digest for one in pool]
        assert not set(digests) & {one.sample.digest for one in quarantine}
        assert not set(digests) & self.confirmed
        assert len(set(digests)) == len(digests)

    @invariant()
    def memory_is_constant_and_quotas_hold(self) -> None:
        assert self.bytes_held() == self.memory
        pool = self.intake.pool
        assert len(pool) <= pool.capacity
        bare = sum(one.source == "unauthenticated" for one in pool.list())
        assert bare <= max(1, pool.capacity // 8)
        labelled = pool.labelled()
        assert ((labelled.weights >= 0) & (labelled.weights <= 1)).all()
        assert len(labelled.inputs) == len(labelled.labels) == len(labelled.sources)


TestLoop = pytest.mark.slow(Loop.TestCase)
TestLoop.settings = examples(200, stateful_step_count=40)


def sample(id: int, label: int, source: str = "s0", **more: Any) -> Sample:
    numbers = np.array([id])
    place = CENTROIDS[label] + 0.1
    return Sample(
        id, (inputs_of(numbers)[0],), 0.0, place, label, 0, label, None, source, 1.0, **more
    )


def test_classes_share_the_pool_and_none_is_pushed_out() -> None:
    pool = parts(rows=16).pool
    for id in range(1, 400):
        if id % 16:
            label = 0 if id % 10 else 1 + id // 10 % 3
            pool.add(sample(id, label))
    labels = [one.label for one in pool.list()]
    assert len(labels) == pool.capacity == 16
    assert [labels.count(n) for n in range(CLASSES)] == [4, 4, 4, 4]


@pytest.mark.slow
def test_a_reservoir_holds_early_and_late_ones() -> None:
    late = np.zeros(2)
    for seed in range(40):
        pool = parts(rows=8, seed=seed).pool
        for id in range(1, 201):
            if id % 16:
                pool.add(sample(id, 0))
        late += [sum(one.id > 100 for one in pool.list()), len(pool)]
    share = late[0] / late[1]
    # A chance of a quarter at least for new ones: mostly late, as an aged reservoir is meant to be.
    assert share > 0.5


def test_one_source_beside_others_keeps_no_more_than_its_share() -> None:
    pool = parts(rows=16).pool
    for id in range(1, 100):
        pool.add(sample(id, id % CLASSES, "flood"))
    for id in range(101, 112):
        pool.add(sample(id, id % CLASSES, "honest"))
    counts = {name: sum(one.source == name for one in pool.list()) for name in ("flood", "honest")}
    assert counts == {"flood": 8, "honest": 8}


def test_weights_are_capped_by_source() -> None:
    weights = np.ones(20)
    names = ("a",) * 12 + ("b",) * 4 + ("unauthenticated",) * 4
    found = capped_weights(weights, names)
    assert found[:12].sum() == pytest.approx(4)  # as much as all others
    assert found[12:16].sum() == pytest.approx(4)
    assert found[16:].sum() == pytest.approx(0.8)
    owned = capped_weights(weights, names, owner="a")
    assert owned[:12].sum() == pytest.approx(12)
    alone = capped_weights(np.ones(9), ("unauthenticated",) * 9)
    assert alone.sum() == pytest.approx(4)
    assert capped_weights(np.empty(0), ()).size == 0


def test_weights_fade_and_old_samples_go() -> None:
    clock = Clock()
    pool = parts(rows=8, clock=clock).pool
    pool.add(sample(1, 0))
    clock.now = 10 * 86_400.0
    assert pool.labelled().weights.tolist() == pytest.approx([0.5])
    clock.now = -1e9  # a clock that went back makes nothing younger than new
    assert pool.labelled().weights.tolist() == [1.0]
    clock.now = 41 * 86_400.0
    assert len(pool.labelled()) == 0


def test_a_far_label_is_believed_if_others_nearby_say_the_same() -> None:
    places = ClassPlaces(EMBEDDING, CLASSES)
    here = CENTROIDS[0]
    nobody = Neighbour(np.empty((0, 5), np.float32), np.empty(0, np.int64))
    near = here + 0.1 * np.arange(6, dtype=np.float32)[:, None]

    def weight(label: int, others: Neighbour, *, keyed: bool = True) -> float:
        return places.judge(here, label, others, is_authenticated=keyed).weight

    assert weight(0, nobody) == 1.0
    assert weight(2, nobody) == 0.25
    assert weight(2, nobody, keyed=False) == 0.0
    assert weight(2, Neighbour(near, np.full(6, 2))) == 1.0
    assert weight(2, Neighbour(near, np.full(6, 0))) == 0.0
    assert ClassPlaces(None, CLASSES).judge(here, 2, nobody, is_authenticated=False).weight == 1.0


@pytest.mark.slow
def test_questions_are_asked_where_golden_and_candidate_part_with_known_chances() -> None:
    """Weighted with one over their chances, the answers say how many part among all."""
    n = 32
    recent = recent_of(n)
    golden = recent.predicted
    parts_at = np.arange(n) % 8 == 3
    candidate = np.where(parts_at, (golden + 1) % CLASSES, golden)
    estimates, parted = [], []
    for seed in range(300):
        questions = parts(rows=40, seed=seed).questions
        parting = Parting(golden, candidate, 5)
        found = Askable(
            recent.ids,
            recent.inputs,
            recent.probabilities,
            recent.embeddings,
            golden,
            recent.generations,
        )
        asked = questions.ask(8, found, parting=parting)
        assert 4 <= len(asked) <= 8  # one may be drawn from all, and be one of those that part
        assert all(one.asked.generation == 5 for one in asked)
        estimates.append(sum(one.asked.is_decisive / one.asked.probability for one in asked))
        parted.append(sum(one.asked.is_decisive for one in asked))
        # Asking again returns them again, first.
        again = [one.id for one in questions.ask(8, found, parting=parting)]
        assert again[: len(asked)] == [one.id for one in asked]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - parts_at.sum()) < 4 * error + 1e-9
    assert np.mean(parted) > 2.5  # of 8, where chance alone would ask one


def test_rows_of_another_model_are_refused_and_change_nothing() -> None:
    table = SampleTable(SHAPE, 8 * ROW)
    table.put(0, sample(3, 1))
    other = SampleTable(SampleShape((("|i1", (3, 3)),), width=5), 1 << 16)
    blob = table.to_bytes(0.0, 0.0)
    for bad in (b"", blob[:-1], blob[:40], other.to_bytes(0.0, 0.0), b"x" + blob[1:]):
        with pytest.raises(IntegrityError):
            table.go_on_with(bad, 0.0, 0.0)
        assert table.get(0).id == 3
    rng = np.random.default_rng(0)
    for _ in range(300):
        torn = bytearray(blob)
        torn[rng.integers(len(torn))] ^= 1 << rng.integers(8)
        with contextlib.suppress(IntegrityError):
            SampleTable(SHAPE, 8 * ROW).go_on_with(bytes(torn), 0.0, 0.0)


@pytest.mark.parametrize("far", [np.nan, np.inf, 3e38])
def test_what_a_damaged_model_embeds_has_no_neighbours(far: float) -> None:
    places = ClassPlaces(EMBEDDING, CLASSES)
    others = Neighbour(np.repeat(CENTROIDS[:1], 30, axis=0), np.zeros(30, np.int64))
    near = places.judge(CENTROIDS[0], 0, others, is_authenticated=True)
    assert near.weight == 1.0
    beyond = places.judge(np.full(5, far, np.float32), 1, others, is_authenticated=True)
    assert "other sources" not in beyond.reason
