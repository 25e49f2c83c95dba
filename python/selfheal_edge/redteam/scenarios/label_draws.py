"""Draw samples of wanted classes from a labelled pool, each once while there are enough."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.scenarios.scenario import Setting

__all__ = ["class_shares", "drawn"]


def class_shares(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Real]:
    """Return the classes of a pool and their shares."""
    classes, counts = np.unique(labels, return_counts=True)
    return classes, counts / counts.sum()


def drawn(wanted: npt.NDArray[np.int64], setting: Setting) -> Real:
    """Return a sample for each wanted class, shape (n,); those that come again are varied."""
    assert setting.pool is not None
    assert setting.labels is not None
    rows = np.empty(len(wanted), np.int64)
    again = np.zeros(len(wanted), bool)
    for c in np.unique(wanted):
        members = np.flatnonzero(setting.labels == c)
        places = np.flatnonzero(wanted == c)
        for start in range(0, len(places), len(members)):
            part = places[start : start + len(members)]
            rows[part] = setting.rng.permutation(members)[: len(part)]
            again[part] = start > 0
    result = np.array(setting.pool[rows])
    if again.any():
        result[again] = vary(result[again], setting.domain, setting.rng)
    return result
