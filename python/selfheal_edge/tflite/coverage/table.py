"""Which of the bytes that are watched are the bytes that run, region by region."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from selfheal_edge.tflite.format.records import Region

__all__ = ["Coverage", "CoverageTable", "RegionCoverage"]


class Coverage(str, Enum):
    """How the bytes that are watched relate to the bytes that run."""

    EXECUTING = "executing"
    """The watched bytes are the ones that the kernels read at every inference."""
    DERIVED = "derived"
    """The runtime took what it needs when it was built; a rebuild from verified bytes heals it."""
    SOURCE = "source"
    """Watched, but the kernels run on a copy of their own that no interface shows."""

    @property
    def rank(self) -> int:
        """0 for the best, 2 for the worst."""
        return ("executing", "derived", "source").index(self.value)


@dataclass(frozen=True, slots=True)
class RegionCoverage:
    """One region of the model file, how it is covered, and the rule that says so."""

    region: Region
    coverage: Coverage
    reason: str
    image: Literal["source", "packed"] = "source"
    """The image whose bytes run; where that is not the source, the source is for rebuilds."""


@dataclass(frozen=True, slots=True)
class CoverageTable:
    """Coverage of every byte of the model file."""

    rows: tuple[RegionCoverage, ...]

    @property
    def weights(self) -> tuple[RegionCoverage, ...]:
        """The rows of weights and biases."""
        return tuple(r for r in self.rows if r.region.kind in ("weights", "bias"))

    @property
    def worst(self) -> Coverage:
        """The worst coverage of any weight; `executing` for a model that has none."""
        found = (row.coverage for row in self.weights)
        return max(found, key=lambda c: c.rank, default=Coverage.EXECUTING)

    @property
    def bytes_by_coverage(self) -> dict[Coverage, int]:
        """Bytes of the whole file (weights, graph and the rest) under each kind of coverage."""
        total = dict.fromkeys(Coverage, 0)
        for row in self.rows:
            total[row.coverage] += row.region.nbytes
        return total

    @property
    def weight_bytes_by_coverage(self) -> dict[Coverage, int]:
        """The same for weights and biases alone."""
        total = dict.fromkeys(Coverage, 0)
        for row in self.weights:
            total[row.coverage] += row.region.nbytes
        return total
