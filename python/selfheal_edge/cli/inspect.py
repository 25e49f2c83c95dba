"""`selfheal-edge inspect`: what a model file holds, and how it would be guarded."""

from __future__ import annotations

from typing import Final

from selfheal_edge.health import CoverageSummary
from selfheal_edge.integrity.protected_share import measure_protected_share
from selfheal_edge.text import LIST, MESSAGE, shown
from selfheal_edge.tflite.runtimes.protocol import TensorSpec
from selfheal_edge.tflite.runtimes.select import (
    KernelsArgument,
    RuntimeArgument,
    available_runtimes,
)
from selfheal_edge.tflite.session import Session

__all__ = ["run_inspect"]

_NAME_WIDTH: Final = 48


def _tensor(spec: TensorSpec) -> str:
    shape = "x".join(str(n) for n in spec.shape) or "scalar"
    scale = f", scale {spec.scale:.6g}, zero point {spec.zero_point}" if spec.quantized else ""
    return f"{shown(spec.name)}: {spec.dtype.name}[{shape}]{scale}"


def run_inspect(
    path: str, runtime: RuntimeArgument, kernels: KernelsArgument, num_threads: int
) -> int:
    """Print the report; errors are the caller's."""
    session = Session(path, runtime, kernels, num_threads)
    try:
        model = session.model
        print(f"file       {shown(path, MESSAGE)}")
        print(f"sha256     {model.sha256}")
        print(
            f"size       {model.nbytes} bytes, {len(model.operators)} operators, "
            f"{len(model.tensors)} tensors, {model.subgraph_count} subgraph(s)"
        )
        installed = ", ".join(f"{name} {version}" for name, version in available_runtimes().items())
        print(f"installed  {installed}")
        print(f"runs on    {session.fingerprint}")
        for spec in session.instance.inputs:
            print(f"input      {_tensor(spec)}")
        for spec in session.instance.outputs:
            print(f"output     {_tensor(spec)}")
        head = model.head
        print(
            "classes    none found: answers are watched by mean and spread"
            if head is None
            else f"classes    {head.classes}, {head.output}, "
            f"from an embedding of {head.embedding_size}"
        )
        print(f"guarded    {CoverageSummary.of(session.coverage, session.choice.reason)}")
        print(f"protected  {measure_protected_share(session)}")
        print()
        rest = "(graph: shapes, scales, options)"
        names = [shown(row.region.name, _NAME_WIDTH) for row in session.coverage.rows]
        width = max(len(name) for name in (rest, *names))
        print(f"{'region':{width}}  {'bytes':>8}  {'kind':8}  {'coverage':10}  why")
        for row, name in zip(session.coverage.rows, names, strict=True):
            if row.region.kind != "graph":
                print(
                    f"{name:{width}}  {row.region.nbytes:8}  {row.region.kind:8}  "
                    f"{row.coverage.value:10}  {shown(row.reason, LIST)}"
                )
        graph = [r for r in session.coverage.rows if r.region.kind == "graph"]
        total = sum(r.region.nbytes for r in graph)
        print(
            f"{rest:{width}}  {total:8}  {'graph':8}  "
            f"{'derived':10}  read when the interpreter is built"
        )
    finally:
        session.close()
    return 0
