"""Carry a diagnosis out: try the policy's strategies in order until one is proven."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfheal_edge.calibration.commissioning import cross_check, settle
from selfheal_edge.diagnosis.diagnoser import Cause, Diagnosis
from selfheal_edge.errors import (
    ForkedProcessError,
    IntegrityError,
    ModelClosedError,
    ModelFormatError,
)
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.integrity.image_digests import Birth
from selfheal_edge.integrity.weights import GOLDEN, Weights
from selfheal_edge.loop.trust import Trust
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit, RepairCase
from selfheal_edge.repair.rollback import Rollback
from selfheal_edge.store.journal import Journal
from selfheal_edge.text import LIST, shown
from selfheal_edge.tflite.runtimes.protocol import Instance
from selfheal_edge.tflite.session import Session
from selfheal_edge.trial.proof import REPEATS, Proof, Trials, prove_restored

__all__ = ["Healer", "Healing"]

_log = logging.getLogger("selfheal_edge")


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
        self._birth = Birth({name: image.live for name, image in weights.images.items()})
        self._known = {GOLDEN: known}  # by origin
        self.trust = Trust(session)
        """Whether answers may be relied on."""
        self.repairs = 0
        """Repairs that were proven."""
        self.failed = 0
        """Repairs that were applied and did not hold."""
        self._trials = Trials(self, self.prove)

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
        try:
            return self._adopt()
        except BaseException:
            self._return_to(self._weights.active)
            raise

    def _adopt(self) -> int:
        questions = self.known.inputs
        self.rebuild(self._renew)
        settled = settle(self._session, self.rebuild, questions)
        generation = self._weights.take(changed=True)
        held = {self._weights.origin(g) for g in self._weights.generations}
        self._known = {g: known for g, known in self._known.items() if g in held}
        self._known[generation] = settled
        self._weights.activate(generation)
        return generation

    def _return_to(self, generation: int) -> None:
        """Be what the model was before a change that failed; if that fails too, say so."""
        weights = self._weights
        ranges = {name: image.ranges_of(None) for name, image in weights.images.items()}
        is_sound = False
        try:
            with self._session.inference_lock:
                report = weights.restore(generation, ranges)
            weights.activate(generation)
            self.rebuild()
            is_sound = not report.refused and self.prove().held
        except Exception:
            _log.warning("generation %d could not be put back", generation, exc_info=True)
        if not is_sound:
            self.mark_untrusted()

    def renew_golden(self) -> int:
        """As `Birth.renew_golden`."""
        return self._birth.renew_golden(self._session, self._weights)

    def _renew(self, fresh: Mapping[str, memoryview]) -> None:
        """Expect what the runtime has packed from changed weights, where it did before."""
        for name, live in fresh.items():
            self._weights.images[name].guard.write(0, live)
        self._weights.follow(fresh)

    @property
    def repeated(self) -> int:
        """Times that a repair met new damage, and was applied again."""
        return self._trials.repeated

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
            When the file's bytes in memory are not what the model was opened with, or when damage
            came while the new instance was built and guarded.
        """
        data = self._session.copy.model.data
        self._birth.require({"source": memoryview(data)})  # or a runtime would parse damage
        self._session.source.view[:] = data
        self._session.rebuild(self._guard_anew)

    def _guard_anew(self, fresh: Instance) -> None:
        """Guard an instance that is about to serve, if it is what the model was born as."""
        self._birth.require_all({"source": self._session.source.view, **fresh.images})
        guarded = self._guard(fresh)
        # The guard has sealed what it found: that must be what the model was born with, and still.
        self._birth.require_all({name: image.live for name, image in guarded.items()})
        if any(image.image.check() for image in guarded.values()):
            raise IntegrityError("weights: expected sound bytes to guard, got others meanwhile")
        self._weights.replace(guarded)
        self._known = {GOLDEN: self._known[GOLDEN]}

    def mark_untrusted(self) -> None:
        """Flag every answer from now on."""
        self.trust.mark()

    def prove(self) -> Proof:
        """Check every byte and every known answer."""
        return prove_restored(self._weights, self.known, self._session.answers)

    def known_answers_right(self) -> bool:
        """Whether the running instance still gives the known answers, bit for bit.

        One that fails on them does not.
        """
        try:
            return self.known.matches(self._session.answers(self.known.inputs))
        except (ModelClosedError, ForkedProcessError):
            raise
        except Exception:
            _log.warning("the known answers could not be asked", exc_info=True)
            return False

    def respond(self, diagnosis: Diagnosis, case: RepairCase, prediction: int) -> Healing:
        """Apply the response to a diagnosis; every step goes to the journal."""
        last: str | None = None
        for name in self._policy.response(diagnosis.cause):
            strategy = self._kit.strategies[name]
            try:
                outcome, case = self._trials.apply(strategy, case)
                proof = None
                if outcome.applied and strategy.heals:
                    proof = self._trials.prove(strategy, case)
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

    def roll_back(
        self,
        to: int | Literal["golden"],
        modules: Collection[str] | None,
        prediction: int,
    ) -> None:
        """Do what `SelfHealingModel.rollback` says."""
        weights = self._weights
        generation = GOLDEN if to == "golden" else to
        if not weights.generations:
            raise RuntimeError("rollback: expected a policy with snapshots, got snapshots=False")
        if isinstance(generation, bool) or generation not in weights.generations:
            raise ValueError(f"to: expected 'golden' or one of {weights.generations}, got {to!r}")
        if isinstance(modules, str):
            raise TypeError("modules: expected a collection of names, got a single str")
        unknown = sorted(set(modules or ()) - set(weights.modules), key=str)
        if unknown:
            raise ValueError(
                f"modules: expected names among {shown(list(weights.modules), LIST)}, "
                f"got {shown(unknown, LIST)}"
            )
        weights.mend()  # nothing is built upon damage, wherever it is
        ranges = {n: i.ranges_of(modules) for n, i in weights.images.items()}
        if weights.lost(generation, ranges) and generation == GOLDEN:
            self.renew_golden()
        if lost := weights.lost(generation, ranges):
            raise IntegrityError(
                f"to: expected sound saved bytes, got {lost} damaged block(s) in generation "
                f"{generation}; nothing was changed"
            )
        active = weights.active
        try:
            text = self._go_to(generation, ranges, whole=modules is None)
        except BaseException:
            self._return_to(active)
            raise
        self._journal.add(
            "rollback",
            prediction,
            strategy="rollback_model" if modules is None else "rollback_module",
            outcome=text,
        )

    def _go_to(
        self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]], *, whole: bool
    ) -> str:
        weights = self._weights
        with (
            self._session.inference_lock
        ):  # no answer from weights that are half one, half the other
            report = weights.restore(generation, ranges)
        if report.refused:
            raise IntegrityError(
                f"to: expected sound saved bytes, got {report.refused} damaged block(s) in "
                f"generation {generation}"
            )
        done = f"{report.rewritten} block(s) from generation {generation}"
        if not whole and weights.origin(generation) != weights.origin(weights.active):
            # Modules of one, the rest of another: nobody knows its answers yet.
            return f"{done}; with the others it is generation {self._adopt()} now"
        if whole:
            weights.activate(generation)
        self.rebuild()
        proof = self.prove()
        for _ in range(REPEATS):  # what was damaged during the proof says nothing against it
            if proof.held or not weights.mend():
                break
            proof = self.prove()
        if not proof.held:
            raise IntegrityError(f"to: expected a sound model afterwards, got: {proof.text}")
        return f"{done}; {proof.text}"

    def commission(self, baseline: Baseline, prediction: int, *, flips: bool) -> Baseline:
        """Do what `SelfHealingModel.commission` says; return the baseline as settled here."""
        self.rebuild()
        questions = baseline.known_answers.inputs
        settled = settle(self._session, self.rebuild, questions)
        same = settled.matches(baseline.known_answers.outputs)
        there, here = baseline.fingerprint, self._session.fingerprint
        evidence = [f"calibrated on {there}", f"runs on {here}"]
        if flips:
            evidence.append(cross_check(self._session, questions))
        self._known[self._weights.origin(self._weights.active)] = settled
        self._journal.add(
            "commissioned",
            prediction,
            evidence=tuple(evidence),
            outcome=f"known answers {'are the same' if same else 'differ and were settled'}",
        )
        return baseline.with_known_answers(settled, here)

    def _record(self, diagnosis: Diagnosis, strategy: str, outcome: str, prediction: int) -> None:
        self._journal.add(
            "repair",
            prediction,
            cause=diagnosis.cause.value,
            strategy=strategy,
            outcome=outcome,
        )
