"""Run inferences with all that surrounds them, and say when something is up."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.health import Prediction, Predictions
from selfheal_edge.inference.check_plan import Timing, plan_checks
from selfheal_edge.inference.context import ContextLog, read_context
from selfheal_edge.inference.generation_log import GenerationLog
from selfheal_edge.inference.incident import Incident
from selfheal_edge.inference.second_answers import Giver, with_others
from selfheal_edge.integrity.guarded_image import GuardedImage, describe_findings
from selfheal_edge.integrity.weights import GOLDEN, Weights
from selfheal_edge.monitoring.monitor import Alarm, Monitor, PerformanceMonitor
from selfheal_edge.monitoring.signals import Measurement, SignalExtractor
from selfheal_edge.policy import Policy
from selfheal_edge.tflite.arrays import Batch, dequantize, shape_outputs
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, TensorSpec
from selfheal_edge.tflite.session import Session

__all__ = ["Serving"]

T = TypeVar("T")

_DAMAGE: Final = _core.ATTENTION["damage"]
_FAILED: Final = _core.ATTENTION["run_failed"]
_ALARM: Final = _core.ATTENTION["alarm"]

Answer: TypeAlias = Array | dict[str, Array]
ProbeParts: TypeAlias = tuple[SignalExtractor, PerformanceMonitor, Sequence[Sequence[Array]]]


def _weakly(method: Callable[..., T]) -> Callable[..., T]:
    """Return a function that calls a method without keeping its object.

    The core's objects are not seen by the collector of cycles: what they keep would never go.
    """
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> T:
        bound = reference()
        assert bound is not None, "called by an object that outlived its owner"
        return bound(*arguments)

    return call


def _tensor(spec: TensorSpec) -> tuple[str, np.dtype[np.generic], tuple[int, ...], float, int]:
    scale = spec.scale if spec.quantized else 0.0
    return spec.name, spec.dtype, spec.shape, scale, spec.zero_point


def _heard_by(monitor: Monitor) -> _core.InferenceMonitor | Callable[..., object]:
    """Return what the core updates: its own monitor, or the method of the user's."""
    method = monitor.update
    is_ours = getattr(method, "__func__", None) is PerformanceMonitor.update
    if is_ours and isinstance(monitor, PerformanceMonitor):
        return monitor.core
    return _weakly(method) if hasattr(method, "__func__") else method


class Serving:
    """One model's inferences: sweep, run, measure, monitor.

    All of it is one call into the core, which enters Python where something is up, and where what
    it works on is Python: an instance whose tensors may move, a monitor of the user's own.

    Parameters
    ----------
    session, weights, extractor, monitor, policy
        The parts.
    inference_lock, maintenance_lock
        Held while an inference runs; held by every other thread that works on the images.
    clock
        Monotonic seconds; None for the core's own.
    at_once
        Whether the core shall repair what its sweep finds; otherwise it only looks.
    first_id
        The `Prediction.id` of an inference is this and its number.
    second_changed
        Called with whether answers have to be looked at from now on, before they are given.
    handle
        Called with what came up, under the inference lock.
    probe
        Makes an extractor and a monitor for `session` to be timed with, and usual inputs.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        extractor: SignalExtractor,
        monitor: Monitor,
        policy: Policy,
        inference_lock: ModelLock,
        maintenance_lock: ModelLock,
        clock: Callable[[], float] | None,
        at_once: bool,
        first_id: int,
        second_changed: Callable[[bool], None],
        handle: Callable[[Incident], None],
        probe: Callable[[], ProbeParts],
    ) -> None:
        self._weights = weights
        self._extractor = extractor
        self._monitor = monitor
        self._inference_lock = inference_lock
        self._maintenance_lock = maintenance_lock
        self._handle = handle
        self.clock = _core.coarse_seconds if clock is None else clock
        """Seconds, of the clock that `listen` means."""
        instance = session.instance
        self._session = session
        if (
            policy.verify == "around"
            and session.stateful
            and (session.model.keeps_resources or instance.engine is None)
        ):
            raise ValueError(
                "policy: expected verify='before' or 'budget' for a recurrent model whose state "
                "cannot be put back, got 'around'"
            )
        self._inputs = [_tensor(spec) for spec in instance.inputs]
        self._outputs = [_tensor(spec) for spec in instance.outputs]
        self._specs = instance.outputs
        self._first_id = first_id
        self.trusted = _core.Flag()
        """Whether answers of the model's own may be relied on from now on."""
        with ExitStack() as undo:
            parts = functools.cache(probe)  # one after the other, both can be timed with the same
            self.checks = plan_checks(weights, policy, functools.partial(self._probe, parts, undo))
        """What is checked at each prediction."""
        self.hot = self._path(
            inference_lock=inference_lock.core,
            signals=extractor.core,
            monitor=_heard_by(monitor),
            handle=_weakly(self._handle_hot),
            ended=_weakly(inference_lock.ended),
            clock=None if clock is None else _weakly(self._now),
            live_bytes=self.checks.live_bytes,
            behind_bytes=policy.keyed_bytes_per_predict,
            live_seconds=(policy.sweep_seconds or 0.0) if self.checks.is_swept else 0.0,
            behind_seconds=policy.keyed_sweep_seconds or 0.0,
            heals=at_once,
        )
        """What `SelfHealingModel.predict` and `infer` try first."""
        self.is_suspect: Callable[[], bool] | None = None
        """Says whether the latest input is suspect, while an incident lasts that makes some so."""
        self.second: Giver | None = None
        """Gives other answers to suspects while an attack lasts, if the policy says so."""
        self._second_changed = second_changed
        self.context = ContextLog()
        """What the latest predictions came with."""
        self.generations = GenerationLog()
        """What gave the latest answers."""
        self.on_spare = False
        """Whether the spare serves, which was proven sound."""
        verifying = self.checks.verifying
        with inference_lock.lock():  # a file that was on trial may serve beside this one
            self.hot.verifying = None if verifying == "budget" else verifying
            self.guard()
            self.attach(instance)

    def _path(self, **parts: Any) -> _core.HotPath:
        return _core.HotPath(
            measurement=Measurement,
            inputs=self._inputs,
            outputs=self._outputs,
            prediction=Prediction,
            predictions=Predictions,
            trusted=self.trusted,
            first_id=self._first_id,
            shape=functools.partial(shape_outputs, self._specs),
            **parts,
        )

    def _engine(self, instance: Instance, tap: int) -> _core.Engine:
        if instance.engine is not None:
            return instance.engine
        return _core.PythonEngine(  # its tensors may move
            run=instance.run,
            tapped=instance.tapped,
            inputs=self._inputs,
            outputs=self._outputs,
            taps=[_tensor(spec) for spec in instance.taps] if tap >= 0 else [],
        )

    def _probe(
        self,
        parts: Callable[[], ProbeParts],
        undo: ExitStack,
        checked: Sequence[GuardedImage],
        live_bytes: int | None,
    ) -> Callable[[], Timing]:
        """Return what times an inference, on a hot path of its own; see `check_plan.Probe`."""
        session, instance = self._session, self._session.instance
        if session.stateful:  # what serves would remember it
            instance = session.choice.build(session.source)
            undo.callback(instance.close)
        extractor, monitor, asked = parts()
        path = self._path(
            inference_lock=_core.FairLock(),
            signals=extractor.core,
            monitor=monitor.core,
            handle=lambda *_: (),
            ended=lambda: None,
            clock=None,
            live_bytes=live_bytes or 0,
            behind_bytes=0,
            live_seconds=0.0,
            behind_seconds=0.0,
            heals=False,
        )
        path.attach(self._engine(instance, extractor.tap), extractor.tap)
        undo.callback(path.attach, None)
        undo.callback(path.guard, [])
        path.guard([image.guard for image in checked])
        path.verifying = "before" if live_bytes is None else None
        path.timed = True
        names = [spec.name for spec in instance.inputs]
        # What is usual: the same input again and again would be an alarm each time.
        turns = itertools.cycle(
            [(dict(zip(names, arrays, strict=True)), arrays) for arrays in asked]
        )

        def infer() -> Timing:
            named, arrays = next(turns)
            start = time.perf_counter()
            path.predict(named if len(named) > 1 else arrays[0])
            return Timing(*path.timing, time.perf_counter() - start)

        return infer

    def attach(self, instance: Instance, *, spare: bool = False) -> None:
        """Serve from this instance from now on; to be called under the lock.

        The spare answers as golden: what corrects the model's inputs is for its own weights.
        """
        self.on_spare = spare
        tap = self._extractor.tap
        self.hot.attach(self._engine(instance, tap), tap, proven=spare)
        self.hot.correct(None if spare else self._session.correction)
        self.note_generation()

    def note_generation(self) -> None:
        """Take note of what answers from now on; likewise."""
        active = GOLDEN if self.on_spare else self._weights.active
        self.generations.note(self.hot.number, active)

    def exchange(self, instance: Instance) -> None:
        """Serve from the model's new instance, unless the spare serves; likewise."""
        if not self.on_spare:
            self.attach(instance)

    def guard(self) -> None:
        """Sweep the images that there are now."""
        images = tuple(self._weights.images.values())
        with self._inference_lock:  # a thread that predicts may be about to ask what was found
            self.hot.guard(
                [image.guard for image in images],
                self._maintenance_lock.core,
                [name in self.checks.executing for name in self._weights.images],
                self.checks.all_watched,
            )
            self._images = images

    def release(self) -> None:
        """Let go of the instance; nothing is served any more."""
        self.hot.attach(None)
        self.hot.guard([])

    @property
    def memory_bytes(self) -> int:
        """Bytes of the hot path."""
        return self.hot.memory_bytes()

    def _now(self) -> float:
        return self.clock()

    def serve(self, batch: Batch) -> Answer:
        """Serve n inferences, one after the other.

        Under the lock for each if other threads wait, or for all where the caller has it.
        """
        if self.second is not None:
            return self.infer(batch).output
        answer: Answer = self._served(batch, records=False)
        return self._real(answer) if self._wants_reals(batch) else answer

    def infer(self, batch: Batch, context: object = None) -> Prediction | Predictions:
        """Serve likewise; return the answers with what the guard makes of them.

        With a context under one lock, so that it is known when one of them raises an alarm.
        """
        if context is not None and (values := read_context(context)):
            with self._inference_lock:
                self.context.begin(self.hot.number + 1, batch.size, values)
                try:
                    return self.infer(batch)
                finally:
                    self.context.end(self.hot.number)
        found: Prediction | Predictions
        if self.second is not None:
            return self._twice(batch, self.second)
        found = self._served(batch, records=True)
        if self._wants_reals(batch):
            return dataclasses.replace(found, output=self._real(found.output))
        return found

    def answer_with(self, second: Giver | None) -> None:
        """Have suspects answered otherwise from now on, or no longer."""
        self.second = second
        self._second_changed(second is not None)

    def _twice(self, batch: Batch, second: Giver) -> Prediction | Predictions:
        """Serve under one lock, so that the latest inputs are these; then look again."""
        with self._inference_lock:
            found: Prediction | Predictions = self._served(batch, records=True)
            if self._wants_reals(batch):
                found = dataclasses.replace(found, output=self._real(found.output))
            inputs = self._extractor.recent(batch.size).inputs
            return with_others(found, inputs[0], second) if len(inputs) == 1 else found

    def _served(self, batch: Batch, *, records: bool) -> Any:
        try:
            return self.hot.serve(
                batch.rows,
                form=batch.form,
                real=batch.real and self.hot.has_reals,
                nonfinite=batch.nonfinite,
                records=records,
            )
        except RuntimeError:
            self._inference_lock.check_open()
            raise

    def _wants_reals(self, batch: Batch) -> bool:
        """Whether real numbers are to go out that the core does not make: of rare levels."""
        return batch.real and not self.hot.has_reals

    def _real(self, answer: Answer) -> Answer:
        if isinstance(answer, dict):
            return {spec.name: dequantize(answer[spec.name], spec) for spec in self._specs}
        return dequantize(answer, self._specs[0])

    def _handle_hot(
        self, up: int, error: BaseException | None, raised: Iterable[Alarm] | None
    ) -> tuple[Alarm, ...]:
        """Handle what came up; return the alarms of the inference."""
        number = self.hot.number
        if up & _DAMAGE:
            self._handle(
                Incident(number, damage=describe_findings(self._images, self.hot.findings))
            )
            return ()
        if up & _FAILED:
            self._handle(Incident(number, error=error))
            return ()
        alarms: tuple[Alarm, ...] = ()
        if up & _ALARM:
            alarms = self._alarms() if raised is None else tuple(raised)
        self._handle(Incident(number, alarms=alarms, again=self.hot.again))
        if self.is_suspect is not None:
            self.hot.suspecting = self.is_suspect()
        return alarms

    def suspect(self, judge: Callable[[], bool] | None, *, all_are: bool = False) -> None:
        """Have inputs judged from now on, or no longer; to be called under the lock.

        Each one whose caller is told of it, unless all are suspect; of the others, some.
        """
        self.is_suspect = judge
        self.hot.suspecting = all_are
        self.hot.watched_on_record = judge is not None and not all_are

    def _alarms(self) -> tuple[Alarm, ...]:
        assert isinstance(self._monitor, PerformanceMonitor), "the core updates no other"
        return self._monitor.alarms()
