"""What a diagnosis is made from, and what it says."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.diagnosis.window import Window
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.text import MESSAGE, shown

__all__ = [
    "MIN_SAMPLES",
    "Alternative",
    "Damage",
    "Diagnosis",
    "Evidence",
    "RuledOut",
    "Symptoms",
    "Verdict",
    "shift_of",
    "sureness",
]

MIN_SAMPLES: Final = 8
"""Fewer scores say nothing of a shift."""

_RECENT: Final = 32
_STEEPNESS: Final = 4.25
_WIDTH: Final = 80
"""Columns of the narrowest screen that is read."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that a diagnosis rests on."""

    name: str
    value: float
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "value": self.value, "text": self.text}


@dataclass(frozen=True, slots=True)
class Alternative:
    """A cause that was asked for and is not what the diagnosis names, with the reason."""

    cause: Cause
    confidence: float
    """0 to 1; 0 for one that is ruled out."""
    reason: str

    def __str__(self) -> str:
        if self.confidence > 0:
            return f"perhaps {self.cause.value} ({self.confidence:.0%}): {self.reason}"
        return f"not {self.cause.value}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the cause by name."""
        return {"cause": self.cause.value, "confidence": self.confidence, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause, how sure we are, and why."""

    cause: Cause
    confidence: float
    """0 to 1."""
    evidence: tuple[Evidence, ...] = ()
    kind: str = ""
    """Which kind of the cause, such as ``"stuck"`` of a sensor fault; empty where there is one."""
    since: int | None = None
    """The prediction at which it began, as the detectors estimate it; None where they cannot."""
    alternatives: tuple[Alternative, ...] = ()
    """Other causes that were asked for, in the order of the questions."""
    wanted: str = ""
    """What evidence would decide, where the cause is unknown."""
    more_samples: int = 0
    """Predictions after which the shape of the shift will show; 0: it has been looked at."""

    def __str__(self) -> str:
        facts = shown("; ".join(str(e) for e in self.evidence), MESSAGE)
        name = f"{self.cause.value}, {shown(self.kind)}" if self.kind else self.cause.value
        return f"{name} ({self.confidence:.0%}): {facts}"

    def explain(self) -> str:
        """Return all of it in lines, as a device would report it to a person."""
        name = f"{self.cause.value}, {shown(self.kind)}" if self.kind else self.cause.value
        since = "" if self.since is None else f", since prediction {self.since:,}"
        lines = [f"cause      {name}, {self.confidence:.0%} sure{since}"]
        lines += _listed("because", [fact.text for fact in self.evidence])
        perhaps = [f"{a.cause.value}: {a.reason}" for a in self.alternatives if a.confidence > 0]
        ruled_out = [f"{a.cause.value}: {a.reason}" for a in self.alternatives if not a.confidence]
        lines += _listed("perhaps", perhaps)
        lines += _listed("ruled out", ruled_out)
        lines += _listed("would tell", [self.wanted] if self.wanted else [])
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the cause by name."""
        return {
            "cause": self.cause.value,
            "kind": self.kind,
            "confidence": self.confidence,
            "since": self.since,
            "evidence": [fact.to_dict() for fact in self.evidence],
            "alternatives": [one.to_dict() for one in self.alternatives],
            "wanted": self.wanted,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Diagnosis:
        """Read what `to_dict` returned, of this release or an older one.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that.
        """
        since = fields.get("since")
        return cls(
            Cause(fields["cause"]),
            float(fields["confidence"]),
            tuple(
                Evidence(str(fact["name"]), float(fact["value"]), str(fact["text"]))
                for fact in fields["evidence"]
            ),
            kind=str(fields.get("kind", "")),
            since=None if since is None else int(since),
            alternatives=tuple(
                Alternative(Cause(one["cause"]), float(one["confidence"]), str(one["reason"]))
                for one in fields.get("alternatives", ())
            ),
            wanted=str(fields.get("wanted", "")),
        )


@dataclass(frozen=True, slots=True)
class RuledOut:
    """A question's answer "no", with what speaks against its cause."""

    cause: Cause
    reason: str


Verdict: TypeAlias = Diagnosis | RuledOut | None
"""What a question answers; None where it has nothing to say."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was wrong with one corrupt block."""

    image: str
    flips: tuple[tuple[int, int], ...]
    """Offset in the image and exclusive or with golden, of the first wrong bytes, at most 16."""
    wrong_bits: int
    """All of them; 0 where the block could not be compared."""
    again: bool = False
    """Whether one of these bytes was healed before."""
    element_bytes: int = 1
    """Bytes of an element of the tensor that lies there."""
    is_earlier: bool = False
    """Whether it was healed a little while ago: a sweep finds one flip after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Symptoms:
    """What the loop knows when it asks."""

    alarms: tuple[Alarm, ...] = ()
    signals: tuple[str, ...] = ()
    """Names of the columns of `scores`."""
    scores: npt.NDArray[np.float64] = field(default_factory=partial(np.empty, (0, 0)))
    """Normal scores of the latest predictions, oldest first, shape (n, signals)."""
    count: int = 0
    """Predictions so far; the last row of `scores` is number `count`."""
    repeats: int = 0
    """Equal inputs in a row."""
    corrupt_blocks: int = 0
    corrupt_regions: tuple[str, ...] = ()
    damage: tuple[Damage, ...] = ()
    """What the corrupt blocks hold, where golden's copy of them could be read."""
    known_answers_right: bool | None = None
    """None when they were not asked."""
    window: Window | None = None
    """The inputs and answers since the onset; None where calibration learned no profile."""
    feedback: tuple[Feedback, ...] = ()
    """Labels that came from outside, oldest first."""
    returns: tuple[int, ...] = ()
    """Of the latest troubles, predictions from the end of one to the onset of the next."""
    context: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """What the caller told of the latest predictions, by name, oldest first."""

    @property
    def onset(self) -> int | None:
        """The prediction at which the first change began, as the alarms estimate it."""
        return min((a.onset for a in self.alarms), default=None)

    def since_onset(self, signal: int) -> npt.NDArray[np.float64]:
        """Return a signal's scores since the change began, as the alarms estimate it.

        Parameters
        ----------
        signal
            Its index in `signals`.

        Returns
        -------
        numpy.ndarray
            float64, oldest first: at least 8 if there are as many, or none.
        """
        if self.scores.shape[0] == 0:
            return np.empty(0)
        onset = self.count - _RECENT if self.onset is None else self.onset
        span = max(MIN_SAMPLES, min(self.count - onset, len(self.scores)))
        return self.scores[-span:, signal]


def _listed(head: str, texts: Sequence[str]) -> list[str]:
    """Return texts, each wrapped behind a column with a head."""
    lines: list[str] = []
    for text in texts:
        indent = f"{head:11}" if not lines else " " * 11
        lines += textwrap.wrap(
            shown(text, MESSAGE), _WIDTH, initial_indent=indent, subsequent_indent=" " * 13
        )
    return lines


def shift_of(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean shift of normal scores in standard errors, and the share on its side."""
    finite = scores[np.isfinite(scores)]
    if finite.size < 2:
        return 0.0, 0.0
    mean = float(finite.mean())
    same_side = float(np.mean(np.sign(finite) == np.sign(mean)))
    return mean * math.sqrt(finite.size), same_side


def sureness(ratio: float) -> float:
    """Return a confidence for a measure in parts of its limit: 0.5 at it, 0.6 a tenth above.

    0.85 at 1.5 times the limit, 0.95 at twice.
    """
    power = min(ratio, 1e6) ** _STEEPNESS if ratio > 0 else 0.0
    return power / (1 + power)
