"""The conditions that repairs were learned for, and which of them inputs come from."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.conditions import (
    Condition,
    Gate,
    conditions_from_bytes,
    conditions_to_bytes,
    every_kth,
)
from selfheal_edge.monitoring.regimes import HOME
from selfheal_edge.monitoring.signals import SignalExtractor

__all__ = ["KnownConditions"]

_HOME: Final = ""
_MOST: Final = 256
_OF_IT: Final = 128
_STRETCH: Final = 256
_STRETCHES: Final = 32
_READ: Final = frozenset({"int8", "uint8", "int16", "float32"})
"""Types of inputs that the core reads."""


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
        self._gate: tuple[str, Gate, list[str]] | None = None
        self._watch: _core.ConditionWatch | None = None

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
            return Condition.of(_HOME, self._numbers(self._profile.inputs))
        except ValueError:  # too small a calibration
            return None

    @cached_property
    def _reader(self) -> _core.ChannelNumbers | None:
        """What conditions are told apart by: mean, spread, roughness of each channel."""
        if self._profile is None:
            return None
        layout = self._profile.layout
        is_read = self._profile.inputs.dtype.name in _READ
        scale, zero_point = self._profile.quantization.tolist() if is_read else (1.0, 0.0)
        return _core.ChannelNumbers(
            layout.shape,
            channel=layout.channel,
            smooth=layout.smooth,
            scale=scale,
            zero_point=zero_point,
        )

    def _numbers(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        profile, reader = self._profile, self._reader
        assert profile is not None
        assert reader is not None
        if raw.dtype.name not in _READ:
            raw = profile.layout.read(raw, *profile.quantization.tolist())
        return reader.measure(np.ascontiguousarray(raw))

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
        if self._home is None:
            return False
        try:
            self._learned[name] = Condition.of(name, self._numbers(inputs[-_OF_IT:]))
        except ValueError:
            return False
        self._changed()
        return True

    def _changed(self) -> None:
        self._gate = self._watch = None

    def mistaken(
        self,
        name: str,
        inputs: npt.NDArray[Any],
        rng: np.random.Generator,
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

        Returns
        -------
        float
            0 to 1, of 256 that come when the condition is over: those until golden serves again;
            all of them where they pass for the condition while golden serves.
        """
        home = self._home
        if home is None or name not in self._learned:
            return 1.0
        numbers = self._numbers(inputs)
        interval = max(2.0, self._baseline.false_alarm_interval)
        gates = [Gate((home, self._learned[name]), k, interval) for k in (0, 1)]
        wrong = 0
        for _ in range(_STRETCHES):
            stretch = numbers[rng.integers(0, len(numbers), _STRETCH)]
            if gates[0].first_passage(stretch):
                wrong += _STRETCH
            else:
                wrong += gates[1].first_passage(stretch) or _STRETCH
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
        self._changed()

    def _gate_of(self, current: str) -> tuple[Gate, list[str]] | None:
        """Return what tells where inputs have come to, and the names of all that are known."""
        home = self._home if self._learned else None
        if home is None:
            return None
        if self._gate is None or self._gate[0] != current:
            known = (home, *self._learned.values())
            names = [condition.name for condition in known]
            if current not in names:
                return None
            interval = max(2.0, self._baseline.false_alarm_interval)
            self._gate = current, Gate(known, names.index(current), interval), names
            self._watch = None
        return self._gate[1:]

    def watch(self, current: str) -> _core.ConditionWatch | None:
        """Return what looks at each input that is served; None where there is nothing to tell.

        Another one whenever a condition is learned or forgotten, which takes some milliseconds.

        Parameters
        ----------
        current
            The condition that is served: a name, or an empty text for golden's.
        """
        found, profile, reader = self._gate_of(current), self._profile, self._reader
        if found is None or profile is None or reader is None:
            return None
        dtype = profile.inputs.dtype.name
        if self._watch is None and dtype in _READ:
            self._watch = _core.ConditionWatch(reader, found[0].core, dtype, every_kth(reader.size))
        return self._watch

    def come_to(self, current: str, ago: int) -> str | None:
        """Return the condition that the latest inputs have come to; None: they have not.

        As `watch` has seen it, or where it cannot read such inputs, as the latest `ago` say.
        """
        found = self._gate_of(current)
        if found is None:
            return None
        if self._watch is None:
            return self.passage(current, ago)[0]
        to = self._watch.to
        return None if to is None else found[1][found[0].others[to]]

    def passage(self, current: str, ago: int) -> tuple[str | None, bool]:
        """Return the condition that the latest inputs have come to, and whether it may yet be one.

        Parameters
        ----------
        current
            The one that is served: a name, or an empty text for golden's.
        ago
            Predictions since an alarm's onset, or since the latest passage: at least 1.

        Returns
        -------
        str or None, bool
            The name, empty for golden's; None: none that is known, or the one that is served. And
            whether more inputs may tell.
        """
        found = self._gate_of(current)
        if found is None:
            return None, False
        inputs = self.inputs_since(max(1, ago))
        if not len(inputs):
            return None, True
        passed = found[0].passed(self._numbers(inputs))
        return (None if passed.to is None else found[1][passed.to]), passed.is_open

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
        self._changed()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the examples, and of what looks at inputs."""
        watch = 0 if self._watch is None else self._watch.memory_bytes()
        return watch + sum(c.examples.nbytes for c in self._learned.values())
