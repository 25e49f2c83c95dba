"""Watch the signals of every inference against their references."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.few_samples import SMALL_MARGINS
from selfheal_edge.monitoring.promise import chart_names
from selfheal_edge.monitoring.regimes import MATCH_SAMPLES, Regime, RegimeTable
from selfheal_edge.monitoring.signals import Measurement
from selfheal_edge.text import shown

__all__ = ["MEMBERS_PART", "SENSOR_ALARMS", "Alarm", "KeptMonitor", "Monitor", "PerformanceMonitor"]

_FLATS: Final = 8
_LEAST_KNOWN: Final = 32
_LEAST_SEEN: Final = 16
_MOVES: Final = 4.0
"""Times the distance of windows of one condition that it may have moved while it was learned."""
_WITHOUT_CHART: Final = {
    "input_repeats": "inputs in a row equal the one before",
    "input_flat": "inputs in a row are flat",
    "input_nonfinite": "input values are not finite",
    "output_frozen": "answers in a row equal the one before, while inputs differ",
    SMALL_MARGINS: "samples lie nearer to a decision boundary than all but the nearest normally do",
}

# Solving for thresholds takes most of opening a small model, and gives the same for one baseline
# always: a monitor as it begins, by baseline and `latch`, some 30 kB.
_FRESH: Final[WeakKeyDictionary[Baseline, dict[bool, bytes]]] = WeakKeyDictionary()

MEMBERS_PART: Final = "members_part"
"""The alarm of a committee whose members name different classes more often than they should."""

SENSOR_ALARMS: Final = frozenset({"input_repeats", "input_flat", "input_nonfinite"})
"""Alarms that say by themselves that a sensor is at fault."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal has left its reference."""

    signal: str
    direction: int
    """+1 above the reference, -1 below."""
    magnitude: float
    """Estimated shift, in standard deviations of the reference's normal scores; of ``label_mix``
    that of the logarithm of the class's odds."""
    onset: int
    """Estimated prediction at which it began, counted like `PerformanceMonitor.count`."""
    statistic: float
    threshold: float
    earliest: int = -1
    """With 95 % confidence it did not begin before this prediction: what a rollback may trust."""
    since_start: bool = False
    """Whether it may be older: `earliest` is where the charts started last."""
    label: int | None = None
    """Of ``label_mix``: the class that is predicted more (+1) or less (-1) often than in
    calibration; None for classes that were too rare there to be told apart."""
    detail: str = ""
    """What has changed in words, where the name of the signal does not say it."""

    def __str__(self) -> str:
        if self.detail:
            return f"{shown(self.signal)}: {shown(self.detail)}"
        if self.signal in _WITHOUT_CHART:
            return f"{shown(self.signal)}: {self.statistic:.0f} {_WITHOUT_CHART[self.signal]}"
        return f"{shown(self.signal)} {self.direction * self.magnitude:+.2f} sd"


class Monitor(Protocol):
    """What is updated with every inference: `PerformanceMonitor`, or the user's own."""

    @property
    def names(self) -> tuple[str, ...]:
        """Signals, in the order of `Measurement.values`."""
        ...

    @property
    def count(self) -> int:
        """Predictions seen, which alarms count by."""
        ...

    @property
    def repeats(self) -> int:
        """Equal inputs in a row, the latest included."""
        ...

    @property
    def nonfinite(self) -> int:
        """Values that were NaN or infinite, ever."""
        ...

    @property
    def window(self) -> npt.NDArray[np.float64]:
        """Normal scores of the latest predictions, oldest first: shape (n, signals)."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        ...

    def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
        """Take in one inference; return the alarms that it raised; its errors are `predict`'s."""
        ...

    def lasting_alarms(self) -> tuple[Alarm, ...]:
        """Return the alarms that need no chart and still hold: evidence, though told before."""
        ...

    def settled(self) -> bool:
        """Whether the signals look like their references again, so that a trouble is over."""
        ...

    def reset(self) -> None:
        """Forget charts and history, as after a repair; counters go on."""
        ...


@runtime_checkable
class KeptMonitor(Protocol):
    """A monitor of the user's own whose state a store can keep."""

    def state(self) -> bytes:
        """Return all that it has learned since it was made."""
        ...

    def restore(self, state: bytes) -> None:
        """Go on from what `state` returned; called before it serves. What it raises is told."""
        ...


class PerformanceMonitor:
    """A bank of charts on the normal scores of every signal, under one false-alarm promise.

    Parameters
    ----------
    baseline
        Frozen references and the wanted mean number of predictions between false alarms.
    latch
        A shift that lasts raises one alarm (one up, one down), and no other until it has ended or
        `accept` takes it for normal; so does everything else that lasts. False: again and again.

    Notes
    -----
    The charts, and how far the promise goes, are `MonitorBank`'s: CUSUMs for slow, middling and
    fast shifts and a count of far samples, on either side of every signal. The size of the
    calibration and the signals' autocorrelation are in the thresholds; calibrate on inputs in the
    order in which they come.

    Four more alarms need no chart. Three name a sensor: ``input_repeats``, when more inputs in a
    row are equal to the bit, and ``input_flat``, when eight in a row have less spread, than
    calibration and what its tail allows; and ``input_nonfinite``. One names the model:
    ``output_frozen``, when more answers in a row are equal to the bit while inputs differ.
    `Baseline.limits` has the numbers.

    ``small_margins`` counts samples that lie nearer to a decision boundary of a classifier than all
    but a handful of calibration's, as crafted inputs do that are just over it: a few in a hundred
    among normal ones are enough. A tenth of the false alarms that are allowed are its.

    One more is of the predicted classes together, ``label_mix``: some class comes more, or less,
    often than in calibration (`LabelMix`); `Alarm.label` says which. It has the share of one signal
    of the promise. `Baseline.label_mix` is None, and `Baseline.left_out` says why, where the
    calibration cannot support it. An input that repeats, or is no numbers, is not counted.

    Memory is fixed after construction. One thread at a time.
    """

    def __init__(self, baseline: Baseline, *, latch: bool = True) -> None:
        self._begin(baseline, self._new_core(baseline, latch))

    def _begin(self, baseline: Baseline, core: _core.InferenceMonitor) -> None:
        self.names: tuple[str, ...] = tuple(baseline.references)
        self.core = core
        """For the hot path, which updates it without Python; then `alarms` tells them."""
        self._row = np.zeros(len(self.names))
        self.regimes: RegimeTable = baseline.regimes or RegimeTable.first(
            self.names, [reference.limit for reference in baseline.references.values()]
        )
        """The operating conditions that are known, and which one the charts are in."""
        self._few_shares = [max(kind.share, 1.0 / baseline.samples) for kind in baseline.few]

    @classmethod
    def from_state(cls, baseline: Baseline, state: bytes) -> PerformanceMonitor:
        """Return one that goes on from what `state` returned, under the same baseline.

        It solves no thresholds, which takes most of a new one's time.

        Raises
        ------
        StateError
            When it is damaged, of a newer release, or of another number of signals.
        """
        core = _core.InferenceMonitor.from_state(state)
        signals = 0 if core.bank is None else core.bank.signals
        if signals != len(baseline.references) or len(core.few_counts) != len(baseline.few):
            raise _core.StateError(
                f"state: expected that of a monitor of {len(baseline.references)} signals, "
                f"got {signals}"
            )
        monitor = cls.__new__(cls)
        monitor._begin(baseline, core)  # noqa: SLF001 — its own class
        return monitor

    @classmethod
    def _new_core(cls, baseline: Baseline, latch: bool) -> _core.InferenceMonitor:
        fresh = _FRESH.setdefault(baseline, {})
        if latch in fresh:
            return _core.InferenceMonitor.from_state(zlib.decompress(fresh[latch]))
        core = cls._solved(baseline, latch)
        fresh[latch] = zlib.compress(core.state(), level=1)
        return core

    @staticmethod
    def _solved(baseline: Baseline, latch: bool) -> _core.InferenceMonitor:
        names = tuple(baseline.references)
        limits = baseline.limits
        ignore = baseline.ignore
        return _core.InferenceMonitor(
            list(baseline.references.values()),
            baseline.arl0.signals,
            flat=[
                (i, limits.least_spread[name])
                for i, name in enumerate(names)
                if name in limits.least_spread and "input_flat" not in ignore
            ],
            max_repeats=0 if "input_repeats" in ignore else limits.max_repeats,
            max_frozen=0 if "output_frozen" in ignore else limits.max_frozen,
            latch=latch,
            few=[
                (names.index(kind.signal), kind.cut, kind.rise, kind.limit) for kind in baseline.few
            ],
            labels=baseline.label_mix,
            label_arl0=baseline.arl0.label_mix,
        )

    @property
    def count(self) -> int:
        """Predictions seen."""
        return self.core.count

    @property
    def repeats(self) -> int:
        """Equal inputs in a row, the latest included."""
        return self.core.repeats

    @property
    def nonfinite(self) -> int:
        """Values that were NaN or infinite, ever."""
        return self.core.nonfinite

    @property
    def window(self) -> npt.NDArray[np.float64]:
        """Normal scores of the latest predictions, oldest first: shape (n <= 256, signals)."""
        return self.core.window

    @property
    def memory_bytes(self) -> int:
        """Bytes of references, charts and history."""
        return self.core.memory_bytes() + self._row.nbytes

    def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
        """Take in one inference; return the alarms that it raised, usually none."""
        self._row[:] = measurement.values
        raised = self.core.update(
            self._row,
            measurement.repeats_previous,
            measurement.nonfinite,
            measurement.same_answer,
            -1 if measurement.label is None else measurement.label,
        )
        return self.alarms() if raised else ()

    def alarms(self) -> tuple[Alarm, ...]:
        """Return the alarms that the latest inference raised."""
        core = self.core
        alarms: list[Alarm] = []
        if core.bank is not None and core.bank_alarm:
            alarms += [self._alarm(core.bank, i) for i in core.bank.alarms]
        if core.nonfinite_alarm:
            alarms.append(self._sensor("input_nonfinite", core.last_nonfinite, 0, 0))
        if core.flat_alarm:
            alarms.append(self._sensor("input_flat", core.flats, _FLATS, core.flats))
        if core.repeats_alarm:
            alarms.append(
                self._sensor("input_repeats", core.repeats, core.max_repeats, core.repeats)
            )
        if core.frozen_alarm:
            alarms.append(self._sensor("output_frozen", core.frozen, core.max_frozen, core.frozen))
        alarms += [self._few(core, i) for i in core.few_alarms]
        if core.label_mix is not None and core.label_mix_alarm:
            alarms.append(self._label_mix(core.label_mix))
        return tuple(alarms)

    def _few(self, core: _core.InferenceMonitor, kind: int) -> Alarm:
        _, since, begun, _ = core.few_counts[kind]
        expected = self._few_shares[kind] * (self.count - since)
        return Alarm(SMALL_MARGINS, -1, begun / expected, since, float(begun), expected, 0, True)

    def _alarm(self, bank: _core.MonitorBank, signal: int) -> Alarm:
        # The bank counts since its last reset.
        before = self.count - bank.count
        onset, earliest = bank.onset(signal), bank.onset_earliest(signal)
        return Alarm(
            self.names[signal],
            bank.direction(signal),
            bank.magnitude(signal),
            before + (bank.count - 1 if onset is None else onset),
            bank.statistic(signal),
            1.0,
            before + (0 if earliest is None else earliest),
            earliest is None or bank.onset_since_start(signal),
        )

    def _label_mix(self, mix: _core.LabelMix) -> Alarm:
        before = self.count - mix.count
        change = mix.change
        label, onset, earliest = change["label"], change["onset"], change["earliest"]
        which = "rare classes" if label is None else f"class {label}"
        return Alarm(
            "label_mix",
            change["direction"],
            change["magnitude"],
            before + (mix.count - 1 if onset is None else onset),
            change["statistic"],
            1.0,
            before + (0 if earliest is None else earliest),
            earliest is None or change["since_start"],
            label,
            f"{which} in {_share(change['share'])} of predictions since then, "
            f"{_share(change['reference'])} in calibration",
        )

    def _sensor(self, signal: str, value: float, threshold: float, ago: int) -> Alarm:
        return Alarm(signal, 1, float(value), self.count - ago, float(value), float(threshold))

    def lasting_alarms(self) -> tuple[Alarm, ...]:
        """Return the alarms without a chart that still hold, told before or not: stuck, flat."""
        core = self.core
        alarms: list[Alarm] = []
        if 0 < core.max_repeats < core.repeats:
            alarms.append(
                self._sensor("input_repeats", core.repeats, core.max_repeats, core.repeats)
            )
        if core.flats >= _FLATS:
            alarms.append(self._sensor("input_flat", core.flats, _FLATS, core.flats))
        return tuple(alarms)

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """Charts that a signal's calibration cannot support, by signal: they never alarm."""
        bank = self.core.bank
        if bank is None:
            return {}
        found = {name: chart_names(bank.left_out(i)) for i, name in enumerate(self.names)}
        return {name: charts for name, charts in found.items() if charts}

    @property
    def latched(self) -> tuple[str, ...]:
        """Signals with a lasting shift that was told, and goes on."""
        bank, mix = self.core.bank, self.core.label_mix
        names = () if bank is None else (n for i, n in enumerate(self.names) if bank.latched(i))
        return (*names, *(("label_mix",) if mix is not None and mix.latched else ()))

    def accept(self) -> None:
        """Take every lasting shift that was told for normal, from its level since the onset.

        The mix of classes since then is a calibration of as many samples. A signal's level is known
        to 1 / sqrt(predictions since the onset) standard deviations: wait, or calibrate anew, where
        more precision is wanted.
        """
        self.core.accept()

    def recognise(self, onset: int) -> Regime | None:
        """Return the known regime that the signals have come to; the charts then follow it.

        Parameters
        ----------
        onset
            The prediction, counted like `count`, at which the change began.

        Returns
        -------
        Regime or None
            None for what is news, and where fewer than 32 predictions have come since the onset.

        Notes
        -----
        Where the charts are in that regime already, it is refined by what came since.
        """
        scores = self._since(onset)
        found = self.regimes.changed_to(scores)
        if found is None or len(scores) < _LEAST_KNOWN:
            return None
        if found == self.regimes.current:
            self._enter(self.regimes.refined(scores).entered(found, self.count))
        else:
            self._enter(self.regimes.entered(found, self.count))
        return self.regimes.regime

    def resembles(self, onset: int) -> bool:
        """Whether what came since the onset, however little, looks like another known regime."""
        if len(self.regimes.regimes) < 2:
            return False
        return self.regimes.changed_to(self._since(onset), is_provisional=True) is not None

    def learn(self, since: int, name: str | None = None, *, adds: bool = False) -> Regime | None:
        """Learn a regime from the latest predictions, and have the charts follow it.

        Never while an attack is suspected: what an attacker shows is normal from then on.

        Parameters
        ----------
        since
            The prediction, counted like `count`, at which it began. Of those since then the latest
            256 are used.
        name
            What to call it; None numbers it, unless it is one that is known. A known name is
            learned anew.
        adds
            A known name is refined: what was seen of it before counts as well, and its spread is
            that of all.

        Returns
        -------
        Regime or None
            None where fewer than 64 predictions have come since then.
        """
        scores = self._since(since)
        if len(scores) < MATCH_SAMPLES:
            return None
        names = [regime.name for regime in self.regimes.regimes]
        known = names.index(name) if adds and name in names else None
        if name is None:
            known = self.regimes.match(scores)
        if known is None:
            self._enter(self.regimes.learned(scores, self.count, name))
        else:
            self._enter(self.regimes.entered(known, self.count).refined(scores))
        return self.regimes.regime

    def seen(self, since: int) -> Regime | None:
        """Return what was seen since a prediction, counted like `count`; None of fewer than 16."""
        scores = self._since(since)
        if len(scores) < _LEAST_SEEN:
            return None
        return Regime.of("seen", scores, self.regimes.limits)

    def is_like(self, seen: Regime, since: int) -> bool:
        """Whether what came since a prediction may be of the same condition as what was seen.

        It may have gone on changing; but it is no other one.
        """
        now = self.seen(since)
        return now is None or seen.distance(now) <= _MOVES * self.regimes.limit

    def enter(self, name: str) -> bool:
        """Have the charts follow a known regime; return whether it is known.

        Parameters
        ----------
        name
            Of one of `regimes`; empty: the one of the references.
        """
        names = ["" if k == 0 else r.name for k, r in enumerate(self.regimes.regimes)]
        is_known = name in names
        self._enter(self.regimes.entered(names.index(name) if is_known else 0, self.count))
        return is_known

    def forget(self, name: str) -> None:
        """Forget a regime that was learned; where the charts are in it, they follow the first."""
        self._enter(self.regimes.without(name))

    def is_steady(self) -> bool:
        """Whether the latest 256 predictions are of one operating condition: old and new half."""
        window = self.window
        half = 2 * MATCH_SAMPLES
        if len(window) < 2 * half:
            return False
        table = self.regimes
        old, new = (
            Regime.of("half", rows, table.limits)
            for rows in (window[-2 * half : -half], window[-half:])
        )
        return old.distance(new) <= table.limit

    def _since(self, onset: int) -> npt.NDArray[np.float64]:
        window = self.window
        count = max(0, min(self.count - onset, len(window)))
        return window[len(window) - count :]

    def go_on_with(self, regimes: RegimeTable) -> None:
        """Take over the table of the process before, whose `state` the charts go on from.

        Raises
        ------
        ValueError
            When it is of other signals.
        """
        if regimes.signals != self.names:
            raise ValueError(f"regimes: expected the signals {self.names}, got {regimes.signals}")
        self.regimes = regimes

    def _enter(self, regimes: RegimeTable) -> None:
        self.regimes = regimes
        bank = self.core.bank
        if bank is None:
            return
        for signal, (level, spread) in enumerate(zip(*regimes.level(), strict=True)):
            bank.set_level(signal, level, spread)

    def settled(self) -> bool:
        """Whether the latest 64 predictions raised no alarm and look like the reference again."""
        return self.core.settled()

    def reset(self) -> None:
        """Forget charts and history, as after a repair; counters go on."""
        self.core.reset()

    def state(self) -> bytes:
        """Return charts, history and counters; `from_state` continues bit for bit."""
        return self.core.state()


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
