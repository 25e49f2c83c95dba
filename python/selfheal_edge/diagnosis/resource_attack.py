"""Troubles come back as fast as they are healed: the healing itself is the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, RuledOut, Symptoms, Verdict

__all__ = ["comes_back_at_once", "resource_attack"]

_TROUBLES: Final = 6
_SOON: Final = 256
_SHARE: Final = 0.6


def comes_back_at_once(returns: Sequence[int]) -> bool:
    """Return whether troubles come back as fast as they end.

    Parameters
    ----------
    returns
        Of the latest troubles, predictions from the end of one to the onset of the next.
    """
    latest = returns[-_TROUBLES:]
    soon = sum(gap <= _SOON for gap in latest)
    return len(latest) == _TROUBLES and soon >= _SHARE * _TROUBLES


def resource_attack(symptoms: Symptoms) -> Verdict:
    """Look how soon troubles came back after the one before had ended.

    A patient attacker cannot be told from a changing world by this: the budget bounds him.
    """
    returns = symptoms.returns[-_TROUBLES:]
    if len(returns) < _TROUBLES:
        return None
    soon = sum(gap <= _SOON for gap in returns)
    share = soon / len(returns)
    if not comes_back_at_once(returns):
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
