"""What the rest of the package knows of a TFLite runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.format.records import Region
from selfheal_edge.tflite.sandbox.packages import RuntimeName
from selfheal_edge.tflite.sandbox.policy import ProbePolicy

__all__ = [
    "RUNTIME_FAILURES",
    "Array",
    "Instance",
    "KernelsChoice",
    "Runtime",
    "RuntimeName",
    "TensorSpec",
]

Array: TypeAlias = npt.NDArray[Any]
KernelsChoice: TypeAlias = Literal["default", "builtin"]

RUNTIME_FAILURES: Final = (RuntimeError, ValueError, OSError, MemoryError, ImportError)
"""What building or running an instance raises where the runtime, its bytes or the room fail.

Its own errors and ours are among them; a module that a runtime loads late may find no descriptor.
Anything else is a fault of this package, which must not be taken for one of the model.
"""


@dataclass(frozen=True, slots=True, eq=False)
class TensorSpec:
    """One input or output as the user sees it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    """Real value of one step; 0.0 for a tensor that is not quantised."""
    zero_point: int

    @property
    def quantized(self) -> bool:
        """Whether values are integers that stand for real numbers."""
        return self.scale != 0.0 and self.dtype.kind in "iu"


class Instance(Protocol):
    """A model built by one runtime, ready to run. One thread at a time."""

    runtime: RuntimeName
    kernels: KernelsChoice
    num_threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    """The user's own outputs."""
    taps: tuple[TensorSpec, ...]
    """Inner tensors that can be read after a run."""
    coverage: CoverageTable
    note: str
    """Why it is not built in the way that was tried first; empty when it is."""

    @property
    def engine(self) -> _core.Engine | None:
        """What the hot path runs; None where tensors may move."""
        ...

    @property
    def images(self) -> Mapping[str, memoryview]:
        """Live weight bytes that belong to this instance beside the source: the packed ones."""
        ...

    @property
    def image_regions(self) -> Mapping[str, tuple[Region, ...]]:
        """For each of `images`, a partition into regions that name the modules running on them."""
        ...

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once on arrays of exactly the inputs' shapes and dtypes; the results are copies."""
        ...

    def tapped(self) -> list[Array]:
        """Return copies of the taps' values in the last run."""
        ...

    def settled_shapes(self, indices: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        """Return the shapes of those tensors that have their memory before the first run."""
        ...

    def reset_variables(self) -> None:
        """Set the variable tensors of a recurrent model to zero; resource variables stay."""
        ...

    def variables(self, indices: Sequence[int]) -> list[Array]:
        """Return copies of variable tensors: the state of a recurrent model."""
        ...

    def set_variables(self, indices: Sequence[int], values: Sequence[Array]) -> None:
        """Go on from the state that `variables` gave."""
        ...

    def close(self) -> None:
        """Release the runtime's memory; calling it again does nothing."""
        ...


class Runtime(Protocol):
    """One TFLite runtime, installed and importable."""

    name: RuntimeName
    version: str

    def build(
        self,
        source_path: str,
        copy: ModelCopy,
        kernels: KernelsChoice,
        num_threads: int,
        probe_policy: ProbePolicy = ...,
    ) -> Instance:
        """Build an instance from the bytes of `copy` as they are at `source_path`, mapping them.

        What is not known to be safe is probed in a child process first, as `probe_policy` says.
        """
        ...
