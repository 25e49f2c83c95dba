"""Rules that tell which bytes of a model file are the bytes that run.

A rule may be too cautious, never too optimistic: what is not listed as read at every inference
counts as `derived`, and a rebuild heals it. Each entry of the catalogue of operators was found by
flipping the tensor's bytes under a running interpreter, on both runtimes, and seeing the next
answer change and come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from selfheal_edge.tflite.coverage.table import Coverage, CoverageTable, RegionCoverage
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import Region

__all__ = ["BuiltOperator", "cover"]


@dataclass(frozen=True, slots=True)
class BuiltOperator:
    """An operator as the built interpreter lists it, delegates included."""

    index: int
    name: str
    inputs: tuple[int, ...]


_DTYPES: Final = frozenset({"int8", "uint8", "float32", "int32", "int64"})


def _builtin(
    operator: BuiltOperator, tensor: int, dtype: str, activation: str, num_threads: int
) -> tuple[Coverage, str]:
    positions = [i for i, t in enumerate(operator.inputs) if t == tensor]
    known = operator_known_as(operator.name)
    readable = known.in_place | known.builtin_reads
    if dtype not in _DTYPES or not positions or not all(p in readable for p in positions):
        return Coverage.DERIVED, f"{operator.name} prepares this operand when it is built"
    is_weights = 1 in positions and dtype == "float32"
    if operator.name == "CONV_2D" and is_weights and num_threads != 1:
        return Coverage.DERIVED, "a float CONV_2D with several threads runs from a re-laid copy"
    if operator.name == "DEPTHWISE_CONV_2D" and is_weights and activation == "int16":
        return Coverage.DERIVED, "not known to be read from the file"
    return Coverage.EXECUTING, f"{operator.name} reads it from the file at every inference"


def _inner(region: Region, has_delegates: bool) -> tuple[Coverage, str]:
    if has_delegates and region.kind in ("weights", "bias"):
        return Coverage.SOURCE, "XNNPACK may run on a copy of its own in this subgraph"
    return Coverage.DERIVED, "used by a subgraph that is not the first"


def cover(
    regions: Sequence[Region],
    operators: Sequence[BuiltOperator],
    tensor_dtypes: Mapping[int, str],
    num_threads: int,
    *,
    has_delegates: bool = False,
) -> CoverageTable:
    """Return the coverage of every region, the worst of its uses.

    Parameters
    ----------
    regions
        A partition of the model file.
    operators
        Operators of subgraph 0 as built; an entry named ``DELEGATE`` owns its inputs.
    tensor_dtypes
        NumPy names of the dtypes of subgraph 0's tensors, by index.
    num_threads
        Threads the interpreter was built with.
    has_delegates
        Whether XNNPACK may take operators: which, in other subgraphs than 0, cannot be asked.
    """
    delegated = {t for op in operators if op.name == "DELEGATE" for t in op.inputs}
    by_index = {op.index: op for op in operators if op.name != "DELEGATE"}
    rows = []
    for region in regions:
        verdicts = []
        for use in region.uses:
            if use.operator is None:
                continue
            if use.subgraph != 0:
                verdicts.append(_inner(region, has_delegates))
            elif use.tensor in delegated:
                verdicts.append((Coverage.SOURCE, "XNNPACK runs on a packed copy of its own"))
            elif use.operator in by_index:
                operator = by_index[use.operator]
                activation = tensor_dtypes.get(operator.inputs[0], "") if operator.inputs else ""
                dtype = tensor_dtypes.get(use.tensor, "")
                verdicts.append(_builtin(operator, use.tensor, dtype, activation, num_threads))
            else:
                verdicts.append((Coverage.DERIVED, "its operator was replaced when it was built"))
        if not verdicts:
            verdicts.append((Coverage.DERIVED, "read when the interpreter is built"))
        coverage, reason = max(verdicts, key=lambda v: v[0].rank)
        rows.append(RegionCoverage(region, coverage, reason))
    return CoverageTable(tuple(rows))
