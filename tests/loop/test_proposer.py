"""What strategies are given, and what a proposal is not ended by."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from tests.learning.material_of import digits_of, labelled
from tests.operator_models import last_layer
from tests.support import Array

import selfheal_edge as she
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.loop.proposer import Proposer
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.repair.budget import RepairBudget
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

RNG = np.random.default_rng(0)
MODEL = last_layer("float32")
CLEAN: Array = RNG.normal(size=(600, 1, 16)).astype(np.float32)
DRIFT = Diagnosis(she.Cause.COVARIATE_DRIFT, 0.9)


def proposer(
    baseline: she.Baseline,
    session: Session,
    window: Array,
    told: Labelled,
    owner: str | None = None,
) -> Proposer:
    return Proposer(
        session=session,
        baseline=baseline,
        strategies=ModelRepairKit().learning,
        inputs_since=lambda _ago: (np.arange(len(window)), window),
        labelled_since=lambda _ago, _also: told,
        budget=RepairBudget(),
        owner=owner,
        seed=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("where", ["window", "labels"])
def test_inputs_without_an_embedding_end_no_proposal(runtime: RuntimeName, where: str) -> None:
    """They are finite; what a float model makes of numbers so large is not."""
    baseline = she.calibrate(MODEL, CLEAN, runtime=runtime, seed=0)
    window = (2.0 * CLEAN[:128] + 1.5).astype(np.float32)
    labels = np.arange(32) % 6
    shown = window[:32].copy()
    huge = window if where == "window" else shown
    huge[[3, 17]] = np.float32(3e38) * np.sign(RNG.normal(size=(2, 1, 16))).astype(np.float32)
    told = Labelled(
        shown, labels, np.ones(32, np.float32), ("operator",) * 32, np.arange(32, dtype=np.int64)
    )
    session = Session(MODEL, runtime, "auto", 1, baseline.taps, baseline.made)
    made = proposer(baseline, session, window, told)
    try:
        assert np.isfinite(window).all()
        with closing(Bench(session, baseline.output_kind, True)) as bench:
            answers = bench.answers(huge)
        assert answers.embeddings is not None
        if np.isfinite(answers.embeddings).all():
            pytest.skip("this runtime's kernels make numbers of them")
        found = made.propose(tuple(made.strategies), DRIFT, 128)
        assert found.details is not None, found.text
        assert "Error" not in found.text
    finally:
        made.close()
        session.close()


def test_what_is_too_little_is_not_paid_for(runtime: RuntimeName) -> None:
    baseline = she.calibrate(MODEL, CLEAN, runtime=runtime, seed=0)
    session = Session(MODEL, runtime, "auto", 1, baseline.taps, baseline.made)
    none = Labelled(
        CLEAN[:0], np.empty(0, np.int64), np.empty(0, np.float32), (), np.empty(0, np.int64)
    )
    made = proposer(baseline, session, CLEAN[:31], none)
    try:
        before = made.budget.left[0]
        assert "31 of at least 32 inputs" in made.propose(tuple(made.strategies), DRIFT, 31).text
        assert made.budget.left[0] >= before
    finally:
        made.close()
        session.close()


def test_for_an_unknown_cause_vectors_without_labels_are_not_paid_for(
    runtime: RuntimeName,
) -> None:
    """No known input can be carried into the condition, so that nothing says what helps."""
    baseline = she.calibrate(MODEL, CLEAN, runtime=runtime, seed=0)
    session = Session(MODEL, runtime, "auto", 1, baseline.taps, baseline.made)
    told = Labelled(
        CLEAN[:7],
        np.arange(7) % 6,
        np.ones(7, np.float32),
        ("operator",) * 7,
        np.arange(7, dtype=np.int64),
    )
    made = proposer(baseline, session, (2.0 * CLEAN[:128] + 1.5).astype(np.float32), told)
    try:
        before = made.budget.left[0]
        found = made.propose(tuple(made.strategies), Diagnosis(she.Cause.UNKNOWN, 0.3), 128)
        assert found.is_refused
        assert "7 of at least 8 labels" in found.text
        assert made.budget.left[0] >= before
    finally:
        made.close()
        session.close()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["stranger", "operator"])
def test_vectors_learn_from_the_word_of_the_owner_alone(runtime: RuntimeName, source: str) -> None:
    """Known vectors are not carried into a condition: nothing but labels would judge labels."""
    baseline = she.calibrate(MODEL, CLEAN, runtime=runtime, seed=0)
    session = Session(MODEL, runtime, "auto", 1, baseline.taps, baseline.made)
    window = (2.0 * CLEAN[:128] + 1.5).astype(np.float32)
    with closing(Bench(session, baseline.output_kind, True)) as bench:
        said = bench.answers(CLEAN[:64]).labels
    told = Labelled(
        window[:64], said, np.ones(64, np.float32), (source,) * 64, np.arange(64, dtype=np.int64)
    )
    made = proposer(baseline, session, window, told, owner="operator")
    try:
        found = made.propose(tuple(made.strategies), DRIFT, 128)
        has_learned = found.patch is not None and "head trained on 64 labels" in found.text
        assert has_learned == (source == "operator"), found
    finally:
        made.close()
        session.close()


@pytest.mark.slow
def test_what_few_held_inputs_cannot_say_is_counted_as_harm(runtime: RuntimeName) -> None:
    """As many lost as won on a few inputs: that may be a loss of some points on all others."""
    told = labelled(CLEAN[:0], np.empty(0, np.int64))
    with digits_of(runtime) as digits:
        made = proposer(digits.baseline, digits.session, digits.x[:64], told)
        try:
            material = digits.material(digits.x[:64], labelled(digits.x[:64], digits.y[:64] // 2))
            patch = RetrainHead(is_guarded=False).propose(material, material.golden)
            assert not isinstance(patch, str)
            reference = digits.reference
            judges = ~reference.may_be_learned
            inputs, labels = reference.inputs[judges], reference.labels[judges]
            golden = digits.bench.answers(inputs).labels == labels
            changed = digits.bench.answers(inputs, patch).labels == labels
            loss, parted = float(golden.mean() - changed.mean()), int((golden != changed).sum())
            _, most, text = made.harm(patch, lambda _: 1.0)
            assert parted > 0
            assert most >= loss + parted**0.5 / len(labels), text
            assert made.harm(Patch(), lambda _: 1.0)[:2] == (0.0, 0.0)
        finally:
            made.close()
