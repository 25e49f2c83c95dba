"""Attack a running model from a second thread, and count the wrong answers with and without us.

    python examples/sceptic.py [--seconds 60] [--rate 50] [--model kws.tflite]

Bits of the weights that execute are flipped at random times and places while the model serves. An
answer is wrong when it differs from the undamaged model's in a single bit. Exit code 0 only if
every wrong answer has an excuse: a flip that fell after the beginning of the full sweep that ended
with it. Without the model beside the project, the bundled digits are used.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@dataclass
class Attack:
    """Random flips from a thread of their own, with the time of each."""

    model: she.SelfHealingModel
    rate: float
    seed: int
    times: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Flip single bits until told to stop; waits are exponential, places uniform."""
        rng = np.random.default_rng(self.seed)
        images = self.model.weights.images
        name = "packed" if "packed" in images else "source"
        regions = [r for r in images[name].regions.values() if r.kind in ("weights", "bias")]
        places = np.concatenate([np.arange(r.offset, r.offset + r.nbytes) for r in regions])
        while not self.stop.wait(rng.exponential(1 / self.rate)):
            offset, bit = int(rng.choice(places)), int(rng.integers(8))
            # The image that executes now: a repair that rebuilds the runtime moves it. Taken
            # without the model's lock, so that a flip may fall into the middle of anything.
            memory = np.frombuffer(self.model.weights.images[name].live, np.uint8)
            self.times.append(time.perf_counter())  # before: a flip is never later than its time
            memory[offset] ^= np.uint8(1 << bit)


def serve(path: Path, inputs: np.ndarray, options: argparse.Namespace, guarded: bool) -> int:
    """Serve under attack; print what happened; return the wrong answers without an excuse."""
    responses = {} if guarded else {she.Cause.WEIGHT_CORRUPTION: ()}
    policy = (
        she.Policy()
        if guarded
        else she.Policy(
            scrub_bytes_per_predict=0,
            keyed_bytes_per_predict=0,
            known_answers_every=None,
            rebuild_after_seconds=None,
            responses=responses,
        )
    )
    baseline = she.calibrate(path, inputs, seed=options.seed)
    with she.SelfHealingModel(path, baseline, policy=policy) as model:
        # Without us: the bare instance, on the very bytes that are attacked.
        instance = model._session.instance
        ask = model.predict if guarded else lambda x: instance.run([x])[0]
        expected = [np.asarray(instance.run([x])[0]).tobytes() for x in inputs]
        attack = Attack(model, options.rate, options.seed)
        thread = threading.Thread(target=attack.run, daemon=True)
        # Each call checks a slice, so the last `calls` ones made a full sweep, whatever is asked.
        blocks = max(image.guard.fast_blocks for image in model.weights.images.values())
        calls = math.ceil(512 * blocks / policy.scrub_bytes_per_predict) + 1 if guarded else 1
        begins: deque[float] = deque(maxlen=calls)
        answers = wrong = unexcused = 0
        thread.start()
        start = time.perf_counter()
        while time.perf_counter() - start < options.seconds:
            for n, x in enumerate(inputs):
                begins.append(time.perf_counter())
                bad = np.asarray(ask(x)).tobytes() != expected[n]
                answers += 1
                if not bad:
                    continue
                wrong += 1
                # What was flipped before the sweep that ends with this answer began is healed.
                if (
                    guarded
                    and len(begins) == calls
                    and not any(t >= begins[0] for t in attack.times)
                ):
                    unexcused += 1
        seconds = time.perf_counter() - start
        attack.stop.set()
        thread.join()
        name = "with us   " if guarded else "without us"
        print(
            f"{name}  {answers:8} answers, {len(attack.times):5} flips, {wrong:8} wrong: "
            f"{wrong / seconds:10.2f} a second of exposure ({wrong / answers:.4%})"
        )
        if guarded:
            model.weights.scrub()
            health = model.health
            exact = sum(
                np.asarray(model.predict(x)).tobytes() == e
                for x, e in zip(inputs, expected, strict=True)
            )
            print(
                f"            {health.corrupt_blocks} corrupt blocks found, "
                f"{health.repairs} repairs, {health.failed_repairs} failed; "
                f"{health.sweeps} full sweeps"
            )
            print(f"            afterwards {exact} of {len(expected)} answers are exact")
            print(
                f"            wrong answers with no flip since their full sweep began: {unexcused}"
            )
            unexcused += exact != len(expected)
    return unexcused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of attack, each time")
    parser.add_argument("--rate", type=float, default=50.0, help="flips a second")
    parser.add_argument("--model", type=Path, default=SHARED / "models" / "kws_dscnn_int8.tflite")
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
    print(f"{path.name}: {options.rate:g} random flips a second for {options.seconds:g} s")
    serve(path, inputs, options, guarded=False)
    return 1 if serve(path, inputs, options, guarded=True) else 0


if __name__ == "__main__":
    sys.exit(main())
