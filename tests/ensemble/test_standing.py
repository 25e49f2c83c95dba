"""Who sleeps, decided from how each member is."""

from __future__ import annotations

import pytest

from selfheal_edge.causes import Cause
from selfheal_edge.ensemble.standing import Condition, stand

FINE = Condition()


def untrusted(cause: Cause | None, *, is_explained: bool = True) -> Condition:
    return Condition(cause, is_trusted=False, is_explained=is_explained)


@pytest.mark.parametrize(
    ("condition", "sleeps"),
    [
        (FINE, False),
        (untrusted(Cause.WEIGHT_CORRUPTION), True),
        (untrusted(Cause.RUNTIME_FAULT), True),
        (untrusted(Cause.POISONING), True),
        (untrusted(Cause.ADVERSARIAL_INPUT), True),
        (untrusted(None, is_explained=False), True),
        (untrusted(None, is_explained=True), False),
        (untrusted(Cause.COVARIATE_DRIFT), False),
        (untrusted(Cause.UNKNOWN), False),
        (Condition(Cause.WEIGHT_CORRUPTION, is_trusted=True), False),  # a proven spare serves
        (Condition(failure="closed"), True),
    ],
)
def test_one_member(condition: Condition, sleeps: bool) -> None:
    assert stand([FINE, condition]).asleep == (False, sleeps)


def test_an_attack_on_all_puts_none_to_sleep() -> None:
    attacked = untrusted(Cause.ADVERSARIAL_INPUT)
    assert stand([attacked, attacked, FINE]).asleep == (False, False, False)
    assert stand([attacked, FINE, FINE]).asleep == (True, False, False)


@pytest.mark.parametrize(
    ("conditions", "serves"),
    [
        ([untrusted(Cause.WEIGHT_CORRUPTION), untrusted(Cause.RUNTIME_FAULT)], 1),
        ([untrusted(Cause.POISONING), untrusted(Cause.RUNTIME_FAULT)], 0),
        ([Condition(failure="closed"), untrusted(Cause.WEIGHT_CORRUPTION)], 1),
    ],
)
def test_the_mildest_serves(conditions: list[Condition], serves: int) -> None:
    standing = stand(conditions)
    assert standing.on_call == serves
    assert [not asleep for asleep in standing.asleep] == [n == serves for n in range(2)]
