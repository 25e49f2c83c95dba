"""Arrays of answers are used again once the caller has dropped them, and never before."""

from __future__ import annotations

import sys
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
from tests.support import Array

import selfheal_edge as she

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.fixture
def golden(model: she.SelfHealingModel, samples: Array) -> list[bytes]:
    answers = np.asarray(model.predict(samples[:20]))
    return [answer.tobytes() for answer in answers]


def test_held_answers_stay(
    model: she.SelfHealingModel, samples: Array, golden: list[bytes]
) -> None:
    held = [model.predict(x) for x in samples[:20]]
    assert [np.asarray(y).tobytes() for y in held] == golden
    assert len({id(y) for y in held}) == 20
    views = [np.asarray(model.predict(x))[..., :4] for x in samples[:20]]
    for x in samples[:20]:
        model.predict(x)
    assert [v.tobytes() for v in views] == [np.asarray(y)[..., :4].tobytes() for y in held]


@pytest.mark.skipif(not GIL, reason="without the GIL reference counts tell nothing")
def test_dropped_answers_come_again(model: she.SelfHealingModel, samples: Array) -> None:
    seen = set()
    for x in samples[:50]:
        y = model.predict(x)
        seen.add(id(y))
    assert len(seen) == 2  # the one that y holds, and the one before


def test_what_a_user_did_to_an_answer_does_not_last(
    model: she.SelfHealingModel, samples: Array, golden: list[bytes]
) -> None:
    for n, x in enumerate(samples[:20]):
        y = np.asarray(model.predict(x))
        assert y.tobytes() == golden[n]
        assert y.shape == model.outputs[0].shape
        assert y.dtype == model.outputs[0].dtype
        assert y.flags.writeable
        assert y.flags.c_contiguous
        if n % 3 == 0:
            y.flags.writeable = False
        elif n % 3 == 1:
            with warnings.catch_warnings():  # NumPy 2.5 would rather have a view
                warnings.simplefilter("ignore", DeprecationWarning)
                y.shape = (y.size,)
        else:
            y.resize((3, 5), refcheck=False)
        del y


def test_a_weak_reference_sees_no_other_answer(
    model: she.SelfHealingModel, samples: Array, golden: list[bytes]
) -> None:
    answer = np.asarray(model.predict(samples[0]))
    watch = weakref.ref(answer)
    del answer
    for x in samples[1:10]:
        model.predict(x)
    left = watch()
    assert left is None or left.tobytes() == golden[0]


def test_views_of_memory(model: she.SelfHealingModel, samples: Array, golden: list[bytes]) -> None:
    answer: Any = model.predict(samples[0])
    view = memoryview(answer)
    del answer
    for x in samples[1:10]:
        model.predict(x)
    assert view.tobytes() == golden[0]
