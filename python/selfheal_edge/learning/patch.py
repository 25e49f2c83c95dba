"""A change of a model that is learned: what of its file, and of its inputs, differs from golden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["InputMap", "Patch"]


@dataclass(frozen=True, slots=True, eq=False)
class InputMap:
    """A correction of inputs, feature by feature: gain times the value, plus an offset.

    Raises
    ------
    ValueError
        When gains and offsets are not finite vectors of the same length.
    """

    axis: int
    """Axis of one sample, without the batch's, that counts features."""
    gain: npt.NDArray[np.float32]
    """Shape (features,)."""
    offset: npt.NDArray[np.float32]
    """Shape (features,), in the units of dequantised inputs."""

    def __post_init__(self) -> None:
        """Refuse what is no correction."""
        for name in ("gain", "offset"):
            values = np.asarray(getattr(self, name), np.float32)
            if values.ndim != 1 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"{name}: expected a vector of finite numbers, got {values!r}")
            object.__setattr__(self, name, values)
        if self.gain.shape != self.offset.shape:
            raise ValueError(
                f"gain, offset: expected equal lengths, got {self.gain.size} and {self.offset.size}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What makes another generation of golden: patches do not add up, each begins at golden.

    Raises
    ------
    ValueError
        When changes overlap, or are not in order.
    """

    changes: tuple[tuple[int, bytes], ...] = ()
    """Offset in the source image (our copy of the file) and new bytes; sorted, disjoint."""
    inputs: InputMap | None = None
    """None: inputs go in as they come."""
    text: str = ""
    """What it does, in words, for the journal."""

    def __post_init__(self) -> None:
        """Refuse changes whose order would matter."""
        end = 0
        for offset, data in self.changes:
            if offset < end or not data:
                raise ValueError(
                    f"changes: expected bytes at rising offsets, got {len(data)} at {offset} "
                    f"after {end}"
                )
            end = offset + len(data)

    @property
    def is_golden(self) -> bool:
        """Whether it changes nothing."""
        return not self.changes and self.inputs is None
