"""Which files are probed before this process loads them."""

from __future__ import annotations

from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.sandbox.known import KernelsName, is_known
from selfheal_edge.tflite.sandbox.packages import RuntimeName
from selfheal_edge.tflite.sandbox.policy import ProbePolicy

__all__ = ["probe_copy"]


def probe_copy(
    copy: ModelCopy,
    runtime: RuntimeName,
    kernels: KernelsName,
    num_threads: int,
    policy: ProbePolicy,
) -> None:
    """Try our copy of a model as `probe` does, unless it is known or the policy lists it."""
    # The hash of what is built is taken in any case, now, while nothing has damaged it.
    if is_known(copy.model.sha256, runtime, kernels, num_threads):
        return
    if copy.original.sha256 in policy.vouched:
        return
    # Sockets, processes and what they bring: 1 MiB that only a probe needs.
    from selfheal_edge.tflite.sandbox.probe import probe  # noqa: PLC0415

    probe(copy.model.data, runtime, kernels, num_threads, policy)
