"""What a user holds a model to: the limits that verdicts are given by."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from selfheal_edge.text import quoted

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a verdict. Points are of accuracy, 0 to 100.

    Parameters
    ----------
    lost_points
        That the defended model may lose while it is attacked: against the undamaged model where the
        damage can be repaired, else against the undamaged model on the same inputs. More: degraded.
    broken_points
        The same. More: broken.
    left_points
        That it may still lose when the attack is over. More: broken.
    below_others_points
        That it may lie below the best of the others while it is attacked. More: degraded.
    harm_points
        A confirmed repair that costs more than this is a harmful one.
    harmful_share
        Of confirmed repairs, that may be harmful. More: broken.
    false_heals
        Repairs while nothing was wrong, in one unit: in 30 days of the combined campaign. More:
        degraded.
    cpu_share
        Of the device's CPU time that healing may take: what the defended model takes beyond its
        own quiet day. More: degraded.
    flash_bytes_per_day
        That may be written. More: degraded.
    detect_predictions, name_predictions, heal_predictions
        From the onset until it is noticed, named and healed: medians over attacks are held to
        these, and the 95th percentile to four times as much.
    heal_labels, heal_seconds
        The same in labels of the owner's and in seconds of the simulated clock.
    """

    lost_points: float = 2.0
    broken_points: float = 10.0
    left_points: float = 1.0
    below_others_points: float = 2.0
    harm_points: float = 1.0
    harmful_share: float = 0.01
    false_heals: float = 1.0
    cpu_share: float = 0.05
    flash_bytes_per_day: float = 20_000_000.0
    detect_predictions: float = 128.0
    name_predictions: float = 512.0
    heal_predictions: float = 1024.0
    heal_labels: float = 64.0
    heal_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        """Check that all are numbers of at least 0."""
        for one in fields(self):
            value = getattr(self, one.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 <= value < math.inf:
                raise ValueError(f"{one.name}: expected a number of at least 0, got {value!r}")

    @classmethod
    def read(cls, path: str) -> Limits:
        """Read a JSON object with some of these by name.

        Raises
        ------
        ValueError
            For what is no such object, unknown names and values out of range.
        """
        try:
            content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"--limits: expected JSON in {quoted(path)}: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(f"--limits: expected a JSON object, got {type(content).__name__}")
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(content) - known):
            raise ValueError(
                f"--limits: expected names among {', '.join(sorted(known))}; got "
                f"{', '.join(map(quoted, unknown))}"
            )
        return cls(**content)
