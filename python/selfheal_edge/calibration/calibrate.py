"""Calibration: what normal operation looks like, learned once and frozen."""

from __future__ import annotations

import os
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.calibration.known_answers import choose_inputs
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.monitoring.embedding import Embedding, find_embedding, fit_classes
from selfheal_edge.monitoring.interval import predictions
from selfheal_edge.monitoring.signals import OutputKind, SignalExtractor
from selfheal_edge.tflite.arrays import Tensors, read_batch
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.sandbox.known import tried_kernels
from selfheal_edge.tflite.session import Session

__all__ = ["calibrate", "output_kind"]

_MIN_SAMPLES: Final = 50
_KNOWN_ANSWERS: Final = 4


def output_kind(session: Session) -> OutputKind | None:
    """Return what output 0 of a session's model holds; None for a model without classes."""
    head = session.model.head
    return None if head is None else head.output


def _check_labels(labels: Any, samples: int, classes: int | None) -> npt.NDArray[np.int64]:
    if classes is None:
        raise ValueError(
            "labels: expected None, because no classes were found in this model "
            "(no dense layer before its output), got labels"
        )
    array = np.asarray(labels)
    if array.shape != (samples,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected {samples} integers, one per input, "
            f"got shape {array.shape} and dtype {array.dtype.name}"
        )
    if array.min() < 0 or array.max() >= classes:
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1}, got {array.min()} to {array.max()}"
        )
    return array.astype(np.int64)


def calibrate(
    model: str | os.PathLike[str],
    inputs: Tensors,
    labels: npt.ArrayLike | None = None,
    *,
    false_alarm_interval: float | str = 1_000_000,
    rate_hz: float | None = None,
    embedding: str | Literal[False] | None = None,
    runtime: RuntimeArgument = "auto",
    kernels: KernelsArgument = "auto",
    num_threads: int = 1,
    seed: int | None = None,
) -> Baseline:
    """Learn what normal operation of a model looks like.

    Parameters
    ----------
    model
        The TFLite file.
    inputs
        A batch of at least 50 inputs from normal operation, in the order in which a device sees
        them (a stuck sensor is told from repeated calibration inputs); a dict for several inputs.
        A thousand and more make alarms sharper.
    labels
        Their classes, shape (n,), integers: for the accuracy, and for where the classes lie in the
        embedding. Without them a sample belongs to the class that the model names.
    false_alarm_interval
        How many predictions shall lie, on average, between two false alarms of the whole monitor;
        or a duration such as ``"30 d"`` together with `rate_hz`.
    rate_hz
        Predictions a second.
    embedding
        Name of the inner tensor to watch; None takes the input of a classifier's last layer, where
        there is one; False watches none, which saves its signals and their cost.
    runtime
        ``"auto"`` takes LiteRT where it is installed, else tflite-runtime.
    kernels
        ``"auto"`` takes the fastest kernels under which all weights can be guarded.
    num_threads
        Threads of the runtime.
    seed
        Chooses the known answers; None draws from the operating system.

    Returns
    -------
    Baseline
        To be given to `SelfHealingModel`, or saved.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError
        For the model file and the runtime.
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    Cost: three inferences per input, and one child process that tries the file. Two of the three,
    at most 2048, go into choosing the known answers: inputs that notice most of single flips of
    weight bits, which are tried on this session's own copy of the weights.
    """
    interval = predictions(false_alarm_interval, rate_hz)
    tap: int | None = None

    def taps(file: ModelFile) -> tuple[int, ...]:
        nonlocal tap
        tap = find_embedding(file, embedding)
        return () if tap is None else (tap,)

    session = Session(model, runtime, kernels, num_threads, taps)
    try:
        batch = read_batch(session.instance.inputs, inputs, argument="inputs")
        if batch.size < _MIN_SAMPLES:
            raise ValueError(
                f"inputs: expected a batch of at least {_MIN_SAMPLES} samples, got {batch.size}"
            )
        head = session.model.head
        kind = output_kind(session)
        truth = (
            None
            if labels is None
            else _check_labels(labels, batch.size, None if head is None else head.classes)
        )
        inner = None if tap is None else session.instance.taps[0]
        extractor = SignalExtractor(session.instance.inputs, session.instance.outputs, kind, inner)
        values = np.empty((batch.size, len(extractor.names)))
        predicted = np.full(batch.size, -1, np.int64)
        inside: list[Array] = []
        repeats = 0
        for n in range(batch.size):
            row = [rows[n, ...] for rows in batch.rows]
            if session.stateful:
                session.instance.reset_variables()
            outputs = session.instance.run(row)
            tapped = session.instance.tapped()
            measured = extractor.measure(row, outputs, tapped)
            values[n] = measured.values
            repeats += measured.repeats_previous
            if measured.label is not None:
                predicted[n] = measured.label
            inside += [tensor.reshape(-1) for tensor in tapped]
        signals = dict(zip(extractor.names, values.T, strict=True))
        found: Embedding | None = None
        if tap is not None and inner is not None:
            members = predicted if truth is None else truth
            found, distances = fit_classes(tap, inner, np.stack(inside), members, predicted)
            if len(found.classes):
                signals["embedding_distance"] = distances
        chosen = choose_inputs(session, batch, _KNOWN_ANSWERS, np.random.default_rng(seed))
        questions = tuple(tuple(rows[n, ...].copy() for rows in batch.rows) for n in chosen)
        answers = tuple(tuple(row) for row in session.answers(questions))
        return Baseline(
            model_sha256=session.model.sha256,
            fingerprint=session.fingerprint,
            false_alarm_interval=interval,
            samples=batch.size,
            accuracy=None if truth is None else float(np.mean(predicted == truth)),
            output_kind=kind,
            references={
                name: _core.Reference(np.ascontiguousarray(column))
                for name, column in signals.items()
            },
            embedding=found,
            repeat_share=repeats / batch.size,
            known_answers=KnownAnswers(questions, answers),
            built_sha256=session.copy.model.sha256,
            tried_kernels=tried_kernels(
                session.copy.model.sha256, session.choice.runtime.name, num_threads
            ),
        )
    finally:
        session.close()
