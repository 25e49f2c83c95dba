"""What calibration learned about one model, and its file."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, cast, get_args

import numpy as np

from selfheal_edge import _core
from selfheal_edge.errors import BaselineFormatError, BaselineMismatchError, IntegrityError
from selfheal_edge.hashing import equal_secrets, sha256
from selfheal_edge.monitoring.correctness import CorrectnessModel
from selfheal_edge.monitoring.embedding import Embedding
from selfheal_edge.monitoring.few_samples import FEW_RATE, FewSamples
from selfheal_edge.monitoring.performance import ExpectedError
from selfheal_edge.monitoring.promise import chart_names
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.monitoring.sensor_limits import SensorLimits
from selfheal_edge.monitoring.signals import OutputKind, SignalExtractor
from selfheal_edge.store.device_mark import device_mark
from selfheal_edge.store.file_format import pack, unpack, write_atomically
from selfheal_edge.tflite.file.detections import DetectionOutputs
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, RuntimeName
from selfheal_edge.tflite.sandbox.known import TrialName, mark_known, tried_kernels
from selfheal_edge.tflite.sandbox.packages import runtime_version
from selfheal_edge.tflite.session import Fingerprint

__all__ = ["Baseline", "KnownAnswers"]

_MAGIC: Final = b"SHE-BASE"
_VERSION: Final = 4
_KNOWN: Final = "known/"
_EMBEDDING_ARRAYS: Final = ("classes", "centroids", "precision", "scales")


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
    def digest(self) -> str:
        """SHA-256 of the outputs, to the bit."""
        parts = (array.tobytes() for row in self.outputs for array in row)
        return sha256(b"".join(map(sha256, parts))).hex()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for rows in (self.inputs, self.outputs) for row in rows for a in row)


class RunLengths(NamedTuple):
    """Predictions between two false alarms, on average."""

    signals: float
    """Of the bank of all signals."""
    label_mix: float
    """Of the chart of predicted classes."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """Everything that calibration learned about one model; immutable. Made by `calibrate`."""

    model_sha256: str
    """Of the user's original file: a baseline belongs to it and to no other."""
    fingerprint: Fingerprint
    """Where `known_answers` were taken; another device records its own at its first start."""
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
    limits: SensorLimits
    """When equal or flat inputs, or equal answers, are an alarm."""
    known_answers: KnownAnswers
    built_sha256: str = ""
    """Of our copy of the file, which is what a runtime is given."""
    embedding: Embedding | None = None
    """Which inner tensor is read as well, and where the classes lie in it."""
    correctness: CorrectnessModel | None = None
    """How likely its answers are right; None without labels."""
    temperature: float | None = None
    """What its logits are divided by for calibrated probabilities, above 0; None without labels,
    and in files of earlier releases: 1 then."""
    error: ExpectedError | None = None
    """How far a regressor's answers lay from their targets; None without targets."""
    regimes: RegimeTable | None = None
    """Operating conditions of the calibration: those it was told, or one; the references are those
    of the first. None without signals, and of earlier calibrations."""
    profile: Mapping[str, Array] = field(default_factory=dict)
    """What a diagnosis compares with, as `diagnosis.profile` reads it; empty for models of several
    inputs, and in files of earlier releases: causes are then told by signals alone."""
    periods: Mapping[str, int] = field(default_factory=dict)
    """About how many samples repeat, by signal, where that stands out: thresholds allow for it, at
    the price of sharpness, which `calibrate(regimes=…)` brings back."""
    tried_kernels: tuple[TrialName, ...] = ()
    """Kernels with which the copy was tried in a child process, where `fingerprint` says. A file
    brings them only where it was signed, or where this device wrote it."""
    state: Literal["carried", "reset"] = "carried"
    """Whether a recurrent model's state goes on from sample to sample, or starts anew before each:
    in calibration, and in serving."""
    ignore: tuple[str, ...] = ()
    """Signals and alarms that are left out, as the user wished."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Signals and alarms that this calibration cannot support, each with the reason."""
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of tensors of the first subgraph, by index, where calibration settled open axes."""

    label_mix: _core.LabelReference | None = None
    """How often, and in what runs, each class was predicted; None: its mix is not watched."""

    detections: DetectionOutputs | None = None
    """Which outputs are a detector's boxes, classes, scores and count."""

    inner: tuple[int, ...] = ()
    """Further inner tensors that are read, by index in subgraph 0 of the user's file."""
    few: tuple[FewSamples, ...] = ()
    """Samples of a rare kind that are counted: ``small_margins`` of a classifier."""

    signed: bool = False
    """Whether it was read with the key that it was signed with; one that was made here was not."""

    def __post_init__(self) -> None:
        """Refuse numbers that no calibration gives."""
        if self.samples < 1 or not 1 <= self.false_alarm_interval < math.inf:
            raise ValueError(
                "samples and false_alarm_interval: expected at least 1 and finite, "
                f"got {self.samples} and {self.false_alarm_interval}"
            )
        if self.output_kind not in (None, *get_args(OutputKind)):
            raise ValueError(
                f"output_kind: expected one of {get_args(OutputKind)}, got {self.output_kind!r}"
            )

        if self.temperature is not None and not 0.0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature: expected a number above 0 or None, got {self.temperature}"
            )
        if self.state not in ("carried", "reset"):
            raise ValueError(f"state: expected 'carried' or 'reset', got {self.state!r}")
        for index, shape in self.shapes.items():
            if index < 0 or not all(0 <= n < 2**31 for n in shape):
                raise ValueError(f"shapes: expected shapes by index, got {index}: {shape}")

    def skip_probe(self) -> None:
        """Let this process load the file unprobed, if calibration probed it on such a device.

        `tried_kernels` is taken at its word: `from_bytes` drops what it cannot rely on.
        """
        name = self.fingerprint.runtime
        if name not in get_args(RuntimeName) or self.fingerprint.machine != platform.machine():
            return
        runtime = cast(RuntimeName, name)
        if runtime_version(runtime) == self.fingerprint.version:
            for kernels in self.tried_kernels:
                mark_known(self.built_sha256, runtime, kernels, self.fingerprint.num_threads)

    @property
    def bank_interval(self) -> float:
        """What is left of `false_alarm_interval` for charts, of signals and predicted classes."""
        return self.false_alarm_interval / (1.0 - FEW_RATE if self.few else 1.0)

    @property
    def arl0(self) -> RunLengths:
        """What the parts of a monitor are given, so that all together keep the interval.

        The mix of predicted classes has the share of one signal.
        """
        left = self.bank_interval
        signals = max(1, len(self.references))
        parts = max(1, len(self.references) + (self.label_mix is not None))
        return RunLengths(min(1e12 / signals, left * parts / signals), left * parts)

    @property
    def charts_left_out(self) -> dict[str, tuple[str, ...]]:
        """Charts that cannot keep the interval, by signal, such as ``"slow shifts up"``.

        They are not used: more calibration samples bring them back. Solves for all thresholds,
        about 5 ms a signal.
        """
        if not self.references:
            return {}
        bank = _core.MonitorBank(list(self.references.values()), self.arl0.signals)
        found = {name: chart_names(bank.left_out(i)) for i, name in enumerate(self.references)}
        return {name: charts for name, charts in found.items() if charts}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what inferences are compared with: the same for every place of known answers.

        A monitor's state goes on under a baseline with the same digest, and under no other.
        """
        told = {
            "model": self.model_sha256,
            "interval": self.false_alarm_interval,
            "kind": self.output_kind,
            "limits": asdict(self.limits),
            "ignore": list(self.ignore),
            "left_out": sorted(self.left_out),
            "state": self.state,
            "signals": list(self.references),
            "tensor": None if self.embedding is None else self.embedding.tensor,
        }
        if self.inner:
            told["inner"] = list(self.inner)
        if self.few:
            told["few"] = [asdict(kind) for kind in self.few]
        parts = [json.dumps(told, sort_keys=True).encode()]
        parts += [reference.state() for reference in self.references.values()]
        if self.label_mix is not None:
            parts.append(self.label_mix.state())
        if self.embedding is not None:
            parts += [getattr(self.embedding, part).tobytes() for part in _EMBEDDING_ARRAYS]
        return sha256(b"".join(sha256(part) for part in parts)).hex()

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
        with open(path, "rb") as file:
            data = file.read()
        return cls.from_bytes(data, key, what=os.fspath(path))

    def to_bytes(self, key: bytes | None = None) -> bytes:
        """Return what `save` writes."""
        arrays: dict[str, Array] = {
            f"reference/{name}": np.frombuffer(reference.state(), np.uint8)
            for name, reference in self.references.items()
        }
        if self.label_mix is not None:
            arrays["label_mix"] = np.frombuffer(self.label_mix.state(), np.uint8)
        if self.embedding is not None:
            for part in _EMBEDDING_ARRAYS:
                arrays[f"embedding/{part}"] = getattr(self.embedding, part)
        if self.correctness is not None:
            for part, array in self.correctness.to_arrays().items():
                arrays[f"correctness/{part}"] = array
        arrays |= {f"profile/{part}": array for part, array in self.profile.items()}
        for what, rows in (("in", self.known_answers.inputs), ("out", self.known_answers.outputs)):
            for i, row in enumerate(rows):
                for j, array in enumerate(row):
                    arrays[f"{_KNOWN}{what}/{i}/{j}"] = array
        fields = {
            "model_sha256": self.model_sha256,
            "fingerprint": self.fingerprint.to_dict(),
            "false_alarm_interval": self.false_alarm_interval,
            "samples": self.samples,
            "accuracy": self.accuracy,
            "temperature": self.temperature,
            "output_kind": self.output_kind,
            "detections": None if self.detections is None else list(self.detections),
            "signals": list(self.references),
            "embedding": None if self.embedding is None else self.embedding.tensor,
            "limits": asdict(self.limits),
            "left_out": dict(self.left_out),
            "inner": list(self.inner),
            "few": [asdict(kind) for kind in self.few],
            "built_sha256": self.built_sha256,
            "tried_kernels": list(self.tried_kernels),
            "state": self.state,
            "regimes": None if self.regimes is None else self.regimes.to_bytes().decode(),
            "periods": dict(self.periods),
            "error": None if self.error is None else list(self.error),
            "ignore": list(self.ignore),
            "shapes": [[index, list(shape)] for index, shape in self.shapes.items()],
            "known": [len(rows) for rows in self.known_answers.inputs],
            "known_outputs": [len(rows) for rows in self.known_answers.outputs],
        }
        if key is None and self.tried_kernels:
            fields["made_here"] = device_mark(_trial(fields), create=True)
        return pack(_MAGIC, _VERSION, fields, arrays, key)

    @classmethod
    def from_bytes(
        cls, data: bytes, key: bytes | None = None, *, what: str = "baseline"
    ) -> Baseline:
        """Read what `to_bytes` returned; errors as in `load`."""
        version, fields, arrays = unpack(data, _MAGIC, _VERSION, key, what)
        if version < _VERSION:
            raise BaselineFormatError(
                f"{what}: expected version {_VERSION}, got {version}, which lacks references or "
                "limits of today: calibrate again"
            )
        try:
            return cls(
                model_sha256=str(fields["model_sha256"]),
                fingerprint=Fingerprint(**fields["fingerprint"]),
                false_alarm_interval=float(fields["false_alarm_interval"]),
                samples=int(fields["samples"]),
                accuracy=None if fields["accuracy"] is None else float(fields["accuracy"]),
                output_kind=fields["output_kind"],
                detections=_detections(fields.get("detections")),
                references={
                    name: _core.Reference.from_state(arrays[f"reference/{name}"].tobytes())
                    for name in fields["signals"]
                },
                label_mix=_label_mix(arrays),  # none before it was watched
                embedding=_embedding(fields["embedding"], arrays),
                correctness=_correctness(arrays),
                temperature=_temperature(fields.get("temperature")),
                profile=_parts("profile/", arrays),
                limits=_limits(fields["limits"]),
                inner=tuple(int(index) for index in fields.get("inner", ())),
                few=tuple(_few(kind, fields["signals"]) for kind in fields.get("few", ())),
                left_out={str(k): str(v) for k, v in dict(fields["left_out"]).items()},
                built_sha256=str(fields["built_sha256"]),
                tried_kernels=_tried(fields, is_signed=key is not None),
                state=fields.get("state", "carried"),
                error=_error(fields.get("error")),
                periods={str(k): int(n) for k, n in dict(fields.get("periods", {})).items()},
                regimes=_regimes(fields.get("regimes"), tuple(fields["signals"])),
                ignore=tuple(str(name) for name in fields.get("ignore", ())),
                shapes={
                    int(index): tuple(int(n) for n in shape)
                    for index, shape in fields.get("shapes", ())
                },
                signed=key is not None,
                known_answers=_known_answers(fields, arrays),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BaselineFormatError(
                f"{what}: expected a complete baseline, got {error!r}"
            ) from None

    @staticmethod
    def known_answers_in(data: bytes, *, what: str) -> tuple[KnownAnswers, Fingerprint]:
        """Read nothing but known answers, and where they were recorded, from a verified row.

        Errors as `from_bytes`, but that its own tag is not checked.
        """
        _, fields, arrays = unpack(data, _MAGIC, _VERSION, None, what, _KNOWN, is_verified=True)
        try:
            return _known_answers(fields, arrays), Fingerprint(**fields["fingerprint"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BaselineFormatError(f"{what}: expected known answers, got {error!r}") from None

    def with_known_answers(self, answers: KnownAnswers, fingerprint: Fingerprint) -> Baseline:
        """Return the same baseline with known answers recorded on another device.

        What was tried elsewhere is forgotten, and what was tried in this process is told.
        """
        name = fingerprint.runtime
        tried = (
            tried_kernels(self.built_sha256, cast(RuntimeName, name), fingerprint.num_threads)
            if name in get_args(RuntimeName)
            else ()
        )
        return replace(self, known_answers=answers, fingerprint=fingerprint, tried_kernels=tried)

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

    def taps(self, model: ModelFile) -> tuple[int, ...]:
        """Return the inner tensors to read after every inference.

        Raises
        ------
        BaselineMismatchError
            When the baseline belongs to another model.
        """
        self.check_model(model.sha256)
        return () if self.embedding is None else (self.embedding.tensor, *self.inner)

    @property
    def made(self) -> CopyOptions:
        """How the copy that runs differs from the user's file."""
        return CopyOptions(self.shapes, starts_anew=self.state == "reset")

    def extractor(self, instance: Instance) -> SignalExtractor:
        """Return what measures an instance that was built with `taps`."""
        tap = instance.taps[0] if instance.taps else None
        return SignalExtractor(
            instance.inputs,
            instance.outputs,
            self.output_kind,
            tap,
            self.embedding,
            (*self.ignore, *self.left_out),
            detections=self.detections,
            inner=instance.taps[1:],
        )


def _trial(fields: Mapping[str, Any]) -> bytes:
    """Return what a mark of the device stands for: which file was tried, how and where."""
    told = [fields[name] for name in ("built_sha256", "tried_kernels", "fingerprint")]
    return json.dumps(told, sort_keys=True).encode()


def _tried(fields: Mapping[str, Any], *, is_signed: bool) -> tuple[TrialName, ...]:
    """Return the kernels that a file says were tried, if it may say so.

    A file that anyone can write must not switch off the probe of a hostile model.
    """
    told = tuple(fields["tried_kernels"])
    mark = fields.get("made_here")
    if is_signed:
        return told
    ours = device_mark(_trial(fields)) if isinstance(mark, str) else None
    return told if ours is not None and equal_secrets(str(mark).encode(), ours.encode()) else ()


def _detections(outputs: Sequence[int] | None) -> DetectionOutputs | None:
    if outputs is None:
        return None
    boxes, classes, scores, count = (int(index) for index in outputs)
    if min(boxes, classes, scores, count) < 0:
        raise ValueError(f"detections: expected indices of outputs, got {outputs}")
    return boxes, classes, scores, count


def _few(fields: Mapping[str, Any], signals: Sequence[str]) -> FewSamples:
    if fields["signal"] not in signals:
        raise ValueError(f"few: expected one of the signals, got {fields['signal']!r}")
    return FewSamples(
        str(fields["signal"]),
        float(fields["cut"]),
        int(fields["rise"]),
        int(fields["limit"]),
        float(fields["share"]),
    )


def _limits(fields: Mapping[str, Any]) -> SensorLimits:
    spreads = {str(name): float(least) for name, least in dict(fields["least_spread"]).items()}
    return SensorLimits(int(fields["max_repeats"]), int(fields["max_frozen"]), spreads)


def _embedding(tensor: int | None, arrays: Mapping[str, Array]) -> Embedding | None:
    if tensor is None:
        return None
    return Embedding(int(tensor), *(arrays[f"embedding/{part}"] for part in _EMBEDDING_ARRAYS))


def _error(told: Sequence[float] | None) -> ExpectedError | None:
    if told is None:
        return None
    mean, sd, samples = told
    found = ExpectedError(float(mean), float(sd), int(samples))
    if not (0 <= found.mean < math.inf and 0 <= found.sd < math.inf and found.samples > 0):
        raise ValueError(f"error: expected finite numbers that are not negative, got {told}")
    return found


def _temperature(told: float | None) -> float | None:
    return None if told is None else float(told)


def _regimes(told: str | None, signals: tuple[str, ...]) -> RegimeTable | None:
    if told is None:
        return None
    try:
        table = RegimeTable.from_bytes(told.encode())
    except IntegrityError as error:
        raise ValueError(str(error)) from None
    if table.signals != signals:
        raise ValueError(f"regimes: expected the signals {signals}, got {table.signals}")
    return table


def _parts(start: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def _correctness(arrays: Mapping[str, Array]) -> CorrectnessModel | None:
    parts = _parts("correctness/", arrays)
    return CorrectnessModel.from_arrays(parts) if parts else None


def _label_mix(arrays: Mapping[str, Array]) -> _core.LabelReference | None:
    if "label_mix" not in arrays:
        return None
    return _core.LabelReference.from_state(arrays["label_mix"].tobytes())


def _known_answers(fields: Mapping[str, Any], arrays: Mapping[str, Array]) -> KnownAnswers:
    return KnownAnswers(
        _rows(arrays, "in", fields["known"]), _rows(arrays, "out", fields["known_outputs"])
    )


def _rows(
    arrays: Mapping[str, Array], what: str, widths: Sequence[int]
) -> tuple[tuple[Array, ...], ...]:
    return tuple(
        tuple(arrays[f"{_KNOWN}{what}/{i}/{j}"] for j in range(width))
        for i, width in enumerate(widths)
    )
