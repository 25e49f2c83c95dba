"""A member is exchanged whole or not at all, while other threads ask the committee."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.made_members import BLIND, DigitsParts

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.ensemble import committee as face
from selfheal_edge.errors import ModelClosedError

Open = Callable[..., dict[str, she.SelfHealingModel]]
SAMPLES = 20


class Asking:
    """Threads that ask a committee about the same samples, again and again."""

    def __init__(self, committee: she.SelfHealingEnsemble, inputs: Any) -> None:
        self.committee, self.inputs = committee, inputs
        self.found: list[tuple[int, she.EnsemblePrediction]] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        n = 0
        while not self._stop.is_set():
            try:
                answer = self.committee.infer(self.inputs[n : n + 1])
            except BaseException as error:
                self.errors.append(error)
                return
            assert isinstance(answer, she.EnsemblePrediction)
            self.found.append((n, answer))
            n = (n + 1) % SAMPLES

    def more(self, count: int = 10) -> None:
        """Wait until so many more answers have come."""
        least = len(self.found) + count
        while len(self.found) < least and not self.errors:
            threading.Event().wait(0.001)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask for the length of a block."""
        for thread in self._threads:
            thread.start()
        try:
            self.more()
            yield
            self.more()
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert not self.errors


def outputs(committee: she.SelfHealingEnsemble, inputs: Any) -> Any:
    """Return what a committee that nothing else happens to answers."""
    return np.concatenate([committee.predict(inputs[n : n + 1]) for n in range(SAMPLES)])


# Where a step of the exchange raises: (whose, what).
STEPS = [
    (face, "learn_agreement"),
    (she.SelfHealingModel, "feedback_source"),
    (_core.Committee, "seat"),
]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_an_exchange_that_fails_in_the_middle_changes_nothing(
    opened: Open, parts: DigitsParts, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    """The newcomer has another dtype, scale and temperature: read by half of them, it shows."""
    models = opened("cnn", "twin", "mlp", policy=BLIND)
    inputs = parts.heldout[:SAMPLES]
    both = {"cnn": models["cnn"], "mlp": models["mlp"]}
    with she.SelfHealingEnsemble(both, policy=BLIND) as committee:
        committee.feedback_source("desk", b"k" * 16)
        expected = outputs(committee, inputs)
        weights, events = committee.weights, len(committee.events)
        asking = Asking(committee, inputs)

        def fails(*_: Any, **__: Any) -> Any:
            raise MemoryError("none left")

        with asking.going_on():
            with monkeypatch.context() as patched:
                patched.setattr(owner, step, fails)
                with pytest.raises(MemoryError, match="none left"):
                    committee.replace("cnn", models["twin"])
            assert committee.models == both
            assert committee.weights == weights
            assert committee.health.members["cnn"].most == 1.0
            assert len(committee.events) == events
        for n, answer in asking.found:
            assert answer.output[0] == pytest.approx(expected[n], abs=1e-6)
            assert answer.weights == tuple(weights.values())
        # What failed can be done again.
        assert committee.replace("cnn", models["twin"]) is models["cnn"]
        assert committee.models["cnn"] is models["twin"]


def test_every_answer_is_of_the_old_member_or_of_the_new_one(
    opened: Open, parts: DigitsParts
) -> None:
    models = opened("cnn", "twin", "mlp", policy=BLIND)
    inputs = parts.heldout[:SAMPLES]
    expected = []
    for name in ("cnn", "twin"):
        pair = {"first": models[name], "mlp": models["mlp"]}
        with she.SelfHealingEnsemble(pair) as alone:
            expected.append(outputs(alone, inputs))
    with she.SelfHealingEnsemble({"first": models["cnn"], "mlp": models["mlp"]}) as committee:
        asking = Asking(committee, inputs)
        with asking.going_on():
            for name in ("twin", "cnn") * 3:
                committee.replace("first", models[name])
                asking.more(4)
        ids = [answer.id for _, answer in asking.found]
        assert len(set(ids)) == len(ids)
        kinds: set[int] = set()
        for n, answer in asking.found:
            near = [
                kind
                for kind, outcome in enumerate(expected)
                if answer.output[0] == pytest.approx(outcome[n], abs=1e-6)
            ]
            assert near, "an answer of neither committee"
            kinds.update(near if len(near) == 1 else ())
        assert kinds == {0, 1}


def test_a_member_that_was_closed_meanwhile_is_refused(opened: Open, parts: DigitsParts) -> None:
    models = opened("cnn", "twin", "mlp")
    with she.SelfHealingEnsemble({"cnn": models["cnn"], "mlp": models["mlp"]}) as committee:
        models["twin"].close()
        with pytest.raises(ModelClosedError):
            committee.replace("cnn", models["twin"])
        assert committee.models["cnn"] is models["cnn"]
        assert committee.predict(parts.heldout[:1]).shape == (1, 10)
