"""The conditions that repairs were learned for, and which of them inputs come from."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.profile import Profile, channel_numbers
from selfheal_edge.errors import IntegrityError
from selfheal_edge.loop.learned_repair import LOOKS
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.conditions import (
    Condition,
    Gate,
    Passage,
    conditions_from_bytes,
    conditions_to_bytes,
)
from selfheal_edge.monitoring.regimes import HOME
from selfheal_edge.monitoring.signals import SignalExtractor

__all__ = ["KnownConditions"]

_HOME: Final = ""
_MOST: Final = 256
_OF_IT: Final = 128
_STRETCH: Final = 256
_STRETCHES: Final = 32
_LOOK: Final = 32
_LOOKED_AT: Final = 48


class KnownConditions:
    """Golden's condition, by calibration's inputs, and those that repairs were learned for.

    Parameters
    ----------
    baseline
        Has the profile, if calibration learned one; else no condition is known.
    extractor
        Has the latest inputs.
    inference_lock
        Held for copies.
    """

    def __init__(
        self, baseline: Baseline, extractor: SignalExtractor, inference_lock: ModelLock
    ) -> None:
        self._baseline = baseline
        self._extractor = extractor
        self._inference_lock = inference_lock
        self._learned: dict[str, Condition] = {}
        self._gate: tuple[str, Gate] | None = None
        self._numbered: tuple[int, npt.NDArray[np.float64] | None] = 0, None

    def inputs_since(self, ago: int) -> npt.NDArray[Any]:
        """Return copies of the latest raw inputs, at most `ago` and at most 256, oldest first."""
        with self._inference_lock:
            inputs = self._extractor.recent(min(ago, _MOST)).inputs if ago > 0 else ()
        return inputs[0] if inputs else np.empty((0, 1))

    @cached_property
    def _profile(self) -> Profile | None:
        return Profile.found(self._baseline.profile)

    @cached_property
    def _home(self) -> Condition | None:
        if self._profile is None:
            return None
        try:
            return Condition.of(_HOME, self._numbers(self._profile, self._profile.inputs))
        except ValueError:  # too small a calibration
            return None

    @staticmethod
    def _numbers(profile: Profile, raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return what conditions are told apart by: mean, spread, roughness of each channel."""
        scale, zero_point = profile.quantization.tolist()
        numbers = channel_numbers(profile.layout, profile.layout.read(raw, scale, zero_point))
        return np.asarray(numbers.reshape(len(raw), -1), np.float64)

    def is_calibrated(self, regime: str) -> bool:
        """Whether calibration was told of an operating condition of this name."""
        told = self._baseline.regimes
        return regime in ({HOME} if told is None else {one.name for one in told.regimes})

    def cannot_learn(self) -> str:
        """Return why no condition can be known, or an empty text."""
        if self._home is None:
            return "calibration has kept too little to tell conditions apart"
        return ""

    def learn(self, name: str, ago: int) -> bool:
        """Know a condition by its latest inputs; return whether there are enough.

        Of those since it began, which were `ago`, the latest 128 at most: it may have come slowly.
        """
        return self.learn_from(name, self.inputs_since(min(ago, _OF_IT)))

    def learn_from(self, name: str, inputs: npt.NDArray[Any]) -> bool:
        """Know a condition by these raw inputs, the latest 128 of them; return likewise."""
        if self._home is None or self._profile is None:
            return False
        try:
            numbers = self._numbers(self._profile, inputs[-_OF_IT:])
            self._learned[name] = Condition.of(name, numbers)
        except ValueError:
            return False
        self._gate = None
        return True

    def mistaken(
        self,
        name: str,
        inputs: npt.NDArray[Any],
        rng: np.random.Generator,
        look_every: int = LOOKS[0],
    ) -> float:
        """Return the share of normal inputs that a condition's repair would answer by mistake.

        Parameters
        ----------
        name
            A condition that was learned.
        inputs
            Raw normal inputs that no repair has learned from, at least 16.
        rng
            Draws stretches of them.
        look_every
            Inputs between two looks while the repair serves.

        Returns
        -------
        float
            0 to 1, of 256 that come when the condition is over: those until golden serves again;
            all of them where they pass for the condition while golden serves.
        """
        home, profile = self._home, self._profile
        if home is None or profile is None or name not in self._learned:
            return 1.0
        numbers = self._numbers(profile, inputs)
        interval = max(2.0, self._baseline.false_alarm_interval)
        gates = [Gate((home, self._learned[name]), k, interval) for k in (0, 1)]
        wrong = 0
        for _ in range(_STRETCHES):
            stretch = numbers[rng.integers(0, len(numbers), _STRETCH)]
            passes = _passes(gates[0], stretch)
            wrong += _STRETCH if passes else _answered(gates[1], stretch, look_every)
        return wrong / (_STRETCHES * _STRETCH)

    @property
    def names(self) -> frozenset[str]:
        """Those that inputs can be told to come from: with calibration's, to tell them from."""
        if not self._learned:  # calibration's own is not worked out for nothing
            return frozenset()
        return frozenset() if self._home is None else frozenset(self._learned)

    def known(self, name: str) -> Condition | None:
        """Return what is known of a condition, None where nothing is."""
        return self._learned.get(name)

    def put_back(self, name: str, before: Condition | None) -> None:
        """Know a condition as `known` told it before it was learned anew."""
        self.forget(name)
        if before is not None:
            self._learned[name] = before

    def forget(self, name: str) -> None:
        """Forget a condition."""
        self._learned.pop(name, None)
        self._gate = None

    def _latest_numbers(self, profile: Profile, ago: int, count: int) -> npt.NDArray[np.float64]:
        """Return the numbers of the latest `ago` inputs; those that were computed are kept."""
        before, held = self._numbered
        fresh = min(count - before, _MOST) if count - before >= 0 else _MOST
        if fresh:
            inputs = self.inputs_since(fresh)
            if len(inputs):
                rows = self._numbers(profile, inputs)
                # Of what came between, some is not held any more where there are fewer.
                follows = () if held is None or len(rows) < fresh else (held,)
                held = np.vstack((*follows, rows))[-_MOST:]
            self._numbered = count, held
        return np.empty((0, 1)) if held is None else held[-ago:]

    def passage(self, current: str, ago: int, count: int) -> tuple[str | None, bool]:
        """Return the condition that the latest inputs have come to, and whether it may yet be one.

        Parameters
        ----------
        current
            The one that is served: a name, or an empty text for golden's.
        ago
            Predictions since an alarm's onset, or since the latest passage: at least 1.
        count
            Predictions so far.

        Returns
        -------
        str or None, bool
            The name, empty for golden's; None: none that is known, or the one that is served. And
            whether more inputs may tell.
        """
        home, profile = self._home, self._profile
        if home is None or profile is None or not self._learned:
            return None, False
        known = (home, *self._learned.values())
        names = [condition.name for condition in known]
        if current not in names:
            return None, False
        if self._gate is None or self._gate[0] != current:
            interval = max(2.0, self._baseline.false_alarm_interval)
            self._gate = current, Gate(known, names.index(current), interval)
        numbers = self._latest_numbers(profile, max(1, ago), count)
        if not len(numbers):
            return None, True
        found: Passage = self._gate[1].passed(numbers)
        return (None if found.to is None else names[found.to]), found.is_open

    def to_bytes(self) -> bytes:
        """Return what `go_on_with` takes."""
        return conditions_to_bytes(tuple(self._learned.values()))

    def go_on_with(self, data: bytes) -> None:
        """Know the conditions that the process before knew.

        Raises
        ------
        IntegrityError
            When it is not what `to_bytes` returned, or of other numbers than calibration's.
        """
        found = {c.name: c for c in conditions_from_bytes(data)}
        home = self._home if found else None
        for condition in found.values():
            if home is not None and condition.examples.shape[1] != home.examples.shape[1]:
                raise IntegrityError(
                    f"conditions: expected {home.examples.shape[1]} numbers of an input, as "
                    f"calibration has, got {condition.examples.shape[1]} of {condition.name!r}"
                )
        self._learned = found

    @property
    def memory_bytes(self) -> int:
        """Bytes of the examples."""
        return sum(c.examples.nbytes for c in self._learned.values())


def _answered(gate: Gate, numbers: npt.NDArray[np.float64], look_every: int) -> int:
    """Return how many inputs come before a passage is seen, looking as the loop does."""
    for at in range(look_every, len(numbers) + 1, look_every):
        if gate.passed(numbers[max(0, at - _LOOKED_AT) : at]).to is not None:
            return at
    return len(numbers)


def _passes(gate: Gate, numbers: npt.NDArray[np.float64]) -> bool:
    return any(
        gate.passed(numbers[max(0, at - _LOOKED_AT) : at]).to is not None
        for at in range(_LOOK, len(numbers) + 1, _LOOK)
    )
