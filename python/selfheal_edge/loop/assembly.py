"""Put the parts of a self-healing model together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser
from selfheal_edge.errors import BaselineMismatchError
from selfheal_edge.inference.serving import Serving
from selfheal_edge.inference.spare import Spare
from selfheal_edge.integrity.guarded_image import GuardedImage, GuardOptions, guard_instance
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.loop.dispatcher import Response, respond
from selfheal_edge.loop.healer import Healer
from selfheal_edge.loop.healing_loop import HealingLoop
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.store.journal import Journal
from selfheal_edge.text import LIST, shown
from selfheal_edge.tflite.runtimes.protocol import Instance
from selfheal_edge.tflite.session import Session

__all__ = ["Parts", "assemble"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a self-healing model is made of."""

    session: Session
    weights: Weights
    extractor: SignalExtractor
    monitor: PerformanceMonitor
    healer: Healer
    spare: Spare | None
    loop: HealingLoop
    response: Response
    serving: Serving

    @property
    def trusted(self) -> bool:
        """Whether answers may be relied on."""
        return self.healer.trust.holds or self.serving.on_spare

    def close(self) -> None:
        """Release everything, also where a part of it fails."""
        with ExitStack() as rest:
            if self.spare is not None:
                rest.callback(self.spare.close)
            rest.callback(self.session.close)
            rest.callback(self.weights.close)
            self.serving.release()


def _extractor(session: Session, baseline: Baseline) -> SignalExtractor:
    extractor = baseline.extractor(session.instance)
    if extractor.names != tuple(baseline.references):
        raise BaselineMismatchError(
            f"baseline: expected the signals {shown(extractor.names, LIST)}, "
            f"got {shown(tuple(baseline.references), LIST)}"
        )
    return extractor


def assemble(
    session: Session,
    baseline: Baseline,
    *,
    policy: Policy,
    journal: Journal,
    kit: ModelRepairKit,
    monitor: PerformanceMonitor | None,
    diagnoser: AttackDiagnoser | None,
    inference_lock: ModelLock,
    maintenance_lock: ModelLock,
    clock: Callable[[], float] | None,
) -> Parts:
    """Make the parts of one model and join them.

    Parameters
    ----------
    session
        Closed by whoever opened it if this fails.
    inference_lock, maintenance_lock
        Held while an inference runs; held, before these, by whoever works on the images. The same
        object where the call that notices damage heals it.
    """
    extractor = _extractor(session, baseline)

    options = GuardOptions(policy.max_generations, policy.snapshots, policy.parity_blocks)

    def guarded(instance: Instance) -> dict[str, GuardedImage]:
        return guard_instance(session.source.view, session.copy.model.regions, instance, options)

    with ExitStack() as undo:
        weights = Weights(
            guarded(session.instance),
            lambda: session.coverage,
            lambda corrupt: loop.take_in(corrupt),  # noqa: PLW0108 — made below
            maintenance_lock,
            time.monotonic if clock is None else clock,
        )
        undo.callback(weights.close)
        healer = Healer(
            session=session,
            weights=weights,
            guard=guarded,
            known=baseline.known_answers,
            kit=kit,
            policy=policy,
            journal=journal,
        )
        spare = Spare(session) if policy.hot_spare else None
        if spare is not None:
            undo.callback(spare.close)
        monitor = PerformanceMonitor(baseline) if monitor is None else monitor
        loop = HealingLoop(
            session=session,
            weights=weights,
            monitor=monitor,
            diagnoser=AttackDiagnoser() if diagnoser is None else diagnoser,
            healer=healer,
            policy=policy,
            journal=journal,
            turn=inference_lock,
            spare=spare,
        )
        response = respond(loop, healer, inference_lock, maintenance_lock)
        serving = Serving(
            session=session,
            weights=weights,
            extractor=extractor,
            monitor=monitor,
            policy=policy,
            inference_lock=inference_lock,
            maintenance_lock=maintenance_lock,
            clock=clock,
            at_once=healer.heals_at_once,
            handle=response.handle,
        )
        loop.serving = serving
        session.inference_lock = inference_lock
        session.exchanged = serving.exchange
        weights.replaced = serving.guard
        undo.pop_all()
    return Parts(session, weights, extractor, monitor, healer, spare, loop, response, serving)
