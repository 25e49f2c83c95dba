"""The loop behind the inferences: what is up is heard, diagnosed and repaired."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from selfheal_edge.diagnosis.diagnoser import (
    AttackDiagnoser,
    Cause,
    Diagnosis,
    Symptoms,
    diagnose_with,
)
from selfheal_edge.errors import IntegrityError
from selfheal_edge.inference.incident import Incident
from selfheal_edge.inference.serving import Serving
from selfheal_edge.inference.spare import Spare
from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.loop.backoff import Retries
from selfheal_edge.loop.guard_damage import GuardDamage
from selfheal_edge.loop.healer import Healer
from selfheal_edge.loop.periodic_trigger import Beat
from selfheal_edge.monitoring.monitor import SENSOR_ALARMS, Alarm, PerformanceMonitor
from selfheal_edge.policy import Policy
from selfheal_edge.repair import RepairCase
from selfheal_edge.store.journal import Journal
from selfheal_edge.tflite.session import Session

__all__ = ["HealingLoop"]

_SAMPLES_FOR_DIAGNOSIS: Final = 32
_OF_INTEGRITY: Final = frozenset({Cause.WEIGHT_CORRUPTION, Cause.RUNTIME_FAULT})


class HealingLoop:
    """One model's loop. Its owner serialises the calls.

    Parameters
    ----------
    session, weights
        What runs, and its bytes.
    monitor, diagnoser, healer
        The parts of the loop, in their order.
    policy, journal
        What shall be done, and where it is written down.
    turn
        Held while what inferences use as well is looked at or changed.
    spare
        Serves while the model is being healed.
    """

    serving: Serving
    """What serves the inferences; set by whoever made both."""

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        monitor: PerformanceMonitor,
        diagnoser: AttackDiagnoser,
        healer: Healer,
        policy: Policy,
        journal: Journal,
        turn: AbstractContextManager[None],
        spare: Spare | None = None,
    ) -> None:
        self._session = session
        self._weights = weights
        self._monitor = monitor
        self._diagnoser = diagnoser
        self._healer = healer
        self._policy = policy
        self._journal = journal
        self._turn = turn
        self._spare = spare
        self._verify_spare_at = 0
        self.trouble: Diagnosis | None = None
        """The trouble that goes on, if any."""
        self.alarms = 0
        self.corrupt_blocks = 0
        self.guards = GuardDamage(weights, journal, healer.renew_golden)
        self._pending: dict[str, Alarm] = {}  # by signal: alarms that no diagnosis has heard yet
        self._recovered_at = 0  # counted like the monitor
        self._diagnose_at = 0
        self._known_beat = Beat(policy.known_answers_every, None)
        self._rebuild_beat = Beat(policy.rebuild_after_predictions, policy.rebuild_after_seconds)
        self._pause = policy.rediagnose_after
        self._retries = Retries(policy.rediagnose_after)

    @property
    def predictions(self) -> int:
        """Predictions so far."""
        return self.serving.number

    def start(self) -> None:
        """Begin to count what is done every so often."""
        now = self.serving.now()
        for beat in (self._known_beat, self._rebuild_beat):
            beat.start(self.predictions, now)
        self._look_again()

    def handle(self, incident: Incident) -> None:
        """Take in what came up at an inference, and do what has to be done.

        Nothing that predictions depend on is held for longer than one inference takes.

        Raises
        ------
        Exception
            The runtime's own, when it failed and no damage explains that.
        """
        try:
            self._handle(incident)
        finally:
            self._serve_again()
            self._look_again()

    @property
    def is_calm(self) -> bool:
        """Whether there is neither a trouble nor an alarm that nobody has explained."""
        return self.trouble is None and not self._pending

    def _handle(self, incident: Incident) -> None:
        self._keep_spare()
        if incident.damage:
            self._take_in(incident.damage)
            return
        if incident.error is not None:
            corrupt = self._corrupt()
            if not corrupt or not self.heal_corruption(corrupt):
                raise incident.error
            return
        self.alarms += len(incident.alarms)
        # Those of before a recovery had waited for it: what was wrong then is known, and healed.
        alarms = tuple(a for a in incident.alarms if a.onset >= self._recovered_at)
        if alarms and self._hear(alarms) and incident.again and not self._session.stateful:
            # The weights were corrupt: the answer is taken again from the healed model.
            incident.again()
        if self._pending and self.predictions >= self._diagnose_at:
            self._diagnose()
        elif self._is_damaged:
            if self.predictions >= self._retries.at:
                self._try_again()
        elif self.trouble is not None and self._is_settled():
            self._recover()
        self._keep_beats()

    @property
    def _is_damaged(self) -> bool:
        """Whether there is damage that no strategy could repair: it ends by proof alone."""
        return self.trouble is not None and self.trouble.cause in _OF_INTEGRITY

    def _look_again(self) -> None:
        """Say which inferences shall be attended to."""
        beats = (self._known_beat, self._rebuild_beat)
        numbers = [b.next_prediction for b in beats if b.next_prediction is not None]
        if self._pending:
            numbers.append(self._diagnose_at)
        if self._is_damaged:
            numbers.append(self._retries.at)
        if self.serving.on_spare:
            numbers.append(self._verify_spare_at)
        second = min(beat.next_second for beat in beats)
        with self._turn:
            self.serving.handle_at(
                min(numbers, default=None),
                second,
                always=self.trouble is not None and not self._is_damaged,
            )

    def _stand_in(self) -> None:
        """Have the spare serve, if there is one and it is proven sound."""
        if self._spare is None or self.serving.on_spare:
            return
        if self._spare.verify(self._healer.known):
            self._verify_spare_at = self.predictions + self._policy.rediagnose_after
            with self._turn:
                self.serving.attach(self._spare.instance, spare=True)

    def _keep_spare(self) -> None:
        """Look after the spare where it has to serve for long: nothing sweeps it."""
        if not self.serving.on_spare or self.predictions < self._verify_spare_at:
            return
        with self._turn:
            self.serving.attach(self._session.instance)
        self._stand_in()

    def _serve_again(self) -> None:
        """Have the model itself serve, once it is proven to be what it was."""
        if self.serving.on_spare and not self._is_damaged:
            with self._turn:
                self.serving.attach(self._session.instance)

    def _is_settled(self) -> bool:
        with self._turn:
            return self._monitor.settled()

    def _hear(self, alarms: tuple[Alarm, ...]) -> bool:
        """Take in alarms; return whether corrupt weights were behind them and are healed."""
        if self.trouble is None and not self._pending:
            self._journal.add(
                "alarm", self.predictions, evidence=tuple(f"alarm: {a}" for a in alarms)
            )
            corrupt = self._corrupt()
            if corrupt:
                return self.heal_corruption(corrupt)
            # The shape of a shift shows only after some samples; until then, doubt.
            with self._turn:
                onset_ago = self._monitor.count - min(a.onset for a in alarms)
            self._diagnose_at = self.predictions + max(0, _SAMPLES_FOR_DIAGNOSIS - onset_ago)
            self._healer.mark_untrusted()
        for alarm in alarms:
            self._pending.setdefault(alarm.signal, alarm)
        known = self.trouble is not None and self.trouble.cause is Cause.SENSOR_FAULT
        if not known and not SENSOR_ALARMS.isdisjoint(self._pending):
            self._diagnose_at = self.predictions
        return False

    def _diagnose(self) -> None:
        """Name the cause of the pending alarms, and respond unless it is known already."""
        corrupt = self._corrupt()
        if corrupt:
            if not self._retries.wait_for(corrupt, self.predictions):
                self.heal_corruption(corrupt)
            if self._is_damaged:  # what a damaged model is heard to do says nothing else
                self._pending.clear()
            if not self._pending:
                return
        alarms, self._pending = tuple(self._pending.values()), {}
        right = self._healer.known_answers_right()
        with self._turn:
            symptoms = Symptoms(
                alarms=alarms,
                signals=self._monitor.names,
                scores=self._monitor.window,
                count=self._monitor.count,
                repeats=self._monitor.repeats,
                known_answers_right=right,
            )
        diagnosis = diagnose_with(self._diagnoser, symptoms)
        again = self.trouble is not None and self.trouble.cause is diagnosis.cause
        self._pause = 2 * self._pause if again else self._policy.rediagnose_after
        self._diagnose_at = self.predictions + self._pause
        if again:
            return
        self._record(diagnosis)
        healing = self._healer.respond(diagnosis, RepairCase(), self.predictions)
        self.trouble = diagnosis
        if healing.restored:
            self._recover()
        elif self._is_damaged:
            self._healer.mark_untrusted()
            self._retries.put_off(self.predictions)

    def _keep_beats(self) -> None:
        """Ask the known answers, and rebuild the runtime, when it is time."""
        number, now = self.predictions, self.serving.now()
        rebuild = self._rebuild_beat.due(number, now)
        if not (self._known_beat.due(number, now) or rebuild):
            return
        if self._is_damaged:  # its repair is tried again by itself
            return
        if rebuild:
            try:
                self._healer.rebuild(keep_state=True)
            except IntegrityError:  # damage that the sweep has not reached
                corrupt = self._corrupt()
                if not corrupt or not self.heal_corruption(corrupt):
                    return
        if not self._healer.known_answers_right():
            self._runtime_fault()

    def _runtime_fault(self) -> None:
        """Known answers are wrong: find out why, and respond."""
        trust = self._healer.trust
        trust.repairing += 1
        try:
            self._heal_runtime()
        finally:
            with self._turn:
                trust.repairing -= 1

    def _heal_runtime(self) -> None:
        self._stand_in()
        corrupt = self._corrupt()
        if corrupt:
            self.heal_corruption(corrupt)
            return
        diagnosis = diagnose_with(self._diagnoser, Symptoms(known_answers_right=False))
        self._record(diagnosis)
        healing = self._healer.respond(diagnosis, RepairCase(), self.predictions)
        if healing.restored:
            self.trouble = self.trouble or diagnosis  # a drift that goes on is one still
            self.restored()
        else:
            self._healer.mark_untrusted()
            self.trouble = diagnosis
            self._retries.put_off(self.predictions)

    def take_in(self, found: tuple[CorruptBlock, ...]) -> None:
        """Take note of what a sweep found beside the inferences."""
        try:
            self._take_in(found)
        finally:
            self._serve_again()
            self._look_again()

    def _take_in(self, found: tuple[CorruptBlock, ...]) -> None:
        """Take note of what a sweep found, and of what the core has healed already."""
        live = tuple(block for block in found if block.part == "live")
        guards = [block for block in found if block.part != "live"]
        if guards:
            self.guards.note(guards, self.predictions)
        if live and not self._retries.wait_for(live, self.predictions):
            self.heal_corruption(live)

    def rolled_back(self) -> None:
        """Take note that the user has rolled back, and that the result was proven."""
        self.restored()
        self._serve_again()
        self._look_again()

    def heal_corruption(self, corrupt: tuple[CorruptBlock, ...]) -> bool:
        """Restore corrupt blocks; return whether the model is proven to be what it was."""
        trust = self._healer.trust
        trust.repairing += 1
        try:
            return self._heal_corruption(corrupt)
        finally:
            with self._turn:
                trust.repairing -= 1

    def _heal_corruption(self, corrupt: tuple[CorruptBlock, ...]) -> bool:
        self._stand_in()
        self.corrupt_blocks += len(corrupt)
        regions = tuple(dict.fromkeys(r for block in corrupt for r in block.regions))
        diagnosis = diagnose_with(
            self._diagnoser, Symptoms(corrupt_blocks=len(corrupt), corrupt_regions=regions)
        )
        self._record(diagnosis)
        # One corrupt block seldom comes alone, and proof needs all of them healed.
        left = self._corrupt()
        seen = {(b.image, b.block) for b in left}
        case = RepairCase((*left, *(b for b in corrupt if (b.image, b.block) not in seen)))
        healing = self._healer.respond(diagnosis, case, self.predictions)
        if healing.restored:
            self.restored()
        else:  # whatever the policy did: nobody shall rely on a damaged model
            self._healer.mark_untrusted()
            self.trouble = diagnosis
            self._retries.put_off(self.predictions, case.corrupt)
        return healing.restored

    def restored(self) -> None:
        """Take note that the model is proven to be what it was."""
        self._retries.clear()
        # The charts have heard a damaged model; what else was wrong will be heard again.
        if self.trouble is None or self.trouble.cause in _OF_INTEGRITY:
            self._recover()

    def _corrupt(self) -> tuple[CorruptBlock, ...]:
        """Check every byte."""
        return self._weights.check()

    def _try_again(self) -> None:
        """Look whether damage that resisted is gone; if not, try all repairs once more."""
        corrupt = self._corrupt()
        if corrupt:
            self.heal_corruption(corrupt)
        elif self._healer.known_answers_right():
            self.restored()
        else:
            self._runtime_fault()

    def _recover(self) -> None:
        trouble, self.trouble = self.trouble, None
        self._pending.clear()
        with self._turn:
            self._healer.trust.restore()
            self._monitor.reset()
            self._recovered_at = self._monitor.count
        self._pause = self._policy.rediagnose_after
        if trouble is not None:
            self._journal.add("recovered", self.predictions, cause=trouble.cause.value)

    def _record(self, diagnosis: Diagnosis) -> None:
        self._journal.add(
            "diagnosis",
            self.predictions,
            cause=diagnosis.cause.value,
            evidence=tuple(str(e) for e in diagnosis.evidence),
            outcome=f"confidence {diagnosis.confidence:.2f}",
        )
