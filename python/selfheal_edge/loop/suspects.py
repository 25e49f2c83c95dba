"""Which inputs a trouble makes suspect, so that nothing is learned from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.learning.feedback import RecentAnswers
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.few_samples import FewSamples

__all__ = ["Judge", "judge_for", "suspect_all"]

Judge = Callable[[RecentAnswers], npt.NDArray[np.bool_]]
"""Says of each of n recent predictions whether its input is suspect: shape (n,)."""

_LEARNABLE: Final = frozenset({"gain", "offset", "channel", "swapped"})
"""Kinds of a sensor's fault that a repair by learning corrects: it needs these very inputs."""
_NEIGHBOURS: Final = 8
_AMONG_STRANGERS: Final = 0.5
_SURE: Final = 0.5
_MARGIN: Final = "margin"


def judge_for(trouble: Diagnosis, baseline: Baseline) -> tuple[Judge, str] | None:
    """Return what tells suspect inputs while a trouble goes on, and the reason in words.

    Parameters
    ----------
    trouble
        As it was named.
    baseline
        Has the calibration's embeddings, and what margins are ordinary.

    Returns
    -------
    tuple or None
        None for troubles that make no input suspect: drift is to be learned from.

    Notes
    -----
    Of a sensor that is broken beyond correction every input is suspect. Of an attack those that
    are answered surely while most of their neighbours among the calibration's inputs have another
    label, and those whose margin lies beyond what all but a handful of calibration's reached: made
    to lie just across a border, or to walk along it. Without a profile all of them.
    """
    if trouble.cause is Cause.SENSOR_FAULT and trouble.kind not in _LEARNABLE:
        name = f"sensor fault, {trouble.kind}" if trouble.kind else "sensor fault"
        return suspect_all, name
    if trouble.cause is not Cause.ADVERSARIAL_INPUT:
        return None
    if not {"neighbours", "neighbour_labels", "embedding_sd"} <= baseline.profile.keys():
        return suspect_all, "adversarial input"
    return _Astray(baseline), "adversarial input"


def suspect_all(recent: RecentAnswers) -> npt.NDArray[np.bool_]:
    """Say that every input is suspect."""
    return np.ones(len(recent.ids), bool)


class _Astray:
    """Tells inputs that are sure among strangers, or unsure as no ordinary one is."""

    def __init__(self, baseline: Baseline) -> None:
        profile = baseline.profile
        self._sd = np.asarray(profile["embedding_sd"], np.float32)
        self._labels = np.asarray(profile["neighbour_labels"], np.int64)
        self._there = np.asarray(profile["neighbours"], np.float32)
        self._cut = _cut_of(baseline.few)

    def __call__(self, recent: RecentAnswers) -> npt.NDArray[np.bool_]:
        n = len(recent.ids)
        if recent.probabilities is None or recent.raw_embeddings is None or not n:
            return np.ones(n, bool)
        top = np.partition(recent.probabilities, -2, axis=1)[:, -2:]
        margins = top[:, 1] - top[:, 0]
        found = margins < self._cut
        if not len(self._there) or self._there.shape[1] != recent.raw_embeddings.shape[1]:
            return np.asarray(found)
        here, there = recent.raw_embeddings / self._sd, self._there / self._sd
        squares = np.square(here).sum(axis=1)[:, None] + np.square(there).sum(axis=1)[None]
        count = min(_NEIGHBOURS, len(there))
        nearest = np.argpartition(squares - 2 * here @ there.T, count - 1, axis=1)[:, :count]
        strange = (self._labels[nearest] != recent.predicted[:, None]).mean(axis=1)
        return np.asarray(found | ((strange >= _AMONG_STRANGERS) & (margins >= _SURE)))


def _cut_of(charts: tuple[FewSamples, ...]) -> float:
    return max((chart.cut for chart in charts if chart.signal == _MARGIN), default=-1.0)
