"""A failing cell has consequences: where the same place breaks again, weights move."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from tests.support import Array, answers, executing, internals, largest_region, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.model import parts_of


class StuckCell(threading.Thread):
    """Sets the same bit again every 5 ms, wherever the model has moved to meanwhile."""

    def __init__(self, memory: Array, at: int) -> None:
        super().__init__(daemon=True)
        self.memory, self.at = memory, at
        self.bit = np.uint8(~memory[at] & (int(memory[at]) + 1))  # the lowest that is not set
        self.done = threading.Event()
        self.times = 0

    def run(self) -> None:
        while not self.done.wait(0.005):
            self.memory[self.at] |= self.bit
            self.times += 1


def place(model: she.SelfHealingModel) -> tuple[Array, int]:
    """Return the memory that executes now, and the middle of its largest region."""
    image = internals(model).images[executing(model)]
    region = max(image.regions.values(), key=lambda r: r.nbytes)
    return np.frombuffer(image.live, np.uint8), region.offset + region.nbytes // 2


@pytest.fixture(params=["inline", "background"])
def model(
    request: pytest.FixtureRequest, digits_baseline: she.Baseline
) -> Iterator[she.SelfHealingModel]:
    policy = she.Policy(
        mode=request.param, scrub_bytes_per_predict=1 << 20, known_answers_every=None
    )
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as opened:
        yield opened


def moves(model: she.SelfHealingModel) -> list[str]:
    return [str(e.outcome) for e in model.events if e.strategy == "move"]


def test_weights_leave_a_stuck_cell(model: she.SelfHealingModel, digits: DigitsData) -> None:
    x: Array = digits.heldout_inputs[:, np.newaxis]
    expected = answers(model, x[:20])
    memory, at = place(model)
    cell = StuckCell(memory, at)
    cell.start()
    try:
        for n in range(20_000):
            model.predict(x[n % len(x)])
            if moves(model) and model.wait_healed(60):
                break
        assert [text.startswith("healed: weights moved") for text in moves(model)] == [True]
        assert "failing cell" in " ".join(str(e.outcome) for e in model.events)
        corrupt, times = model.health.corrupt_blocks, cell.times
        while cell.times < times + 20:  # it goes on, where the weights were
            assert same(answers(model, x[:20]), expected)
        assert model.health.corrupt_blocks == corrupt
        assert model.health.trouble is not she.Cause.WEIGHT_CORRUPTION
        assert place(model)[0].ctypes.data != memory.ctypes.data
        assert model.weights.scrub() == ()
    finally:
        cell.done.set()
        cell.join()


def test_memory_that_fails_everywhere_is_failing_hardware(
    digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    """Two moves at most; then the journal says so, and damage is healed as before."""
    x = digits.heldout_inputs[:1]
    policy = she.Policy(scrub_bytes_per_predict=1 << 20)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        for _ in range(3):
            for _ in range(2):
                memory, at = place(model)
                memory[at] ^= np.uint8(1)
                model.predict(x)
        told = moves(model)
        assert [text.partition(":")[0] for text in told] == ["healed", "healed", "not applied"]
        assert "failing hardware" in told[2]
        assert model.weights.scrub() == ()
        assert model.infer(x).trusted
        assert len(parts_of(model).loop.repairs.retired) == 2
    assert parts_of(model).loop.repairs.retired == []


def test_a_policy_that_builds_nothing_moves_nothing(
    digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    responses = {she.Cause.WEIGHT_CORRUPTION: ("rollback_block", "mark_untrusted")}
    policy = she.Policy(scrub_bytes_per_predict=1 << 20, responses=responses)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        at = largest_region(model).offset if executing(model) == "source" else 4096
        for _ in range(3):
            image = internals(model).images[executing(model)]
            np.frombuffer(image.live, np.uint8)[at] ^= np.uint8(1)
            model.predict(digits.heldout_inputs[:1])
        assert moves(model) == []
        assert model.health.corrupt_blocks == 3
