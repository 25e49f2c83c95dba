"""What labels accuse a member of, its known answers decide: these cannot be lies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.ensemble.conftest import Open
from tests.made_members import BLIND, DigitsParts

import selfheal_edge as she
from selfheal_edge.causes import Cause
from selfheal_edge.model import parts_of

KEY = b"0123456789abcdef"


def said_against(
    committee: she.SelfHealingEnsemble, parts: DigitsParts, name: str
) -> Iterator[tuple[she.EnsemblePrediction, int]]:
    """Yield answers in which one member errs and another does not, with what is right."""
    place = committee.names.index(name)
    for n in range(len(parts.heldout)):
        answer = committee.infer(parts.heldout[n : n + 1])
        assert isinstance(answer, she.EnsemblePrediction)
        label = int(parts.heldout_labels[n])
        named = [None if one is None else one.label for one in answer.answers]
        if named[place] != label and label in named:
            yield answer, label


def damaged_and_accused(
    models: dict[str, she.SelfHealingModel], parts: DigitsParts, key: bytes | None
) -> she.SelfHealingEnsemble:
    """Return a committee of which one member was damaged, and one label has spoken against it."""
    committee = she.SelfHealingEnsemble(models)
    source = committee.feedback_source("operator", key)
    she.redteam.inject(models["cnn"]).flip_bits(40, seed=1)
    answer, label = next(said_against(committee, parts, "cnn"))
    committee.feedback(label, id=answer.id, source=source)
    return committee


@pytest.mark.parametrize("key", [KEY, None])
def test_one_label_has_a_damaged_member_asleep(
    opened: Open, parts: DigitsParts, key: bytes | None
) -> None:
    """Damage that no sweep looks for: the label may be a lie, the known answers are none."""
    models = opened("cnn", "mlp", policy=BLIND)
    committee = damaged_and_accused(models, parts, key)
    assert committee.weights == {"cnn": 0.0, "mlp": 1.0}
    assert committee.health.members["cnn"].reason == f"{Cause.WEIGHT_CORRUPTION.value} was named"


def test_it_heals_where_its_policy_lets_it(opened: Open, parts: DigitsParts) -> None:
    policy = she.Policy(
        scrub_bytes_per_predict=0,
        sweep_seconds=None,
        keyed_bytes_per_predict=0,
        keyed_sweep_seconds=None,
        rebuild_after_seconds=None,
    )
    models = opened("cnn", "mlp", policy=policy)
    committee = damaged_and_accused(models, parts, KEY)
    assert models["cnn"].health.repairs == 1
    assert committee.weights["cnn"] > 0.4


def test_lies_about_a_sound_member_cost_few_inferences(opened: Open, parts: DigitsParts) -> None:
    """They put no member to sleep, and a member is asked once in 16 answers at most."""
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp"))
    sources = [committee.feedback_source(f"liar {n}", KEY) for n in range(8)]
    answer, label = next(said_against(committee, parts, "mlp"))
    wrong = answer.answers[1]
    assert wrong is not None
    assert wrong.label != label
    before = committee.health
    for source in sources:
        committee.feedback(wrong.label, id=answer.id, source=source)
    assert committee.weights["cnn"] > 0.4
    asked = committee.health.inferences_per_answer - before.inferences_per_answer
    assert asked * before.answers <= 4.01


def test_a_parting_has_a_damaged_member_asleep(opened: Open, parts: DigitsParts) -> None:
    """Without any label: it was exchanged for another function, which no sweep sees."""
    models = opened("cnn", "twin", policy=BLIND)
    committee = she.SelfHealingEnsemble(models)
    committee.infer(parts.heldout[:20])
    sound = parts_of(models["twin"]).session.instance
    she.redteam.inject(models["twin"]).replace_run(
        lambda inputs: [np.roll(out, 1, axis=-1) for out in sound.run(inputs)]
    )
    committee.infer(parts.heldout[20:23])
    assert committee.weights == {"cnn": 1.0, "twin": 0.0}
    assert models["twin"].diagnosis is not None
    assert models["twin"].diagnosis.cause is Cause.RUNTIME_FAULT
    assert models["cnn"].health.state.value == "healthy"


def test_partings_of_sound_members_cost_few_inferences(opened: Open, parts: DigitsParts) -> None:
    committee = she.SelfHealingEnsemble(opened("cnn", "mlp"))
    committee.infer(parts.heldout[:500])
    health = committee.health
    assert health.partings > 10
    assert health.inferences_per_answer <= 2 * (1 + 4 * 2 / 500)
