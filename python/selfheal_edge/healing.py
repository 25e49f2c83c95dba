"""Carry a diagnosis out: try the policy's strategies in order until one is proven."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from selfheal_edge.baseline import Baseline, KnownAnswers
from selfheal_edge.diagnosis import Cause, Diagnosis
from selfheal_edge.errors import IntegrityError, ModelFormatError
from selfheal_edge.guarded_image import GuardedImage
from selfheal_edge.journal import Journal
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit, RepairCase, Strategy
from selfheal_edge.repair.rollback import Rollback
from selfheal_edge.session import Session
from selfheal_edge.tflite.flip_check import Finding
from selfheal_edge.tflite.protocol import Array, Instance
from selfheal_edge.trial import Proof, prove_restored
from selfheal_edge.trust import Trust
from selfheal_edge.weights import GOLDEN, Weights

__all__ = ["Healer", "Healing"]

_log = logging.getLogger("selfheal_edge")

_REPEATS: Final = 3


@dataclass(frozen=True, slots=True)
class Healing:
    """How a response ended."""

    strategy: str | None
    """The strategy that was proven or, if none was, the last one applied."""
    restored: bool
    """Whether the model is proven to be what it was."""


def _digest(live: memoryview) -> bytes:
    return hashlib.sha256(live).digest()


class Healer:
    """One model's repairs; the `RepairTarget` that strategies see.

    Parameters
    ----------
    session, weights
        The running instance and its bytes.
    guard
        Makes guarded images of the session's source and of an instance built from it.
    known
        Known answers of golden.
    kit, policy, journal
        What can be done, what shall be done, and where it is written down.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        guard: Callable[[Instance], Mapping[str, GuardedImage]],
        known: KnownAnswers,
        kit: ModelRepairKit,
        policy: Policy,
        journal: Journal,
    ) -> None:
        self._session = session
        self._guard = guard
        self._weights = weights
        self._kit = kit
        self._policy = policy
        self._journal = journal
        # What every image was when the model was opened: built from a file whose hash is known.
        self._born = {name: _digest(image.live) for name, image in weights.images.items()}
        self._known = {GOLDEN: known}  # by origin
        self.trust = Trust(session)
        """Whether answers may be relied on."""
        self.repairs = 0
        """Repairs that were proven."""
        self.failed = 0
        """Repairs that were applied and did not hold."""
        self.repeated = 0
        """Times that a repair met new damage during its proof, and was applied again."""

    @property
    def heals_at_once(self) -> bool:
        """Whether the core shall repair what its sweep finds: when the first response is just that.

        A user who replaces our strategy, or puts another one first, gets the first word.
        """
        first = self._policy.response(Cause.WEIGHT_CORRUPTION)[:1]
        return first == ("rollback_block",) and isinstance(self._kit.strategies[first[0]], Rollback)

    @property
    def known(self) -> KnownAnswers:
        """Known answers of the active generation."""
        return self._known[self._weights.origin(self._weights.active)]

    def adopt(self) -> int:
        """Keep weights that were changed on purpose as a generation of their own, now the active.

        Returns
        -------
        int
            The generation. Its known answers are asked here; later proofs compare with them.

        Raises
        ------
        IntegrityError
            When a byte is not what was written, or two instances built from the new weights
            differ. The active generation is back then.
        RuntimeError
            When there is no room for it; likewise.
        """
        questions = self.known.inputs
        try:
            self.rebuild(self._renew)
            first = self._session.answers(questions)
            self.rebuild()  # packs and answers the same again, or is refused
            settled = KnownAnswers(questions, tuple(tuple(row) for row in first))
            if not settled.matches(self._session.answers(questions)):
                raise IntegrityError("model: expected two instances to agree, got other answers")
            generation = self._weights.take(changed=True)
        except BaseException:
            images = self._weights.images
            ranges = {name: image.ranges_of(None) for name, image in images.items()}
            if self._weights.restore(self._weights.active, ranges).refused:
                self.mark_untrusted()
            self.rebuild()
            raise
        held = {self._weights.origin(g) for g in self._weights.generations}
        self._known = {g: known for g, known in self._known.items() if g in held}
        self._known[generation] = settled
        self._weights.activate(generation)
        return generation

    def _renew(self, fresh: Mapping[str, memoryview]) -> None:
        """Expect what the runtime has packed from changed weights, where it did before."""
        for name, live in fresh.items():
            self._weights.images[name].guard.write(0, live)
        self._weights.follow(fresh)

    @property
    def weights(self) -> Weights:
        """The model's images."""
        return self._weights

    def rebuild(
        self,
        follow: Callable[[Mapping[str, memoryview]], None] | None = None,
        *,
        keep_state: bool = False,
    ) -> None:
        """Build the runtime's instance anew from the live source bytes, if all are sound.

        Parameters
        ----------
        follow
            Takes the new instance's images, or refuses them; None: they must be as before.
        keep_state
            As for `Session.rebuild`.

        Raises
        ------
        IntegrityError
            When one is not: a runtime that builds from damaged bytes may take the process down.
        """
        corrupt = [block for block in self._weights.check() if block.image == "source"]
        if corrupt:
            raise IntegrityError(
                f"weights: expected sound bytes to build from, got {len(corrupt)} corrupt block(s)"
            )
        take_over = follow or self._weights.follow
        try:
            self._session.rebuild(lambda fresh: take_over(fresh.images), keep_state=keep_state)
        except ModelFormatError as error:  # the file was accepted when the model was opened
            raise IntegrityError(
                f"weights: expected sound bytes to build from, got damage meanwhile: {error}"
            ) from error

    def reload(self) -> None:
        """Write the model file's bytes anew, build from them, and guard the result.

        If it raises, the instance that ran before runs on, watched as before.

        Raises
        ------
        IntegrityError
            When the file's bytes in memory do not have their hash any more, or when damage came
            while the new instance was built and guarded.
        """
        model = self._session.copy.model
        if hashlib.sha256(model.data).hexdigest() != model.sha256:
            raise IntegrityError("model: expected the file's bytes to have their hash, got others")
        self._session.source.view[:] = model.data
        self._session.rebuild(self._guard_anew)

    def _guard_anew(self, fresh: Instance) -> None:
        """Guard an instance that is about to serve, if it is what the model was born as."""
        self._require_born({"source": self._session.source.view, **fresh.images})
        guarded = self._guard(fresh)
        # The guard has sealed what it found: that must be what the model was born with, and still.
        self._require_born({name: image.live for name, image in guarded.items()})
        if any(image.image.check() for image in guarded.values()):
            raise IntegrityError("weights: expected sound bytes to guard, got others meanwhile")
        self._weights.replace(guarded)
        self._known = {GOLDEN: self._known[GOLDEN]}

    def _require_born(self, images: Mapping[str, memoryview]) -> None:
        if images.keys() != self._born.keys():
            raise IntegrityError(
                f"weights: expected the images {sorted(self._born)} that the model was opened "
                f"with, got {sorted(images)}"
            )
        changed = [n for n, live in images.items() if _digest(live) != self._born[n]]
        if changed:
            raise IntegrityError(
                f"weights: expected the {changed[0]} image that the model was opened with, "
                "got another: damage came while it was made"
            )

    def mark_untrusted(self) -> None:
        """Flag every answer from now on."""
        self.trust.mark()

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
                proof = None
                if outcome.applied and strategy.heals:
                    proof = self._prove_or_repeat(strategy, case)
            except Exception as error:  # a strategy that breaks down is one that did not help
                _log.warning("%s failed", name, exc_info=error)
                text = f"failed: {type(error).__name__}: {error}"
                self._record(diagnosis, name, text, prediction)
                self.failed += 1
                continue
            if not outcome.applied:
                self._record(diagnosis, name, f"not applied: {outcome.text}", prediction)
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

    def _prove_or_repeat(self, strategy: Strategy, case: RepairCase) -> Proof:
        """Prove a repair; if new damage came meanwhile, repair that too, a few times at most.

        While bits go on flipping, a proof sees flips that are younger than the repair: those say
        nothing against it, and nothing larger would hold any better.
        """
        proof = self.prove()
        for _ in range(_REPEATS):
            if proof.held:
                break
            fresh = self._weights.check()
            before = {(b.image, b.block) for b in case.corrupt}
            if not fresh or any((b.image, b.block) in before for b in fresh):
                break  # nothing new, or what the strategy has left
            case = RepairCase(fresh)
            if not strategy.apply(self, case).applied:
                break
            self.repeated += 1
            proof = self.prove()
        return proof

    def roll_back(
        self,
        to: int | Literal["golden"],
        modules: Collection[str] | None,
        prediction: int,
    ) -> None:
        """Do what `SelfHealingModel.rollback` says."""
        weights = self._weights
        generation = GOLDEN if to == "golden" else to
        if isinstance(generation, bool) or generation not in weights.generations:
            raise ValueError(f"to: expected 'golden' or one of {weights.generations}, got {to!r}")
        if isinstance(modules, str):
            raise TypeError("modules: expected a collection of names, got a single str")
        unknown = sorted(set(modules or ()) - set(weights.modules), key=str)
        if unknown:
            raise ValueError(
                f"modules: expected names among {list(weights.modules)}, got {unknown}"
            )
        weights.mend()  # nothing is built upon damage, wherever it is
        ranges = {n: i.ranges_of(modules) for n, i in weights.images.items()}
        with self._session.turn:  # no answer from weights that are half one, half the other
            report = weights.restore(generation, ranges)
        if report.refused:
            self.mark_untrusted()
            raise IntegrityError(
                f"to: expected sound saved bytes, got {report.refused} damaged block(s) in "
                f"generation {generation}"
            )
        try:
            if modules is None:
                weights.activate(generation)
            self.rebuild()
            proof = self.prove()
        except BaseException:
            self.mark_untrusted()
            raise
        if not proof.held:
            self.mark_untrusted()
            raise IntegrityError(f"to: expected a sound model afterwards, got: {proof.text}")
        self._journal.add(
            "rollback",
            prediction,
            strategy="rollback_model" if modules is None else "rollback_module",
            outcome=f"{report.rewritten} block(s) from generation {generation}; {proof.text}",
        )

    def commission(self, baseline: Baseline, prediction: int, *, flips: bool) -> Baseline:
        """Do what `SelfHealingModel.commission` says; return the baseline as settled here."""
        self.rebuild()
        questions = baseline.known_answers.inputs
        first = self._session.answers(questions)
        self.rebuild()
        settled = KnownAnswers(questions, tuple(tuple(row) for row in first))
        if not settled.matches(self._session.answers(questions)):
            raise IntegrityError(
                "model: expected two instances built from the same bytes to agree, "
                "got different answers"
            )
        same = settled.matches(baseline.known_answers.outputs)
        there, here = baseline.fingerprint, self._session.fingerprint
        evidence = [f"calibrated on {there}", f"runs on {here}"]
        if flips:
            evidence.append(self._cross_check(questions))
        self._known[self._weights.origin(self._weights.active)] = settled
        self._journal.add(
            "commissioned",
            prediction,
            evidence=tuple(evidence),
            outcome=f"known answers {'are the same' if same else 'differ and were settled'}",
        )
        return baseline.with_known_answers(settled, here)

    def _cross_check(self, samples: Sequence[Sequence[Array]]) -> str:
        flips = self._session.cross_check(samples)
        proven = sum(f.finding is not Finding.UNPROVEN for f in flips)
        lowered = sum(f.contradicts for f in flips)
        return (
            f"flips in {len(flips)} regions of weights: {proven} showed what runs, "
            f"{lowered} contradicted the table"
        )

    def _record(self, diagnosis: Diagnosis, strategy: str, outcome: str, prediction: int) -> None:
        self._journal.add(
            "repair",
            prediction,
            cause=diagnosis.cause.value,
            strategy=strategy,
            outcome=outcome,
        )
