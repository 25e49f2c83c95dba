"""A searched attack: accuracy over time with and without us, as figures and as a plot.

The attacker has labelled data and sees answers only. He searches for the most harmful flips on a
copy, then flips them one after the other in the bytes that execute while the model serves. The
labels that the accuracy is taken from are not the ones that he searched with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

import harness
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.redteam.bit_search import FoundFlip, search_bits
from selfheal_edge.tflite.session import Session

Numbers = npt.NDArray[np.float64]


def task() -> tuple[Path, npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Return a model with labelled inputs: keyword spotting, or the bundled digits."""
    clips = harness.SHARED / "data" / "speech_commands_mfcc_int8.npz"
    path = harness.SHARED / "models" / "kws_dscnn_int8.tflite"
    if not (clips.exists() and path.exists()):
        digits = load_digits()
        labels = digits.heldout_labels.astype(np.int64)
        return digits_model_path(), digits.heldout_inputs[:, np.newaxis], labels
    with np.load(clips) as data:
        order = np.random.default_rng(7).permutation(len(data["x"]))
        x, y = data["x"][order], data["y"][order]
    return path, x.reshape(len(x), 1, 49, 10, 1), y


def executing(session: Session) -> tuple[str, npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the name of the image that executes, its live bytes, and where its weights are."""
    packed = session.instance.images.get("packed")
    if packed is None:
        name, regions, live = "source", session.copy.model.regions, session.source.view
    else:
        name, regions, live = "packed", session.instance.image_regions["packed"], packed
    places = [np.arange(r.offset, r.offset + r.nbytes) for r in regions if r.kind == "weights"]
    return name, np.frombuffer(live, np.uint8), np.concatenate(places)


def search(
    path: Path, x: npt.NDArray[np.int8], y: npt.NDArray[np.int64], flips: int, candidates: int
) -> tuple[str, list[FoundFlip]]:
    """Search on a session of the attacker's own."""
    session = Session(path)
    try:
        image, live, offsets = executing(session)

        def score() -> float:
            total = 0.0
            for inputs, label in zip(x, y, strict=True):
                total += float(session.instance.run([inputs])[0][0, label])
            return total / len(y)

        found = search_bits(score, live, offsets, flips=flips, candidates=candidates, seed=3)
    finally:
        session.close()
    return image, found


def under_attack(
    path: Path,
    x: npt.NDArray[np.int8],
    y: npt.NDArray[np.int64],
    image: str,
    attack: list[FoundFlip],
    guarded: bool,
) -> Numbers:
    """Serve while a bit flips every `every` predictions; return which answers were right."""
    baseline = she.calibrate(path, x, seed=1)
    policy = (
        she.Policy()
        if guarded
        else she.Policy(
            scrub_bytes_per_predict=0,
            keyed_bytes_per_predict=0,
            known_answers_every=None,
            rebuild_after_seconds=None,
        )
    )
    served = 3 * len(x)
    every = served // (len(attack) + 2)
    right = np.empty(served)
    with she.SelfHealingModel(path, baseline, policy=policy) as model:
        injector = she.redteam.inject(model)
        for n in range(served):
            k = n // every - 1
            if n % every == 0 and 0 <= k < len(attack):
                # Asked for anew: a rebuild of the runtime moves the image that executes.
                injector.memory(image)[attack[k].offset] ^= np.uint8(1 << attack[k].bit)
            inputs = x[n % len(x)]
            answer = model.predict(inputs) if guarded else injector.run([inputs])[0]
            right[n] = int(np.asarray(answer).argmax()) == y[n % len(x)]
    return right


def plot(path: Path, series: dict[str, Numbers], window: int) -> None:
    """Draw accuracy in a moving window."""
    import matplotlib  # noqa: PLC0415 — only with --plot

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, right in series.items():
        axes.plot(100 * np.convolve(right, np.ones(window) / window, "valid"), label=name)
    axes.set_xlabel("predictions")
    axes.set_ylabel(f"accuracy in {window} predictions, %")
    axes.set_ylim(0, 100)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows here")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw accuracy over time")
    parser.add_argument("--quick", action="store_true", help="a short search")
    options = parser.parse_args()
    path, x, y = task()
    half = min(64, len(x) // 2)
    flips, candidates = (3, 8) if options.quick else (13, 96)
    image, attack = search(path, x[:half], y[:half], flips, candidates)
    rest_x, rest_y = x[half:], y[half:]
    bare = under_attack(path, rest_x, rest_y, image, attack, guarded=False)
    ours = under_attack(path, rest_x, rest_y, image, attack, guarded=True)
    last = len(bare) // (len(attack) + 2)
    name = path.stem
    clean = bare[:last].mean()
    rows = [
        harness.Row(f"{name}: accuracy before", 100 * clean, "%", None, True),
        harness.Row(
            f"{name}: after {flips} flips, without us", 100 * bare[-last:].mean(), "%", None, True
        ),
        harness.Row(
            f"{name}: after {flips} flips, with us", 100 * ours[-last:].mean(), "%", None, True
        ),
        harness.Row(
            f"{name}: over the whole attack, without us", 100 * bare.mean(), "%", None, True
        ),
        harness.Row(f"{name}: over the whole attack, with us", 100 * ours.mean(), "%", None, True),
    ]
    if options.plot is not None:
        plot(options.plot, {"without us": bare, "with us": ours}, window=60)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
