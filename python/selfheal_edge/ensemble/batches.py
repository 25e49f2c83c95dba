"""What a caller asks a committee: one sample, or the samples of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selfheal_edge.ensemble.members import Member
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.arrays import Form, Tensors, read_batch
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["read_samples", "split"]


def read_samples(x: Tensors, members: Sequence[Member]) -> tuple[Tensors, Form]:
    """Return an input as every member takes it, and in which form it holds samples.

    Names are read as the first member's, and one input's name is left away: another member may
    have another one for it. A batch is looked at as a whole, before any member is asked. One sample
    in an array is left to the members.

    Raises
    ------
    TypeError, ValueError
        As `SelfHealingModel.predict`, of a batch and of a dict.
    """
    first = members[0]
    if isinstance(x, Mapping):
        x, _ = parts_of(first.model).session.names.inward(x)
    elif not isinstance(x, np.ndarray) or x.shape == first.input[0].shape:
        return x, "single"
    skips = all(parts_of(m.model).loop.state.policy.nonfinite == "skip" for m in members)
    form = read_batch(first.input, x, skip_nonfinite=skips).form
    if isinstance(x, Mapping) and len(first.input) == 1:
        (x,) = x.values()
    return x, form


def split(x: Tensors, form: Form) -> list[Tensors]:
    """Return the samples of a batch, one by one."""

    def of(part: Array, n: int) -> Array:
        found: Array = part[n : n + 1] if form == "first" else part[n]
        return found

    if not isinstance(x, Mapping):
        return [of(x, n) for n in range(len(x))]
    count = len(next(iter(x.values())))
    return [{name: of(part, n) for name, part in x.items()} for n in range(count)]
