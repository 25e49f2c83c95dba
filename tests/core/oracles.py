"""Slow, obvious references that the fast code is tested against."""

import math
from collections.abc import Sequence


def crc32c(data: bytes, value: int = 0) -> int:
    state = value ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def on_grid(z: float) -> float:
    """Round to a multiple of 2**-20, ties to even."""
    return round(z * 2.0**20) / 2.0**20


def cusum(
    samples: Sequence[float], mean: float, std: float, k: float, h: float, sides: str
) -> list[tuple[bool, float, float]]:
    """Alarm, upper and lower after every sample; sums move on a grid of 2**-20."""
    upper = lower = 0.0
    alarm = False
    history = []
    k = on_grid(k)
    for x in samples:
        if alarm:
            upper = lower = 0.0
        alarm = False
        if math.isfinite(x):
            z = on_grid(min(max((x - mean) * (1.0 / std), -(2.0**30)), 2.0**30))
            upper = max(0.0, upper + (z - k)) if sides != "lower" else 0.0
            lower = max(0.0, lower + (-z - k)) if sides != "upper" else 0.0
            alarm = upper > h or lower > h
        history.append((alarm, upper, lower))
    return history


def page_hinkley(
    samples: Sequence[float], delta: float, threshold: float
) -> list[tuple[bool, float, float]]:
    """Cumulative sums minus their running minima, for mean 0 and std 1."""
    up = up_min = down = down_min = 0.0
    history = []
    for x in samples:
        if math.isfinite(x):
            up += on_grid(x) - on_grid(delta)
            up_min = min(up_min, up)
            down += -on_grid(x) - on_grid(delta)
            down_min = min(down_min, down)
        alarm = math.isfinite(x) and max(up - up_min, down - down_min) > threshold
        history.append((alarm, up - up_min, down - down_min))
        if alarm:
            up = up_min = down = down_min = 0.0
    return history
