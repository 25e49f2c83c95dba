"""How many instructions the core spends on one `predict`, against a table kept beside this file.

Counted by callgrind from `HotCall::predict` on, without what the runtime does in `Engine::run`; by
group of functions. Instructions do not depend on load or clock, so a change of a few percent is the
code's. They do depend on compiler and CPU: the table says what it was counted with, and is compared
only where valgrind offers the same vector paths. The paced sweep is off, because under valgrind
seconds are long; so is the timing that lets short runs keep the GIL: `locks` has giving it away and
taking it back. --write keeps what was counted.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

import harness
import selfheal_edge as she
from guard_cases import Case, Runtime
from selfheal_edge.tflite.runtimes.select import available_runtimes

TABLE: Final = Path(__file__).with_name("instructions.json")
MODELS: Final = ("ad_autoencoder_int8", "kws_dscnn_int8", "mobilenet_v1_025_128_uint8")
ROUNDS: Final = 2
MOST: Final = 1.05
NOISE: Final = 10  # instructions: secret orders of the sweep, lookups of the linker

# From the first on, but for the runs within it; runs elsewhere (known answers) must not pass these.
TOGGLES: Final = (
    "selfheal::python::HotCall::predict(pybind11::handle, pybind11::handle)",
    "(anonymous namespace)::Held::run()",
    "(anonymous namespace)::InterpreterCall::run()",
)
RUNTIMES: Final = re.compile(r"\[[^\]]*(?:tflite|LiteRt)[^\]]*\]$")
# The first pattern that is found in a function's name without its parameters, or in the object that
# it lies in.
GROUPS: Final = (
    (
        "sweep",
        r"HotPath::sweep|ImageGuard|WeightImage|Sweep|SealTable|SnapshotPool|Parity"
        r"|keyed_hash|KeptKey|[Ss]ip[Hh]ash|nh_(avx2|sse2|neon|portable)|long_hash|HashSchedule",
    ),
    (
        "bank",
        r"bank_step|MonitorBank|InferenceMonitor|LabelMix|OnsetTracker|RingBuffer|Reference|Moments"
        r"|memset",
    ),
    (
        "locks",
        r"FairLock|ForkGuard|take_gil|drop_gil|pthread|lll_|coarse_seconds|clock_gettime"
        r"|PyThreadState|SaveThread|RestoreThread|serve_without_lock|\[.*vdso",
    ),
    ("copies", r"HotPath::(load|store|feed)|quantize|memcpy|memmove"),
    (
        "signals",
        r"SignalPass|HotPath::measure|ClassScores|EmbeddingSignals|MeasuredInput|MeasuredOutput"
        r"|Kernels<|sum_distance|spread_of|tensor_sums|memcmp",
    ),
    ("call and arrays", r""),
)
_LINE: Final = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*)$")


def serve(runtime: Runtime, model: str, baseline: str) -> None:
    """Serve all inputs twice, under valgrind."""
    case = Case(runtime, model)
    with case.open(
        she.Baseline.load(baseline),
        scrub_bytes_per_predict=64,
        sweep_seconds=None,
        keyed_sweep_seconds=None,
        code_budget=0,
    ) as guarded:
        for _ in range(ROUNDS):
            for x in case.inputs:
                guarded.predict(x)


def without_types(function: str) -> str:
    """Return a line of callgrind's without the types of a function's parameters."""
    place, _, name = function.partition(":")
    name, _, found_in = name.rpartition(" [")
    name = name.replace("(anonymous namespace)", "{}")
    return f"{place}:{name.partition('(')[0]} [{found_in}"


def count(case: Case, folder: Path) -> dict[str, int]:
    """Return instructions a prediction, by group; empty where nothing could be counted."""
    baseline, out = folder / "baseline", folder / "out"
    case.baseline.save(baseline)
    subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            *(f"--toggle-collect={name}" for name in TOGGLES),
            sys.executable,
            __file__,
            "--serve",
            case.runtime,
            case.model,
            str(baseline),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    annotated = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", str(out)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    sums = dict.fromkeys((name for name, _ in GROUPS), 0)
    for line in annotated.splitlines():
        found = _LINE.match(line)
        if found is None or "PROGRAM TOTALS" in line:
            continue
        if RUNTIMES.search(found[2]):
            sys.exit(f"the runtime's own work was counted: {found[2]}")
        group = next(
            name for name, pattern in GROUPS if re.search(pattern, without_types(found[2]))
        )
        sums[group] += int(found[1].replace(",", ""))
    served = ROUNDS * len(case.inputs)
    counted = {name: round(value / served) for name, value in sums.items()}
    return {**counted, "all": round(sum(sums.values()) / served)} if any(sums.values()) else {}


def paths_under_valgrind() -> dict[str, str]:
    """Return which vector paths the core takes where valgrind says what the CPU has."""
    code = (
        "from selfheal_edge import _core as c;print(c.signal_backends()[0], c.keyed_hash_backend())"
    )
    said = subprocess.run(
        ["valgrind", "-q", "--tool=none", sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return dict(zip(("signals", "keyed_hash"), said, strict=True))


def compare(label: str, counted: dict[str, int], kept: dict[str, int]) -> list[harness.Row]:
    """Rows of what was counted; those of the table with how much it has grown."""
    rows = []
    for group, value in counted.items():
        rows.append(harness.Row(f"{label}: {group}", value, "instr", None, False))
        old = kept.get(group)
        if old and value > old + NOISE:
            rows.append(
                harness.Row(f"{label}: {group} / kept {old}", value / old, "ratio", MOST, False)
            )
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--runtime", choices=("litert", "tflite_runtime"), default=None)
    parser.add_argument("--write", action="store_true", help="keep what was counted")
    options = parser.parse_args()
    for tool in ("valgrind", "callgrind_annotate"):
        if shutil.which(tool) is None:
            print(f"skipped: no {tool} on this machine")
            return
    table: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    counted_with = {
        **paths_under_valgrind(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    rows: list[harness.Row] = []
    models = options.models[:1] if options.quick else options.models
    for runtime in available_runtimes() if options.runtime is None else (options.runtime,):
        kept = table.get(runtime, {})
        is_same = kept.get("counted with") == counted_with
        if kept and not is_same:
            print(f"{runtime}: the table is of {kept['counted with']}, this is {counted_with}")
        fresh: dict[str, Any] = {"counted with": counted_with}
        for case in (Case(runtime, model) for model in models):
            if not case.path.exists():
                print(f"skipped {case.model}: no {case.path.name} beside the project")
                continue
            with tempfile.TemporaryDirectory() as folder:
                counted = count(case, Path(folder))
            if not counted:
                print(f"skipped {case.label}: the extension has no symbols, build it unstripped")
                continue
            fresh[case.model] = counted
            rows += compare(case.label, counted, kept.get(case.model, {}) if is_same else {})
        if options.write:
            table[runtime] = {**(kept if is_same else {}), **fresh}
    if options.write:
        TABLE.write_text(json.dumps(table, indent=2) + "\n")
    if not rows:
        return
    harness.report(rows, options.json)
    grown = [row for row in rows if row.met is False]
    if grown:
        sys.exit(f"{len(grown)} figure(s) have grown by more than 5 %")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])  # type: ignore[arg-type]
    else:
        main()
