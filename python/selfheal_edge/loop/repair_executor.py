"""What repairs are made of: strategies with their proof, rebuilds, reloads, rollbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from selfheal_edge import _core
from selfheal_edge.calibration.commissioning import (
    cross_check,
    prove_known_answers,
    record_known_answers,
)
from selfheal_edge.causes import Cause
from selfheal_edge.errors import (
    ForkedProcessError,
    IntegrityError,
    ModelClosedError,
    ModelFormatError,
)
from selfheal_edge.inference.serving import Serving
from selfheal_edge.inference.standby import Standby
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.integrity.image_digests import ImageDigests
from selfheal_edge.integrity.weights import GOLDEN, Weights
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.patch import Patch, patched
from selfheal_edge.log import logger
from selfheal_edge.loop.beside import build_beside, differences
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.store.journal import EventKind, Journal
from selfheal_edge.text import LIST, shown
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.flip_check import FlipEffort
from selfheal_edge.tflite.input_table import InputTable, with_threshold
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, Array, Instance
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.session import Session
from selfheal_edge.trial.proof import REPEATS, RepairAttempts

if TYPE_CHECKING:  # it loads a database
    from selfheal_edge.loop.kept_generations import Found, KeptGenerations, Late
    from selfheal_edge.store.inbox import Request

__all__ = ["RepairExecutor"]

_MOST_RETIRED: Final = 2  # models' worth of memory that has failed


class RepairExecutor:
    """One model's repairs; the `RepairTarget` that strategies see.

    Parameters
    ----------
    session, weights
        The running instance and its bytes.
    guard
        Makes guarded images of the session's source and of an instance built from it.
    known
        Known answers of golden.
    journal
        Where what the user asks for is written down.
    serving
        Serves from the session's instance, which is exchanged here.
    inference_lock
        Held while an inference runs.
    mark_untrusted
        Has every answer flagged from now on.
    kept
        Keeps generations beyond the process, if anything does.
    rejected
        Told the SHA-256 of weights that were changed on purpose and did not hold, and why.
    keeps_standby
        Whether the instance that served before a switch is kept built, for the way back.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        guard: Callable[[Instance], Mapping[str, GuardedImage]],
        known: KnownAnswers,
        journal: Journal,
        serving: Serving,
        inference_lock: AbstractContextManager[None],
        mark_untrusted: Callable[[], None],
        kept: KeptGenerations | None = None,
        rejected: Callable[[str, str], None] = lambda _digest, _reason: None,
        keeps_standby: bool = True,
    ) -> None:
        self._session = session
        self._guard = guard
        self.weights = weights
        """The model's images."""
        self._journal = journal
        self._serving = serving
        self._inference_lock = inference_lock
        self._mark_untrusted = mark_untrusted
        self._kept = kept
        self._rejected = rejected
        self._keeps_standby = keeps_standby
        self._standby: Standby | None = None
        self.retired: list[Standby] = []
        """What was moved from: memory that has failed."""
        self._digests = ImageDigests({name: image.live for name, image in weights.images.items()})
        self._known = {GOLDEN: known}  # by origin
        self.learned: frozenset[int] = frozenset()
        """Generations of the store that repairs were learned as."""
        self.going_on: dict[int, Patch] = {}
        """What makes those of golden that are on trial still."""
        self._lessons: dict[int, Lesson | None] = {}  # by origin; None: not known
        self.attempts = RepairAttempts(self, self._known, session.answers)
        """Applies strategies to this, and has them proven."""

    @property
    def known(self) -> KnownAnswers:
        """Known answers of the active generation."""
        return self._known[self.weights.origin(self.weights.active)]

    @property
    def golden_known(self) -> KnownAnswers:
        """Known answers of golden: what a spare has to give."""
        return self._known[GOLDEN]

    def snapshot(self, prediction: int) -> int:
        """Do what `SelfHealingModel.snapshot` says."""
        kept = self._kept
        taken = self.weights.take(at_least=self.next_number)
        self._journal.add(EventKind.SNAPSHOT, prediction, outcome=f"generation {taken}")
        if kept is not None:
            answers = self._known[self.weights.origin(taken)]
            kept.add(taken, *self._stored(taken, answers), lesson=self.lesson(taken))
            self.tell_problems(prediction)
        return taken

    def serve(self, request: Request, prediction: int) -> bool:
        """Do what another process has asked for, and write to the journal what came of it.

        ``restore`` (`generation`: a number, or ``"golden"``) rolls back; ``prune`` drops the
        generations that are neither golden, active nor pinned: all, or those of `generations`.

        Returns
        -------
        bool
            Whether the weights are proven to be those of a generation now.
        """
        is_restored = False
        try:
            match request.kind:
                case "restore":
                    to = request.fields["generation"]
                    self.roll_back(to, None, prediction)
                    done, is_restored = f"generation {to} serves", True
                case "prune":
                    dropped = self._prune(request.fields.get("generations"))
                    named = ", ".join(map(str, dropped))
                    done = f"dropped: {named}" if dropped else "nothing to drop"
                case _:
                    done = "refused: expected 'restore' or 'prune'"
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            done = f"refused: {error}"
        what = f"{request.kind}: {done}"
        self._journal.add(EventKind.REQUEST, prediction, evidence=(request.id,), outcome=what)
        return is_restored

    def keep_again(self) -> None:
        """Store the generations for which there was no room before."""
        kept = self._kept
        if kept is not None and kept.is_due:
            for late in self.late():
                kept.save_again(*late)

    def late(self) -> tuple[Late, ...]:
        """Return the generations that are to be stored, and are not yet."""
        kept, weights = self._kept, self.weights
        found: list[Late] = []
        for number in () if kept is None else kept.unsaved:
            assert kept is not None
            if number not in weights.generations:
                kept.drop(number)
                continue
            try:
                source, inputs = weights.sound_bytes("source", number), self._inputs_of(number)
            except IntegrityError as error:  # its saved copy is damaged: there is none to store
                kept.drop(number)
                kept.problems.append(f"generation {number} is kept in memory alone: {error}")
                continue
            found.append((number, source, inputs))
        return tuple(found)

    def _stored(self, number: int, answers: KnownAnswers) -> tuple[bytes, KnownAnswers, bytes]:
        """Return what a store keeps of a generation."""
        source = self.weights.sound_bytes("source", number)
        return source, answers, self._inputs_of(number)

    def _inputs_of(self, generation: int | None) -> bytes:
        """Return a generation's correction of inputs, or the live one; empty for none."""
        if "input" not in self.weights.images:
            return b""
        return self.weights.sound_bytes("input", generation).rstrip(b"\0")

    def _prune(self, wanted: Collection[int] | None) -> list[int]:
        dropped = []
        for generation in self.weights.generations:
            if wanted is not None and generation not in wanted:
                continue
            try:
                self.weights.drop(generation)
            except ValueError:  # golden, active or pinned
                continue
            self.forget_standby(generation)
            dropped.append(generation)
            if self._kept is not None:
                self._kept.drop(generation)
        return dropped

    def prove_update(
        self,
        model: ModelFile,
        baseline: Baseline,
        how: tuple[RuntimeArgument, KernelsArgument, int],
        probe: ProbePolicy,
    ) -> Baseline:
        """Prove a new model file beside the one that runs, which must be sound itself.

        Returns
        -------
        Baseline
            With the known answers as recorded here.

        Raises
        ------
        IntegrityError
            When either gives other answers than it should.
        ModelFormatError, BaselineMismatchError
            When the file cannot run here, or is of another baseline.
        """
        if not self.known_answers_right():
            raise IntegrityError("update: expected the model that runs to be sound")
        baseline.check_model(model.sha256)
        fresh = Session(model, *how, baseline.taps, baseline.made, probe)
        try:
            return prove_known_answers(fresh, baseline)
        finally:
            fresh.close()

    def tell_problems(self, prediction: int) -> None:
        """Write to the journal what of the generations could not be kept."""
        while self._kept is not None and self._kept.problems:
            problem = self._kept.problems.pop(0)
            self._journal.add(EventKind.STORE, prediction, outcome=problem)

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
            source = bytes(self.weights.images["source"].live)
            lesson = self.lesson(self.weights.active)  # part of it is in what was changed
            proposed = self._proposed(source, self._inputs_of(None), lesson=lesson)
            return self._adopt(proposed, lesson)
        except BaseException:
            self._return_to(self.weights.active)
            raise

    # ---------------------------------------------------------------- what was learned

    def adopt_patch(
        self,
        patch: Patch,
        *,
        on_trial: bool = False,
        is_learned: bool = False,
        lesson: Lesson | None = None,
    ) -> int:
        """Have golden with a patch serve, as a generation of its own.

        Parameters
        ----------
        patch
            Relative to golden, whatever serves now.
        on_trial
            Whether it serves on probation: the store keeps it as on trial until `confirm`, and the
            end of the process, however it comes, takes it back, but for
            `Policy.probation_restarts`.
        is_learned
            Whether it is for a condition: where the loop does not know that after a restart, it
            does not serve.
        lesson
            What it was learned from, to be kept with it.

        Returns
        -------
        int
            The generation, which is the active one. Its known answers are recorded with its
            correction of inputs; later proofs compare with them.

        Raises
        ------
        ValueError
            For a patch that changes nothing, that does not fit the model, or that corrects an input
            for which there is no room. Nothing was begun.
        IntegrityError
            When two instances built from it differ, or the model does not answer as they do. What
            served before is back then, and the patch is remembered as rejected.
        RuntimeError
            When there is no room for it, or there are no snapshots.

        Notes
        -----
        The calling thread holds the maintenance lock. Three instances are built beside the one that
        serves, two to be asked; then the third takes its place, with its images, under one hold of
        the inference lock, so that no answer comes from a part of it: predictions wait for a few
        comparisons of the images. The state of a recurrent model goes on, but for one in resource
        variables, which starts anew.
        """
        wanted = self._wanted(patch)
        weights, before = self.weights, self.weights.active
        weights.mend()  # nothing is built upon damage
        beside = build_beside(
            self._session, wanted["source"], self._known[GOLDEN].inputs, self._corrector(wanted)
        )
        wanted |= beside.images
        inputs = wanted.get("input", b"").rstrip(b"\0")
        number = self._proposed(
            wanted["source"],
            inputs,
            is_learned=is_learned,
            lesson=lesson,
            patch=patch if on_trial else None,
            answers=beside.answers if on_trial else None,
        )
        try:
            ready = Standby.built(self._session, number, wanted)

            def change() -> int:
                live = {name: weights.images[name].live for name in wanted}
                changes = {name: differences(live[name], data) for name, data in wanted.items()}
                return weights.patch(changes, number)

            generation = self._exchange(ready, change)
            self._note_known(generation, beside.answers)
            if is_learned:
                self._lessons[generation] = None if lesson is None else replace(lesson, inputs=None)
            self._require_proof("patch")
        except BaseException as error:
            self._undo(number, before)
            if self._kept is not None:
                self._rejected(self._kept.reject(number), f"{type(error).__name__}: {error}")
            raise
        if self._kept is not None and not on_trial:
            self._kept.confirm(generation, beside.answers)
        return generation

    def no_room(self) -> str:
        """Return why no patch can become a generation now, or an empty text."""
        return self.weights.no_room()

    def confirm(self, generation: int) -> None:
        """Take note that a generation on trial has held: it serves, also after a restart."""
        self.weights.pin(generation)  # what a user prunes is not what a condition waits for
        origin = self.weights.origin(generation)
        lesson = self._lessons.get(origin)
        if lesson is not None:  # no trial is left that its contents would have to be kept out of
            self._lessons[origin] = replace(lesson, contents=None)
        if self._kept is not None:
            answers = self._known[self.weights.origin(generation)]
            serves = self.weights.active == generation
            self._kept.confirm(generation, answers, serves=serves, is_pinned=True)

    def take_back(self, generation: int, reason: str, to: int = GOLDEN) -> None:
        """Forget a generation that has not held; where it serves, another one does from now on.

        Raises
        ------
        IntegrityError
            When the other one cannot serve; answers are untrusted then.
        """
        try:
            if self.weights.active == generation:
                self.switch_to(to)
        finally:
            if self._kept is not None:
                self._rejected(self._kept.reject(generation), reason)
        with contextlib.suppress(ValueError):  # pinned, or gone already
            self.weights.drop(generation)

    def drop(self, generation: int) -> None:
        """Forget a generation that was learned, if it does not serve."""
        if generation in self.weights.generations:
            self.weights.unpin(generation)
            self._prune({generation})

    def switch_to(self, generation: int) -> None:
        """Have another saved generation serve: all of it, with its correction of inputs.

        Parameters
        ----------
        generation
            One of `weights.generations`.

        Raises
        ------
        ValueError
            For a generation that is not held.
        IntegrityError
            When its saved bytes are damaged, or the model does not answer as it should; the one
            that served before is back then.

        Notes
        -----
        The calling thread holds the maintenance lock. The store notes it with what it writes next:
        after a crash the generation before may serve.
        """
        weights, before = self.weights, self.weights.active
        if isinstance(generation, bool) or generation not in weights.generations:
            raise ValueError(
                f"generation: expected one of {weights.generations}, got {generation!r}"
            )
        if generation == before:
            return
        try:
            ranges = {name: image.ranges_of(None) for name, image in weights.images.items()}
            self._mend_saved("generation", generation, ranges)

            def change() -> int:
                report = weights.restore(generation, ranges)
                if report.refused:
                    raise IntegrityError(f"generation: {report.refused} saved block(s) are damaged")
                weights.activate(generation)
                return generation

            ready, is_proven = self._ready(generation)
            self._exchange(ready, change)
            if not is_proven:
                self._require_proof("generation")
        except BaseException:
            self._return_to(before)
            raise
        if self._kept is not None:
            self._kept.activate(generation, at_once=False)

    def _mend_saved(
        self,
        argument: str,
        generation: int,
        ranges: Mapping[str, Sequence[tuple[int, int]]],
    ) -> None:
        """Bring a generation's saved bytes back as far as that goes, before it is to serve."""
        weights = self.weights
        weights.mend()  # nothing is built upon damage, wherever it is
        if weights.lost(generation, ranges) and generation == GOLDEN:
            self.renew_golden()
        if lost := weights.lost(generation, ranges):
            raise IntegrityError(
                f"{argument}: expected sound saved bytes, got {lost} damaged block(s) in "
                f"generation {generation}; nothing was changed"
            )

    # ---------------------------------------------------------------- what is kept built

    def _saved(self, generation: int) -> dict[str, bytes]:
        return {name: self.weights.sound_bytes(name, generation) for name in self.weights.images}

    def _saved_or_none(self, generation: int) -> dict[str, bytes] | None:
        """Return the same, or None where damage does not let all of it be read."""
        try:
            return self._saved(generation)
        except IntegrityError:
            return None

    def _ready(self, generation: int) -> tuple[Standby, bool]:
        """Return a generation's instance, every byte verified, and whether it has served before.

        One is built where none is kept. What has served was proven by its known answers then, and
        is asked some of them now and then.
        """
        saved, kept = self._saved(generation), self._standby
        if kept is not None and kept.generation == generation:
            self._standby = None
            if all(kept.holds(name, data) for name, data in saved.items()):
                return kept, True
            kept.close()
        return Standby.built(self._session, generation, saved), False

    def _exchange(self, ready: Standby, change: Callable[[], int]) -> int:
        """Have an instance serve, with its images, and keep the one that did.

        Parameters
        ----------
        ready
            Built from what is to serve.
        change
            Makes the live bytes what `ready` holds, as a generation; returns its number.

        Raises
        ------
        IntegrityError
            And others of `change`. The instance that served before does then, from bytes that may
            be changed: `_return_to` puts them back.
        """
        weights, session, before = self.weights, self._session, self.weights.active
        try:
            saved = self._saved_or_none(before)
            left = {name: image.live for name, image in weights.images.items()}
            with self._inference_lock:
                generation = change()
                weights.move(ready.images)
                parts = session.exchange(ready.source, ready.instance, ready.correction)
                self._serving.exchange(session.instance)
        except BaseException:
            ready.close()
            raise
        idle = Standby(before, *parts, left)
        if saved is None:
            idle.close()
            return generation
        for name, data in saved.items():  # what `change` has written there
            left[name][:] = data
        self._keep_built(idle)
        return generation

    def move(self) -> str:
        """Serve the active generation from fresh memory; the old is kept, for no other use.

        Costs the memory of another model for each time, of which there are at most two.

        Raises
        ------
        IntegrityError
            When that was done too often, or damage keeps the bytes from being read.
        """
        weights, session = self.weights, self._session
        if len(self.retired) == _MOST_RETIRED:
            raise IntegrityError(
                f"weights: expected memory that holds them, got failures in {_MOST_RETIRED + 1} "
                "places: this is failing hardware"
            )
        active = weights.active
        is_saved = active in weights.generations
        saved = {n: weights.sound_bytes(n, active if is_saved else None) for n in weights.images}
        ready = Standby.built(session, active, saved)
        left = {name: image.live for name, image in weights.images.items()}
        where = ", ".join(
            f"{name} ({memoryview(live).nbytes} bytes)" for name, live in left.items()
        )
        try:
            with self._inference_lock:
                weights.move(ready.images)
                parts = session.exchange(ready.source, ready.instance, ready.correction)
                self._serving.exchange(session.instance)
        except BaseException:
            ready.close()
            raise
        self.retired.append(Standby(active, *parts, left))
        return where

    def release_retired(self) -> None:
        """Give back the memory that has failed."""
        while self.retired:
            self.retired.pop().close()

    def _keep_built(self, idle: Standby) -> None:
        """Keep an instance that does not serve any more, or the one that is kept already.

        Of the two the older generation: refinements come and go.
        """
        keeps = self._keeps_standby and not self._session.model.keeps_resources
        kept = self._standby
        if keeps and (kept is None or idle.generation <= kept.generation):
            self._standby, idle = idle, kept or idle
            if kept is None:
                return
        idle.close()

    def look_at_standby(self) -> None:
        """Look at a part of what is kept built, and drop it if that is damaged.

        The switch that wants it then builds another one.
        """
        kept, weights = self._standby, self.weights
        if kept is None:
            return
        known = self._known[weights.origin(kept.generation)]
        if kept.is_sound(lambda name: weights.sound_bytes(name, kept.generation), known):
            return
        self._journal.add(
            EventKind.REPAIR,
            self._serving.hot.number,
            cause=Cause.WEIGHT_CORRUPTION,
            strategy="rebuild",
            outcome=f"damage to what is kept built of generation {kept.generation}, which does not "
            "serve: dropped, and built anew when it is to",
        )
        self.forget_standby()

    def forget_standby(self, generation: int | None = None) -> None:
        """Close what is kept built: of one generation, or of any."""
        kept = self._standby
        if kept is not None and generation in (None, kept.generation):
            self._standby = None
            kept.close()

    @property
    def standby_bytes(self) -> int:
        """Bytes of the instance that is kept built, and of the memory that has failed."""
        kept = [*self.retired, *(() if self._standby is None else (self._standby,))]
        return sum(one.memory_bytes for one in kept)

    def _wanted(self, patch: Patch) -> dict[str, bytes]:
        """Return what the images shall be that do not come from the runtime."""
        if not self.weights.generations:
            raise RuntimeError("patch: expected a policy with snapshots, got snapshots=False")
        if patch.is_golden:
            raise ValueError("patch: expected one that changes something, got none")
        session, image = self._session, self.weights.images.get("input")
        wanted, correction = {"source": patched(session.copy, patch.changes)}, patch.inputs
        table = InputTable.of(session.instance.inputs)
        if image is None and correction is None and not patch.threshold:
            return wanted
        if table is None or image is None:
            raise ValueError(
                "patch.inputs: expected None for a model whose input cannot be corrected (one of "
                "int8, uint8 or float32 can, of at most 1024 features), got a correction"
            )
        data = bytes(image.nbytes)
        if correction is not None:
            data = table.encode(correction.axis, correction.gain, correction.offset, image.nbytes)
        return {**wanted, "input": with_threshold(data, patch.threshold)}

    def _corrector(
        self, wanted: Mapping[str, bytes]
    ) -> Callable[[Sequence[Array]], Sequence[Array]]:
        """Return what corrects inputs as these images would."""
        table = InputTable.of(self._session.instance.inputs)
        if table is None or "input" not in wanted:
            return lambda inputs: inputs
        beside = _core.InputCorrection(table.dtype.name, table.shape, len(wanted["input"]))
        beside.memory[:] = np.frombuffer(wanted["input"], np.uint8)
        return lambda inputs: [beside.corrected(inputs[0])]

    def _require_proof(self, what: str) -> str:
        """Have the model proven; what was damaged during that says nothing against it."""
        proof = self.attempts.prove()
        for _ in range(REPEATS):
            if proof.held or not self.weights.mend():
                break
            proof = self.attempts.prove()
        if not proof.held:
            raise IntegrityError(f"{what}: expected a sound model afterwards, got: {proof.text}")
        return proof.text

    def _undo(self, number: int, before: int) -> None:
        """Go back to the generation that served before, and forget the one that failed."""
        if self.weights.active == before:
            return
        self._return_to(before)
        with contextlib.suppress(ValueError):
            self.weights.drop(number)

    def lesson(self, generation: int) -> Lesson | None:
        """Return what a generation was learned from; None: from nothing, or that is not known."""
        return self._lessons.get(self.weights.origin(generation))

    @property
    def lessons(self) -> dict[int, Lesson | None]:
        """What each generation that is held was learned from; None where that is not known."""
        weights = self.weights
        origins = ((g, weights.origin(g)) for g in weights.generations)
        return {g: self._lessons[origin] for g, origin in origins if origin in self._lessons}

    def _proposed(
        self,
        source: bytes,
        inputs: bytes,
        *,
        is_learned: bool = False,
        lesson: Lesson | None = None,
        patch: Patch | None = None,
        answers: KnownAnswers | None = None,
    ) -> int:
        """Have new weights stored before they act; return the least number that they may have."""
        number = self.next_number
        if self._kept is not None:
            self._kept.propose(
                number,
                source,
                inputs,
                is_learned=is_learned,
                lesson=lesson,
                patch=patch,
                answers=answers,
            )
        return number

    @property
    def next_number(self) -> int:
        """The number of the next generation: one that none has had on this device."""
        before = 0 if self._kept is None else self._kept.latest
        return max(self.weights.next_generation, before + 1)

    def _adopt(self, proposed: int, lesson: Lesson | None = None) -> int:
        """Adopt what is live; `proposed` is what `_proposed` returned for it."""
        try:
            questions = self.known.inputs
            self.rebuild(self._renew)
            answers = record_known_answers(self._session, self.rebuild, questions)
            generation = self._take_changed(answers, proposed)
            if lesson is not None:
                self._lessons[generation] = lesson
        except Exception as error:
            if self._kept is not None:
                self._rejected(self._kept.reject(proposed), f"{type(error).__name__}: {error}")
            raise
        if self._kept is not None:
            self._kept.confirm(generation, answers)
        return generation

    def _take_changed(self, answers: KnownAnswers, at_least: int) -> int:
        generation = self.weights.take(changed=True, at_least=at_least)
        self._note_known(generation, answers)
        self.weights.activate(generation)
        return generation

    def _note_known(self, generation: int, answers: KnownAnswers) -> None:
        held = {self.weights.origin(g) for g in self.weights.generations}
        for gone in self._known.keys() - held:
            del self._known[gone]
        for gone in self._lessons.keys() - held:
            del self._lessons[gone]
        self._known[generation] = answers

    # ---------------------------------------------------------------- what a store has kept

    def put_back(self) -> None:
        """Make the generations of the store those of this process, and the last one serve.

        Each is built and answers as it did where that is known. Golden serves where that fails.
        To be called before anything is served.
        """
        kept = self._kept
        if kept is None or not self.weights.generations:
            return
        active = kept.active
        numbers: dict[str, int] = {self._session.model.sha256: GOLDEN}  # by identity
        for found in kept.found():
            try:
                self._put_back(found, numbers)
            except Exception as error:  # no room, no sound bytes, other answers
                logger().warning("generation %d was not put back", found.number, exc_info=True)
                kept.problems.append(f"generation {found.number} was not put back: {error}")
                self._return_to(GOLDEN)
        if active not in self.weights.generations:
            kept.problems.append(f"golden serves: generation {active} is not held")
            active = GOLDEN
        if self.weights.active != active:
            self._switch(active)

    def _put_back(self, found: Found, numbers: dict[str, int]) -> None:
        weights = self.weights
        origin = numbers.get(found.digest)
        if origin is not None:
            if weights.origin(weights.active) != origin:
                self._switch(origin)
            weights.take(at_least=found.number)
        else:
            questions = self._known[GOLDEN].inputs
            weights.images["source"].guard.write(0, found.source)
            self._write_inputs(found.inputs)
            self.rebuild(self._renew)
            answers = record_known_answers(self._session, self.rebuild, questions)
            if found.answers not in (None, answers.digest):
                raise IntegrityError("expected the answers that it gave before, got others")
            self._take_changed(answers, found.number)
            numbers[found.digest] = found.number
        if found.is_pinned:
            weights.pin(found.number)
        if found.is_learned:
            self.learned |= {found.number}
        if found.patch is not None:
            self.going_on[found.number] = found.patch
        origin = weights.origin(found.number)
        if found.was_taught and origin != GOLDEN:
            self._lessons.setdefault(origin, found.lesson)

    def _write_inputs(self, inputs: bytes) -> None:
        """Correct inputs in this way from now on; empty for none."""
        image = self.weights.images.get("input")
        room = 0 if image is None else image.nbytes
        if len(inputs) > room:
            raise IntegrityError(
                f"inputs: expected a correction of at most {room} bytes, got {len(inputs)}"
            )
        if image is not None:
            image.guard.write(0, inputs + bytes(room - len(inputs)))

    def _switch(self, generation: int) -> None:
        ranges = {name: image.ranges_of(None) for name, image in self.weights.images.items()}
        try:
            self._go_to(generation, ranges, whole=True)
        except Exception as error:
            logger().warning("generation %d cannot serve", generation, exc_info=True)
            if self._kept is not None:
                self._kept.problems.append(f"golden serves, not generation {generation}: {error}")
            self._return_to(GOLDEN)

    def _return_to(self, generation: int) -> None:
        """Undo a change that failed; if that fails too, mark answers untrusted."""
        weights = self.weights
        ranges = {name: image.ranges_of(None) for name, image in weights.images.items()}
        is_sound = False
        try:
            with self._inference_lock:
                report = weights.restore(generation, ranges)
            weights.activate(generation)
            self.rebuild()
            is_sound = not report.refused and self.attempts.prove().held
        except RUNTIME_FAILURES:
            logger().warning("generation %d could not be put back", generation, exc_info=True)
        finally:
            if not is_sound:
                self.mark_untrusted()

    def renew_golden(self) -> int:
        """As `ImageDigests.renew_golden`."""
        return self._digests.renew_golden(self._session, self.weights)

    def _renew(self, fresh: Mapping[str, memoryview]) -> None:
        """Guard what the runtime has packed from changed weights, where it packed before."""
        for name, live in fresh.items():
            self.weights.images[name].guard.write(0, live)
        self.weights.follow(fresh)

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
        corrupt = [block for block in self.weights.check() if block.image == "source"]
        if corrupt:
            raise IntegrityError(
                f"weights: expected sound bytes to build from, got {len(corrupt)} corrupt block(s)"
            )
        take_over = follow or self.weights.follow
        try:
            self._session.rebuild(
                lambda fresh: take_over(fresh.images),
                exchange=self._serving.exchange,
                keep_state=keep_state,
            )
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
        self._digests.require({"source": memoryview(data)})  # or a runtime would parse damage
        self._session.source.view[:] = data
        self._session.rebuild(self._guard_anew, exchange=self._serving.exchange)

    def _guard_anew(self, fresh: Instance) -> None:
        """Guard an instance that is about to serve, if it is what the model was opened with."""
        if self._session.correction is not None:  # golden's inputs go in as they come
            with self._inference_lock:
                self._session.correction.memory[:] = 0
        own = {
            n: image.live for n, image in self.weights.images.items() if n in ("source", "input")
        }
        self._digests.require_all({**own, **fresh.images})
        guarded = self._guard(fresh)
        # The guard has sealed what it found: that must still be what the model was opened with.
        self._digests.require_all({name: image.live for name, image in guarded.items()})
        if any(image.image.check() for image in guarded.values()):
            raise IntegrityError("weights: expected sound bytes to guard, got others meanwhile")
        self.forget_standby()
        self.weights.replace(guarded)
        self._serving.guard()
        if self._kept is not None:
            self._kept.activate(GOLDEN)
        for gone in self._known.keys() - {GOLDEN}:
            del self._known[gone]

    def mark_untrusted(self) -> None:
        """Flag every answer from now on."""
        self._mark_untrusted()

    def known_answers_right(self) -> bool:
        """Whether the running instance still gives the known answers, bit for bit.

        One that fails on them does not.
        """
        try:
            return self.known.matches(self._session.answers(self.known.inputs))
        except (ModelClosedError, ForkedProcessError):
            raise
        except RUNTIME_FAILURES:
            logger().warning("the known answers could not be asked", exc_info=True)
            return False

    def roll_back(
        self,
        to: int | Literal["golden"],
        modules: Collection[str] | None,
        prediction: int,
    ) -> None:
        """Do what `SelfHealingModel.rollback` says."""
        weights = self.weights
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
        ranges = {n: i.ranges_of(modules) for n, i in weights.images.items()}
        self._mend_saved("to", generation, ranges)
        active = weights.active
        is_whole = modules is None
        if self._kept is not None and is_whole:
            self._kept.activate(generation)
        try:
            text = self._go_to(generation, ranges, whole=is_whole)
        except BaseException:
            self._return_to(active)
            if self._kept is not None and is_whole:
                self._kept.activate(active)
            raise
        self._journal.add(
            EventKind.ROLLBACK,
            prediction,
            strategy="rollback_model" if modules is None else "rollback_module",
            outcome=text,
        )
        self.tell_problems(prediction)

    def _go_to(
        self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]], *, whole: bool
    ) -> str:
        weights = self.weights
        is_mixture = not whole and weights.origin(generation) != weights.origin(weights.active)
        lesson = self._joined_lesson(generation, weights.active) if is_mixture else None
        proposed = (
            self._proposed(
                self._mixed(generation, ranges), self._inputs_of(weights.active), lesson=lesson
            )
            if is_mixture
            else 0
        )
        with self._inference_lock:  # no answer from weights that are half one, half the other
            report = weights.restore(generation, ranges)
            if report.refused:
                raise IntegrityError(
                    f"to: expected sound saved bytes, got {report.refused} damaged block(s) in "
                    f"generation {generation}"
                )
            if not is_mixture:
                if whole:
                    weights.activate(generation)
                self.rebuild()  # scales, and what a runtime has copied, are the instance's own
        done = f"{report.rewritten} block(s) from generation {generation}"
        if is_mixture:  # modules of one, the rest of another: its answers were never recorded
            return f"{done}; with the others it is generation {self._adopt(proposed, lesson)} now"
        return f"{done}; {self._require_proof('to')}"

    def _joined_lesson(self, *generations: int) -> Lesson | None:
        found = [one for one in map(self.lesson, generations) if one is not None]
        return reduce(Lesson.joined, found) if found else None

    def _mixed(self, generation: int, ranges: Mapping[str, Sequence[tuple[int, int]]]) -> bytes:
        """Return the source's bytes with ranges of another generation."""
        mixed = bytearray(self.weights.sound_bytes("source", self.weights.active))
        other = self.weights.sound_bytes("source", generation)
        for offset, nbytes in ranges["source"]:
            mixed[offset : offset + nbytes] = other[offset : offset + nbytes]
        return bytes(mixed)

    def commission(
        self, baseline: Baseline, prediction: int, *, flips: bool | FlipEffort
    ) -> Baseline:
        """Do what `SelfHealingModel.commission` says; return the baseline as recorded here."""
        self.rebuild()
        questions = baseline.known_answers.inputs
        answers = record_known_answers(self._session, self.rebuild, questions)
        same = answers.matches(baseline.known_answers.outputs)
        there, here = baseline.fingerprint, self._session.fingerprint
        evidence = [f"calibrated on {there}", f"runs on {here}"]
        if flips:
            effort = flips if isinstance(flips, FlipEffort) else FlipEffort()
            evidence.append(cross_check(self._session, questions, effort))
        self._known[self.weights.origin(self.weights.active)] = answers
        self._journal.add(
            EventKind.COMMISSIONED,
            prediction,
            evidence=tuple(evidence),
            outcome=f"known answers {'are the same' if same else 'differ and were recorded anew'}",
        )
        return baseline.with_known_answers(answers, here)
