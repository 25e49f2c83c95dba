"""A device's life: what it sees hour by hour, and who answers its questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge import Baseline, calibrate
from selfheal_edge.redteam.scenarios.domain import Domain, InputKind, Raw, Real
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.scenarios.raw_rows import rows_for
from selfheal_edge.redteam.survival.clock import DAY
from selfheal_edge.redteam.survival.plain import ModelKind, PlainModel, Runtime
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions
from selfheal_edge.tflite.session import ModelSource

__all__ = ["HOURS", "LEAST_SAMPLES", "Hour", "Life", "Recipe", "World"]

HOURS: Final = 24
LEAST_SAMPLES: Final = 240
_CALIBRATION, _SERVED = 0.5, 0.3
_NIGHT: Final = (18, 6)
"""Hours at which the night begins and ends."""
_NIGHT_DEPTHS: Final = (0.35, 0.25, 0.15, 0.1, 0.05)
"""Of the unit; the first one that costs the model less than `_NIGHT_COSTS` of its accuracy."""
_NIGHT_COSTS: Final = 0.01
_JUDGED_TIMES: Final = 3
"""Each sample that judges comes so often, varied."""
_RIGHT: Final = 0.95
"""Of a model without classes: an answer is right if it is no further off than this share of the
undamaged model's answers in calibration."""


class Hour(NamedTuple):
    """What befalls the device in one simulated hour, undisturbed."""

    number: int
    """Since the beginning."""
    raw: Raw
    """Shape (n, *sample)."""
    truth: Raw
    """Shape (n, ...): classes, or what a model without classes should answer."""
    rows: npt.NDArray[np.int64]
    """Which samples these are, of those that are served."""
    is_night: bool


@dataclass(frozen=True)
class Life:
    """How a device lives.

    Parameters
    ----------
    predictions_per_day
        24 or more: rounded to whole ones an hour.
    labels_per_day
        Answers that an honest owner gives in a day while the device is worried and asks; an eighth
        of that while it is not.
    seed
        Of everything.
    """

    predictions_per_day: int = 2016
    labels_per_day: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        if self.predictions_per_day < HOURS:
            raise ValueError(
                f"predictions_per_day: expected {HOURS} or more, got {self.predictions_per_day}"
            )
        if self.labels_per_day < 0:
            raise ValueError(f"labels_per_day: expected 0 or more, got {self.labels_per_day}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed: expected an integer of at least 0, got {self.seed!r}")

    @property
    def predictions_per_hour(self) -> int:
        """Of these a step of the simulation has."""
        return max(1, round(self.predictions_per_day / HOURS))

    @property
    def seconds_per_prediction(self) -> float:
        """Of the simulated clock."""
        return DAY / HOURS / self.predictions_per_hour


class Recipe(NamedTuple):
    """What a world is made of: to make the same one in another process."""

    model: ModelSource
    x: npt.ArrayLike
    y: npt.ArrayLike | None
    life: Life
    kind: InputKind | None
    runtime: Runtime

    def world(self) -> World:
        """Make it; the caller closes it."""
        model, x, y, life, kind, runtime = self
        return World(model, x, y, life, kind=kind, runtime=runtime)


class World:
    """Labelled samples of normal operation, made into a stream of days and nights; `close` it.

    The samples are split: calibration sees a half, the stream is drawn from three tenths, and the
    rest, which no contestant ever sees, judges repairs. The night is a second condition, made by
    this class, that calibration is told of.

    Parameters
    ----------
    model
        A file with one input, or its bytes.
    x, y
        Samples and classes; or, for a model without classes, what it should answer (None for an
        autoencoder, which should answer its input). 240 or more, in any order.
    life
        How the device lives.
    kind
        Of input; None tells it by the shape.
    runtime
        Runtime and kernels of all contestants.

    Raises
    ------
    ValueError
        Naming the argument.
    """

    def __init__(
        self,
        model: ModelSource,
        x: npt.ArrayLike,
        y: npt.ArrayLike | None,
        life: Life = Life(),
        *,
        kind: InputKind | None = None,
        runtime: Runtime = Runtime(),  # noqa: B008
    ) -> None:
        self.model, self.life, self.runtime = model, life, runtime
        self.recipe = Recipe(model, x, y, life, kind, runtime)
        self.golden = PlainModel(model, runtime, wanted=y)
        """What the undamaged model says; asked beside the stream."""
        try:
            raw = rows_for(self.golden.input, np.asarray(x), "x")
            if len(raw) < LEAST_SAMPLES:
                raise ValueError(f"x: expected {LEAST_SAMPLES} samples or more, got {len(raw)}")
            truth = self._truth(raw, y)
            order = np.random.default_rng([life.seed, 1]).permutation(len(raw))
            ends = np.cumsum([round(_CALIBRATION * len(raw)), round(_SERVED * len(raw))])
            calibration, served, held = np.split(order, ends)
            spec = self.golden.input
            self.domain = Domain.of(
                raw[calibration],
                kind=kind,
                scale=spec.scale if spec.quantized else 0.0,
                zero_point=spec.zero_point,
            )
            self.calibration, self._calibration_truth = raw[calibration], truth[calibration]
            self.served, self.served_truth = raw[served], truth[served]
            self.held, self.held_truth = raw[held], truth[held]
            self._tolerance = 0.0
            if self.kind != "classifier":
                errors = self._errors(self.golden.run(self.calibration), self._calibration_truth)
                self._tolerance = float(np.quantile(errors, _RIGHT))
            self._undamaged: dict[int, npt.NDArray[np.bool_]] = {}
            self.night_depth = self._fit_night()
            self.weights = self.golden.weight_bytes()
            """Offsets in the executing image of the bytes that hold weights and biases."""
        except BaseException:
            self.golden.close()
            raise

    @property
    def kind(self) -> ModelKind:
        """What the model is."""
        return self.golden.output.kind

    @property
    def classes(self) -> int:
        """Of a classifier; 0 of any other."""
        head = self.golden.session.model.head
        return 0 if head is None or self.kind != "classifier" else head.classes

    def opened(
        self,
        model: ModelSource | None = None,
        taps: Callable[[ModelFile], Sequence[int]] = lambda _: (),
        made: CopyOptions = CopyOptions(),  # noqa: B008 — immutable
    ) -> PlainModel:
        """Return the model as nothing watches it, or another file of it; the caller closes it."""
        source = self.model if model is None else model
        return PlainModel(source, self.runtime, taps, made, kind=self.kind)

    def calibrate(self) -> Baseline:
        """Return a baseline learned from days and nights; one false alarm in 30 days is asked."""
        both = np.concatenate([self.calibration, self.night(self.calibration)])
        regimes = np.repeat(["day", "night"], len(self.calibration))
        labels: Any = None
        if self.kind != "autoencoder":
            labels = np.concatenate([self._calibration_truth] * 2)
        return calibrate(
            self.model,
            both,
            labels,
            regimes=regimes,
            state="reset" if self.golden.session.stateful else "carried",
            false_alarm_interval="30 d",
            rate_hz=1.0 / self.life.seconds_per_prediction,
            runtime=self.runtime.runtime,
            kernels=self.runtime.kernels,
            seed=self.life.seed,
        )

    def hour(self, number: int) -> Hour:
        """Return what the device sees in one hour; the same number gives the same."""
        life = self.life
        rng = np.random.default_rng([life.seed, 2, number])
        count, pool = life.predictions_per_hour, len(self.served)
        rows = np.concatenate([rng.permutation(pool) for _ in range(-(-count // pool))])[:count]
        raw = self.served[rows]
        is_night = self.is_night(number)
        real = self._varied(self.domain.real(raw), rng)
        raw = self._darkened(real) if is_night else self.domain.raw(real)
        return Hour(number, raw, self.served_truth[rows], rows, is_night)

    @staticmethod
    def is_night(number: int) -> bool:
        """Whether an hour is of the night."""
        begins, ends = _NIGHT
        return not ends <= number % HOURS < begins

    def night(self, raw: Raw) -> Raw:
        """Return samples as the night has them."""
        return self._darkened(self.domain.real(raw)) if self.night_depth else raw.copy()

    def judges(self, *, is_night: bool) -> tuple[Raw, Raw]:
        """Return the samples that judge repairs, as a condition has them, and their truth."""
        rng = np.random.default_rng([self.life.seed, 6])
        real = np.concatenate([self.domain.real(self.held)] * _JUDGED_TIMES)
        real[len(self.held) :] = self._varied(real[len(self.held) :], rng)
        raw = self._darkened(real) if is_night else self.domain.raw(real)
        return raw, np.concatenate([self.held_truth] * _JUDGED_TIMES)

    def right(self, outputs: Raw, truth: Raw) -> npt.NDArray[np.bool_]:
        """Return which raw outputs are right, shape (n,)."""
        if self.kind == "classifier":
            return np.asarray(self.golden.output.labels(outputs) == truth)
        errors = self._errors(outputs, truth)
        return np.isfinite(errors) & (errors <= self._tolerance)

    def undamaged(self, hour: Hour) -> npt.NDArray[np.bool_]:
        """Return which of an hour's undisturbed inputs the undamaged model answers rightly."""
        if hour.number not in self._undamaged:
            self._undamaged[hour.number] = self.right(self.golden.run(hour.raw), hour.truth)
        return self._undamaged[hour.number]

    def close(self) -> None:
        """Release the golden model."""
        self.golden.close()

    def _varied(self, real: Real, rng: np.random.Generator) -> Real:
        """Return slightly other samples: not of a regressor, whose target would be another."""
        return real if self.kind == "regressor" else vary(real, self.domain, rng)

    def _darkened(self, real: Real) -> Raw:
        return self.domain.raw(self._night(real, self.night_depth))

    def _night(self, real: Real, depth: float) -> Real:
        """Less light, a quieter room, or sensors that are colder."""
        domain = self.domain
        if domain.kind == "image":
            return np.asarray(domain.low + (real - domain.low) * (1 - depth))
        if domain.kind == "spectrogram":
            return np.asarray(domain.centre + (real - domain.centre) * (1 - depth))
        side = np.random.default_rng([self.life.seed, 3]).choice((-1.0, 1.0), real.shape[1:])
        return np.asarray(real + depth * side * domain.unit)

    def _fit_night(self) -> float:
        real = self.domain.real(self.calibration)
        day = self._accuracy(self.calibration)
        for depth in _NIGHT_DEPTHS:
            if self._accuracy(self.domain.raw(self._night(real, depth))) >= day - _NIGHT_COSTS:
                return depth
        return 0.0

    def _accuracy(self, raw: Raw) -> float:
        return float(self.right(self.golden.run(raw), self._calibration_truth).mean())

    def _truth(self, raw: Raw, y: npt.ArrayLike | None) -> Raw:
        if self.kind == "autoencoder":
            return raw
        if y is None:
            raise ValueError(f"y: expected what is right, one for each of {len(raw)} inputs")
        given = np.asarray(y)
        if self.kind == "classifier":
            if given.shape != (len(raw),) or given.dtype.kind not in "iu":
                raise ValueError(
                    f"y: expected {len(raw)} integers, one per input, got shape "
                    f"{list(given.shape)} and dtype {given.dtype.name}"
                )
            if len(np.unique(given)) < 2:
                raise ValueError("y: expected two classes or more, got one")
            return given.astype(np.int64)
        spec = self.golden.output.spec
        if len(given) != len(raw) or given[:1].size != int(np.prod(spec.shape)):
            raise ValueError(
                f"y: expected {len(raw)} targets of shape {list(spec.shape)}, got an array of "
                f"shape {list(given.shape)}"
            )
        return given.astype(np.float64).reshape(len(raw), *spec.shape)

    def _errors(self, outputs: Raw, truth: Raw) -> Real:
        answered = self.golden.output.real(outputs)
        if self.kind == "autoencoder":
            wanted = np.asarray(truth, np.float64).reshape(len(truth), -1)
            spec = self.golden.input
            if spec.quantized:
                wanted = (wanted - spec.zero_point) * spec.scale
        else:
            wanted = np.asarray(truth, np.float64).reshape(len(truth), -1)
        return np.asarray(np.abs(answered - wanted).mean(axis=1))
