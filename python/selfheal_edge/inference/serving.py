"""Run inferences with all that surrounds them, and say when something is up."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.inference.incident import Incident
from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.monitoring.monitor import Alarm, PerformanceMonitor
from selfheal_edge.monitoring.signals import Measurement, SignalExtractor
from selfheal_edge.policy import Policy
from selfheal_edge.tflite.arrays import Batch, join_outputs, shape_outputs
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, TensorSpec
from selfheal_edge.tflite.session import Session

__all__ = ["Last", "Serving"]

T = TypeVar("T")

_DAMAGE: Final = _core.ATTENTION["damage"]
_FAILED: Final = _core.ATTENTION["run_failed"]
_ALARM: Final = _core.ATTENTION["alarm"]
_MOST_FAST: Final = 1 / 8
_MOST_KEYED: Final = 1 / 64


class Last(NamedTuple):
    """What was measured on the latest inference."""

    label: int | None
    confidence: float | None
    sound: bool
    """Whether all inputs and outputs were finite, and no sweep that was due was left out."""


class _Pacer:
    """What the core's `SweepPacer` does, for the slower way."""

    def __init__(self, least: int, seconds: float | None, most: float) -> None:
        self._least = least
        self._seconds = seconds if least else None
        self._most = most
        self._last: float | None = None
        self._share = 0.0
        self._owed = 0

    def tick(self, now: float, block_bytes: int) -> bool:
        self._owed += self._least
        last, self._last = self._last, now
        if self._seconds is not None and last is not None:
            share = self._share + (now - last) / self._seconds
            self._share = min(max(0.0, share), self._most)
        return self._owed >= block_bytes or self._share > 0.0

    def due(self, round_bytes: int) -> int:
        return self._owed + int(self._share * round_bytes)

    def done(self) -> None:
        self._owed, self._share = 0, 0.0


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


def _tensor(spec: TensorSpec) -> tuple[np.dtype[np.generic], tuple[int, ...], float, int]:
    return spec.dtype, spec.shape, spec.scale if spec.quantized else 0.0, spec.zero_point


class Serving:
    """One model's inferences: sweep, run, measure, monitor.

    Nearly always in one call into the core. A model whose tensors may move, a monitor of the user's
    own, and a policy that wants the first word before damage is repaired go a slower way, with the
    same results.

    Parameters
    ----------
    session, weights, extractor, monitor, policy
        The parts.
    inference_lock, maintenance_lock
        Held while an inference runs; held by every other thread that works on the images.
    clock
        Monotonic seconds; None for the core's own.
    at_once
        Whether the core shall repair what its sweep finds.
    handle
        Called with what came up, under the inference lock.
    """

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        extractor: SignalExtractor,
        monitor: PerformanceMonitor,
        policy: Policy,
        inference_lock: ModelLock,
        maintenance_lock: ModelLock,
        clock: Callable[[], float] | None,
        at_once: bool,
        handle: Callable[[Incident], None],
    ) -> None:
        self._weights = weights
        self._extractor = extractor
        self._monitor = monitor
        self._inference_lock = inference_lock
        self._maintenance_lock = maintenance_lock
        self._at_once = at_once
        self._handle = handle
        self._clock = _core.coarse_seconds if clock is None else clock
        self.alarms: tuple[Alarm, ...] = ()
        """Raised by the latest inference that raised any; whoever asks resets it before."""
        instance = session.instance
        self._specs = instance.outputs
        fast, keyed = policy.scrub_bytes_per_predict, policy.keyed_bytes_per_predict
        self._fast = _Pacer(fast, policy.sweep_seconds, _MOST_FAST)
        self._keyed = _Pacer(keyed, policy.keyed_sweep_seconds, _MOST_KEYED)
        self._slow_number = 0
        self._slow_last = Last(None, None, True)
        self._left_out = False
        self._due: tuple[int | None, float] = (None, math.inf)
        self._watched = False
        self._hot: _core.HotPath | None = None
        if at_once and type(monitor) is PerformanceMonitor:
            self._hot = _core.HotPath(
                turn=inference_lock.core,
                signals=extractor.core,
                monitor=monitor.core,
                inputs=[_tensor(spec) for spec in instance.inputs],
                outputs=[_tensor(spec) for spec in instance.outputs],
                attend=_weakly(self._handle_hot),
                ended=_weakly(inference_lock.ended),
                clock=None if clock is None else _weakly(self.now),
                fast_bytes=fast,
                keyed_bytes=keyed,
                fast_seconds=(policy.sweep_seconds or 0.0) if fast else 0.0,
                keyed_seconds=(policy.keyed_sweep_seconds or 0.0) if keyed else 0.0,
            )
        self._is_hot = False
        self.on_spare = False
        """Whether the spare serves, which was proven sound."""
        self.guard()
        self.attach(instance)

    def attach(self, instance: Instance, *, spare: bool = False) -> None:
        """Serve from this instance from now on; to be called under the lock."""
        self._instance, self.on_spare = instance, spare
        if self._hot is None:
            return
        self._hot.attach(instance.engine, self._extractor.tap)
        self._is_hot = instance.engine is not None

    def exchange(self, instance: Instance) -> None:
        """Serve from the model's new instance, unless the spare serves; likewise."""
        if not self.on_spare:
            self.attach(instance)

    def guard(self) -> None:
        """Sweep the images that there are now."""
        if self._hot is not None:
            images = self._weights.images.values()
            with self._inference_lock:  # whoever predicts may be about to ask what was found
                self._hot.guard([image.guard for image in images], self._maintenance_lock.core)

    def release(self) -> None:
        """Let go of the instance; nothing is served any more."""
        if self._hot is not None:
            self._hot.attach(None)
            self._hot.guard([])
        self._is_hot = False

    @property
    def memory_bytes(self) -> int:
        """Bytes of the hot path."""
        return 0 if self._hot is None else self._hot.memory_bytes()

    @property
    def number(self) -> int:
        """Predictions so far."""
        return self._slow_number if self._hot is None else self._hot.number

    def handle_at(self, number: int | None, second: float, *, always: bool) -> None:
        """Handle the inference of this number or time, or to every one."""
        self._due, self._watched = (number, second), always
        if self._hot is not None:
            self._hot.due_number, self._hot.due_seconds = number, second
            self._hot.watched = always

    def now(self) -> float:
        """Seconds of the clock that `handle_at` means."""
        return self._clock()

    @property
    def hot(self) -> _core.HotPath | None:
        """What `SelfHealingModel.predict` tries first; None where nothing goes that way."""
        return self._hot

    def serve(self, batch: Batch) -> Array | dict[str, Array]:
        """Serve n inferences, one after the other.

        Under the lock for each if other threads wait, or for all where the caller has it.
        """
        specs = self._specs
        if self._is_hot:
            assert self._hot is not None
            results = [np.empty((batch.size, *spec.shape), spec.dtype) for spec in specs]
            try:
                self._hot.serve(batch.rows, results, batch.nonfinite)
            except RuntimeError:
                self._inference_lock.check_open()
                raise
            return join_outputs(specs, results, batch.form, batch.real)
        counts = batch.nonfinite
        answers = []
        with self._inference_lock:
            for n in range(batch.size):
                if n:
                    self._inference_lock.give_way()
                inputs = [r[n, ...] for r in batch.rows]
                answers.append(self._serve_one(inputs, 0 if counts is None else int(counts[n])))
        return shape_outputs(specs, answers, batch.form, batch.real)

    @property
    def last(self) -> Last:
        """What was measured on the latest inference."""
        hot = self._hot
        if hot is None or not self._is_hot:
            return self._slow_last
        label = hot.label
        left_out = hot.left_out and not self.on_spare  # which is proven, and not swept
        sound = not (hot.nonfinite or hot.nonfinite_outputs or left_out)
        return Last(label, None if label is None else hot.confidence, sound)

    def _handle_hot(self, up: int, error: BaseException | None) -> None:
        assert self._hot is not None
        number = self._hot.number
        if up & _DAMAGE:
            self._handle(Incident(number, damage=self._weights.describe(self._hot.findings)))
        elif up & _FAILED:
            self._handle(Incident(number, error=error))
        else:
            alarms = self._monitor.alarms() if up & _ALARM else ()
            self.alarms = alarms
            self._handle(Incident(number, alarms=alarms, again=self._hot.again))

    def _serve_one(self, inputs: list[Array], nonfinite: int) -> Sequence[Array]:
        now = self._clock()
        self._inference_lock.check_open()  # the clock is the user's
        if found := self._sweep(now):
            self._handle(Incident(self.number, damage=found))
        run = self._instance.run
        try:
            outputs = run(inputs)
        except Exception as error:  # the input's fault, or that of bytes not swept yet
            self._handle(Incident(self.number, error=error))
            outputs = self._instance.run(inputs)
        if self._hot is None:
            self._slow_number += 1
        else:
            self._hot.count_one()
        measured = self._measure(inputs, outputs, nonfinite)
        alarms = self._monitor.update(measured)
        number = self.number
        due_number, due_second = self._due
        is_due = now >= due_second or (due_number is not None and number >= due_number)
        if not (alarms or is_due or self._watched):
            return outputs
        self.alarms = alarms

        def again() -> None:
            nonlocal outputs
            outputs = self._instance.run(inputs)
            self._measure(inputs, outputs, nonfinite)

        self._handle(Incident(number, alarms=alarms, again=again))
        return outputs

    def _sweep(self, now: float) -> tuple[CorruptBlock, ...]:
        """Sweep what is due, unless somebody works on the images: then it stays due."""
        images = tuple(self._weights.images.values())
        block_bytes = images[-1].image.block_bytes
        is_fast_due = self._fast.tick(now, block_bytes)
        is_keyed_due = self._keyed.tick(now, block_bytes)
        found: tuple[CorruptBlock, ...] = ()
        self._left_out = False
        if not (is_fast_due or is_keyed_due):
            return found
        with self._maintenance_lock.attempt() as is_mine:
            if not is_mine:
                self._left_out = True
                return found
            for image in images:
                fast = self._fast.due(image.guard.fast_blocks * block_bytes)
                keyed = self._keyed.due(image.guard.keyed_blocks * block_bytes)
                found += image.step(fast, keyed) if self._at_once else image.look(fast)
            self._fast.done()
            self._keyed.done()
        return found

    def _measure(
        self, inputs: Sequence[Array], outputs: Sequence[Array], nonfinite: int
    ) -> Measurement:
        taps = self._instance.tapped() if self._extractor.tap >= 0 else []
        measured = self._extractor.measure(inputs, outputs, taps)
        if nonfinite:  # what was replaced must not be taken for a signal
            unknown = (float("nan"),) * len(measured.values)
            measured = measured._replace(values=unknown, nonfinite=nonfinite)
        left_out = self._left_out and not self.on_spare
        sound = not (measured.nonfinite or measured.nonfinite_outputs or left_out)
        self._slow_last = Last(measured.label, measured.confidence, sound)
        return measured
