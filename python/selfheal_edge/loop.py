"""The loop around one inference: check, run, monitor, diagnose, repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from selfheal_edge.beats import Beat
from selfheal_edge.diagnosis import AttackDiagnoser, Cause, Diagnosis, Symptoms
from selfheal_edge.errors import IntegrityError
from selfheal_edge.healing import Healer
from selfheal_edge.journal import Journal
from selfheal_edge.monitor import SENSOR_ALARMS, Alarm, PerformanceMonitor
from selfheal_edge.policy import Policy
from selfheal_edge.repair import RepairCase
from selfheal_edge.session import Session
from selfheal_edge.signals import Measurement, SignalExtractor
from selfheal_edge.tflite.protocol import Array
from selfheal_edge.weights import CorruptBlock, Weights

__all__ = ["HealingLoop", "Step"]

_SAMPLES_FOR_DIAGNOSIS: Final = 32
_OF_INTEGRITY: Final = frozenset({Cause.WEIGHT_CORRUPTION, Cause.RUNTIME_FAULT})


@dataclass(frozen=True, slots=True)
class Step:
    """What one inference gave."""

    number: int
    """Predictions so far, this one included."""
    outputs: list[Array]
    measured: Measurement
    alarms: tuple[Alarm, ...]
    trusted: bool


class HealingLoop:
    """One model's loop. Its owner serialises the calls.

    Parameters
    ----------
    session, weights
        What runs, and its bytes.
    extractor, monitor, diagnoser, healer
        The parts of the loop, in their order.
    policy, journal
        What shall be done, and where it is written down.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        extractor: SignalExtractor,
        monitor: PerformanceMonitor,
        diagnoser: AttackDiagnoser,
        healer: Healer,
        policy: Policy,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._weights = weights
        self._extractor = extractor
        self._monitor = monitor
        self._diagnoser = diagnoser
        self._healer = healer
        self._policy = policy
        self._journal = journal
        self.trouble: Diagnosis | None = None
        """The trouble that goes on, if any."""
        self.predictions = 0
        self.alarms = 0
        self.corrupt_blocks = 0
        self.guard_repairs = 0
        """Damages to tables, parity or snapshots that were mended."""
        self._pending: dict[str, Alarm] = {}  # by signal: alarms that no diagnosis has heard yet
        self._diagnose_at = 0
        self._sweeps = bool(policy.scrub_bytes_per_predict or policy.keyed_bytes_per_predict)
        self._heals_at_once = healer.heals_at_once
        self._known_beat = Beat(policy.known_answers_every, None, clock)
        rebuild_after = None if session.stateful else policy.rebuild_after_predictions
        seconds = None if session.stateful else policy.rebuild_after_seconds
        self._rebuild_beat = Beat(rebuild_after, seconds, clock)
        self._pause = policy.rediagnose_after
        self._unhealed: frozenset[tuple[str, int]] = frozenset()
        """Image and block of what no strategy could restore."""
        self._retry_at = 0
        self._retry_pause = policy.rediagnose_after

    def step(self, inputs: list[Array], nonfinite: int = 0) -> Step:
        """Run once.

        Parameters
        ----------
        inputs
            Raw arrays, one per input of the model.
        nonfinite
            Input values that were NaN or infinite before quantisation hid them.
        """
        if self._sweeps:
            corrupt = self._weights.step(
                self._policy.scrub_bytes_per_predict,
                self._policy.keyed_bytes_per_predict,
                heal=self._heals_at_once,
            )
            if corrupt:
                self.take_in(corrupt)
        try:
            outputs = self._session.instance.run(inputs)
        except Exception:  # the input's fault, or that of bytes which the sweep has not reached
            corrupt = self._corrupt()
            if not corrupt or not self.heal_corruption(corrupt):
                raise
            outputs = self._session.instance.run(inputs)
        self.predictions += 1
        number = self.predictions
        measured = self._extractor.measure(inputs, outputs, self._session.instance.tapped())
        if nonfinite:  # what was replaced must not be taken for a signal
            unknown = (float("nan"),) * len(measured.values)
            measured = measured._replace(values=unknown, nonfinite=nonfinite)
        alarms = self._monitor.update(measured)
        if alarms:
            self.alarms += len(alarms)
            if self._hear(alarms) and not self._session.stateful:
                # The weights were corrupt: the answer is taken again from the healed model.
                outputs = self._session.instance.run(inputs)
                measured = self._extractor.measure(inputs, outputs, self._session.instance.tapped())
        if self._pending and self.predictions >= self._diagnose_at:
            self._diagnose()
        elif self.trouble is not None and self._monitor.settled():
            self._settle(self.trouble)
        self._keep_beats()
        sound = self._healer.trusted and not nonfinite and not measured.nonfinite_outputs
        return Step(number, outputs, measured, alarms, sound)

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
        if corrupt and not self._waits(corrupt):
            self.heal_corruption(corrupt)
            if not self._pending:
                return
        alarms, self._pending = tuple(self._pending.values()), {}
        diagnosis = self._diagnoser.diagnose(
            Symptoms(
                alarms=alarms,
                signals=self._monitor.names,
                scores=self._monitor.window,
                count=self._monitor.count,
                repeats=self._monitor.repeats,
                known_answers_right=self._healer.known_answers_right(),
            )
        )
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

    def _keep_beats(self) -> None:
        """Ask the known answers, and rebuild the runtime, when it is time."""
        rebuild = self._rebuild_beat.due()
        if not (self._known_beat.due() or rebuild) or self.trouble is not None:
            return
        if rebuild:
            try:
                self._healer.rebuild()
            except IntegrityError:  # damage that the sweep has not reached
                corrupt = self._corrupt()
                if not corrupt or not self.heal_corruption(corrupt):
                    return
        if not self._healer.known_answers_right():
            self._runtime_fault()

    def _runtime_fault(self) -> None:
        """Known answers are wrong: find out why, and respond."""
        corrupt = self._corrupt()
        if corrupt:
            self.heal_corruption(corrupt)
            return
        diagnosis = self._diagnoser.diagnose(Symptoms(known_answers_right=False))
        self._record(diagnosis)
        healing = self._healer.respond(diagnosis, RepairCase(), self.predictions)
        self.trouble = diagnosis
        if healing.restored:
            self.restored()
        else:
            self._healer.mark_untrusted()
            self._retry_at = self.predictions + self._retry_pause

    def take_in(self, found: tuple[CorruptBlock, ...]) -> None:
        """Take note of what a sweep found, and of what the core has healed already."""
        live = tuple(block for block in found if block.part == "live")
        for block in found:
            if block.part != "live":
                self.guard_repairs += 1
                self._journal.add(
                    "repair",
                    self.predictions,
                    cause=Cause.WEIGHT_CORRUPTION.value,
                    strategy="mend_guard",
                    outcome=f"{'healed' if block.healed else 'not healed'}: damage to the "
                    f"{block.part} that guards block {block.block} of the {block.image} image",
                )
        if live and not self._waits(live):
            self.heal_corruption(live)

    def heal_corruption(self, corrupt: tuple[CorruptBlock, ...]) -> bool:
        """Restore corrupt blocks; return whether the model is proven to be what it was."""
        self.corrupt_blocks += len(corrupt)
        regions = tuple(dict.fromkeys(r for block in corrupt for r in block.regions))
        diagnosis = self._diagnoser.diagnose(
            Symptoms(corrupt_blocks=len(corrupt), corrupt_regions=regions)
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
            self._unhealed = frozenset((b.image, b.block) for b in case.corrupt)
            self._retry_at = self.predictions + self._retry_pause
            self._retry_pause *= 2
        return healing.restored

    def restored(self) -> None:
        """Take note that the model is proven to be what it was."""
        self._unhealed = frozenset()
        self._retry_pause = self._policy.rediagnose_after
        # The charts have heard a damaged model; what else was wrong will be heard again.
        if self.trouble is None or self.trouble.cause in _OF_INTEGRITY:
            self._recover()

    def _corrupt(self) -> tuple[CorruptBlock, ...]:
        """Check every byte."""
        return self._weights.check()

    def _waits(self, corrupt: tuple[CorruptBlock, ...]) -> bool:
        """Whether these blocks are known to resist, and it is too early to try again."""
        return self.predictions < self._retry_at and self._unhealed.issuperset(
            (b.image, b.block) for b in corrupt
        )

    def _settle(self, trouble: Diagnosis) -> None:
        """End a trouble whose signals have settled; damage ends by proof alone."""
        if trouble.cause in _OF_INTEGRITY:
            if self.predictions < self._retry_at or not self._proven():
                return
            self.restored()
        else:
            self._recover()

    def _proven(self) -> bool:
        self._retry_at = self.predictions + self._retry_pause
        self._retry_pause *= 2
        try:
            return self._healer.prove().held
        except IntegrityError:
            return False

    def _recover(self) -> None:
        trouble, self.trouble = self.trouble, None
        self._healer.trusted = True
        self._pending.clear()
        self._monitor.reset()
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
