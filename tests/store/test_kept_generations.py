"""Generations in a store: committed before they act, put back at the start, proven there."""

from __future__ import annotations

import json
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import warm
from tests.store.serving import KEY, Open, patch_of
from tests.support import Array, answers, internals, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import main
from selfheal_edge.learning.patch import Patch
from selfheal_edge.loop.repair_executor import RepairExecutor
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database
from selfheal_edge.store.generations import StoredGeneration
from selfheal_edge.store.inbox import Inbox
from selfheal_edge.store.journal import EventKind

DIGITS = load_digits()
X: Array = DIGITS.heldout_inputs[:20, np.newaxis]


@pytest.fixture(scope="module", params=["builtin", "auto"])
def kernels(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def baseline(kernels: Any) -> she.Baseline:
    return she.calibrate(digits_model_path(), DIGITS.calibration_inputs, kernels=kernels)


@pytest.fixture
def opened(open_model: Open, baseline: she.Baseline, kernels: Any) -> Open:
    return partial(open_model, digits_model_path(), baseline, kernels=kernels)


def repairs_of(model: she.SelfHealingModel) -> RepairExecutor:
    return parts_of(model).loop.repairs


def change(model: she.SelfHealingModel, mask: int = 0x80) -> None:
    """Write other weights through the guard: of the last layer."""
    image = internals(model).images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    old = np.frombuffer(image.live, np.uint8)[region.offset : region.offset + 64].copy()
    image.guard.write(region.offset, bytes(old ^ np.uint8(mask)))


def live_of(model: she.SelfHealingModel) -> dict[str, bytes]:
    return {name: bytes(image.live) for name, image in internals(model).images.items()}


@pytest.mark.slow
def test_a_restart_comes_back_in_the_same_generation(opened: Open, tmp_path: Path) -> None:
    model = opened()
    golden = answers(model, X)
    first = model.snapshot()
    change(model)
    second = repairs_of(model).adopt()
    changed, content = answers(model, X), live_of(model)
    third = model.snapshot()
    model.weights.pin(third)
    model.weights.drop(first)
    expected = model.weights.generations
    assert expected == (0, second, third)
    model.weights.export(tmp_path / "before.tflite")
    model.close()

    again = opened()
    assert again.weights.generations == expected
    assert again.weights.active == second
    assert again.health.generation == second
    assert same(answers(again, X), changed)
    assert live_of(again) == content
    again.weights.export(tmp_path / "after.tflite")
    assert (tmp_path / "after.tflite").read_bytes() == (tmp_path / "before.tflite").read_bytes()
    with pytest.raises(ValueError, match="pinned"):
        again.weights.drop(third)
    # What is damaged there heals as that generation, and a way back leads to golden.
    she.redteam.inject(again).flip_bits(5)
    assert again.weights.scrub()
    assert live_of(again) == content
    again.rollback("golden")
    assert same(answers(again, X), golden)
    again.close()

    last = opened()
    assert last.weights.active == 0
    assert last.weights.generations == expected
    assert same(answers(last, X), golden)
    assert last.snapshot() == third + 1
    last.rollback(to=second)
    assert same(answers(last, X), changed)


def test_a_mixture_of_modules_comes_back(opened: Open) -> None:
    model = opened()
    change(model)
    repairs_of(model).adopt()
    model.rollback("golden", modules=[model.weights.modules[0]])
    mixed, content, active = answers(model, X), live_of(model), model.weights.active
    model.close()
    again = opened()
    assert again.weights.active == active
    assert live_of(again) == content
    assert same(answers(again, X), mixed)


KILLED = """
import os, signal, sys
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.model import parts_of
baseline = she.Baseline.load(sys.argv[2])
model = she.SelfHealingModel(digits_model_path(), baseline, store=sys.argv[1],
                             key=b"a key of the test", kernels=sys.argv[3])
repairs = parts_of(model).loop.repairs
repairs._kept.keep_golden()
image = parts_of(model).weights.images["source"]
region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
image.guard.write(region.offset, bytes(64))
step = sys.argv[4]
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
if step == "built":
    repairs.rebuild = killed
elif step == "confirmed":
    repairs._kept.confirm = killed
repairs.adopt()
killed()
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["built", "confirmed", "after"])
def test_a_kill_during_a_trial_reverts_it_and_after_it_does_not(
    opened: Open, baseline: she.Baseline, kernels: str, tmp_path: Path, step: str
) -> None:
    baseline.save(tmp_path / "baseline")
    done = warm.run(KILLED, tmp_path / "store", tmp_path / "baseline", kernels, step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    model = opened()
    reverted = [e for e in model.events if e.kind is EventKind.REVERTED]
    failures = model.health.failures
    if step == "after":
        assert (model.weights.active, reverted, failures) == (1, [], ())
        return
    assert model.weights.active == 0
    assert model.weights.generations == (0,)
    assert len(reverted) == 1
    assert [(f.what, f.times) for f in failures] == [("generation", 1)]
    assert failures[0].name[:16] in str(reverted[0].outcome)
    model.close()
    again = opened()
    assert again.health.failures == failures
    assert not [e for e in again.events if e.kind is EventKind.REVERTED]


def test_a_patch_comes_back_with_its_correction(opened: Open, tmp_path: Path) -> None:
    model = opened()
    golden, patch = answers(model, X), patch_of(model)
    generation = repairs_of(model).adopt_patch(patch)
    healed, content = answers(model, X), live_of(model)
    assert not same(healed, golden)
    # The same weights without the correction are another generation.
    without = repairs_of(model).adopt_patch(Patch(patch.changes))
    plain = answers(model, X)
    assert not same(plain, healed)
    model.rollback(to=generation)
    model.export(tmp_path / "before.tflite")
    model.close()

    again = opened()
    assert again.weights.generations == (0, generation, without)
    assert again.weights.active == generation
    assert live_of(again) == content
    assert same(answers(again, X), healed)
    assert not again.health.failures
    repairs_of(again).switch_to(without)
    assert same(answers(again, X), plain)
    again.close()

    last = opened()
    assert last.weights.active == without
    last.close()
    key = tmp_path / "key"
    key.write_bytes(KEY)
    where = [str(tmp_path / "store"), str(generation), str(tmp_path / "after.tflite")]
    assert main(["snapshot", "export", *where, "--key", str(key)]) == 0
    before, after = (tmp_path / f"{when}.tflite" for when in ("before", "after"))
    assert before.read_bytes() == after.read_bytes()


def test_a_patch_on_trial_ends_with_the_process(opened: Open) -> None:
    model = opened()
    golden = answers(model, X)
    confirmed = repairs_of(model).adopt_patch(patch_of(model), on_trial=True)
    repairs_of(model).confirm(confirmed)
    healed = answers(model, X)
    repairs_of(model).adopt_patch(patch_of(model, 1), on_trial=True)
    model.close()
    again = opened()
    assert again.weights.active == confirmed
    assert again.weights.generations == (0, confirmed)
    assert same(answers(again, X), healed)
    third = repairs_of(again).adopt_patch(patch_of(again, 2), on_trial=True)
    repairs_of(again).take_back(third, "worse", to=confirmed)
    assert again.weights.active == confirmed
    assert [(f.what, f.reason) for f in again.health.failures][-1] == ("generation", "worse")
    again.rollback()
    again.close()
    last = opened()
    assert same(answers(last, X), golden)
    assert repairs_of(last).adopt_patch(patch_of(last)) > third


PATCHED = """
import os, signal, sys
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.model import parts_of
from selfheal_edge.store.generations import StoredGenerations
from tests.store.serving import patch_of
model = she.SelfHealingModel(digits_model_path(), she.Baseline.load(sys.argv[2]), store=sys.argv[1],
                             key=b"a key of the test", kernels=sys.argv[3])
repairs, left = parts_of(model).loop.repairs, int(sys.argv[4])
def dies_in_time(owner, name):
    act = getattr(owner, name)
    def counted(*arguments, **how):
        global left
        for _ in range(2):  # before it, and after it
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            if _ == 0:
                found = act(*arguments, **how)
        return found
    setattr(owner, name, counted)
session = parts_of(model).session
for owner, name in ((repairs._kept, "propose"), (repairs.weights, "patch"), (session, "exchange"),
                    (repairs.attempts, "prove"), (repairs._kept, "confirm")):
    dies_in_time(owner, name)
repairs.adopt_patch(patch_of(model))
print("done")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("left", range(0, 11, 2))
def test_a_kill_at_any_step_of_a_patch_gives_old_or_new(
    opened: Open, baseline: she.Baseline, kernels: str, tmp_path: Path, left: int
) -> None:
    if kernels == "auto":  # the odd ones there, the even ones here
        left = min(left + 1, 9)
    baseline.save(tmp_path / "baseline")
    done = warm.run(PATCHED, tmp_path / "store", tmp_path / "baseline", kernels, left)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with she.SelfHealingModel(digits_model_path(), baseline, kernels=kernels) as other:  # type: ignore[arg-type]
        golden = answers(other, X)
        repairs_of(other).adopt_patch(patch_of(other))
        healed = answers(other, X)
    model = opened()
    is_new = left >= 9  # all but what `confirm` does has been done before
    assert model.weights.active == int(is_new)
    assert same(answers(model, X), healed if is_new else golden)
    assert model.weights.scrub() == ()


def test_rows_of_before_are_read_and_newer_ones_are_not() -> None:
    row = StoredGeneration(3, 5000, "ab", {"state": "held"}, (b"1" * 32, b"2" * 32))
    head = {"number": 3, "nbytes": 5000, "digest": "ab", "fields": {"state": "held"}}
    old = json.dumps(head).encode()
    names = b"1" * 32 + b"2" * 32
    found = StoredGeneration.decode(len(old).to_bytes(4, "little") + old + names)
    assert vars(found) == vars(row)
    assert vars(StoredGeneration.decode(row.encode())) == vars(row)
    new = json.dumps({**head, "version": 3}).encode()
    with pytest.raises(she.errors.IntegrityError, match="version 3"):
        StoredGeneration.decode(len(new).to_bytes(4, "little") + new + names)


def test_weights_that_do_not_hold_are_remembered(opened: Open) -> None:
    model = opened()
    change(model)
    image = internals(model).images["source"]
    np.frombuffer(image.live, np.uint8)[image.nbytes // 2] ^= np.uint8(4)  # damage meanwhile
    with pytest.raises(she.errors.IntegrityError):
        repairs_of(model).adopt()
    failures = model.health.failures
    assert [(f.what, f.times) for f in failures] == [("generation", 1)]
    assert any(e.kind is EventKind.REJECTED for e in model.events)
    model.close()
    again = opened()
    assert again.health.failures == failures
    assert again.weights.generations == (0,)


def test_damaged_blocks_in_the_store_are_never_served(opened: Open, tmp_path: Path) -> None:
    model = opened()
    golden = answers(model, X)
    change(model)
    generation = repairs_of(model).adopt()
    model.close()
    path = tmp_path / "store"
    with Database.read_copy(path, KEY) as database:
        parts = [database.block(name) for name in sorted(database.block_names())]
    data = bytearray(path.read_bytes())
    hit = 0
    for part in parts:
        assert part is not None
        at = data.find(part[600:664])  # inside one page
        if at >= 0:
            data[at + 7] ^= 1
            hit += 1
    assert hit
    path.write_bytes(data)
    again = opened()
    assert again.weights.active == 0
    assert generation not in again.weights.generations
    assert same(answers(again, X), golden)
    told = [str(e.outcome) for e in again.events if e.kind is EventKind.STORE]
    assert any(f"generation {generation}" in text for text in told)


def wait_for(model: she.SelfHealingModel, count: int) -> list[she.Event]:
    """Wait until so many requests are served."""
    deadline = time.monotonic() + 120
    while True:
        found = [e for e in model.events if e.kind is EventKind.REQUEST]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("hurried")
def test_requests_of_other_processes_are_served(opened: Open, tmp_path: Path) -> None:
    told: list[she.Event] = []
    model = opened(on_event=told.append)
    golden = answers(model, X)
    change(model)
    second = repairs_of(model).adopt()
    third = model.snapshot()
    fourth = model.snapshot()
    model.weights.pin(fourth)
    inbox = Inbox(tmp_path / "store", KEY)
    inbox.leave("restore", {"generation": "golden"})
    inbox.leave("restore", {"generation": 99})
    Inbox(tmp_path / "store", b"a key of another one").leave("restore", {"generation": second})
    inbox.leave("paint", {"colour": "red"})
    inbox.leave("prune", {})
    inbox.leave("prune", {"generations": [0, 99]})
    found = wait_for(model, 6)
    assert model.weights.active == 0
    assert same(answers(model, X), golden)
    assert model.weights.generations == (0, fourth)
    texts = [str(e.outcome) for e in found]
    assert any("signed with the store's key" in text for text in texts)
    assert "restore: generation golden serves" in texts
    assert sum("refused" in text for text in texts) == 2
    assert f"prune: dropped: {second}, {third}" in texts
    assert "prune: nothing to drop" in texts
    assert [e for e in told if e.kind is EventKind.REQUEST] == found
    model.close()
    assert opened().weights.generations == (0, fourth)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("restarts", [False, True])
def test_a_request_that_was_copied_is_not_done_again(
    opened: Open, tmp_path: Path, *, restarts: bool
) -> None:
    """Whoever may write in the folder takes a correct request from it, and leaves it again."""
    model = opened()
    change(model)
    second = repairs_of(model).adopt()
    # Left beside, since the serving process may be quicker than who copies it.
    name = Inbox(tmp_path / "beside", KEY).leave("restore", {"generation": "golden"})
    file = tmp_path / "store.inbox" / name
    file.parent.mkdir()
    shutil.copyfile(tmp_path / "beside.inbox" / name, tmp_path / "copy")
    (tmp_path / "beside.inbox" / name).replace(file)
    wait_for(model, 1)
    assert model.weights.active == 0
    if restarts:
        model.close()
        model = opened()
    repairs_of(model).switch_to(second)
    (tmp_path / "copy").replace(file)
    found = wait_for(model, 1 if restarts else 2)
    assert "it was taken in before" in str(found[-1].outcome)
    assert model.weights.active == second
