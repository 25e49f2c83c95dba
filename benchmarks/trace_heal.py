"""Count what a reader visits to follow one healed flip: files, moves between them, returns.

    python benchmarks/trace_heal.py [--json PATH] [--verbose]

A bit of the weights that execute is flipped, and the next `predict` finds and repairs it. The calls
of the package's Python functions are followed in their order. A move is a call in another file than
the call before it; a return is a move into a file that was visited before. The form before the loop
was a decision took 20 files, 59 moves and 40 returns, counted like that on the same flip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import harness
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

PACKAGE = Path(she.__file__).parent
BEFORE = {"files": 20, "moves": 59, "returns": 40}


def follow(work: Callable[[], object]) -> list[tuple[str, str]]:
    """Return (file, function) of every place that work comes to, one after the other."""
    places: list[tuple[str, str]] = []
    names: dict[str, str | None] = {}

    def name_of(frame: FrameType) -> str | None:
        path = frame.f_code.co_filename
        if path not in names:
            try:
                names[path] = str(Path(path).relative_to(PACKAGE))
            except ValueError:
                names[path] = None
        return names[path]

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (name := name_of(frame)):
            places.append((name, frame.f_code.co_name))

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return places


def count(places: list[tuple[str, str]]) -> dict[str, int]:
    """Count files, moves from one to another, and moves back into one that was seen before."""
    seen: set[str] = set()
    moves = returns = 0
    last = ""
    for name, _ in places:
        if name != last:
            moves += bool(last)
            returns += name in seen
        seen.add(name)
        last = name
    return {"files": len(seen), "moves": moves, "returns": returns}


def heal_once() -> list[tuple[str, str]]:
    """Open a model, flip a bit, and follow the prediction that heals it."""
    digits = load_digits()
    x = digits.heldout_inputs[:, np.newaxis]
    baseline = she.calibrate(digits_model_path(), digits.calibration_inputs)
    policy = she.Policy(scrub_bytes_per_predict=1 << 30)
    with she.SelfHealingModel(digits_model_path(), baseline, policy=policy, seed=1) as model:
        model.predict(x[0])
        she.redteam.inject(model).flip_bits(1, seed=1)
        places = follow(lambda: model.predict(x[1]))
        assert model.health.repairs == 1, "it was not healed"
    return places


def main() -> int:
    """Print and, if asked to, write the counts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print every place")
    arguments = parser.parse_args()
    places = heal_once()
    if arguments.verbose:
        print("\n".join(f"{name}: {function}" for name, function in places))
    now = count(places)
    rows = [
        harness.Row(
            f"healed flip, {what}",
            now[what],
            what,
            before // 2 if what != "files" else before,
            False,
        )
        for what, before in BEFORE.items()
    ]
    for what, before in BEFORE.items():
        print(f"{what}: {before} before, {now[what]} now")
    if arguments.json:
        harness.write(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
