"""A committee outvotes its damaged member: ``python examples/committee.py``.

Two models read handwritten digits: the demo's convolutional network, once on kernels that read the
file's bytes and once on the fastest ones. Bits of one are flipped while no sweep looks. The first
label that speaks against it has its known answers asked; they are wrong, every byte is checked, and
it sleeps. Then it is healed, proven, and comes back. Nothing beside the package is needed.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator

import numpy as np

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

WIDTH = 24
BLIND = she.Policy(
    scrub_bytes_per_predict=0,
    sweep_seconds=None,
    keyed_bytes_per_predict=0,
    keyed_sweep_seconds=None,
    known_answers_every=None,
    heal="observe",
)


def bar(weight: float) -> str:
    """Return a weight as a bar."""
    full = round(WIDTH * weight)
    return "█" * full + "·" * (WIDTH - full)


def show(committee: she.SelfHealingEnsemble, what: str) -> None:
    """Print each member's weight, and how it stands."""
    print(f"\n{textwrap.fill(what, 79)}")
    for name, member in committee.health.members.items():
        state = f"asleep: {member.reason}" if member.is_asleep else member.reason
        print(f"  {name:8} {bar(member.weight)} {member.weight:6.1%}  {state}".rstrip())


def main() -> int:
    """Show it; return 1 where something did not come as told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args()
    digits, path = load_digits(), digits_model_path()
    baseline = she.calibrate(path, digits.calibration_inputs, digits.calibration_labels, seed=1)
    order = np.random.default_rng(0).permutation(len(digits.heldout_inputs))
    samples: Iterator[tuple[np.ndarray, int]] = (
        (digits.heldout_inputs[n : n + 1], int(digits.heldout_labels[n])) for n in order
    )
    with (
        she.SelfHealingModel(path, baseline, policy=BLIND, kernels="builtin") as plain,
        she.SelfHealingModel(path, baseline, policy=BLIND) as fast,
        she.SelfHealingEnsemble({"plain": plain, "fast": fast}) as committee,
    ):
        person = committee.feedback_source("a person", b"a key of 16 bytes or more")

        def serve(count: int) -> str:
            right = alone = 0
            for _ in range(count):
                x, label = next(samples)
                answer = committee.infer(x)
                assert isinstance(answer, she.EnsemblePrediction)
                right += answer.label == label
                alone += answer.answers[1] is not None and answer.answers[1].label == label
                committee.feedback(label, id=answer.id, source=person)
            return f"{right} of {count} answers right; 'fast' alone {alone}"

        said = serve(40)
        show(committee, f"Two sound members, 40 labels: {said}.")
        she.redteam.inject(fast).flip_bits(400, seed=0)
        said = serve(10)
        show(committee, f"Bits of 'fast' flipped where no sweep looks; ten labels later: {said}.")
        asleep = committee.weights["fast"] == 0.0
        fast.heal = "all"
        fast.weights.scrub()
        show(committee, "Restored from golden, and proven: it wakes at the floor.")
        said = serve(20)
        show(committee, f"Twenty labels later: {said}.")
        back = committee.weights["fast"] >= 0.4
        print()
        for event in committee.events:
            print(textwrap.fill(str(event), 79, initial_indent="  ", subsequent_indent="     "))
        price = committee.health.inferences_per_answer
        print(f"\nprice: {price:.1f} inferences an answer")
    if not (asleep and back):
        print("it did not come as told", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
