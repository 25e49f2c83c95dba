"""How often an alarm may be false: in samples, or as a duration with a rate."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Final

__all__ = ["predictions"]

_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def predictions(interval: float | str, rate_hz: float | None) -> float:
    """Return an interval such as 10_000 or ``"30 d"`` in samples at `rate_hz`.

    Raises
    ------
    ValueError
        For one that cannot be read, or is not between 10 and 1e12 samples.
    """
    if rate_hz is not None and not _is_real(rate_hz):
        raise TypeError(f"rate_hz: expected a number, got {rate_hz!r}")
    if rate_hz is not None and not (math.isfinite(rate_hz) and rate_hz > 0):
        raise ValueError(
            f"rate_hz: expected a positive number of predictions a second, got {rate_hz}"
        )
    if isinstance(interval, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*(s|min|h|d|w)\s*", interval)
        if match is None:
            raise ValueError(
                "false_alarm_interval: expected a number of predictions or a duration such as "
                f"'30 d' (units {', '.join(_UNITS)}), got {interval!r}"
            )
        if rate_hz is None:
            raise ValueError(
                "rate_hz: expected predictions a second, because false_alarm_interval is a "
                f"duration ({interval!r}), got None"
            )
        interval = float(match[1]) * _UNITS[match[2]] * rate_hz
    if not _is_real(interval):
        raise TypeError(f"false_alarm_interval: expected a number or a duration, got {interval!r}")
    if not 10 <= interval <= 1e12:
        raise ValueError(f"false_alarm_interval: expected 10 to 1e12 predictions, got {interval:g}")
    return float(interval)
