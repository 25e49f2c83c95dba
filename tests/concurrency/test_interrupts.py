"""What a signal's handler raises, at any moment, leaves a model that serves and heals on."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support import Array, answers, flip, largest_region, same, stream

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.concurrency.worker import Worker
from selfheal_edge.model import parts_of

pytestmark = [
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="there the end of a `with` block may be interrupted"
    ),
    # Of the standard library's temporary files, which may be interrupted as well.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TimeUpError(BaseException):
    """What the handler raises; like KeyboardInterrupt, nothing that only logs errors takes it."""


def time_up(*_: object) -> None:
    raise TimeUpError


@pytest.fixture
def interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Callable[[], object], int], None]]:
    """Call something again and again until it was interrupted so many times, anywhere."""
    # What is raised within a destructor goes to a hook, which the handler may interrupt in turn:
    # that of pytest would take this for a fault of its own.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGALRM, time_up)
    rng = random.Random(4)

    def once(act: Callable[[], object]) -> None:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 1e-3), 0.05)
                while True:
                    act()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeUpError:
            pass

    def interrupt(act: Callable[[], object], times: int) -> None:
        for _ in range(times):
            once(act)

    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def heal(model: she.SelfHealingModel, samples: Array) -> None:
    flip(model, largest_region(model).offset)
    model.predict(samples[0])


CALLS: dict[str, Callable[[she.SelfHealingModel, Array], object]] = {
    "predict": lambda model, x: model.predict(x[0]),
    "dict": lambda model, x: model.predict({model.inputs[0].name: x[:3]}),
    "infer": lambda model, x: model.infer(x[0]),
    "health": lambda model, _: (model.health, model.events),
    "scrub": lambda model, _: model.weights.scrub(),
    "rollback": lambda model, _: model.rollback(),
    "heal": heal,
}


@pytest.mark.parametrize("times", [80, pytest.param(800, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", ["inline", "background"])
@pytest.mark.parametrize("call", CALLS)
def test_no_lock_is_left_behind(
    digits_baseline: she.Baseline,
    samples: Array,
    interrupted: Any,
    mode: Any,
    call: str,
    times: int,
) -> None:
    told: list[she.Event] = []
    policy = she.Policy(mode=mode, scrub_bytes_per_predict=1 << 20, known_answers_every=20)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, policy=policy, on_event=told.append
    ) as model:
        expected = answers(model, samples[:20])

        def act() -> None:
            CALLS[call](model, samples)

        for _ in range(times // 10):
            interrupted(act, 10)
            assert not parts_of(model).inference_lock.core.mine
            assert not parts_of(model).maintenance_lock.core.mine
            assert not parts_of(model).journal.is_telling
        assert parts_of(model).loop.state.repair is None or mode == "background"
        # Another thread gets the lock, heals, and is told.
        given: list[Any] = []

        def serve() -> None:
            model.weights.scrub()
            heal(model, samples)
            given.append(answers(model, samples[:20]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        assert same(given[0], expected)
        assert model.wait_healed(60)
        assert parts_of(model).loop.state.repair is None
        assert told[-1] == model.events[-1]


def test_a_worker_does_what_is_posted(interrupted: Any) -> None:
    done: list[int] = []
    worker: Worker[int] = Worker(done.append, lambda _waiting, _posted: None, "test")

    def act() -> None:
        worker.post(1)
        worker.wait(0.0001)

    interrupted(act, 300)
    worker.post(2)
    assert worker.wait(30)
    assert done[-1] == 2
    assert worker.waiting == 0
    worker.close()


def test_a_batch_ends_with_the_handler(digits_baseline: she.Baseline, samples: Array) -> None:
    """Also where Python is not entered for anything else, however long the batch."""
    policy = she.Policy(known_answers_every=None, rebuild_after_seconds=None)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = answers(model, samples[:20])
        batch = stream(samples, 500_000)  # a constant one would raise alarms, which enter Python
        before = signal.signal(signal.SIGALRM, time_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(TimeUpError):
                model.predict(batch)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert model.health.predictions < len(batch)
        assert same(answers(model, samples[:20]), expected)
