"""Whatever happens to a committee: weights sum to one, floors hold, sleepers have none."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.made_members import BLIND, DigitsParts
from tests.support import examples

import selfheal_edge as she

NAMES = ("cnn", "twin", "mlp")
KEY = b"k" * 16
DAMAGE = (she.Cause.WEIGHT_CORRUPTION, she.Cause.RUNTIME_FAULT)
TOLD = 20
"""Answers with true labels: known answers may have been asked within 16 of them before."""


def machine(
    files: dict[str, bytes], baselines: dict[str, she.Baseline], parts: DigitsParts
) -> type[RuleBasedStateMachine]:
    """Return the machine over these members."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stack = contextlib.ExitStack()
            folder = self.stack.enter_context(tempfile.TemporaryDirectory())
            self.store = Path(folder) / "committee.store"
            self.models: dict[str, she.SelfHealingModel] = {}
            self.ids: list[int] = []
            self.memory: dict[str, int] = {}
            self.damaged: set[str] = set()  # whether a check has seen it or not

        def open_model(self, name: str) -> she.SelfHealingModel:
            return she.SelfHealingModel(files[name], baselines[name], policy=BLIND)

        def open_committee(self) -> None:
            self.committee = she.SelfHealingEnsemble(self.models, store=self.store, seed=1)
            self.source = self.committee.feedback_source("operator", KEY)
            self.memory = self.committee.memory_report()

        @initialize()
        def begin(self) -> None:
            self.models = {name: self.open_model(name) for name in NAMES}
            self.open_committee()
            self.infer(0)

        @rule(n=st.integers(0, 499))
        def infer(self, n: int) -> None:
            self.answered(n)

        def answered(self, n: int) -> she.EnsemblePrediction:
            answer = self.committee.infer(parts.heldout[n : n + 1])
            assert isinstance(answer, she.EnsemblePrediction)
            assert np.isfinite(answer.output).all() or self.damaged == set(NAMES)
            assert sum(answer.weights) == pytest.approx(1.0)
            self.ids.append(answer.id)
            assert len(set(self.ids)) == len(self.ids)
            return answer

        @rule(label=st.integers(0, 9), back=st.integers(0, 3), keyed=st.booleans())
        def feedback(self, label: int, back: int, keyed: bool) -> None:
            id = self.ids[max(0, len(self.ids) - 1 - back)]
            more: dict[str, Any] = {"source": self.source} if keyed else {}
            self.committee.feedback(label, id=id, **more)

        @rule(limit=st.integers(1, 8), answers=st.booleans())
        def questions(self, limit: int, answers: bool) -> None:
            for question in self.committee.wanted_labels(limit):
                if answers:
                    self.committee.feedback(question.answers[0], id=question.id, source=self.source)

        @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 3))
        def corrupt(self, name: str, seed: int) -> None:
            she.redteam.inject(self.models[name]).flip_bits(50, seed=seed)
            self.models[name].weights.scrub()
            self.damaged.add(name)
            assert self.models[name].health.trouble is not None

        @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 3))
        def corrupt_unseen(self, name: str, seed: int) -> None:
            """Flip bits where no sweep looks: nothing is known of it until an answer shows it."""
            before = self.models[name].health.trouble
            size = sum(self.models[name].weights.coverage.weight_bytes_by_coverage.values())
            she.redteam.inject(self.models[name]).flip_bits(size // 16, seed=seed)
            self.damaged.add(name)
            assert self.models[name].health.trouble == before

        @rule(first=st.integers(0, 480))
        def tell_the_truth(self, first: int) -> None:
            """Give true labels, by which known answers are asked of whoever they speak against."""
            for n in range(first, first + TOLD):
                answer, label = self.answered(n), int(parts.heldout_labels[n])
                self.committee.feedback(label, id=answer.id, source=self.source)

        @rule(name=st.sampled_from(NAMES))
        def heal(self, name: str) -> None:
            self.models[name].heal = "all"
            self.models[name].weights.scrub()
            assert self.models[name].health.trouble not in DAMAGE
            self.models[name].heal = "observe"
            self.damaged.discard(name)

        @rule(name=st.sampled_from(NAMES))
        def replace(self, name: str) -> None:
            before = self.committee.weights[name]
            made = self.open_model(name)
            old = self.committee.replace(name, made)
            if before:
                assert self.committee.weights[name] <= before + 1e-9
            self.models[name] = made
            self.damaged.discard(name)
            old.close()

        @rule()
        def restart(self) -> None:
            before = self.committee.weights
            self.committee.close()
            self.open_committee()
            assert self.committee.weights == pytest.approx(before)

        @invariant()
        def weights_are_weights(self) -> None:
            if not self.models:
                return
            weights, health = self.committee.weights, self.committee.health
            assert sum(weights.values()) == pytest.approx(1.0)
            for name, member in health.members.items():
                assert member.weight == weights[name]
                assert (weights[name] == 0.0) == member.is_asleep
                assert member.is_asleep or weights[name] >= 0.01 - 1e-9
            # Nobody sleeps for what was said: labels are drawn, and mostly lies.
            assert all(name in self.damaged for name, m in health.members.items() if m.is_asleep)
            bad = [name for name, model in self.models.items() if model.health.trouble in DAMAGE]
            asleep = [name for name, member in health.members.items() if member.is_asleep]
            if len(bad) < len(NAMES):
                assert asleep == bad
            else:
                assert health.state.value == "untrusted"
            assert self.committee.memory_report() == self.memory

        def teardown(self) -> None:
            if self.models:
                self.committee.close()
            for model in self.models.values():
                model.close()
            self.stack.close()

    return Machine


@pytest.mark.slow
def test_whatever_happens(
    files: dict[str, bytes], baselines: dict[str, she.Baseline], parts: DigitsParts
) -> None:
    tested = machine(files, baselines, parts)
    tested.TestCase.settings = settings(examples(40, stateful_step_count=12), deadline=None)
    tested.TestCase().runTest()
