"""Calibration: what normal operation looks like, learned once and frozen."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.container import pack, unpack, write_atomically
from selfheal_edge.errors import BaselineFormatError, BaselineMismatchError
from selfheal_edge.interval import predictions
from selfheal_edge.known_answers import choose_inputs
from selfheal_edge.session import Fingerprint, Session
from selfheal_edge.signals import OutputKind, SignalExtractor
from selfheal_edge.tflite.arrays import Tensors, read_batch
from selfheal_edge.tflite.known import KernelsName, mark_known, runtime_version, tried_kernels
from selfheal_edge.tflite.protocol import Array, RuntimeName
from selfheal_edge.tflite.select import KernelsArgument, RuntimeArgument

__all__ = ["Baseline", "KnownAnswers", "calibrate", "output_kind"]

_MAGIC: Final = b"SHE-BASE"
_VERSION: Final = 1
_MIN_SAMPLES: Final = 50
_KNOWN_ANSWERS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class KnownAnswers:
    """A few inputs with the exact outputs that this model gives on one runtime and machine."""

    inputs: tuple[tuple[Array, ...], ...]
    outputs: tuple[tuple[Array, ...], ...]

    def matches(self, answers: Sequence[Sequence[Array]]) -> bool:
        """Whether `answers` equal the known ones bit for bit."""
        return len(answers) == len(self.outputs) and all(
            got.tobytes() == expected.tobytes()
            for row, expected_row in zip(answers, self.outputs, strict=True)
            for got, expected in zip(row, expected_row, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for rows in (self.inputs, self.outputs) for row in rows for a in row)


@dataclass(frozen=True, eq=False)
class Baseline:
    """Everything that calibration learned about one model; immutable. Made by `calibrate`."""

    model_sha256: str
    """Of the user's original file: a baseline belongs to it and to no other."""
    fingerprint: Fingerprint
    """Where `known_answers` were taken; another device settles its own at its first start."""
    false_alarm_interval: float
    """Wanted mean number of predictions between two false alarms of the whole monitor."""
    samples: int
    """Calibration samples."""
    accuracy: float | None
    """Share of calibration samples that the model labels right; None without labels."""
    output_kind: OutputKind | None
    """What output 0 holds; None for a model without classes."""
    references: Mapping[str, _core.Reference]
    """The frozen distribution of every signal, by name."""
    repeat_share: float
    """Share of calibration inputs that equal the one before."""
    known_answers: KnownAnswers
    built_sha256: str = ""
    """Of our copy of the file, which is what a runtime is given."""
    tried_kernels: tuple[KernelsName, ...] = ()
    """Kernels with which the copy was tried in a child process, where `fingerprint` says."""

    def __post_init__(self) -> None:
        """Refuse numbers that no calibration gives."""
        if self.samples < 1 or not 1 <= self.false_alarm_interval < math.inf:
            raise ValueError(
                "samples and false_alarm_interval: expected at least 1 and finite, "
                f"got {self.samples} and {self.false_alarm_interval}"
            )
        if not 0 <= self.repeat_share <= 1:
            raise ValueError(f"repeat_share: expected 0 to 1, got {self.repeat_share}")
        if self.output_kind not in (None, *get_args(OutputKind)):
            raise ValueError(
                f"output_kind: expected one of {get_args(OutputKind)}, got {self.output_kind!r}"
            )

    def vouch(self) -> None:
        """Spare a file its trial in a child process, if calibration tried it on such a device."""
        name = self.fingerprint.runtime
        if name not in get_args(RuntimeName) or self.fingerprint.machine != platform.machine():
            return
        runtime = cast(RuntimeName, name)
        if runtime_version(runtime) == self.fingerprint.version:
            for kernels in self.tried_kernels:
                mark_known(self.built_sha256, runtime, kernels, self.fingerprint.num_threads)

    def save(self, path: str | os.PathLike[str], key: bytes | None = None) -> None:
        """Write the baseline to a file, replacing an older one atomically.

        Parameters
        ----------
        path
            The file.
        key
            At least 16 bytes: signs the file (HMAC-SHA256), and `load` then needs the same key.
            Without a key the file is protected against damage, not against an attacker.

        Raises
        ------
        OSError
            When it cannot be written; an older file is still whole then.
        """
        write_atomically(path, self.to_bytes(key))

    @classmethod
    def load(cls, path: str | os.PathLike[str], key: bytes | None = None) -> Baseline:
        """Read a baseline that `save` wrote.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        BaselineFormatError
            When it is damaged, foreign, from a newer release, or signed with another key.
        """
        return cls.from_bytes(Path(path).read_bytes(), key, what=os.fspath(path))

    def to_bytes(self, key: bytes | None = None) -> bytes:
        """Return what `save` writes."""
        arrays: dict[str, Array] = {
            f"reference/{name}": np.frombuffer(reference.state(), np.uint8)
            for name, reference in self.references.items()
        }
        for what, rows in (("in", self.known_answers.inputs), ("out", self.known_answers.outputs)):
            for i, row in enumerate(rows):
                for j, array in enumerate(row):
                    arrays[f"known/{what}/{i}/{j}"] = array
        fields = {
            "model_sha256": self.model_sha256,
            "fingerprint": self.fingerprint.to_dict(),
            "false_alarm_interval": self.false_alarm_interval,
            "samples": self.samples,
            "accuracy": self.accuracy,
            "output_kind": self.output_kind,
            "signals": list(self.references),
            "repeat_share": self.repeat_share,
            "built_sha256": self.built_sha256,
            "tried_kernels": list(self.tried_kernels),
            "known": [len(rows) for rows in self.known_answers.inputs],
            "known_outputs": [len(rows) for rows in self.known_answers.outputs],
        }
        return pack(_MAGIC, _VERSION, fields, arrays, key)

    @classmethod
    def from_bytes(
        cls, data: bytes, key: bytes | None = None, *, what: str = "baseline"
    ) -> Baseline:
        """Read what `to_bytes` returned; errors as in `load`."""
        _, fields, arrays = unpack(data, _MAGIC, _VERSION, key, what)
        try:
            return cls(
                model_sha256=str(fields["model_sha256"]),
                fingerprint=Fingerprint(**fields["fingerprint"]),
                false_alarm_interval=float(fields["false_alarm_interval"]),
                samples=int(fields["samples"]),
                accuracy=None if fields["accuracy"] is None else float(fields["accuracy"]),
                output_kind=fields["output_kind"],
                references={
                    name: _core.Reference.from_state(arrays[f"reference/{name}"].tobytes())
                    for name in fields["signals"]
                },
                repeat_share=float(fields["repeat_share"]),
                built_sha256=str(fields["built_sha256"]),
                tried_kernels=tuple(fields["tried_kernels"]),
                known_answers=KnownAnswers(
                    _rows(arrays, "in", fields["known"]),
                    _rows(arrays, "out", fields["known_outputs"]),
                ),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BaselineFormatError(
                f"{what}: expected a complete baseline, got {error!r}"
            ) from None

    def with_known_answers(self, answers: KnownAnswers, fingerprint: Fingerprint) -> Baseline:
        """Return the same baseline with answers settled on another device."""
        return replace(self, known_answers=answers, fingerprint=fingerprint)

    def check_model(self, sha256: str) -> None:
        """Refuse another model than the one that was calibrated.

        Raises
        ------
        BaselineMismatchError
            When the hashes differ.
        """
        if sha256 != self.model_sha256:
            raise BaselineMismatchError(
                f"baseline: expected one for the model {sha256[:16]}…, "
                f"got one for {self.model_sha256[:16]}…"
            )


def _rows(
    arrays: Mapping[str, Array], what: str, widths: Sequence[int]
) -> tuple[tuple[Array, ...], ...]:
    return tuple(
        tuple(arrays[f"known/{what}/{i}/{j}"] for j in range(width))
        for i, width in enumerate(widths)
    )


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
        Their classes, shape (n,), integers; only the accuracy is taken from them.
    false_alarm_interval
        How many predictions shall lie, on average, between two false alarms of the whole monitor;
        or a duration such as ``"30 d"`` together with `rate_hz`.
    rate_hz
        Predictions a second.
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
    session = Session(model, runtime, kernels, num_threads)
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
        extractor = SignalExtractor(session.instance.inputs, session.instance.outputs, kind)
        values = np.empty((batch.size, len(extractor.names)))
        repeats = 0
        right = 0
        for n in range(batch.size):
            row = [rows[n, ...] for rows in batch.rows]
            if session.stateful:
                session.instance.reset_variables()
            measured = extractor.measure(row, session.instance.run(row))
            values[n] = measured.values
            repeats += measured.repeats_previous
            right += truth is not None and measured.label == truth[n]
        chosen = choose_inputs(session, batch, _KNOWN_ANSWERS, np.random.default_rng(seed))
        questions = tuple(tuple(rows[n, ...].copy() for rows in batch.rows) for n in chosen)
        answers = tuple(tuple(row) for row in session.answers(questions))
        return Baseline(
            model_sha256=session.model.sha256,
            fingerprint=session.fingerprint,
            false_alarm_interval=interval,
            samples=batch.size,
            accuracy=None if truth is None else right / batch.size,
            output_kind=kind,
            references={
                name: _core.Reference(np.ascontiguousarray(values[:, i]))
                for i, name in enumerate(extractor.names)
            },
            repeat_share=repeats / batch.size,
            known_answers=KnownAnswers(questions, answers),
            built_sha256=session.copy.model.sha256,
            tried_kernels=tried_kernels(
                session.copy.model.sha256, session.choice.runtime.name, num_threads
            ),
        )
    finally:
        session.close()
