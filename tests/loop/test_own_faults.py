"""A fault of this package is told; it is not taken for one of the model."""

from __future__ import annotations

from typing import NoReturn

import pytest

import selfheal_edge as she
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.tflite.session import Session


def fail(*_: object, **__: object) -> NoReturn:
    raise TypeError("a fault of ours")


def test_it_is_no_wrong_answer(
    model: she.SelfHealingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(KnownAnswers, "matches", fail)
        with pytest.raises(TypeError, match="a fault of ours"):
            parts_of(model).loop.repairs.known_answers_right()
    assert parts_of(model).loop.repairs.known_answers_right()


def test_a_runtime_that_fails_gives_a_wrong_answer(model: she.SelfHealingModel) -> None:
    def refuse(_: object) -> NoReturn:
        raise RuntimeError("tensor data is missing")

    she.redteam.inject(model).replace_run(refuse)
    assert not parts_of(model).loop.repairs.known_answers_right()


def test_it_leaves_a_rollback_untrusted(
    model: she.SelfHealingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Session, "rebuild", fail)
        with pytest.raises(TypeError, match="a fault of ours"):
            model.rollback()
    assert model.health.state == "untrusted"
    model.rollback()
    assert model.health.state == "healthy"
