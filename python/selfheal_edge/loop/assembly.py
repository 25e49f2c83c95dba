"""Put the parts of a self-healing model together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.causes import Cause
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser, Diagnoser
from selfheal_edge.errors import BaselineMismatchError
from selfheal_edge.inference.serving import Serving
from selfheal_edge.inference.spare import Spare
from selfheal_edge.integrity.guarded_image import GuardedImage, GuardOptions, guard_instance
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.loop.examiner import Examiner
from selfheal_edge.loop.executor import LoopExecutor
from selfheal_edge.loop.kept_labels import KeptLabels
from selfheal_edge.loop.known_conditions import KnownConditions
from selfheal_edge.loop.label_desk import LabelDesk
from selfheal_edge.loop.proposer import Proposer
from selfheal_edge.loop.second_look import SecondLook
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.estimate import estimate_performance
from selfheal_edge.monitoring.monitor import Monitor, PerformanceMonitor
from selfheal_edge.monitoring.performance import Performance
from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.repair.budget import RepairBudget
from selfheal_edge.repair.rollback import Rollback
from selfheal_edge.store.journal import Journal
from selfheal_edge.text import LIST, shown
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.runtimes.protocol import Instance, TensorSpec
from selfheal_edge.tflite.session import Session

if TYPE_CHECKING:
    from selfheal_edge.loop.keeper import Keeper
    from selfheal_edge.loop.kept_generations import Late

__all__ = ["Parts", "assemble", "core_heals_at_once", "correction_of"]

_CLASS_BYTES: Final = 12  # of each class: a bias, a scale, and what packing rounds up to
_AROUND: Final = 2048  # blocks that learned bytes share with others


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a self-healing model is made of."""

    session: Session
    weights: Weights
    extractor: SignalExtractor
    monitor: Monitor
    spare: Spare | None
    loop: LoopExecutor
    journal: Journal
    inference_lock: ModelLock
    maintenance_lock: ModelLock
    proposer: Proposer | None

    def close(self) -> None:
        """Release everything, also where a part of it fails."""
        with ExitStack() as rest:
            if self.spare is not None:
                rest.callback(self.spare.close)
            rest.callback(self.session.close)
            rest.callback(self.loop.repairs.forget_standby)
            rest.callback(self.loop.repairs.release_retired)
            if self.proposer is not None:
                rest.callback(self.proposer.close)
            rest.callback(self.weights.close)
            self.loop.serving.release()


def _extractor(session: Session, baseline: Baseline) -> SignalExtractor:
    extractor = baseline.extractor(session.instance)
    if extractor.names != tuple(baseline.references):
        raise BaselineMismatchError(
            f"baseline: expected the signals {shown(extractor.names, LIST)}, "
            f"got {shown(tuple(baseline.references), LIST)}"
        )
    return extractor


def correction_of(
    baseline: Baseline, policy: Policy, inputs: Sequence[TensorSpec]
) -> _core.InputCorrection | None:
    """Return what can correct a model's input; None where it cannot be corrected.

    There is room for the axis that calibration found to count features, or for the last one.
    """
    table = InputTable.of(inputs) if policy.snapshots else None
    if table is None:
        return None
    reference = LearningReference.from_arrays(baseline.profile)
    try:
        features = table.features(len(table.shape) - 1 if reference is None else reference.axis)
    except ValueError:  # too many
        return None
    return _core.InputCorrection(table.dtype.name, table.shape, table.nbytes(features))


def _head_bytes(session: Session) -> int:
    """Return the bytes of the layer that is learned first, with its scales and biases."""
    model = session.copy.model
    head = model.head or (None if isinstance(model.regression, str) else model.regression)
    weights = None if head is None else session.copy.model.subgraphs[0].tensors[head.weights]
    if head is None or weights is None or weights.nbytes is None:
        return 0
    return weights.nbytes + _CLASS_BYTES * head.classes + _AROUND


def assemble(
    session: Session,
    baseline: Baseline,
    *,
    policy: Policy,
    journal: Journal,
    kit: ModelRepairKit,
    monitor: Monitor | None,
    diagnoser: Diagnoser | None,
    budget: RepairBudget | None,
    inference_lock: ModelLock,
    maintenance_lock: ModelLock,
    clock: Callable[[], float] | None,
    first_id: int,
    second_changed: Callable[[bool], None],
    keeper: Keeper | None = None,
    rejected: Callable[[], None] = lambda: None,
    seed: int | None = None,
) -> Parts:
    """Make the parts of one model and join them.

    Parameters
    ----------
    session
        Its owner closes it if this fails.
    budget
        Of repairs by learning; None: one of its own, as the policy says.
    inference_lock, maintenance_lock
        Held while an inference runs; held, before that one, by the thread that works
        on the images. The same
        object where the call that notices damage heals it.
    first_id
        Of predictions.
    second_changed
        Told whether answers have to be looked at from now on, before they are given.
    keeper
        What outlives the process, if anything does.
    rejected
        Told, under the maintenance lock, that a new model file on trial did not hold.
    seed
        Of which labels are asked for, for tests.
    """
    extractor = _extractor(session, baseline)
    options = GuardOptions(
        policy.max_generations,
        policy.snapshots,
        policy.parity_blocks,
        learned_bytes=_head_bytes(session),
    )

    def guarded(instance: Instance) -> dict[str, GuardedImage]:
        regions = session.copy.model.regions
        copy = session.copy
        return guard_instance(
            session.source.view,
            regions,
            instance,
            options,
            session.correction,
            copy.read_again,
        )

    with ExitStack() as undo:
        weights = Weights(
            guarded(session.instance),
            lambda: session.coverage,
            maintenance_lock,
            time.monotonic if clock is None else clock,
        )
        undo.callback(weights.close)
        spare = Spare(session) if policy.hot_spare else None
        if spare is not None:
            undo.callback(spare.close)
        if keeper is not None:
            monitor = keeper.monitor(baseline, monitor)
            first_id = keeper.ids.first()
        monitor = PerformanceMonitor(baseline) if monitor is None else monitor
        labels = LabelDesk(
            session=session,
            baseline=baseline,
            extractor=extractor,
            policy=policy,
            clock=time.monotonic if clock is None else clock,
            first_id=first_id,
            seed=seed,
        )
        if keeper is not None:
            keeper.recall_labels(KeptLabels(labels, policy))
        may_heal = core_heals_at_once(policy, kit)
        conditions = KnownConditions(baseline, extractor, inference_lock)
        proposer = None

        def inputs_since(ago: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
            with inference_lock:
                return labels.inputs_since(ago)

        if budget is None:
            budget = RepairBudget(
                policy.repairs_per_hour,
                policy.repair_seconds_per_hour,
                time.monotonic if clock is None else clock,
            )
        if len(session.instance.inputs) == 1 and not session.model.keeps_resources:
            proposer = Proposer(
                session=session,
                baseline=baseline,
                strategies=kit.learning,
                inputs_since=inputs_since,
                labelled_since=labels.labelled_since,
                budget=budget,
                owner=policy.owner,
                seed=seed,
            )
            undo.callback(proposer.close)
        examiner = Examiner(
            session=session,
            baseline=baseline,
            extractor=extractor,
            monitor=monitor,
            inference_lock=inference_lock,
            per_minute=policy.diagnosis_inferences_per_minute,
            clock=time.monotonic if clock is None else clock,
        )
        second_look = None
        if policy.under_attack != "mark":
            second_look = SecondLook(
                policy.under_attack,
                examiner.profile,
                baseline.output_kind,
                session.instance.outputs[0],
                examiner.outputs_of,
                value=policy.abstain_value,
                is_stateful=session.stateful,
            )
        loop = LoopExecutor(
            session=session,
            weights=weights,
            guard=guarded,
            monitor=monitor,
            diagnoser=AttackDiagnoser() if diagnoser is None else diagnoser,
            kit=kit,
            policy=policy,
            known=baseline.known_answers,
            journal=journal,
            inference_lock=inference_lock,
            maintenance_lock=maintenance_lock,
            spare=spare,
            serve=partial(
                Serving,
                session=session,
                weights=weights,
                extractor=extractor,
                monitor=monitor,
                policy=policy,
                inference_lock=inference_lock,
                maintenance_lock=maintenance_lock,
                clock=clock,
                at_once=may_heal and policy.heal != "observe",
                first_id=first_id,
                second_changed=second_changed,
                probe=lambda: (
                    _extractor(session, baseline),
                    _copied(monitor, baseline),
                    baseline.known_answers.inputs,
                ),
            ),
            labels=labels,
            examiner=examiner,
            second_look=second_look,
            conditions=conditions,
            proposer=proposer,
            core_may_heal=may_heal,
            kept=None if keeper is None else keeper.generations,
            performance=partial(
                estimate_now, session, baseline, extractor, monitor, inference_lock, labels
            ),
            end_trial=partial(_end_trial, keeper, rejected),
            keep=(lambda _known, _rows: None) if keeper is None else keeper.keep_known,
            commit=(lambda: None) if keeper is None else keeper.commit,
        )
        if keeper is not None:
            loop.go_on_with(keeper.learned())
        undo.pop_all()
    locks = inference_lock, maintenance_lock
    return Parts(session, weights, extractor, monitor, spare, loop, journal, *locks, proposer)


def _end_trial(
    keeper: Keeper | None, rejected: Callable[[], None], has_held: bool, late: Sequence[Late]
) -> None:
    if keeper is not None:
        keeper.end_trial(has_held, late)
        if not has_held:
            rejected()


def estimate_now(
    session: Session,
    baseline: Baseline,
    extractor: SignalExtractor,
    monitor: Monitor,
    lock: ModelLock,
    labels: LabelDesk,
) -> Performance:
    """Estimate how well a model does; predictions wait for copies of what is kept alone.

    With the labels that were asked for, drawn from all, of the latest inferences.
    """
    with lock.lock():
        recent = extractor.recent()
        scores = dict(zip(monitor.names, monitor.window.T, strict=False))
    instance = session.instance
    tap = instance.taps[0] if instance.taps else None
    told = labels.labelled(len(recent))
    return estimate_performance(baseline, recent, scores, instance.outputs, tap, told)


def _copied(monitor: Monitor, baseline: Baseline) -> PerformanceMonitor:
    """Return a monitor as ours, to time with; solving thresholds anew takes longer than a start."""
    if isinstance(monitor, PerformanceMonitor):
        return PerformanceMonitor.from_state(baseline, monitor.state())
    return PerformanceMonitor(baseline)


def core_heals_at_once(policy: Policy, kit: ModelRepairKit) -> bool:
    """Whether the core shall repair what its sweep finds: when the first response is just that.

    A user who replaces our strategy, or puts another one first, gets the first word.
    """
    first = policy.response(Cause.WEIGHT_CORRUPTION)[:1]
    return first == ("rollback_block",) and isinstance(kit.strategies[first[0]], Rollback)
