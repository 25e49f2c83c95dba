"""What does not serve is kept built: a switch exchanges pointers, and waits for nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.test_learning_loop import CLEAN, DIGITS, DIM, Device, baseline, device
from tests.support import answers, internals, kinds, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.inference.standby import Standby
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.loop.repair_executor import RepairExecutor
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.runtimes.select import Choice

X = DIGITS.heldout_inputs[:20, np.newaxis]


def patch() -> Patch:
    return Patch(inputs=InputMap(2, np.full(1, 1.5, np.float32), np.full(1, 0.1, np.float32)))


def repairs_of(model: she.SelfHealingModel) -> RepairExecutor:
    return parts_of(model).loop.repairs


def kept(model: she.SelfHealingModel) -> Standby:
    found = repairs_of(model)._standby  # noqa: SLF001 — what is damaged here
    assert found is not None
    return found


@contextmanager
def opened(runtime: RuntimeName, **rules: Any) -> Iterator[she.SelfHealingModel]:
    with she.SelfHealingModel(
        digits_model_path(), baseline(runtime), policy=she.Policy(**rules), runtime=runtime, seed=1
    ) as model:
        yield model


def switch(model: she.SelfHealingModel, generation: int) -> None:
    with parts_of(model).maintenance_lock:
        repairs_of(model).switch_to(generation)


def adopt(model: she.SelfHealingModel) -> int:
    with parts_of(model).maintenance_lock:
        return repairs_of(model).adopt_patch(patch(), on_trial=True)


def test_a_switch_builds_nothing(runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[bool] = []
    build = Choice.build

    def counting(self: Choice, *arguments: Any) -> Any:
        built.append(True)
        return build(self, *arguments)

    with opened(runtime) as model:
        golden = answers(model, X)
        generation = adopt(model)
        healed = answers(model, X)
        assert not same(golden, healed)
        assert model.memory_report()["standby"] >= internals(model).images["source"].nbytes
        monkeypatch.setattr(Choice, "build", counting)
        for _ in range(3):
            switch(model, 0)
            assert same(answers(model, X), golden)
            assert model.weights.scrub() == ()
            switch(model, generation)
            assert same(answers(model, X), healed)
            assert model.weights.scrub() == ()
        assert not built
        assert repairs_of(model).known_answers_right()
        assert model.health.state is she.HealthState.HEALTHY


def test_without_it_a_switch_builds_beside_what_serves(runtime: RuntimeName) -> None:
    with opened(runtime, standby=False) as model:
        golden = answers(model, X)
        generation = adopt(model)
        healed = answers(model, X)
        assert "standby" not in model.memory_report()
        switch(model, 0)
        assert same(answers(model, X), golden)
        switch(model, generation)
        assert same(answers(model, X), healed)
    with pytest.raises(TypeError, match="standby: expected a bool"):
        she.Policy(standby=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("standby", [True, False])
def test_predictions_wait_for_no_build(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch, standby: bool
) -> None:
    """Nor for known answers: another thread has the inference lock for the exchange alone."""
    held: list[bool] = []
    build = Choice.build

    with opened(runtime, mode="background", standby=standby) as model:
        lock = parts_of(model).inference_lock.core

        def looking(self: Choice, *arguments: Any) -> Any:
            held.append(lock.mine)
            return build(self, *arguments)

        monkeypatch.setattr(Choice, "build", looking)
        generation = adopt(model)
        assert held
        for to in (0, generation, 0):
            switch(model, to)
        assert not any(held)


@pytest.mark.parametrize("image", ["source", "input"])
def test_damage_to_what_does_not_serve_is_found(runtime: RuntimeName, image: str) -> None:
    with opened(runtime) as model:
        golden = answers(model, X)
        adopt(model)
        view = kept(model).images[image]
        view[view.nbytes // 2] ^= 0x40
        for _ in range(len(internals(model).images)):
            if repairs_of(model).standby_bytes:
                repairs_of(model).look_at_standby()
        assert repairs_of(model).standby_bytes == 0
        assert any("does not serve: dropped" in str(e.outcome) for e in model.events)
        switch(model, 0)
        assert same(answers(model, X), golden)


@pytest.mark.parametrize("image", ["source", "input"])
def test_damage_just_before_it_serves(runtime: RuntimeName, image: str) -> None:
    """Every byte is compared before an answer comes from it."""
    with opened(runtime) as model:
        golden = answers(model, X)
        generation = adopt(model)
        healed = answers(model, X)
        for to, expected in ((0, golden), (generation, healed), (0, golden)):
            view = kept(model).images[image]
            view[view.nbytes // 3] ^= 0x10
            switch(model, to)
            assert same(answers(model, X), expected)
            assert model.weights.scrub() == ()
            assert model.health.state is she.HealthState.HEALTHY


def test_its_known_answers_are_asked_now_and_then(runtime: RuntimeName) -> None:
    with opened(runtime) as model:
        adopt(model)
        run, asked = kept(model).instance.run, []

        def wrong(inputs: Any) -> Any:
            asked.append(True)
            return [np.zeros_like(y) for y in run(inputs)]

        kept(model).instance.run = wrong  # type: ignore[method-assign]
        for _ in range(40):
            repairs_of(model).look_at_standby()
        assert asked
        assert repairs_of(model).standby_bytes == 0


def test_it_is_one_and_golden_stays(runtime: RuntimeName) -> None:
    """A refinement comes and goes; the way back is to what served before the first."""
    with opened(runtime) as model:
        golden = answers(model, X)
        first, second = adopt(model), adopt(model)
        assert kept(model).generation == 0
        repairs_of(model).drop(first)
        assert kept(model).generation == 0
        switch(model, 0)
        assert same(answers(model, X), golden)
        assert kept(model).generation == second
        repairs_of(model).drop(second)
        assert repairs_of(model).standby_bytes == 0


def test_a_reload_and_a_rollback_leave_nothing_stale(runtime: RuntimeName) -> None:
    with opened(runtime) as model:
        golden = answers(model, X)
        generation = adopt(model)
        healed = answers(model, X)
        model.rollback("golden")
        assert same(answers(model, X), golden)
        model.rollback(generation)
        assert same(answers(model, X), healed)
        switch(model, 0)
        assert same(answers(model, X), golden)
        with parts_of(model).maintenance_lock:
            repairs_of(model).reload()
        assert repairs_of(model).standby_bytes == 0
        assert same(answers(model, X), golden)


def _switching(path: str, runtime: RuntimeName, ready: Connection) -> None:
    """Have a repair confirmed, then go to and fro between it and golden until the end."""
    with device(runtime, store=path, key=b"a key of the test") as field:
        field.confirmed()
        model, generation = field.model, field.model.weights.active
        ready.send(generation)
        number = 0
        while True:
            number += 1
            field.run(CLEAN if number % 2 else DIM, 40)
            with parts_of(model).maintenance_lock:
                for to in (0, generation, 0, generation):
                    repairs_of(model).switch_to(to)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_kill_between_switches_leaves_golden_or_the_repair_with_its_gate(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    path = str(tmp_path / "store")
    baseline(runtime)
    with opened(runtime) as model:
        golden = {name: bytes(image.live) for name, image in internals(model).images.items()}
    context = multiprocessing.get_context("fork")
    for delay in (0.0, 0.013, 0.17):
        ours, theirs = context.Pipe()
        process = context.Process(target=_switching, args=(path, runtime, theirs))
        process.start()
        theirs.close()
        generation = ours.recv() if ours.poll(300) else None
        assert generation is not None
        time.sleep(delay)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        with device(runtime, store=path, key=b"a key of the test") as field:
            assert field.model.weights.active in (0, generation)
            said = [(e.kind, str(e.outcome)[:120]) for e in field.model.events]
            assert [r.generation for r in field.learned] == [generation], said
            assert field.model.weights.scrub() == ()
            assert repairs_of(field.model).known_answers_right()
            field.run(CLEAN, 130)
            assert field.model.weights.active == 0
            assert field.live == golden
            field.run(DIM, 130)
            assert field.model.weights.active == generation
            assert "probation" not in kinds(field.model)
        (tmp_path / "store").unlink()
        for left in tmp_path.glob("store*"):
            left.unlink()


@pytest.mark.slow
def test_a_stream_switches_by_itself_and_keeps_both(runtime: RuntimeName) -> None:
    with device(runtime) as field:
        assert isinstance(field, Device)
        repair = field.confirmed()
        for _ in range(2):
            field.run(CLEAN, 130)
            assert field.model.weights.active == 0
            assert kept(field.model).generation == repair.generation
            field.run(DIM, 130)
            assert field.model.weights.active == repair.generation
            assert kept(field.model).generation == 0


@pytest.mark.parametrize("image", ["input", "source"])
def test_a_repair_is_left_although_goldens_saved_copy_is_damaged(
    runtime: RuntimeName, image: str
) -> None:
    """A repair that did not hold went on serving: its way back read the copy before mending it."""
    with opened(runtime) as model:
        golden = answers(model, X)
        generation = adopt(model)
        pool = repairs_of(model).weights.images[image].pool
        assert pool is not None
        np.asarray(pool.memory()[0]).reshape(-1).view(np.uint8)[0] ^= 4
        with parts_of(model).maintenance_lock:
            repairs_of(model).take_back(generation, "did not hold")
        assert same(answers(model, X), golden)
        assert model.weights.active == 0
