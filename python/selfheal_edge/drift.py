"""river's drift detectors by river's names and arguments: swap the import, keep the code.

``from selfheal_edge.drift import ADWIN, KSWIN, PageHinkley`` in place of river.drift, and
``DDM, EDDM, HDDM_A, HDDM_W`` in place of river.drift.binary. Alarms are the same, but that NaN and
infinities are skipped; `update` also returns whether there is an alarm.
"""

from __future__ import annotations

from typing import Final, Literal

from selfheal_edge import _core

__all__ = ["ADWIN", "DDM", "EDDM", "HDDM_A", "HDDM_W", "KSWIN", "PageHinkley"]

_SIDES: Final[dict[str, Literal["both", "upper", "lower"]]] = {
    "both": "both",
    "up": "upper",
    "down": "lower",
}

ADWIN = _core.Adwin
KSWIN = _core.Kswin
DDM = _core.Ddm
EDDM = _core.Eddm
HDDM_A = _core.HddmA
HDDM_W = _core.HddmW


class PageHinkley(_core.PageHinkley):
    """Page-Hinkley as river computes it, bit for bit.

    Parameters
    ----------
    min_instances
        Samples without an alarm at the start.
    delta
        Tolerated deviation, in the signal's units.
    threshold
        What the sum must exceed.
    alpha
        Forgetting factor.
    mode
        ``"up"``, ``"down"`` or ``"both"``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        min_instances: float = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 1 - 0.0001,
        mode: str = "both",
    ) -> None:
        if mode not in _SIDES:
            raise ValueError(f"mode: expected 'up', 'down' or 'both', got {mode!r}")
        super().__init__(
            compat="river",
            min_instances=min_instances,
            delta=delta,
            threshold=threshold,
            alpha=alpha,
            sides=_SIDES[mode],
        )
