"""Diagnoses of streams with a known cause: who is named, how often rightly, and how soon.

Each case is a model opened anew, 128 samples of normal operation that calibration did not see, and
256 of a scenario, served one after the other. Figures are given an alarm, and the share of alarms
stands beside them; what is said is read 32, 128 and 256 predictions after the onset, and judged at
128. What an attacker hides best (patches, universal and adaptive ones, small shares of the stream)
is printed first.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np

import diagnosis_data as data
import diagnosis_feedback
import diagnosis_mixed
import diagnosis_resource
import diagnosis_weights
import harness
from diagnosis_data import Name
from diagnosis_rounds import INTERVAL, Run, calibrated, observed, served
from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.matrix import COLUMNS, ROWS, Matrix, confusion
from selfheal_edge.redteam.scenarios.observed import HORIZONS, JUDGED_AT, Observed
from selfheal_edge.redteam.scenarios.score import (
    adaptable_share,
    is_hard_attack,
    slander_share,
    unknown_share,
)
from selfheal_edge.redteam.scenarios.streams import stream
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

CASES: Final = 300
FEW: Final = 0.05
LONG: Final = 1000
PARTS: Final = ("streams", "mixed", "few", "weights", "resource", "feedback")
TARGETED: Final = ("attack, square", "attack, sign")
NAMED_RIGHT: Final = 200


def few_crafted(name: Name, runs: int, seed: int, folder: Path | None) -> dict[str, float]:
    """Return the share of long streams with 5 % crafted samples that raise an alarm, by attack."""
    task, baseline = data.load(name), calibrated(name, seed)
    wanted = [s for s in data.scenarios_of(name, "measured") if s.is_crafted]
    found: dict[str, float] = {}
    with Unguarded(task.model) as ask:
        for scenario, share in [(wanted[0], 0.0), *((s, FEW) for s in wanted)]:
            crafted = data.attacked_pool(task, scenario, 0, seed, ask, folder)
            # Square and sign carry the target; the others are printed.
            count = runs if scenario.name in TARGETED or not share else max(4, runs // 4)
            alarms = 0
            for n in range(count):
                rng = np.random.default_rng(data.seed_of(name, scenario.name, n, seed, "few"))
                one = stream(
                    scenario, task.domain, task.pool_x, rng,
                    changed=LONG, share=share, crafted=crafted,
                )  # fmt: skip
                alarms += served(task, baseline, one, seed)[0].alarm_after is not None
            found[scenario.name if share else "nothing crafted"] = alarms / count
    return found


def mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else math.nan


def median(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else math.nan


def rows_of(name: str, seen: Sequence[Observed]) -> list[harness.Row]:
    """Return the figures of one task, or of all."""
    rows: list[harness.Row] = []

    def row(what: str, value: float, target: float | None, *, more: bool, unit: str = "%") -> None:
        if not math.isnan(value):
            scale = 100 if unit == "%" else 1
            rows.append(harness.Row(f"{name}: {what}", scale * value, unit, target, more))

    hidden = [o for o in seen if is_hard_attack(o)]
    for words, chosen in hidden_groups(hidden).items():
        matrix = confusion(chosen, JUDGED_AT)
        row(f"{words}: alarms", matrix.alarms[-1], None, more=True)
        row(f"{words}: named attack, given an alarm", matrix.recall[-1], None, more=True)
        row(f"{words}: taken for what adapts", adaptable_share(chosen, JUDGED_AT), None, more=False)
    main = [o for o in seen if not is_hard_attack(o)]
    half = [o for o in seen if o.share >= 0.5]
    for at in HORIZONS:
        matrix = confusion(main, at)
        when = f"{at} after the onset"
        target = at == JUDGED_AT
        f1 = f"macro-F1 over five causes, {when}"
        row(f1, matrix.macro_f1, 0.85 if target else None, more=True, unit="")
        everyone = confusion(half, at).macro_f1
        row(f"{f1}, patches, universal and adaptive ones too", everyone, None, more=True, unit="")
        for n, cause in enumerate(ROWS):
            goal = 75 if target else None
            row(f"recall of {cause}, {when}", matrix.recall[n], goal, more=True)
    for cause in ROWS[1:]:
        told = [
            o.scenario.is_right(o.verdicts[JUDGED_AT].named)
            for o in main
            if o.scenario.cause == cause and o.verdicts[JUDGED_AT].is_alarmed and not o.is_early
        ]
        what = f"{cause} named within {JUDGED_AT}, though it may have passed by then"
        row(what, mean(told), None, more=True)
    matrix = confusion(main, JUDGED_AT)
    for n, cause in enumerate(ROWS):
        row(f"alarms of {cause}", matrix.alarms[n], None, more=n > 0)
    attacks = [o for o in main if o.scenario.cause == Cause.ADVERSARIAL_INPUT]
    row("attack taken for what adapts", adaptable_share(attacks, JUDGED_AT), 1, more=False)
    row("unknown, of all alarms", unknown_share(main, JUDGED_AT), 10, more=False)
    row("unknown, of attacks", unknown_share(attacks, JUDGED_AT), 20, more=False)
    row("benign called malicious", slander_share(seen, JUDGED_AT), 3, more=False)
    row("false alarm before the onset", mean([o.is_early for o in seen]), None, more=False)
    kinds = [
        o.verdicts[JUDGED_AT].kind == o.scenario.kind
        for o in main
        if o.scenario.cause == Cause.SENSOR_FAULT
        and o.verdicts[JUDGED_AT].cause == Cause.SENSOR_FAULT
    ]
    row("kind right, of sensor faults named", mean(kinds), None, more=True)
    tripled = [o for o in main if o.scenario.kind == "a class triples" and not o.is_early]
    within = [o.alarm_after is not None and o.alarm_after <= NAMED_RIGHT for o in tripled]
    row(
        f"alarms within {NAMED_RIGHT} when a class triples",
        mean(within),
        None,
        more=True,
    )
    loud = [o for o in main if o.alarm_after is not None and not o.is_early]
    unit = "predictions"
    row(
        "onset to alarm, median", median([o.alarm_after for o in loud]), None, more=False, unit=unit
    )
    row("onset to name, median", median([o.named_after for o in loud]), None, more=False, unit=unit)
    cost = median([o.diagnosis_seconds for o in loud])
    row("call that names the cause, median", 1e3 * cost, None, more=False, unit="ms")
    return rows


def hidden_groups(hidden: Sequence[Observed]) -> dict[str, list[Observed]]:
    groups: dict[str, list[Observed]] = {}
    for one in hidden:
        words = one.scenario.name if one.share >= 0.5 else f"{one.share:.0%} crafted"
        groups.setdefault(words, []).append(one)
    return dict(sorted(groups.items()))


def by_scenario(seen: Sequence[Observed]) -> str:
    """Return what was named for each scenario, one a line."""
    groups: dict[str, list[Observed]] = {}
    for one in seen:
        groups.setdefault(one.scenario.name, []).append(one)
    lines = []
    for name, those in groups.items():
        alarmed = [o for o in those if o.verdicts[JUDGED_AT].is_alarmed and not o.is_early]
        named = Counter(str(o.verdicts[JUDGED_AT].cause or "nothing") for o in alarmed)
        found = ", ".join(f"{n} {cause}" for cause, n in named.most_common())
        lines.append(f"  {name:36} {len(alarmed):4} of {len(those):4} alarmed: {found}")
    return "\n".join(lines)


def picture(path: Path, matrices: dict[str, Matrix]) -> None:
    """Draw the matrices, each row as shares."""
    import matplotlib  # noqa: PLC0415 — only with --picture

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    def short(name: str) -> str:
        return name.replace("_", "\n")

    figure, axes = pyplot.subplots(
        1, len(matrices), figsize=(5.4 * len(matrices), 4.6), squeeze=False
    )
    for axis, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        totals = matrix.counts.sum(1, keepdims=True)
        shares = matrix.counts / np.maximum(totals, 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(COLUMNS)), [short(c) for c in COLUMNS], fontsize=7)
        axis.set_yticks(range(len(ROWS)), [short(r) for r in ROWS], fontsize=7)
        for (r, c), share in np.ndenumerate(shares):
            if matrix.counts[r, c]:
                colour = "white" if share > 0.5 else "black"
                axis.text(c, r, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(f"{name}: macro-F1 {matrix.macro_f1:.2f}")
        axis.set_xlabel(f"named, {matrix.at} predictions after the onset")
        axis.set_ylabel("true")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def beside(
    name: Name,
    parts: Sequence[str],
    cases: int,
    seed: int,
    folder: Path | None,
    told: list[tuple[str, str]],
) -> list[harness.Row]:
    """Return the figures of the other parts, and add what was true and named to `told`."""
    rows: list[harness.Row] = []
    if "mixed" in parts:
        rows += diagnosis_mixed.rows_of(name, max(3, cases // 30), INTERVAL, seed)
    if "few" in parts:
        few = few_crafted(name, max(4, cases // 6), seed, folder)
        rows += [
            harness.Row(
                f"{name}: {FEW:.0%} crafted, alarm within {LONG}, {attack}", 100 * share, "%",
                90 if attack in TARGETED else None, True,
            )
            for attack, share in few.items()
        ]  # fmt: skip
    if "weights" in parts:
        rows += diagnosis_weights.rows_of(name, max(3, cases // 4), seed, told)
    if "resource" in parts:
        rows += diagnosis_resource.rows_of(name, max(2, cases // 20), INTERVAL, seed, told)
    if "feedback" in parts:
        rows += diagnosis_feedback.rows_of(name, max(4, cases // 3), seed, told)
    return rows


def f1_of_all(matrix: Matrix, told: Sequence[tuple[str, str]]) -> float:
    """Return the macro-F1 over all causes: of streams, and of what was told beside them.

    Each true cause weighs as much, however many cases it has.
    """
    shares: dict[str, Counter[str]] = {}
    for n, truth in enumerate(ROWS):
        counted = zip(COLUMNS, matrix.counts[n].tolist(), strict=True)
        shares[truth] = Counter({column: int(count) for column, count in counted})
    for truth, named in told:
        shares.setdefault(truth, Counter())[named] += 1
    by_truth = {t: {c: n / max(1, sum(found.values())) for c, n in found.items()}
                for t, found in shares.items() if sum(found.values())}  # fmt: skip
    scores = [
        2 * found.get(truth, 0.0)
        / (1 + sum(other.get(truth, 0.0) for other in by_truth.values()))
        for truth, found in by_truth.items()
    ]  # fmt: skip
    return float(np.mean(scores))


def counted(text: str) -> tuple[str | None, int]:
    """Read "96" or "kws=72": cases of each cause, of all tasks or of one."""
    name, _, count = text.rpartition("=")
    if (name and name not in data.NAMES) or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError(f"expected N or TASK=N, got {text!r}")
    return name or None, int(count)


def missing(name: str, seen: Sequence[Observed], *, has_hidden: bool) -> str:
    """Say of how many cases figures are, and what was not served."""
    counts = Counter(o.scenario.cause for o in seen if not is_hard_attack(o))
    told = ", ".join(f"{n} {c.value if c else ROWS[0]}" for c, n in counts.items())
    gaps = [f"{CASES} of each were wanted"] if min(counts.values()) < CASES else []
    gaps += [] if has_hidden else ["attacks that hide, and low shares, were left out"]
    return "; ".join((f"{name}: {told}", *gaps))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--cases", nargs="+", type=counted, default=[(None, CASES)], metavar="N|TASK=N",
        help="of each cause, or of each of one task",
    )  # fmt: skip
    parser.add_argument(
        "--no-hidden", nargs="+", choices=data.NAMES, default=[],
        help="tasks of which attacks that hide, and low shares, are left out",
    )  # fmt: skip
    parser.add_argument("--tasks", nargs="+", choices=data.NAMES, default=list(data.NAMES))
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure"
    )
    parser.add_argument(
        "--scenarios", dest="part", choices=("tuning", "measured", "held_out"), default="measured"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep attacked pools here")
    parser.add_argument(
        "--observed", type=Path, metavar="DIR", help="keep each round here, and go on from it"
    )
    parser.add_argument(
        "--again", action="store_true", help="ask today's rules about streams that were kept"
    )
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the matrices")
    parser.add_argument("--verbose", action="store_true", help="say what each scenario was named")
    options = parser.parse_args()
    wanted: dict[str | None, int] = dict(options.cases)
    rows: list[harness.Row] = []
    everything: list[Observed] = []
    matrices: dict[str, Matrix] = {}
    told: list[tuple[str, str]] = []
    tasks = options.tasks[:1] if options.quick else options.tasks
    for name in data.available(cast("list[Name]", tasks)):
        cases = 4 if options.quick else wanted.get(name, wanted.get(None, CASES))
        if "streams" in options.parts:
            has_hidden = name not in options.no_hidden
            seen = observed(
                Run(name, options.part, cases, options.seed, has_hidden, options.cache,
                    options.observed),
                again=options.again,
            )  # fmt: skip
            print(missing(name, seen, has_hidden=has_hidden), flush=True)
            everything += seen
            rows += rows_of(name, seen)
            matrices[name] = confusion([o for o in seen if not is_hard_attack(o)], JUDGED_AT)
            if options.verbose:
                print(f"{name}, {JUDGED_AT} after the onset:\n{by_scenario(seen)}\n", flush=True)
        rows += beside(name, options.parts, cases, options.seed, options.cache, told)
    if len(matrices) > 1:
        rows += rows_of("all", everything)
        main_part = [o for o in everything if not is_hard_attack(o)]
        matrices["all"] = confusion(main_part, JUDGED_AT)
    if told and matrices:
        whole = confusion([o for o in everything if not is_hard_attack(o)], JUDGED_AT)
        rows.append(
            harness.Row("all: macro-F1 over all causes", f1_of_all(whole, told), "", 0.9, True)
        )
    for title, matrix in matrices.items():
        print(f"{title}, {JUDGED_AT} predictions after the onset:\n{matrix.text()}\n")
    if options.picture is not None and matrices:
        picture(options.picture, matrices)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
