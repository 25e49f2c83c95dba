"""A campaign of mutations: validation, then the probe, then a long-lived process."""

from __future__ import annotations

import contextlib
import random
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.tflite.mutations import mutate, sites

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.sandbox.known import KernelsName
from selfheal_edge.tflite.sandbox.packages import RuntimeName
from selfheal_edge.tflite.sandbox.probe import Prober

_MODULES = {"litert": "ai_edge_litert.interpreter", "tflite_runtime": "tflite_runtime.interpreter"}


@dataclass
class Tally:
    mutations: int = 0
    refused_by_validation: int = 0
    refused_by_probe: Counter[str] = field(default_factory=Counter)
    served: int = 0
    raised: int = 0
    deaths: list[bytes] = field(default_factory=list)
    hangs: list[bytes] = field(default_factory=list)
    slowest_validation_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    killers: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.mutations} mutations: {self.refused_by_validation} refused by validation, "
            f"{self.refused_by_probe.total()} by the probe {dict(self.refused_by_probe)}, "
            f"{self.served} ran, {self.raised} raised, {len(self.deaths)} deaths, "
            f"{len(self.hangs)} hangs; "
            f"slowest validation {self.slowest_validation_s * 1e3:.0f} ms"
        )


class Survivor:
    """The long-lived process; `run` says whether it lived through a file."""

    def __init__(self, runtime: RuntimeName, kernels: KernelsName) -> None:
        self._arguments = [
            sys.executable,
            str(Path(__file__).with_name("survivor.py")),
            _MODULES[runtime],
            kernels,
        ]
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, data: bytes) -> str:
        if self._child is None:
            self._child = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(struct.pack("<I", len(data)) + data)
            stdin.flush()
        ready, _, _ = select.select([stdout], [], [], 60)
        answer = stdout.read(1).decode() if ready else "h"
        if answer not in (".", "x"):
            self.close()
        return answer

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None


def run_campaign(
    data: bytes, count: int, seed: int, runtime: RuntimeName, kernels: KernelsName
) -> Tally:
    tally = Tally()
    rng = random.Random(seed)
    found = sites(data)
    survivor = Survivor(runtime, kernels)
    try:
        with Prober(runtime, kernels=kernels, timeout_s=5.0) as prober:
            for _ in range(count):
                mutant = mutate(data, found, rng)
                tally.mutations += 1
                start = time.perf_counter()
                try:
                    ModelFile.from_bytes(mutant)
                except ModelFormatError:
                    tally.refused_by_validation += 1
                    continue
                finally:
                    elapsed = time.perf_counter() - start
                    tally.slowest_validation_s = max(tally.slowest_validation_s, elapsed)
                result = prober.probe(mutant)
                if not result.ok:
                    kind = next(
                        k
                        for k in ("refused", "crashed", "hung", "took more", "ended")
                        if k in result.reason
                    )
                    tally.refused_by_probe[kind] += 1
                    tally.reasons[result.reason[:160]] += 1
                    if kind != "refused":
                        tally.killers.append(mutant)
                    continue
                answer = survivor.run(mutant)
                if answer == ".":
                    tally.served += 1
                elif answer == "x":
                    tally.raised += 1
                elif answer == "h":
                    tally.hangs.append(mutant)
                else:
                    tally.deaths.append(mutant)
    finally:
        survivor.close()
    return tally
