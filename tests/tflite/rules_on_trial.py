"""Put the rules of validation on trial: what would their refusals have done to a process?

Usage: python -m tests.tflite.rules_on_trial [--seconds N] [--seed N] [--only RULE] [--runtime NAME]

Each model that the rules refuse goes to the child process all the same, as if there were no rules.
Where the child refuses it, dies or hangs, the child bears what the rule was to prevent. Where the
child lets it pass, it goes to a long-lived process: deaths there are what a rule is kept for.
All that a rule refuses first is its own, also where a later one would have refused it as well.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path

from tests.made_models import int16_classifier, open_batch, with_operands
from tests.operator_models import QUANTISATIONS, SEQUENCES, image_model, sequence_model
from tests.tflite import builder
from tests.tflite.campaign import Survivor
from tests.tflite.mutations import mutate, sites

from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.runtimes.select import available_runtimes
from selfheal_edge.tflite.sandbox.known import KernelsName
from selfheal_edge.tflite.sandbox.packages import RuntimeName
from selfheal_edge.tflite.sandbox.probe import Prober
from selfheal_edge.tflite.validation.validate import validate

VERDICTS = ("refused", "crashed", "hung", "took more", "ended")


def models() -> dict[str, bytes]:
    """Return the models that are mutated: every kind of quantisation and of operand."""
    return {
        "digits": digits_model_path().read_bytes(),
        "dense": builder.dense_model().file(),
        "convolutions": open_batch("convolutional", is_folded=True),
        "int16": int16_classifier(),
        "operands": with_operands(),
        **{f"image {kind}": image_model(kind) for kind in QUANTISATIONS},
        **{f"sequence {kind}": sequence_model(kind) for kind in SEQUENCES},
    }


def rule_that_refuses(data: bytes) -> str | None:
    """Return the module and function that refuses a file; None where none does."""
    try:
        validate(data)
    except ModelFormatError as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{Path(where.filename).stem}.{where.name}"
    return None


def on_trial(
    runtime: RuntimeName, kernels: KernelsName, seconds: float, seed: int, only: str
) -> dict[str, Counter[str]]:
    """Return what became of the models that each rule refuses."""
    rng = random.Random(seed)
    bases = [(data, sites(data)) for data in models().values()]
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    survivor = Survivor(runtime, kernels)
    end = time.monotonic() + seconds
    try:
        with Prober(runtime, kernels=kernels, timeout_s=5.0) as prober:
            for data, found in itertools.cycle(bases):
                if time.monotonic() > end:
                    break
                mutant = mutate(data, found, rng)
                rule = rule_that_refuses(mutant)
                # The memory safety of our own reader is not on trial.
                if rule is None or rule.startswith(("flatbuffer.", "decode.")) or only not in rule:
                    continue
                result = prober.probe(mutant)
                if not result.ok:
                    kind = next(k for k in VERDICTS if k in result.reason)
                    tally[rule][f"child: {kind}"] += 1
                    continue
                answer = survivor.run(mutant)
                verdict = "lives" if answer in ".x" else "hangs" if answer == "h" else "DIES"
                tally[rule][verdict] += 1
    finally:
        survivor.close()
    return tally


def main() -> None:
    """Print a table for each runtime and kind of kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="for each kind of kernels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="rules whose name has this, as operator_rules")
    parser.add_argument("--runtime", choices=available_runtimes(), action="append")
    chosen = parser.parse_args()
    for runtime in chosen.runtime or available_runtimes():
        ways: tuple[KernelsName, ...] = ("default", "builtin")
        for kernels in ways:
            tally = on_trial(runtime, kernels, chosen.seconds, chosen.seed, chosen.only)
            print(f"\n{runtime}, {kernels}: {sum(c.total() for c in tally.values())} refusals")
            for rule, seen in sorted(tally.items(), key=lambda row: (-row[1]["DIES"], row[0])):
                print(f"  {rule:44} {seen.total():5}  {dict(seen.most_common())}", flush=True)


if __name__ == "__main__":
    main()
