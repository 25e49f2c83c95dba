"""Cycles a byte of the keyed hash on cores that are not here, by LLVM's scheduling models.

The core's own source is compiled for each target by a cross compiler, and the loop over stripes of
64 bytes in what it emits is given to `llvm-mca`. That is arithmetic with every byte in the first
cache and no branch taken wrong: what a core can reach, not what a board's memory lets it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import harness

ROOT = Path(__file__).resolve().parent.parent
STRIPE = 64  # bytes
_LABEL = re.compile(r"^(\.L\w+):")
_TOTAL = re.compile(r"Total Cycles:\s*(\d+)")
_INSTRUCTIONS = re.compile(r"Instructions:\s*(\d+)")
ITERATIONS = 1000


@dataclass(frozen=True)
class Target:
    """What to compile, and which cores to ask about."""

    compiler: str
    flags: tuple[str, ...]
    source: str
    product: str
    """The multiplication of the loop in question."""
    products: int
    """How many of them a stripe takes: loops are unrolled."""
    triple: str
    cores: tuple[tuple[str, str], ...]
    """(`-mcpu`, what it is in)."""


TARGETS = (
    Target(
        "aarch64-linux-gnu-g++",
        ("-DSELFHEAL_NH_NEON",),
        "nh.cpp",
        "umlal",
        8,
        "aarch64-linux-gnu",
        (
            ("cortex-a53", "Pi 3"),
            ("cortex-a72", "Pi 4"),
            ("cortex-a76", "Pi 5"),
        ),
    ),
    Target(
        "g++",
        ("-DSELFHEAL_NH_SSE2",),
        "nh.cpp",
        "pmuludq",
        8,
        "x86_64-linux-gnu",
        (("goldmont", "Atom"), ("znver3", "a Zen")),
    ),
    Target(
        "g++",
        ("-DSELFHEAL_AVX2", "-mavx2"),
        "x86/nh_avx2.cpp",
        "vpmuludq",
        4,
        "x86_64-linux-gnu",
        (("haswell", "a PC of 2013"), ("alderlake", "like an N100"), ("znver3", "a Zen")),
    ),
)


def loop_of(assembly: str, product: str) -> str:
    """Return the innermost loop with the most products: from its label to the branch back to it."""
    lines = [line.split("//")[0].rstrip() for line in assembly.splitlines()]
    starts: dict[str, int] = {}
    best, most = "", 0
    for n, line in enumerate(lines):
        if label := _LABEL.match(line):
            starts[label[1]] = n
            continue
        target = re.match(r"\s+(?:b\.?\w*|cbn?z|j\w+)\s+(?:\w+, )?(\.L\w+)$", line)
        if target is None or target[1] not in starts:
            continue
        body = lines[starts[target[1]] + 1 : n + 1]
        if any(_LABEL.match(one) for one in body):  # another loop is in it
            continue
        count = sum(product in one for one in body)
        if count > most:
            best, most = "\n".join(one for one in body if not one.strip().startswith(".")), count
    return best


def main() -> None:
    options = harness.arguments(__doc__)
    rows: list[harness.Row] = []
    for target in TARGETS:
        missing = [tool for tool in (target.compiler, "llvm-mca") if shutil.which(tool) is None]
        if missing:
            print(f"skipped {target.triple}: no {missing[0]}", file=sys.stderr)
            continue
        compiled = subprocess.run(
            [
                target.compiler,
                *("-std=c++20", "-O2", "-ffp-contract=off", "-S", "-o", "-"),
                *target.flags,
                f"-I{ROOT / 'cpp/include'}",
                f"-I{ROOT / 'cpp/src'}",
                str(ROOT / "cpp/src/base" / target.source),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        body = loop_of(compiled, target.product)
        for core, where in target.cores:
            asked = subprocess.run(
                [
                    "llvm-mca",
                    f"-mtriple={target.triple}",
                    f"-mcpu={core}",
                    f"-iterations={ITERATIONS}",
                ],
                input=body,
                check=False,
                capture_output=True,
                text=True,
            )
            total, instructions = _TOTAL.search(asked.stdout), _INSTRUCTIONS.search(asked.stdout)
            if total is None or instructions is None:
                print(f"skipped {core}: {asked.stderr.strip()[:200]}", file=sys.stderr)
                continue
            nbytes = ITERATIONS * STRIPE * body.count(target.product) / target.products
            name = f"{core} ({where}), {Path(target.source).stem}"
            for what, found in (("cycles", total), ("instructions", instructions)):
                value = int(found[1]) / nbytes
                rows.append(harness.Row(f"{name}: {what} a byte", value, what, None, False))
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
