"""What a diagnosis looks at: the latest inferences, and extra ones within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.diagnosis.symptoms import MIN_SAMPLES, Symptoms
from selfheal_edge.diagnosis.window import Answers, Window
from selfheal_edge.log import logger
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.monitor import Monitor
from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, TensorSpec
from selfheal_edge.tflite.session import Session

__all__ = ["Examiner"]

_MINUTE: Final = 60.0
_MOST: Final = 256
_SHARE: Final = 0.02
_MOST_SECONDS: Final = 10.0
"""Of the clock's time, what diagnoses of alarms may take of one CPU, and what may be saved up:
alarms are what an attacker can have as often as he likes."""


class Examiner:
    """Collects what a diagnosis is made from.

    Parameters
    ----------
    session
        What is asked extra questions: one inference at a time, between those of the stream.
    baseline
        Has the profile, if calibration learned one.
    extractor, monitor
        Have the latest inferences, and their scores.
    inference_lock
        Held for each copy, and for each extra inference.
    per_minute
        Extra inferences that may be asked in a minute.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        *,
        session: Session,
        baseline: Baseline,
        extractor: SignalExtractor,
        monitor: Monitor,
        inference_lock: ModelLock,
        per_minute: int,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._baseline = baseline
        self._extractor = extractor
        self._monitor = monitor
        self._inference_lock = inference_lock
        self._per_minute = per_minute
        self._clock = clock
        self._tokens = float(per_minute)
        self._filled: float | None = None
        self.asked = 0
        """Extra inferences so far."""
        self.seconds_left = _MOST_SECONDS
        """CPU time that diagnoses of alarms may take now; one may leave a debt."""
        self._paid: float | None = None

    @cached_property
    def profile(self) -> Profile | None:
        """What calibration learned for diagnoses; None where it learned nothing."""
        return Profile.found(self._baseline.profile)

    def has_time(self) -> bool:
        """Whether there is CPU time left for another diagnosis of alarms."""
        now = self._clock()
        gained = _since(self._paid, now) * _SHARE
        self.seconds_left = min(_MOST_SECONDS, self.seconds_left + gained)
        self._paid = now if self._paid is None else max(self._paid, now)
        return self.seconds_left > 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Return a context whose CPU time is taken off what is left."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds_left -= time.thread_time() - began

    def examine(self, symptoms: Symptoms, *, asks: bool = True) -> Symptoms:
        """Add scores, inputs and answers since the onset.

        Parameters
        ----------
        symptoms
            What is known already.
        asks
            Whether the model may be asked more about them. Not for what others can bring about as
            often as they like.
        """
        monitor = self._monitor
        with self._inference_lock:
            # What was told once goes on in silence, and is evidence as long as it does.
            heard_of = {alarm.signal for alarm in symptoms.alarms}
            lasting = (a for a in monitor.lasting_alarms() if a.signal not in heard_of)
            found = replace(
                symptoms,
                alarms=(*symptoms.alarms, *lasting),
                signals=monitor.names,
                scores=monitor.window,
                count=monitor.count,
                repeats=monitor.repeats,
            )
        profile = self.profile
        return (
            found
            if profile is None
            else replace(found, window=self._window(profile, found, asks=asks))
        )

    def _window(self, profile: Profile, symptoms: Symptoms, *, asks: bool) -> Window | None:
        with self._inference_lock:
            recent = self._extractor.recent()
        onset = symptoms.count - _MOST if symptoms.onset is None else symptoms.onset
        span = min(len(recent), max(MIN_SAMPLES, symptoms.count - onset))
        shape = profile.inputs.shape[1:]
        held = recent.inputs[0][-span:] if recent.inputs else np.empty((0, 1))
        if len(held) < MIN_SAMPLES or held[0].size != np.prod(shape):
            return None
        inputs = held.reshape(len(held), *shape)
        answers = None
        if self._baseline.output_kind is not None and recent.outputs is not None:
            inside = None if recent.embeddings is None else recent.embeddings[-span:]
            answers = self._read(recent.outputs[-span:], inside)
        has_probe = asks and not self._session.stateful and answers is not None
        probe = self._ask if has_probe else None
        return Window(profile, inputs, answers, symptoms.scores[-span:], probe)

    def _read(self, outputs: npt.NDArray[Any], inside: npt.NDArray[Any] | None) -> Answers | None:
        kind = self._baseline.output_kind
        assert kind is not None
        spec = self._session.instance.outputs[0]
        return Answers.of(outputs, _quantization(spec), kind, inside)

    def outputs_of(self, inputs: npt.NDArray[Any], reserve: float = 0.0) -> npt.NDArray[Any] | None:
        """Return raw outputs, shape (n, elements), if the budget allows all of it; else None.

        `reserve`: the share of a minute's budget that has to be left.
        """
        found = self._outputs(inputs, reserve)
        return None if found is None else np.stack(found[0])

    def _ask(self, inputs: npt.NDArray[Any], /) -> Answers | None:
        found = self._outputs(inputs)
        if found is None:
            return None
        outputs, inside = found
        return self._read(np.stack(outputs), np.stack(inside) if inside else None)

    def _outputs(
        self, inputs: npt.NDArray[Any], reserve: float = 0.0
    ) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]] | None:
        """Ask the model, if the budget allows all of it."""
        now = self._clock()
        gained = _since(self._filled, now) * self._per_minute / _MINUTE
        self._tokens = min(float(self._per_minute), self._tokens + gained)
        self._filled = now if self._filled is None else max(self._filled, now)
        if self._tokens < len(inputs) + reserve * self._per_minute:
            return None
        self._tokens -= len(inputs)
        outputs, inside = [], []
        shape = self._session.instance.inputs[0].shape
        try:
            for row in inputs:
                with self._inference_lock:
                    instance = self._session.instance
                    asked = self._session.corrected([row.reshape(shape)])
                    outputs.append(instance.run(asked)[0].reshape(-1).copy())
                    inside += [tensor.reshape(-1).copy() for tensor in instance.tapped()[:1]]
        except RUNTIME_FAILURES:
            logger().warning("the model could not be asked for a diagnosis", exc_info=True)
            return None
        self.asked += len(inputs)
        return outputs, inside


def _since(before: float | None, now: float) -> float:
    """Return the seconds since a clock was read; of one that swings, the same ones count once."""
    return 0.0 if before is None else max(0.0, now - before)


def _quantization(spec: TensorSpec) -> tuple[float, int]:
    return (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)
