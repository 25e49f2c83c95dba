"""Blinding the watcher: what one flipped bit in the memory of what watches does.

Every trial opens the digits model, flips one bit, drawn at random from all memory that is reachable
from the core's objects, lets it serve normal inputs, and then does two things that have to be
noticed: one bit of the executing weights flips, and the inputs drift. *Blind*: one of the two is
not noticed, and nothing was told before, though without the flip it is. *Loud*: it raises, ends the
process, or distrusts its answers or weights although nothing is wrong with them. The rest is
*harmless*.

The last root is an attacker who knows what to look for: of the charts' memory only words that read
as numbers between a millionth and a million, and of these the bit that makes them huge or next to
nothing.

Roots are the charts (`InferenceMonitor`: references, thresholds, sums), the guards of each image
(tables, snapshots, parity, sweep) and the hot path (counters, trust). Memory is found
conservatively: from each root's heap chunk along all words that point to the start of another one,
but into no Python object. Only glibc on 64 bits.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from harness import Row, parser, report
from selfheal_edge import HealthState, Policy, SelfHealingModel, calibrate
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.model import parts_of

ROOTS: Final = ("charts", "guards", "hot path", "numbers of the charts")
_CLEAN: Final = 64
_FLIPPED: Final = 192
_DRIFTED: Final = 192
_MOST_CHUNK: Final = 1 << 24
_MOST_CHUNKS: Final = 4096
_BYTES: Final = 1 << 18
"""Swept with each prediction: a round takes a fraction of one."""


class Heap:
    """What of this process's memory glibc has handed out."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        with open("/proc/self/maps", encoding="ascii") as maps:
            for line in maps:
                where, rights, _, _, inode, *name = line.split()
                begin, end = (int(part, 16) for part in where.split("-"))
                if rights.startswith("rw") and inode == "0" and name in ([], ["[heap]"]):
                    self.ranges.append((begin, end))
        self.types = {id(kind) for kind in _kinds(object)}

    def is_mapped(self, at: int, nbytes: int) -> bool:
        """Whether these bytes are anonymous memory."""
        return any(begin <= at and at + nbytes <= end for begin, end in self.ranges)

    def chunk(self, at: int) -> int:
        """Return the bytes of the chunk that begins here; 0 where none does."""
        if at % 16 or not self.is_mapped(at - 16, 32):
            return 0
        word = ctypes.c_uint64.from_address(at - 8).value
        size = word & ~7
        if not 32 <= size <= _MOST_CHUNK or size % 16 or not self.is_mapped(at - 16, size):
            return 0
        is_own = bool(word & 2)  # a mapping of its own has nothing behind it
        if not is_own:
            if not self.is_mapped(at - 16 + size, 16):
                return 0
            behind = ctypes.c_uint64.from_address(at - 16 + size + 8).value
            if not behind & 1 or not 32 <= behind & ~7 <= 1 << 40:
                return 0
        if ctypes.c_uint64.from_address(at + 8).value in self.types:
            return 0  # a Python object
        return size - 16 if is_own else size - 8

    def reachable(self, root: int, stop: set[int]) -> dict[int, int]:
        """Return the chunks that can be reached from one: address and bytes of each."""
        found: dict[int, int] = {}
        left = [root]
        while left and len(found) < _MOST_CHUNKS:
            at = left.pop()
            if at in found or at in stop:
                continue
            size = self.chunk(at)
            if not size:
                continue
            found[at] = size
            words = np.frombuffer(ctypes.string_at(at, size // 8 * 8), np.uint64)
            left += [int(w) for w in np.unique(words) if w % 16 == 0 and w > 4096]
        return found


def _kinds(of: type[Any]) -> Iterator[type[Any]]:
    yield of
    kinds: list[type[Any]] = type.__subclasses__(of)
    for kind in kinds:
        yield from _kinds(kind)


def value_of(wrapped: Any) -> int:
    """Return the address of the C++ object behind a Python one."""
    return int(ctypes.c_uint64.from_address(id(wrapped) + object.__basicsize__).value)


def memory(model: SelfHealingModel, root: str) -> dict[int, int]:
    """Return the chunks of one kind."""
    parts, heap = parts_of(model), Heap()
    monitor: Any = parts.monitor
    images = parts.weights.images
    hot = value_of(parts.loop.serving.hot)
    if root in ("charts", ROOTS[3]):
        return heap.reachable(value_of(monitor.core), {hot})
    if root == "hot path":
        return {hot: heap.chunk(hot)}
    found: dict[int, int] = {}
    for image in images.values():
        for part in (image.image, image.guard, image.pool, image.parity):
            if part is not None:
                found |= heap.reachable(value_of(part), {hot})
    return found


def number_in(chunks: dict[int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    """Return chunk, byte and bit of the exponent of one number, drawn from all."""
    found = []
    for n, (at, size) in enumerate(chunks.items()):
        words = np.frombuffer(ctypes.string_at(at, size // 8 * 8), np.float64)
        with np.errstate(invalid="ignore"):
            fits = (np.abs(words) > 1e-6) & (np.abs(words) < 1e6)
        found += [(n, 8 * int(word) + 7, 6) for word in np.flatnonzero(fits)]
    return found[int(rng.integers(len(found)))]


def trial(baseline: Any, root: str, rng: np.random.Generator, *, flips: bool) -> tuple[str, str]:
    """Return what became of one flip, and where it was."""
    digits = load_digits()
    clean = digits.heldout_inputs
    drifted = np.clip((clean.astype(int) + 128) * 0.45 - 68, -128, 127).astype(np.int8)
    policy = Policy(heal="corruption", scrub_bytes_per_predict=_BYTES)
    with SelfHealingModel(digits_model_path(), baseline, policy=policy) as model:

        def served(inputs: Any, count: int) -> bool:
            """Return whether anything was said against these answers or the weights."""
            before = model.health.corrupt_blocks
            rows = rng.integers(0, len(inputs), count)
            trusted = np.asarray(model.infer(inputs[rows]).trusted)
            said = model.health.state is not HealthState.HEALTHY
            return bool(said or not trusted.all() or model.health.corrupt_blocks > before)

        served(clean, _CLEAN)
        where = ""
        if flips:
            chunks = memory(model, root)
            addresses, sizes = list(chunks), np.array(list(chunks.values()))
            if root == ROOTS[3]:
                n, offset, bit = number_in(chunks, rng)
            else:
                n = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
                offset, bit = int(rng.integers(sizes[n])), int(rng.integers(8))
            where = f"byte {offset} of a chunk of {sizes[n]}, bit {bit}"
            print(json.dumps({"begins": where}), flush=True)
            ctypes.c_uint8.from_address(addresses[n] + offset).value ^= 1 << bit
        try:
            is_loud = served(clean, _CLEAN)
            images = parts_of(model).weights.images
            live = np.frombuffer(
                images["packed" if "packed" in images else "source"].live, np.uint8
            )
            live[int(rng.integers(len(live)))] ^= np.uint8(1 << int(rng.integers(8)))
            sees_flip = served(clean, _FLIPPED)
            sees_drift = served(drifted, _DRIFTED)
        except Exception as error:
            return f"loud: {type(error).__name__}", where
        if is_loud:
            return "loud: distrusts its answers or weights", where
        missed = [n for n, seen in (("a flip", sees_flip), ("a drift", sees_drift)) if not seen]
        return (f"blind to {' and '.join(missed)}" if missed else "harmless"), where


def work(root: str, first: int, count: int, *, flips: bool) -> None:
    """Do trials, a line of JSON each."""
    digits = load_digits()
    baseline = calibrate(
        digits_model_path(), digits.calibration_inputs, digits.calibration_labels, seed=1
    )
    for number in range(first, first + count):
        kind = ROOTS.index(root)
        found, where = trial(baseline, root, np.random.default_rng([kind, number]), flips=flips)
        print(json.dumps({"ends": found, "where": where, "number": number}), flush=True)


def outcomes(root: str, count: int, *, flips: bool = True) -> list[tuple[str, str]]:
    """Return what became of so many flips; a process that ended is begun anew after it."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        command = [sys.executable, __file__, "--work", root, str(len(found)),
                   str(count - len(found)), str(int(flips))]  # fmt: skip
        before = len(found)
        # Nothing but a hang takes so long.
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=600, check=False
            )
            out = ended.stdout
        except subprocess.TimeoutExpired as error:
            out = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else ""
            ended = None
        where = ""
        for line in out.splitlines():
            told = json.loads(line)
            where = told.get("begins", where)
            if "ends" in told:
                found.append((told["ends"], told["where"]))
                where = ""
        if len(found) < count and (ended is None or ended.returncode):
            if where:
                found.append(("loud: the process ended", where))
            elif len(found) == before:  # else it ended by what the flip before has done
                raise RuntimeError("" if ended is None else ended.stderr)
    return found[:count]


def main() -> None:
    """Print the shares."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), flips=sys.argv[5] == "1")
        return
    options = parser(__doc__)
    options.add_argument("--trials", type=int, default=300, help="of each root")
    options.add_argument("--list", action="store_true", help="every one that is blind")
    arguments = options.parse_args()
    count = 6 if arguments.quick else arguments.trials
    control = outcomes(ROOTS[0], max(2, count // 10), flips=False)
    missed = sum(told != "harmless" for told, _ in control)
    rows = [Row("without a flip: what is missed, or told without a cause",
                100 * missed / len(control), "% of trials", 0.0, False)]  # fmt: skip
    for root in ROOTS:
        found = outcomes(root, count)
        blind = [(told, where) for told, where in found if told.startswith("blind")]
        loud = sum(told.startswith("loud") for told, _ in found)
        rows += [
            Row(
                f"{root}, {count} flips: blind", 100 * len(blind) / count, "% of flips", 1.0, False
            ),
            Row(f"{root}, {count} flips: loud", 100 * loud / count, "% of flips", None, True),
        ]
        if arguments.list:
            for told, where in blind:
                print(f"{root}: {told}: {where}")
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
