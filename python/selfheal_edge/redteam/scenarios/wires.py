"""Channels of an input, and which of them a fault would be seen on."""

from __future__ import annotations

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Domain, Real
from selfheal_edge.redteam.scenarios.scenario import Setting

__all__ = ["channel_axis", "line", "lively_channels"]


def channel_axis(domain: Domain) -> int:
    """Return the axis of `Domain.real` whose lines are channels: colours, or columns of grey."""
    if domain.kind == "image" and domain.colours == 1:
        return 2
    return len(domain.axes)


def lively_channels(real: Real, setting: Setting, count: int) -> list[int]:
    """Return channels to break, of the half that vary most: a break elsewhere changes nothing."""
    axis = channel_axis(setting.domain)
    source = setting.source(real) / setting.domain.unit
    moves = np.std(source, tuple(a for a in range(source.ndim) if a != axis))
    order = np.argsort(-moves, kind="stable")
    best = order[: max(count, (len(order) + 1) // 2)]
    return [int(i) for i in setting.rng.permutation(best)[:count]]


def line(real: Real, axis: int, channel: int) -> tuple[slice | int, ...]:
    """Return the index of one channel of all samples."""
    return tuple(channel if a == axis else slice(None) for a in range(real.ndim))
