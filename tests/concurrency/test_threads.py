"""Many threads on one model: no crash, and no wrong answer once damage is found."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.support import (
    Array,
    DoNothing,
    answers,
    bytes_of,
    flip,
    infer_one,
    largest_region,
    pristine,
    same,
)

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.model import parts_of
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget


def together(*works: Callable[[], None], timeout_s: float = 60.0) -> None:
    """Run all at once; raise what any of them raises."""
    errors: list[BaseException] = []
    begun = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        begun.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_answers_belong_to_their_callers(model: she.SelfHealingModel, samples: Array) -> None:
    expected = answers(model, samples)[0]

    def serve(first: int) -> Callable[[], None]:
        def work() -> None:
            for n in range(first, 500, 4):
                assert np.asarray(model.predict(samples[n])).tobytes() == expected[n].tobytes()

        return work

    together(*(serve(first) for first in range(4)))
    assert model.health.predictions == 1000


def serve_beside(
    model: she.SelfHealingModel, batch: Array, expected: Array, as_dict: bool = False
) -> None:
    """Serve a batch in one thread, single samples in another, and see that these are let in.

    A loaded machine may hold the second thread back until the batch has ended: several attempts.
    """
    assert any(served_beside(model, batch, expected, as_dict) > 10 for _ in range(5))


def served_beside(model: she.SelfHealingModel, batch: Array, expected: Array, as_dict: bool) -> int:
    """Return how many single samples had their answer before one batch had."""
    ended = threading.Event()
    early = 0
    begun = parts_of(model).loop.serving.hot.number + 100

    def serve_batch() -> None:
        given = {model.inputs[0].name: batch} if as_dict else batch
        result = answers(model, given)[0]
        ended.set()
        assert result.tobytes() == np.resize(expected, result.shape).tobytes()

    def serve_one() -> None:
        nonlocal early
        while parts_of(model).loop.serving.hot.number < begun and not ended.is_set():
            time.sleep(0)  # until the batch has begun, without taking the lock
        while not ended.is_set():
            answer = np.asarray(model.predict(batch[7]))
            assert answer.tobytes() == expected[7].tobytes()
            early += not ended.is_set()

    together(serve_batch, serve_one)
    return early


class Own(she.PerformanceMonitor):
    """A user's own monitor: served in Python."""


@pytest.mark.slow
@pytest.mark.parametrize("monitor", [None, Own])
@pytest.mark.parametrize("as_dict", [False, True])
def test_a_batch_lets_others_in(
    digits_baseline: she.Baseline,
    samples: Array,
    monitor: type[she.PerformanceMonitor] | None,
    as_dict: bool,
) -> None:
    """A thread waits for one inference of a batch, not for all of it."""
    path = digits_model_path()
    own = None if monitor is None else monitor(digits_baseline)
    with she.SelfHealingModel(path, digits_baseline, monitor=own) as model:
        expected = answers(model, samples[:500])[0]
        count = 40_000 if own is None else 4_000
        batch = np.ascontiguousarray(np.resize(samples[:500], (count, *samples.shape[1:])))
        serve_beside(model, batch, expected, as_dict=as_dict)


def test_a_batch_whose_inferences_are_handled_lets_others_in(
    digits_baseline: she.Baseline, samples: Array
) -> None:
    """Where every inference is handled, a worker may want the lock."""
    policy = she.Policy(known_answers_every=1)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = answers(model, samples)[0]
        hot = parts_of(model).loop.serving.hot
        batch = np.ascontiguousarray(np.resize(samples, (2_000, *samples.shape[1:])))
        serve_beside(model, batch, expected)
        assert hot.due_number == hot.number + 1, "each was handled, and so will be the next"


def test_a_batch_ends_when_the_model_is_closed(
    digits_baseline: she.Baseline, samples: Array
) -> None:
    model = she.SelfHealingModel(digits_model_path(), digits_baseline)
    batch = np.ascontiguousarray(np.resize(samples, (400_000, *samples.shape[1:])))
    begun = model.health.predictions

    def serve_batch() -> None:
        with pytest.raises(ModelClosedError):
            model.predict(batch)

    def close() -> None:
        while model.health.predictions == begun:
            pass
        model.close()

    together(serve_batch, close)
    assert model.health.predictions < begun + len(batch)


def test_ids_of_threads(model: she.SelfHealingModel, samples: Array) -> None:
    ids: list[int] = []

    def work() -> None:
        for x in samples[:100]:
            ids.append(infer_one(model, x).id)

    together(*[work] * 4)
    assert len(set(ids)) == 400


@pytest.mark.parametrize("seconds", [1.0, pytest.param(20.0, marks=pytest.mark.long)])
def test_damage_while_others_predict(
    digits_baseline: she.Baseline, samples: Array, seconds: float
) -> None:
    events: list[she.Event] = []
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, on_event=events.append
    ) as model:
        expected = answers(model, samples)[0]
        stop = threading.Event()
        timer = threading.Timer(seconds, stop.set)
        region = largest_region(model)

        def predict() -> None:
            while not stop.is_set():
                model.predict(samples[:20])

        def damage() -> None:
            # In weights alone: a graph that changes while the runtime reads it ends the process.
            rng = np.random.default_rng(0)
            while not stop.wait(0.002):
                at = region.offset + int(rng.integers(region.nbytes))
                flip(model, at, 1 << int(rng.integers(8)))

        def look() -> None:
            while not stop.is_set():
                model.weights.scrub()
                assert model.health.predictions >= 0
                assert model.memory_report()["total"] > 0
                _ = model.events

        def maintain() -> None:
            while not stop.is_set():
                try:
                    generation = model.snapshot()
                    # Healing from the file's bytes starts afresh, without snapshots.
                    with contextlib.suppress(ValueError):
                        model.weights.drop(generation)
                    model.rollback()
                except she.errors.IntegrityError:
                    continue  # damaged in between: refused, as it has to be

        timer.start()
        together(*[predict] * 4, damage, look, maintain, timeout_s=seconds + 60)
        model.rollback()
        # Rollbacks may have undone every flip before anything else found it: one that stands.
        repairs = model.health.repairs
        flip(model, region.offset)
        model.weights.scrub()
        assert model.health.repairs > repairs
        assert bytes_of(model) == pristine(digits_model_path(), model)
        assert same([expected], answers(model, samples))
        assert model.health.state == "healthy"
    assert [e.seq for e in events] == list(range(len(events)))
    assert events[-1].kind == "closed"


def test_no_other_thread_gets_the_lock_during_a_repair(digits_baseline: she.Baseline) -> None:
    looked = threading.Event()
    early: list[bool] = []
    threads: list[threading.Thread] = []

    class Slow(DoNothing):
        def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
            def look() -> None:
                _ = model.health
                looked.set()

            threads.append(threading.Thread(target=look))
            threads[0].start()
            early.append(looked.wait(0.2))
            return super().apply(target, case)

    kit = she.ModelRepairKit(Slow("rollback_block"))
    with she.SelfHealingModel(digits_model_path(), digits_baseline, repair_kit=kit) as model:
        flip(model, 100)
        model.weights.scrub()
        threads[0].join(10)
        assert looked.is_set()
        assert early == [False]


def test_models_side_by_side(digits_baseline: she.Baseline, samples: Array) -> None:
    """Opening exchanges the process's stderr for a moment: many at once must not lose it."""
    import os

    before = os.fstat(2)

    def work() -> None:
        for _ in range(5):
            with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
                model.predict(samples[:5])

    together(*[work] * 4)
    after = os.fstat(2)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)
