"""`selfheal-edge redteam --scenarios`: what is named when a model meets faults, drifts, attacks."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from typing import Any, Final

from selfheal_edge.cli.samples import read_samples
from selfheal_edge.cli.screen import is_silent, print_facts, print_rows, write_json
from selfheal_edge.redteam.scenarios.campaign import Campaign, run_scenarios
from selfheal_edge.redteam.scenarios.matrix import COLUMNS, ROWS, confusion
from selfheal_edge.redteam.scenarios.observed import JUDGED_AT, Observed
from selfheal_edge.redteam.scenarios.score import (
    MALICIOUS,
    adaptable_share,
    is_hard_attack,
    slander_share,
    unknown_share,
)

__all__ = ["run_redteam"]

_NAME: Final = 44


def _progress(done: int, total: int, name: str) -> None:
    text = f"stream {min(done + 1, total)} of {total}: {name}"
    if sys.stderr.isatty():
        print(f"\r{text[: _NAME + 20]:{_NAME + 20}}", end="", file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)
    elif done % 50 == 0 or done == total:
        print(text, file=sys.stderr, flush=True)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _plain(one: Observed) -> dict[str, Any]:
    """Return one stream as JSON has it."""
    cause = one.scenario.cause
    return {
        "scenario": one.scenario.name,
        "cause": None if cause is None else cause.value,
        "also": [other.value for other in one.scenario.also],
        "kind": one.scenario.kind,
        "family": one.scenario.family,
        "strength": one.strength,
        "share": one.share,
        "misled": one.flipped,
        "false_alarm_before": one.is_early,
        "alarm_after": one.alarm_after,
        "named_after": one.named_after,
        "named": {
            str(at): {
                "alarm": verdict.is_alarmed,
                "cause": None if verdict.cause is None else verdict.cause.value,
                "kind": verdict.kind,
            }
            for at, verdict in one.verdicts.items()
        },
    }


def _figures(seen: list[Observed]) -> dict[str, float]:
    main = [one for one in seen if not is_hard_attack(one)]
    attacks = [one for one in main if one.scenario.cause in MALICIOUS]
    return {
        "macro_f1": confusion(main, JUDGED_AT).macro_f1,
        "macro_f1_with_hidden_attacks": confusion(seen, JUDGED_AT).macro_f1,
        "attack_taken_for_what_adapts": adaptable_share(attacks, JUDGED_AT),
        "unknown": unknown_share(main, JUDGED_AT),
        "benign_called_malicious": slander_share(seen, JUDGED_AT),
    }


def _rows(seen: list[Observed]) -> list[tuple[str, int, int, str]]:
    """Return a row for each scenario, those attacks that hide best first."""
    groups: dict[str, list[Observed]] = {}
    for one in sorted(seen, key=lambda one: not is_hard_attack(one)):
        groups.setdefault(one.scenario.name, []).append(one)
    rows = []
    for name, those in groups.items():
        alarmed = [o for o in those if o.verdicts[JUDGED_AT].is_alarmed and not o.is_early]
        named = Counter(str(o.verdicts[JUDGED_AT].cause or "nothing") for o in alarmed)
        found = ", ".join(f"{n} {cause.replace('_', ' ')}" for cause, n in named.most_common())
        rows.append((name, len(those), len(alarmed), found or "-"))
    return rows


def _content(model: str, campaign: Campaign, figures: dict[str, float]) -> dict[str, Any]:
    main = [one for one in campaign.seen if not is_hard_attack(one)]
    return {
        "model": model,
        "kind": campaign.domain.kind,
        "calibrated_on": campaign.calibrated_on,
        "drawn_from": campaign.pool,
        "at": JUDGED_AT,
        "matrix": {
            "rows": list(ROWS),
            "columns": list(COLUMNS),
            "counts": confusion(main, JUDGED_AT).counts.tolist(),
        },
        "figures": {name: _number(value) for name, value in figures.items()},
        "streams": [_plain(one) for one in campaign.seen],
    }


def run_redteam(arguments: argparse.Namespace) -> int:
    """Run the scenarios and print the matrix; errors are the caller's."""
    x, y = read_samples(arguments.data)
    campaign = run_scenarios(
        arguments.model,
        x,
        y,
        kind=arguments.kind,
        cases=arguments.cases,
        runtime=arguments.runtime,
        seed=arguments.seed,
        progress=_progress,
    )
    figures = _figures(campaign.seen)
    write_json(_content(arguments.model, campaign, figures), arguments.json)
    if is_silent(arguments.json):
        return 0
    main = [one for one in campaign.seen if not is_hard_attack(one)]
    told = "as told" if arguments.kind else "by its shape; --kind says otherwise"
    print_facts(
        [
            ("model", arguments.model),
            ("input", f"{campaign.domain.kind} ({told})"),
            ("samples", f"{campaign.calibrated_on} to calibrate, {campaign.pool} for streams"),
            ("streams", f"{len(campaign.seen)}, each 128 as usual and 256 of a scenario"),
        ]
    )
    print()
    print_rows(("scenario", "streams", "alarms", "named"), _rows(campaign.seen))
    print()
    print(
        f"Named {JUDGED_AT} predictions after the onset, given an alarm, without attacks that hide:"
    )
    print()
    print(confusion(main, JUDGED_AT).text())
    print()
    print_facts(
        [
            ("macro-F1", f"{figures['macro_f1']:.3f}"),
            ("with attacks that hide", f"{figures['macro_f1_with_hidden_attacks']:.3f}"),
            ("attack as drift", _percent(figures["attack_taken_for_what_adapts"])),
            ("unknown", _percent(figures["unknown"])),
            ("benign as malicious", _percent(figures["benign_called_malicious"])),
        ]
    )
    return 0
