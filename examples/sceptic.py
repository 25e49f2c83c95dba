"""Attack a running model from a second thread, and count the wrong answers with and without us.

    python examples/sceptic.py [--seconds 60] [--rate 50] [--slice BYTES] [--model kws.tflite]

Bits of the weights that execute are flipped at random times and places while the model serves. An
answer is wrong when it differs from the undamaged model's in a single bit. Served four times:
without us; with us as we come; with every byte that executes checked before each inference
(`Policy(verify="before")`); and with every byte checked before and after it (`verify="around"`).

The claims, held to the letter:

- "around": no answer is wrong that says it is verified. A flip stays until it is repaired, so if
  every byte is right afterwards and nothing was repaired meanwhile, every byte was right during the
  inference; otherwise the model is asked again.
- "before": no answer is wrong for which no flip fell into that very prediction.
- by slices: no answer is wrong for which no flip fell since the beginning of the last full sweep.
  (A flip that falls while a sweep goes round, behind its back, is found by the next one.)

Exit code 0 only if all hold, and all answers are exact afterwards. Without the model beside the
project, the bundled digits are used.
"""

from __future__ import annotations

import argparse
import bisect
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.model import parts_of

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

Mode = Literal["without us", "by slices", "before", "around"]


@dataclass
class Attack:
    """Random flips from a thread of their own, with the time of each."""

    model: she.SelfHealingModel
    rate: float
    seed: int
    begun: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Flip single bits until told to stop; waits are exponential, places uniform."""
        rng = np.random.default_rng(self.seed)
        name = executing(self.model)
        regions = self.model.weights.images[name].regions.values()
        places = np.concatenate(
            [
                np.arange(r.offset, r.offset + r.nbytes)
                for r in regions
                if r.kind in ("weights", "bias")
            ]
        )
        while not self.stop.wait(rng.exponential(1 / self.rate)):
            offset, bit = int(rng.choice(places)), int(rng.integers(8))
            # The image that executes now: a repair that rebuilds the runtime moves it. Taken
            # without the model's lock, so that a flip may fall into the middle of anything.
            memory = parts_of(self.model).weights.images[name].live
            self.begun.append(time.perf_counter())
            memory[offset] ^= np.uint8(1 << bit)
            self.done.append(time.perf_counter())

    def any_within(self, begin: float, end: float) -> bool:
        """Whether a flip may have fallen in this time: its own interval has a share in it."""
        first = bisect.bisect_left(self.done, begin)
        return first < len(self.begun) and self.begun[first] <= end


def executing(model: she.SelfHealingModel) -> str:
    """Name the image that runs."""
    return "packed" if "packed" in model.weights.images else "source"


@dataclass
class Sweeps:
    """When the last full sweep of the image that executes began, and when it ended."""

    model: she.SelfHealingModel
    began: float = 0.0
    ended: float = 0.0
    next_began: float = 0.0
    count: int = 0

    def note(self, before: float) -> None:
        """Look whether a sweep was finished in a prediction that began at `before`.

        Its end is somewhere in the checking of that prediction's slice; the slice's beginning
        stands for it.
        """
        now = self.model.weights.images[executing(self.model)].sweeps
        if now != self.count:
            self.count = now
            self.began, self.ended, self.next_began = self.next_began, before, before


def serve(path: Path, inputs: np.ndarray, options: argparse.Namespace, mode: Mode) -> int:
    """Serve under attack; print what happened; return how many answers break the claim."""
    guarded = mode != "without us"
    policy = she.Policy(scrub_bytes_per_predict=options.slice)
    if mode in ("before", "around"):
        policy = she.Policy(verify=mode)
    if not guarded:
        policy = she.Policy(
            scrub_bytes_per_predict=0,
            keyed_bytes_per_predict=0,
            known_answers_every=None,
            rebuild_after_seconds=None,
            responses={she.Cause.WEIGHT_CORRUPTION: ()},
        )
    baseline = she.calibrate(path, inputs, seed=options.seed)
    with she.SelfHealingModel(path, baseline, policy=policy) as model:
        # Without us: the bare instance, on the very bytes that are attacked.
        bare = she.redteam.inject(model).run
        ask = model.predict if guarded else lambda x: bare([x])[0]
        expected = [np.asarray(bare([x])[0]).tobytes() for x in inputs]
        attack = Attack(model, options.rate, options.seed)
        thread = threading.Thread(target=attack.run, daemon=True)
        sweeps = Sweeps(model)
        wrong: list[tuple[float, float, float]] = []  # last sweep's begin and end; the answer
        answers = untrusted = 0
        thread.start()
        start = time.perf_counter()
        sweeps.began = sweeps.ended = sweeps.next_began = start
        while time.perf_counter() - start < options.seconds:
            for n, x in enumerate(inputs):
                before = time.perf_counter()
                if mode == "around":
                    found = model.infer(x)
                    answer = np.asarray(found.output)
                    if found.verified != "around":
                        untrusted += 1
                        continue
                else:
                    answer = np.asarray(ask(x))
                if mode == "by slices":
                    sweeps.note(before)
                elif mode == "before":
                    sweeps.began = sweeps.ended = before
                answers += 1
                if answer.tobytes() != expected[n]:
                    wrong.append((sweeps.began, sweeps.ended, time.perf_counter()))
        seconds = time.perf_counter() - start
        attack.stop.set()
        thread.join()
        print(f"{mode}:")
        print(
            f"    {answers} answers, {len(attack.done)} flips, {len(wrong)} wrong: "
            f"{len(wrong) / seconds:.2f} a second of exposure ({len(wrong) / answers:.4%})"
        )
        if not guarded:
            return 0
        print(f"    damage is found within {model.health.detection_latency}")
        unexplained = [row for row in wrong if not attack.any_within(row[0], row[2])]
        if mode == "around":
            unexplained = wrong
            print(f"    {untrusted} answers were not verified, and said so")
        elif mode == "before":
            print(f"    wrong with no flip during the prediction: {len(unexplained)}")
        else:
            unexcused = [row for row in wrong if not attack.any_within(row[1], row[2])]
            print(
                f"    wrong with no flip between the end of the last full sweep and the answer: "
                f"{len(unexcused)}, of which {len(unexcused) - len(unexplained)} had one during "
                f"that sweep, {len(unexplained)} none at all"
            )
        model.weights.scrub()
        health = model.health
        exact = sum(
            np.asarray(model.predict(x)).tobytes() == e
            for x, e in zip(inputs, expected, strict=True)
        )
        print(
            f"    {health.corrupt_blocks} corrupt blocks found, {health.repairs} repairs, "
            f"{health.failed_repairs} not proven; {exact} of {len(expected)} answers exact "
            "afterwards"
        )
        return len(unexplained) + len(expected) - exact


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of attack, each time")
    parser.add_argument("--rate", type=float, default=50.0, help="flips a second")
    parser.add_argument("--model", type=Path, default=SHARED / "models" / "kws_dscnn_int8.tflite")
    parser.add_argument(
        "--slice",
        type=int,
        default=None,
        metavar="BYTES",
        help="of each image that are checked before each answer (as the budget of 2 %% allows)",
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    clips = SHARED / "data" / "speech_commands_mfcc_int8.npz"
    path = options.model
    if path.exists() and clips.exists():
        with np.load(clips) as data:
            order = np.random.default_rng(options.seed).permutation(len(data["x"]))[:256]
            inputs = data["x"][order].reshape(-1, 1, 49, 10, 1)
    else:
        path = digits_model_path()
        inputs = load_digits().heldout_inputs[:256, np.newaxis]
    print(f"{path.name}: {options.rate:g} random flips a second for {options.seconds:g} s, each")
    serve(path, inputs, options, "without us")
    broken = serve(path, inputs, options, "by slices")
    broken += serve(path, inputs, options, "before")
    broken += serve(path, inputs, options, "around")
    print("the claims hold" if not broken else f"the claims are broken {broken} times")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
