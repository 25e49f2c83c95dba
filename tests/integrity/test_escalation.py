"""Damage for which each step of the ladder is the first that helps, and what follows the last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support import Array, answers, executing, flip, internals, run_by, same

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.model import parts_of

BLOCK = 512
LADDER = she.Policy().response(she.Cause.WEIGHT_CORRUPTION)


@pytest.fixture
def model(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    """No sweep but the one that is asked for; troubles are looked at again soon."""
    policy = she.Policy(
        scrub_bytes_per_predict=0,
        keyed_bytes_per_predict=0,
        known_answers_every=None,
        rediagnose_after=32,
    )
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as opened:
        yield opened


def state(model: she.SelfHealingModel) -> str:
    return model.health.state


def forget(image: GuardedImage, block: int) -> None:
    """Damage all that the image's table says of a block."""
    hashes, _ = image.image.table_memory()
    for entry in hashes.view(np.uint64).reshape(2, -1):
        entry[block] ^= np.uint64(0x0102030405060708)


def lose_copies(image: GuardedImage, block: int) -> None:
    """Damage golden's copy of a block, and all parity."""
    assert image.pool is not None
    assert image.parity is not None
    if image.pool.copies_golden:
        image.pool.memory()[0][block * BLOCK + 1] ^= np.uint8(1)
    if image.name == "source":  # or the file's bytes would prove themselves
        forget(image, block)
    image.parity.memory()[0][:] ^= np.uint8(1)


def block_inside_a_region(image: GuardedImage) -> int:
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.nbytes)
    block = region.offset // BLOCK + 1
    assert (block + 1) * BLOCK <= region.offset + region.nbytes
    return block


def flip_in_file(model: she.SelfHealingModel) -> None:
    """Have a bit of the file read wrong, from which a reload would build; or right again."""
    file = parts_of(model).session.copy.original
    whole = file.read_again()
    try:
        assert file.data == whole
    except IntegrityError:
        file.let_go(file.read_again)
    else:
        file.let_go(lambda: bytes([whole[0] ^ 1]) + whole[1:])


def damage_for(step: str, model: she.SelfHealingModel) -> None:
    """Damage that no step before this one repairs."""
    images = internals(model).images
    source = images["source"]
    if step == "rollback_block":
        flip(model, 4000)
    elif step == "rollback_module":
        image = images[executing(model)]
        block = block_inside_a_region(image)
        flip(model, block * BLOCK, image=image.name)
        forget(image, block)
    elif step == "rollback_model":
        if source.pool is not None and not source.pool.copies_golden:
            pytest.skip("golden has no copy of the source: the file's bytes come next")
        block = next(
            b for b in range(source.image.block_count) if not source.describe([b])[0].modules
        )
        flip(model, block * BLOCK + 7, image="source")
        forget(source, block)
    elif step == "rebuild":
        if "packed" not in images:
            pytest.skip("nothing is packed here: the source bytes execute")
        flip(model, 3 * BLOCK, image="packed")
        lose_copies(images["packed"], 3)
    else:
        flip(model, 9 * BLOCK, image="source")
        lose_copies(source, 9)
    if step == "mark_untrusted":
        flip_in_file(model)


@pytest.mark.parametrize("step", LADDER)
def test_each_step_is_reached_and_helps(
    model: she.SelfHealingModel, digits: DigitsData, step: str
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    expected = answers(model, x)
    content = {name: bytes(image.live) for name, image in internals(model).images.items()}
    damage_for(step, model)
    assert model.weights.scrub()
    tried = [e for e in model.events if e.kind == "repair" and e.strategy in LADDER]
    steps = [e.strategy for e in tried]
    assert steps == list(LADDER[: LADDER.index(step) + 1])
    if step == "mark_untrusted":
        assert state(model) == "untrusted"
        assert not model.infer(x[0]).trusted
        return
    assert "healed" in str(tried[-1].outcome)
    assert state(model) == "healthy"
    assert same(answers(model, x), expected)
    assert {n: bytes(i.live) for n, i in internals(model).images.items()} == content
    model.weights.scrub()  # and what guards it is mended, from what is right now
    assert model.weights.scrub() == ()
    assert all(
        image.pool and not image.pool.verify(0) for image in internals(model).images.values()
    )


def test_safe_mode_costs_nothing_and_ends_when_there_is_help(
    model: she.SelfHealingModel, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    x: Array = digits.heldout_inputs[:, np.newaxis]
    expected = answers(model, x[:20])
    damage_for("mark_untrusted", model)
    model.weights.scrub()
    loop, looked = parts_of(model).loop, [0]
    check = internals(model).check

    def count(**how: bool) -> Any:
        looked[0] += 1
        return check(**how)

    handled = [0]
    handle = loop.handle

    def handle_and_count(incident: Any) -> None:
        handled[0] += 1
        handle(incident)

    monkeypatch.setattr(loop.serving, "_handle", handle_and_count)
    monkeypatch.setattr(internals(model), "check", count)
    for n in range(2000):
        model.predict(x[n % len(x)])
    assert state(model) == "untrusted"
    alarms = model.health.alarms
    # Tried again after 32 predictions, 64, 128 …: six times in 2,000.
    assert 3 <= sum(e.strategy == "reload_golden" for e in model.events) - 1 <= 7
    assert 0 < handled[0] <= 20 + alarms
    flip_in_file(model)
    for n in range(4000):
        model.predict(x[n % len(x)])
        if state(model) == "healthy":
            break
    assert state(model) == "healthy"
    assert model.health.trouble is None
    assert same(answers(model, x[:20]), expected)


def test_a_runtime_fault_is_repaired_later_if_not_now(
    digits_baseline: she.Baseline, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong answers over sound bytes, while there is no memory to build anything."""
    policy = she.Policy(known_answers_every=50, rediagnose_after=50)
    x: Array = digits.heldout_inputs[:, np.newaxis]
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = answers(model, x[:20])
        run, rebuild = parts_of(model).session.instance.run, parts_of(model).session.rebuild

        def fail(*_: Any, **__: Any) -> None:
            raise MemoryError("no memory")

        monkeypatch.setattr(parts_of(model).session, "rebuild", fail)
        run_by(model, lambda inputs: [np.bitwise_xor(run(inputs)[0], 1)])
        for n in range(60):
            model.predict(x[n])
        assert model.health.trouble == "runtime_fault"
        assert not model.infer(x[0]).trusted
        monkeypatch.setattr(parts_of(model).session, "rebuild", rebuild)
        for n in range(200):
            model.predict(x[n % len(x)])
        assert state(model) == "healthy"
        assert model.health.trouble is None
        assert same(answers(model, x[:20]), expected)


def test_a_runtime_that_fails_on_the_known_answers_is_rebuilt(
    digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    policy = she.Policy(known_answers_every=50)
    x: Array = digits.heldout_inputs[:, np.newaxis]
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = answers(model, x[:20])
        run, asked = (
            parts_of(model).session.instance.run,
            {q[0].tobytes() for q in model.baseline.known_answers.inputs},
        )

        def fails_when_asked(inputs: Any) -> Any:
            if np.asarray(inputs[0]).tobytes() in asked:
                raise RuntimeError("invoke failed")
            return run(inputs)

        run_by(model, fails_when_asked)
        for n in range(60):
            model.predict(x[n])
        assert model.health.repairs == 1
        assert same(answers(model, x[:20]), expected)


def test_the_runtime_is_rebuilt_and_asked_while_a_drift_goes_on(
    digits_baseline: she.Baseline, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs that drift for ever do not put off what bounds damage to the heap in time."""
    now = [0.0]
    policy = she.Policy(rebuild_after_seconds=100, known_answers_every=150, heal="corruption")
    drifted = np.clip(digits.heldout_inputs.astype(int) + 60, -128, 127).astype(np.int8)
    x: Array = drifted[:, np.newaxis]
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, policy=policy, clock=lambda: now[0]
    ) as model:
        repairs, rebuilt = parts_of(model).loop.repairs, [0]
        rebuild = repairs.rebuild

        def count(*args: Any, **kwargs: Any) -> None:
            rebuilt[0] += 1
            rebuild(*args, **kwargs)

        monkeypatch.setattr(repairs, "rebuild", count)
        for n in range(1000):
            now[0] += 1
            model.predict(x[n % len(x)])
        assert model.health.trouble == "sensor_fault"
        assert rebuilt[0] in (9, 10)
        # Damage that no checksum sees is found meanwhile, and the drift is not forgotten for it.
        run = parts_of(model).session.instance.run
        run_by(model, lambda inputs: [np.bitwise_xor(run(inputs)[0], 1)])
        for n in range(160):
            model.predict(x[n])
        assert "runtime_fault" in [e.cause for e in model.events if e.kind == "repair"]
        assert model.health.repairs == 1
        assert model.health.trouble == "sensor_fault"
        assert state(model) == "untrusted"
