"""Troubles come back as fast as they are healed: the healing itself is the target."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, RuledOut, Symptoms, Verdict

__all__ = ["resource_attack"]

_TROUBLES: Final = 6
_SOON: Final = 256
_SHARE: Final = 0.6


def resource_attack(symptoms: Symptoms) -> Verdict:
    """Look how soon troubles came back after the one before had ended.

    A patient attacker cannot be told from a changing world by this: the budget bounds him.
    """
    returns = symptoms.returns[-_TROUBLES:]
    if len(returns) < _TROUBLES:
        return None
    soon = sum(gap <= _SOON for gap in returns)
    share = soon / len(returns)
    if share < _SHARE:
        return RuledOut(
            Cause.RESOURCE_ATTACK,
            f"{soon} of the latest {len(returns)} troubles came within {_SOON} predictions",
        )
    text = (
        f"{soon} of the latest {len(returns)} troubles began within {_SOON} predictions after "
        "the one before had ended"
    )
    fact = Evidence("returns", share, text)
    return Diagnosis(Cause.RESOURCE_ATTACK, min(1.0, 0.5 + share / 2), (fact,))
