"""Damage a keyword-spotting model while it serves, and watch every clip come back.

Needs the MLPerf Tiny model and the labelled clips that lie beside the project, or your own:

    python examples/heal_keyword_spotting.py [--model kws.tflite] [--clips clips.npz]

The clips are an .npz with `x` (inputs as the model takes them) and `y` (classes). Exit code 0 only
if, after healing, the answer to every single clip equals the answer before the damage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import selfheal_edge as she

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHARED / "models" / "kws_dscnn_int8.tflite")
    parser.add_argument(
        "--clips", type=Path, default=SHARED / "data" / "speech_commands_mfcc_int8.npz"
    )
    parser.add_argument("--flips", type=int, default=200, help="bits to flip in live weights")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for path in (options.model, options.clips):
        if not path.exists():
            print(f"skipped: {path.name} is not there; give your own with --model and --clips")
            return 0

    with np.load(options.clips) as data:
        # As a microphone would hear them: the file has them sorted by word.
        order = np.random.default_rng(options.seed).permutation(len(data["x"]))
        clips, labels = data["x"][order], data["y"][order]
    clips = clips.reshape(len(clips), 49, 10, 1)
    # Nothing is checked by itself here, so that the damage can be seen before it is healed.
    policy = she.Policy(scrub_bytes_per_predict=0)
    baseline = she.calibrate(options.model, clips, labels, seed=options.seed)

    def accuracy(outputs: np.ndarray) -> float:
        return float(np.mean(outputs.argmax(axis=1) == labels))

    with she.SelfHealingModel(options.model, baseline, policy=policy) as model:
        print(f"{options.model.name} on {baseline.fingerprint}")
        print(f"guarded: {model.health.coverage}")
        before = model.predict(clips)
        print(f"before the damage   {accuracy(before):7.2%} of {len(clips)} clips are right")

        injector = she.redteam.inject(model)
        injector.flip_bits(options.flips, seed=options.seed)
        # The raw interpreter's view: what the caller would get without the guard.
        damaged = {name: bytes(injector.memory(name)) for name in model.weights.images}
        during = unguarded(options.model, damaged, clips, baseline)
        print(f"{options.flips} bits flipped    {accuracy(during):7.2%}, unguarded")

        found = model.weights.scrub()
        modules = sorted({m.split("/", 1)[1] for block in found for m in block.modules})
        print(f"found               {len(found)} corrupt blocks in {len(modules)} modules")
        after = model.predict(clips)
        same = int(np.count_nonzero((after == before).all(axis=1)))
        print(f"after healing       {accuracy(after):7.2%}, {same} of {len(clips)} answers exact")
        for event in model.events:
            print(f"  {event}"[:180])
        del injector
    return 0 if same == len(clips) else 1


def unguarded(
    path: Path, damaged: dict[str, bytes], clips: np.ndarray, baseline: she.Baseline
) -> np.ndarray:
    """Return the answers of a plain instance that runs the damaged bytes."""
    from selfheal_edge.tflite.session import Session  # noqa: PLC0415 — internal: for comparison only

    fingerprint = baseline.fingerprint
    kernels = "builtin" if fingerprint.kernels == "builtin" else "default"
    session = Session(path, fingerprint.runtime, kernels, taps=baseline.taps)  # type: ignore[arg-type]
    try:
        for name, live in {"source": session.source.view, **session.instance.images}.items():
            live[:] = damaged[name]
        return np.concatenate([session.instance.run([clip[None]])[0] for clip in clips])
    finally:
        session.close()


if __name__ == "__main__":
    sys.exit(main())
