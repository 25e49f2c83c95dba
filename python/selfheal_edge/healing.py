"""Carry a diagnosis out: try the policy's strategies in order until one is proven."""

from __future__ import annotations

from dataclasses import dataclass

from selfheal_edge.baseline import KnownAnswers
from selfheal_edge.diagnosis import Diagnosis
from selfheal_edge.errors import SelfHealError
from selfheal_edge.journal import Journal
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit, RepairCase
from selfheal_edge.session import Session
from selfheal_edge.trial import Proof, prove_restored
from selfheal_edge.weights import Weights

__all__ = ["Healer", "Healing"]


@dataclass(frozen=True, slots=True)
class Healing:
    """How a response ended."""

    strategy: str | None
    """The strategy that was proven or, if none was, the last one applied."""
    restored: bool
    """Whether the model is proven to be what it was."""


class Healer:
    """One model's repairs; the `RepairTarget` that strategies see.

    Parameters
    ----------
    session, weights
        The running instance and its bytes.
    known
        Known answers of the active generation.
    kit, policy, journal
        What can be done, what shall be done, and where it is written down.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        known: KnownAnswers,
        kit: ModelRepairKit,
        policy: Policy,
        journal: Journal,
    ) -> None:
        self._session = session
        self._weights = weights
        self._kit = kit
        self._policy = policy
        self._journal = journal
        self.known = known
        self.trusted = True
        """Whether answers may be relied on."""
        self.repairs = 0
        """Repairs that were proven."""
        self.failed = 0
        """Repairs that were applied and did not hold."""

    @property
    def weights(self) -> Weights:
        """The model's images."""
        return self._weights

    def rebuild(self) -> None:
        """Build the runtime's instance anew from the live source bytes."""
        self._session.rebuild()

    def mark_untrusted(self) -> None:
        """Flag every answer from now on."""
        self.trusted = False

    def prove(self) -> Proof:
        """Check every byte and every known answer."""
        return prove_restored(self._weights, self.known, self._session.answers)

    def known_answers_right(self) -> bool:
        """Whether the running instance still gives the known answers, bit for bit."""
        return self.known.matches(self._session.answers(self.known.inputs))

    def respond(self, diagnosis: Diagnosis, case: RepairCase, prediction: int) -> Healing:
        """Apply the response to a diagnosis; every step goes to the journal."""
        last: str | None = None
        for name in self._policy.response(diagnosis.cause):
            strategy = self._kit.strategies[name]
            try:
                outcome = strategy.apply(self, case)
                proof = self.prove() if outcome.applied and strategy.heals else None
            except SelfHealError as error:
                self._record(diagnosis, name, f"failed: {error}", prediction)
                self.failed += 1
                continue
            if not outcome.applied:
                continue
            last = name
            if proof is None:
                self._record(diagnosis, name, outcome.text, prediction)
                return Healing(name, restored=False)
            if proof.held:
                self.repairs += 1
                self._record(diagnosis, name, f"healed: {outcome.text}; {proof.text}", prediction)
                return Healing(name, restored=True)
            self.failed += 1
            self._record(diagnosis, name, f"not proven: {proof.text}", prediction)
        return Healing(last, restored=False)

    def _record(self, diagnosis: Diagnosis, strategy: str, outcome: str, prediction: int) -> None:
        self._journal.add(
            "repair",
            prediction,
            cause=diagnosis.cause.value,
            strategy=strategy,
            outcome=outcome,
        )
