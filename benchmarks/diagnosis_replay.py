"""Diagnose kept streams anew: a changed rule is scored in seconds, without serving anything again.

While streams are served, what the loop asked its diagnoser about is kept: inputs, answers and
scores since the onset. `Replay` asks the rules of today about the same, with limits as calibration
learns them today and the model to question. What is kept depends on signals, charts, and on when
the loop asked: serve the streams again where one of these has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import diagnosis_data as data
import selfheal_edge as she
from selfheal_edge.calibration.profile import Asker
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.diagnosis.window import Answers, Window
from selfheal_edge.redteam.scenarios.observed import Observed, Verdict
from selfheal_edge.redteam.scenarios.streams import CLEAN
from selfheal_edge.tflite.session import Session

__all__ = ["Asked", "Recorder", "Replay"]


class Shown(NamedTuple):
    """What a window is made of."""

    inputs: npt.NDArray[Any]
    answers: Answers | None
    scores: npt.NDArray[np.float64]
    may_ask: bool


class Asked(NamedTuple):
    """One question of the loop to its diagnoser."""

    symptoms: she.Symptoms
    """Without a window."""
    shown: Shown | None
    """The window's; None where there was none."""


class Recorder:
    """Diagnoses as `AttackDiagnoser` does, and keeps what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._ours = she.AttackDiagnoser()

    def diagnose(self, symptoms: she.Symptoms) -> she.Diagnosis:
        """Return what ours says."""
        window, shown = symptoms.window, None
        if window is not None:
            can_ask = window.probe is not None
            shown = Shown(window.inputs.copy(), window.answers, window.scores.copy(), can_ask)
        self.asked.append(Asked(replace(symptoms, window=None), shown))
        return self._ours.diagnose(symptoms)


class Replay:
    """Today's rules on a task, with its model to question; `close` it.

    Parameters
    ----------
    task
        The one that streams were served of.
    baseline
        Calibrated today.
    """

    def __init__(self, task: data.Task, baseline: she.Baseline) -> None:
        profile = Profile.found(baseline.profile)
        assert profile is not None
        self.profile = profile
        self._session = Session(task.model, taps=baseline.taps)
        self._ask = Asker(self._session, baseline.output_kind)
        self._ours = she.AttackDiagnoser()

    def close(self) -> None:
        """Free the model."""
        self._session.close()

    def window(self, shown: Shown) -> Window:
        """Return a window as it was, with today's limits."""
        probe = self._ask if shown.may_ask else None
        return Window(self.profile, shown.inputs, shown.answers, shown.scores, probe)

    def diagnosed(self, asked: Asked) -> she.Diagnosis:
        """Return what today's rules name."""
        window = None if asked.shown is None else self.window(asked.shown)
        return self._ours.diagnose(replace(asked.symptoms, window=window))

    def named_again(self, seen: Observed, asked: Sequence[Asked]) -> Observed:
        """Return an observation with what today's rules name.

        As the loop does: what waits for more samples names nothing, and what is known is not
        forgotten for want of evidence. Where nothing stood because the trouble had passed, nothing
        stands.
        """
        told = [(one.symptoms.count - CLEAN, self.diagnosed(one)) for one in asked]
        named = [(after, one) for after, one in told if not one.more_samples]
        verdicts = {}
        for at, was in seen.verdicts.items():
            cause, kind = None, ""
            for after, one in named:
                if after <= at and (cause is None or one.cause is not Cause.UNKNOWN):
                    cause, kind = one.cause, one.kind
            has_passed = was.cause is None and any(after <= at for after, _ in named)
            stands = (None, "") if has_passed else (cause, kind)
            verdicts[at] = Verdict(was.is_alarmed, *stands, cause)
        return seen._replace(verdicts=verdicts)
