"""Survived, degraded, broken, or too few events to say: by the user's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.limits import Limits

__all__ = ["EXIT_CODES", "VERDICTS", "Loss", "Verdict", "exit_code", "judge"]

Verdict: TypeAlias = Literal["survived", "degraded", "broken", "inconclusive"]
VERDICTS: Final[tuple[Verdict, ...]] = ("broken", "degraded", "inconclusive", "survived")
"""The worst first."""
EXIT_CODES: Final = {"survived": 0, "degraded": 0, "broken": 1, "inconclusive": 3}
_WIDTH: Final = 1.96
_FEWEST: Final = 100
"""Predictions below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Accuracy that was lost against a reference on the same samples, in points."""

    points: float
    low: float
    """Limits of the 95 % interval of what would be lost on other samples of the kind: from how
    many answers part from the reference's."""
    high: float
    predictions: int

    @classmethod
    def of(
        cls, reference: Sequence[int], right: Sequence[int], parted: Sequence[int], per_hour: int
    ) -> Loss:
        """Count it.

        Parameters
        ----------
        reference, right
            Answers that were right, by the hour.
        parted
            Answers of which one is right and the other is not.
        per_hour
            Predictions.
        """
        count = per_hour * len(right)
        if not count:
            return cls(0.0, -math.inf, math.inf, 0)
        lost = 100 * (sum(reference) - sum(right)) / count
        # McNemar's variance of a paired difference, with one more pair for caution.
        half = 100 * _WIDTH * math.sqrt(sum(parted) + 1) / count
        return cls(lost, lost - half, lost + half, count)

    def exceeds(self, limit: float) -> bool | None:
        """Whether it is above a limit; None where the samples are too few to say."""
        if self.predictions < _FEWEST:
            return None
        if self.low > limit:
            return True
        return False if self.high <= limit else None

    def to_dict(self) -> dict[str, float | int | None]:
        """Return plain data."""
        is_known = self.predictions > 0
        return {
            "points": round(self.points, 3) if is_known else None,
            "low": round(self.low, 3) if is_known else None,
            "high": round(self.high, 3) if is_known else None,
            "predictions": self.predictions,
        }


def judge(
    record: Mapping[str, Any],
    losses: Mapping[str, Loss],
    limits: Limits,
    *,
    is_repairable: bool,
) -> tuple[Verdict, list[str]]:
    """Return the verdict on one unit, and why.

    Parameters
    ----------
    record
        What was measured.
    losses
        ``"undamaged"`` and ``"same_inputs"`` during the attack, ``"after"`` when it is over.
    limits
        The user's.
    is_repairable
        Whether the damage is of the kind that a repair can take back.
    """
    found: dict[Verdict, list[str]] = {verdict: [] for verdict in VERDICTS}
    trusted = record["trusted"]["defended"]["share"]
    _judge_losses(found, losses, limits, trusted, is_repairable=is_repairable)
    _judge_heals(found, record["heals"]["defended"], limits)
    _judge_others(found, record, limits)
    cost = record["cost"]["defended"]
    if cost["cpu_share_added"] is not None and cost["cpu_share_added"] > limits.cpu_share:
        found["degraded"].append(f"healing takes {cost['cpu_share_added']:.1%} of the CPU")
    if cost["flash_bytes_per_day"] > limits.flash_bytes_per_day:
        found["degraded"].append(f"{cost['flash_bytes_per_day']:,} bytes a day go to flash")
    for hour, text in record["failures"].get("defended", ()):
        found["broken"].append(f"hour {hour}: {text}")
    for verdict in VERDICTS:
        if found[verdict]:
            return verdict, found[verdict]
    return "survived", []


def _judge_losses(
    found: dict[Verdict, list[str]],
    losses: Mapping[str, Loss],
    limits: Limits,
    trusted: float | None,
    *,
    is_repairable: bool,
) -> None:
    during = losses["undamaged" if is_repairable else "same_inputs"]
    than = "the undamaged model" if is_repairable else "the undamaged model on the same inputs"
    if during.exceeds(limits.broken_points):
        found["broken"].append(f"loses {during.points:.1f} points against {than}")
    elif (beyond := during.exceeds(limits.lost_points)) is not False:
        text = (
            f"loses {during.points:.1f} points against {than} ({during.low:.1f} to "
            f"{during.high:.1f})"
        )
        found["inconclusive" if beyond is None else "degraded"].append(text)
    if not is_repairable and losses["undamaged"].exceeds(limits.lost_points):
        found["degraded"].append(
            f"loses {losses['undamaged'].points:.1f} points against undisturbed inputs, which no "
            "repair brings back in full"
            + ("" if trusted is None else f"; {trusted:.0%} of its answers are called trusted")
        )
    after = losses["after"]
    if after.predictions and (left := after.exceeds(limits.left_points)) is not False:
        if left:
            found["broken"].append(f"{after.points:.1f} points are still lost when it is over")
        else:
            found["inconclusive"].append(
                f"too few predictions after it to say whether {limits.left_points:g} points are "
                f"still lost ({after.low:.1f} to {after.high:.1f})"
            )


def _judge_heals(found: dict[Verdict, list[str]], heals: Mapping[str, Any], limits: Limits) -> None:
    harmful = [points for points in heals["harmful"] if points > limits.harm_points]
    if harmful and len(harmful) > limits.harmful_share * heals["confirmed"]:
        found["broken"].append(
            f"{len(harmful)} of {heals['confirmed']} confirmed repairs cost up to "
            f"{max(harmful):.1f} points"
        )
    tried = [points for points in heals["harmful_on_probation"] if points > limits.harm_points]
    if tried:
        found["degraded"].append(
            f"{len(tried)} of {heals['on_probation']} repairs on probation cost up to "
            f"{max(tried):.1f} points"
        )
    if heals["false"] > limits.false_heals:
        found["degraded"].append(f"{heals['false']} repairs while nothing was wrong")


def _judge_others(
    found: dict[Verdict, list[str]], record: Mapping[str, Any], limits: Limits
) -> None:
    accuracy = record["accuracy"]
    ours = accuracy["defended"]["during"]
    others = {n: accuracy[n]["during"] for n in NAMES[1:] if accuracy.get(n, {}).get("during")}
    if ours is None or not others:
        return
    best = max(others, key=lambda name: others[name])
    if 100 * (others[best] - ours) > limits.below_others_points:
        found["degraded"].append(
            f"{100 * (others[best] - ours):.1f} points below the {best} contestant"
        )


def exit_code(verdicts: Sequence[str]) -> int:
    """Return 1 if anything broke, 3 if nothing did and something is inconclusive, else 0.

    Without a verdict nothing can be said: 3.
    """
    if not verdicts:
        return EXIT_CODES["inconclusive"]
    codes = {EXIT_CODES[verdict] for verdict in verdicts}
    return 1 if 1 in codes else 3 if 3 in codes else 0
