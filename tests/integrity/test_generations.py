"""Weights that were changed on purpose: guarded, healed and proven as what they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.support import SHARED, Array, answers, internals, same, stored_copy

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.generations import NoRoomError
from selfheal_edge.integrity.guarded_image import CorruptBlock
from selfheal_edge.loop.repair_executor import RepairExecutor
from selfheal_edge.model import parts_of
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.repair.rollback import Rollback
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

pytestmark = pytest.mark.usefixtures("plain_calibration")


@pytest.fixture(params=["builtin", "auto"])
def model(
    request: pytest.FixtureRequest, digits_baseline: she.Baseline, digits: DigitsData
) -> Iterator[she.SelfHealingModel]:
    baseline = digits_baseline
    if request.param == "builtin":
        baseline = she.calibrate(
            digits_model_path(), digits.calibration_inputs, kernels="builtin", seed=1
        )
    policy = she.Policy(scrub_bytes_per_predict=1 << 30, keyed_bytes_per_predict=1 << 30)
    with she.SelfHealingModel(
        digits_model_path(), baseline, policy=policy, kernels=request.param
    ) as opened:
        yield opened


def change(model: she.SelfHealingModel) -> None:
    """Write other weights through the guard: the last layer's signs."""
    image = internals(model).images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    old = np.frombuffer(image.live, np.uint8)[region.offset : region.offset + 64].copy()
    image.guard.write(region.offset, bytes(old ^ np.uint8(0x80)))


def repairs_of(model: she.SelfHealingModel) -> RepairExecutor:
    return parts_of(model).loop.repairs


def generations(model: she.SelfHealingModel) -> tuple[int, ...]:
    return model.weights.generations


def live_of(model: she.SelfHealingModel) -> dict[str, bytes]:
    return {name: bytes(image.live) for name, image in internals(model).images.items()}


def unheard(model: she.SelfHealingModel, x: Array) -> list[Array]:
    """Return answers that no monitor hears, to which other weights are a drift."""
    return [np.stack([parts_of(model).session.instance.run([row])[0] for row in x])]


def flip(model: she.SelfHealingModel, rng: np.random.Generator) -> None:
    for name, image in internals(model).images.items():
        if name == "input":  # so small that the same block would be hit again
            continue
        live = np.frombuffer(image.live, np.uint8)
        live[int(rng.integers(live.size))] ^= np.uint8(1 << int(rng.integers(8)))


def test_a_generation_is_what_it_was_made(model: she.SelfHealingModel, digits: DigitsData) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    rng = np.random.default_rng(4)
    golden, golden_bytes = answers(model, x), live_of(model)
    change(model)
    generation = repairs_of(model).adopt()
    changed, changed_bytes = answers(model, x), live_of(model)
    assert model.weights.active == generation
    assert not same(changed, golden)
    assert changed_bytes.keys() == golden_bytes.keys()
    assert all(changed_bytes[n] != golden_bytes[n] for n in golden_bytes.keys() - {"input"})
    twin = model.snapshot()
    for _ in range(5):
        # Damage comes back as the active generation, not as golden.
        flip(model, rng)
        assert len(model.weights.scrub()) == len(golden_bytes.keys() - {"input"})
        assert same(answers(model, x), changed)
        assert live_of(model) == changed_bytes
    assert model.health.failed_repairs == 0
    steps: list[tuple[int | Literal["golden"], list[Array], dict[str, bytes]]] = [
        ("golden", golden, golden_bytes),
        (twin, changed, changed_bytes),
        (0, golden, golden_bytes),
        (generation, changed, changed_bytes),
    ]
    for target, expected, content in steps:
        model.rollback(to=target)  # proven by this generation's known answers
        assert same(answers(model, x), expected)
        assert live_of(model) == content
        flip(model, rng)
        model.weights.scrub()
        assert live_of(model) == content
    assert model.health.failed_repairs == 0
    assert model.weights.scrub() == ()


def test_a_change_that_was_not_meant_is_not_adopted(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden, content = answers(model, x), live_of(model)
    change(model)
    flip(model, np.random.default_rng(1))
    with pytest.raises(IntegrityError, match="corrupt"):
        repairs_of(model).adopt()
    assert model.weights.active == 0
    assert live_of(model) == content
    assert same(answers(model, x), golden)


def test_damage_to_a_generations_copies_is_found_and_mended(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[0, np.newaxis]
    change(model)
    generation = repairs_of(model).adopt()
    image = internals(model).images["source"]
    assert image.pool is not None
    changed = image.pool.changed_blocks(generation)
    assert changed
    stored = stored_copy(image, generation, changed[0])
    before = stored.copy()
    stored[5] ^= np.uint8(4)
    assert image.pool.verify(generation) == changed[:1]
    model.predict(x)  # a sweep behind live bytes, too
    assert image.pool.verify(generation) == []
    assert (stored == before).all()
    assert model.health.corrupt_blocks == 0


def test_damage_during_the_proof(
    model: she.SelfHealingModel, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flips that are younger than a repair are repaired as well, and say nothing against it."""
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    expected, content = answers(model, x), live_of(model)
    weights, rng = internals(model), np.random.default_rng(2)
    real, flips = weights.check, [0]

    def check(**how: bool) -> tuple[CorruptBlock, ...]:
        if flips[0]:
            flips[0] -= 1
            flip(model, rng)
        return real(**how)

    monkeypatch.setattr(weights, "check", check)
    apply = Rollback.apply
    repeated = parts_of(model).loop.state.count.repeated
    flip(model, rng)

    def apply_then_damage(
        strategy: Rollback, target: RepairTarget, case: RepairCase
    ) -> RepairOutcome:
        outcome = apply(strategy, target, case)
        if strategy.name == "rollback_block":
            flips[0] = damages.pop() if damages else 0
        return outcome

    damages = [2, 1]  # after each repair: so many of the next looks come with a new flip
    monkeypatch.setattr(Rollback, "apply", apply_then_damage)
    model.weights.scrub()
    assert parts_of(model).loop.state.count.repeated > repeated
    assert model.health.failed_repairs == 0
    assert model.health.repairs == 1
    assert live_of(model) == content
    assert same(answers(model, x), expected)

    damages = [9] * 99  # without end: given up after a few times
    flip(model, rng)
    model.weights.scrub()
    flips[0], damages = 0, []
    assert model.health.failed_repairs > 0
    model.weights.scrub()
    assert live_of(model) == content
    assert same(answers(model, x), expected)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/models is absent")
@pytest.mark.parametrize("keep", [True, False])
def test_a_recurrent_model_is_rebuilt_with_or_without_its_state(
    shared_models: Path, runtime: RuntimeName, keep: bool
) -> None:
    path = shared_models / "mnist_lstm_int8.tflite"
    session, twin = Session(path, runtime), Session(path, runtime)
    assert session.stateful
    rng = np.random.default_rng(0)
    spec = session.instance.inputs[0]
    x = rng.integers(-128, 128, (8, *spec.shape)).astype(spec.dtype)
    for row in x[:4]:
        assert same(session.instance.run([row]), twin.instance.run([row]))
    session.rebuild(keep_state=keep)
    indices = [t.index for t in session.model.tensors if t.is_variable]
    state, expected = session.instance.variables(indices), twin.instance.variables(indices)
    assert any(values.any() for values in expected)
    assert same(state, expected) == keep
    if keep:
        for row in x[4:]:
            assert same(session.instance.run([row]), twin.instance.run([row]))
    session.close()
    twin.close()


@pytest.mark.parametrize("name", ["source", "packed"])
def test_a_rollback_to_a_damaged_generation_changes_nothing(
    model: she.SelfHealingModel, digits: DigitsData, name: str
) -> None:
    if name not in internals(model).images:
        pytest.skip("the runtime's packed weights are not ours here")
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden, content = answers(model, x), live_of(model)
    change(model)
    generation = repairs_of(model).adopt()
    model.rollback()
    image = internals(model).images[name]
    assert image.pool is not None
    changed = image.pool.changed_blocks(generation)
    stored_copy(image, generation, changed[0])[5] ^= np.uint8(4)
    with pytest.raises(IntegrityError, match=r"1 damaged block.* nothing was changed"):
        model.rollback(to=generation)
    assert live_of(model) == content
    assert same(answers(model, x), golden)
    assert model.weights.active == 0
    assert model.health.state == "healthy"
    assert model.weights.scrub(repair=False) == ()


def test_a_rollback_that_fails_midway_is_taken_back(
    model: she.SelfHealingModel, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    change(model)
    generation = repairs_of(model).adopt()
    changed, content = unheard(model, x), live_of(model)
    rebuild, failures = parts_of(model).session.rebuild, [1]

    def fail_once(*args: object, **kwargs: object) -> None:
        if failures[0]:
            failures[0] -= 1
            raise MemoryError("no memory")
        rebuild(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(parts_of(model).session, "rebuild", fail_once)
    with pytest.raises(MemoryError):
        model.rollback()
    assert model.weights.active == generation
    assert live_of(model) == content
    assert same(unheard(model, x), changed)
    assert model.health.state == "healthy"


def test_damage_during_the_proof_of_a_rollback(
    model: she.SelfHealingModel, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden, content = answers(model, x), live_of(model)
    change(model)
    repairs_of(model).adopt()
    attempts, flips = repairs_of(model).attempts, [2]
    prove = attempts.prove

    def prove_damaged() -> object:
        if flips[0]:
            flips[0] -= 1
            flip(model, np.random.default_rng(flips[0]))
        return prove()

    monkeypatch.setattr(attempts, "prove", prove_damaged)
    model.rollback()
    assert flips == [0]
    assert model.weights.active == 0
    assert live_of(model) == content
    assert same(answers(model, x), golden)


def test_modules_of_one_generation_with_the_rest_of_another(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden = unheard(model, x)
    source = internals(model).images["source"]
    weights = sorted(
        (r for r in source.regions.values() if r.kind == "weights"), key=lambda r: r.offset
    )
    for region in (weights[0], weights[-1]):  # two modules change
        old = np.frombuffer(source.live, np.uint8)[region.offset : region.offset + 64].copy()
        source.guard.write(region.offset, bytes(old ^ np.uint8(0x80)))
    both = repairs_of(model).adopt()
    changed = unheard(model, x)
    model.rollback(modules=weights[0].modules)
    mixed, content = unheard(model, x), live_of(model)
    assert not same(mixed, golden)
    assert not same(mixed, changed)
    assert model.weights.active == max(model.weights.generations) > both
    assert model.health.state == "healthy"
    flip(model, np.random.default_rng(5))
    model.weights.scrub()
    assert live_of(model) == content
    assert same(unheard(model, x), mixed)
    model.rollback(modules=weights[-1].modules)
    assert same(unheard(model, x), golden)
    model.rollback(to=both)
    assert same(unheard(model, x), changed)
    assert model.health.failed_repairs == 0


def test_golden_is_made_anew_from_the_file(model: she.SelfHealingModel, digits: DigitsData) -> None:
    """Its copy is damaged where the live bytes are another generation's: no copy is left."""
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden, content = answers(model, x), live_of(model)
    change(model)
    generation = repairs_of(model).adopt()
    for by_sweep in (True, False):
        weights = [i for n, i in internals(model).images.items() if n != "input"]
        for image in weights:
            assert image.pool is not None
            block = image.pool.changed_blocks(generation)[0]
            stored_copy(image, 0, block)[5] ^= np.uint8(4)
        if by_sweep:
            before = model.health.guard_repairs
            model.predict(x[0])
            assert model.health.guard_repairs == before + len(weights)
            assert all(i.pool and not i.pool.verify(0) for i in internals(model).images.values())
        model.rollback()
        assert live_of(model) == content
        assert same(answers(model, x), golden)
        model.rollback(to=generation)


def test_damage_that_stays_is_written_down_once(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    change(model)
    generation = repairs_of(model).adopt()
    model.rollback()
    image = internals(model).images["source"]
    assert image.pool is not None
    changed = image.pool.changed_blocks(generation)
    stored_copy(image, generation, changed[0])[5] ^= np.uint8(4)
    for x in digits.heldout_inputs[:50, np.newaxis]:
        model.predict(x)  # a whole sweep each
    told = [str(e.outcome) for e in model.events if e.strategy == "mend_guard"]
    assert len(told) == 1
    assert "not healed: damage to the snapshot" in told[0]
    assert model.health.guard_repairs == 0
    assert model.health.state == "healthy"
    model.weights.drop(generation)
    assert model.weights.scrub() == ()


def test_images_keep_in_step_when_one_has_no_room(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    expected, content = answers(model, x), live_of(model)
    images = internals(model).images
    last = images.get("packed", images["source"])
    held, refused = [0], ""
    for mask in range(1, 16):
        flipped = np.frombuffer(content[last.name], np.uint8) ^ np.uint8(mask)
        last.guard.write(0, flipped.tobytes())
        try:
            held.append(model.snapshot())
        except NoRoomError as error:
            refused = str(error)
            break
    assert "full arena" in refused
    assert all(i.pool and i.pool.generations == held for i in internals(model).images.values())
    last.guard.write(0, content[last.name])
    model.rollback()
    for generation in held[1:]:
        model.weights.drop(generation)
    generation = model.snapshot()
    assert all(
        i.pool and i.pool.generations == [0, generation] for i in internals(model).images.values()
    )
    model.rollback(to=generation)
    model.rollback()
    model.weights.drop(generation)
    assert model.weights.generations == (0,)
    assert same(answers(model, x), expected)


def packed_of(model: she.SelfHealingModel, source: bytes) -> dict[str, bytes]:
    """Return what the runtime packs from other bytes of the file."""
    with ExitStack() as undo:
        memory = SourceImage(source)
        undo.callback(memory.close)
        instance = parts_of(model).session.choice.build(memory)
        undo.callback(instance.close)
        return {name: bytes(live) for name, live in instance.images.items()}


def changes_to(old: bytes, new: bytes) -> list[tuple[int, bytes]]:
    """Return the stretches that differ, as `Weights.patch` takes them."""
    places = np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8))
    return [(int(at), new[at : at + 1]) for at in places]


def test_a_patch_of_both_images_is_one_generation(
    model: she.SelfHealingModel, digits: DigitsData
) -> None:
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    golden, content, weights = unheard(model, x), live_of(model), internals(model)
    regions = weights.images["source"].regions.values()
    region = max((r for r in regions if r.kind == "weights"), key=lambda r: r.offset)
    source = np.frombuffer(content["source"], np.uint8).copy()
    source[region.offset : region.offset + 64] ^= np.uint8(0x80)
    wanted = {"source": source.tobytes(), **packed_of(model, source.tobytes())}
    assert wanted.keys() == content.keys() - {"input"}
    flip(model, np.random.default_rng(3))
    with pytest.raises(IntegrityError, match="expected sound bytes to save"):
        weights.patch({n: changes_to(content[n], wanted[n]) for n in wanted})
    assert weights.active == 0
    assert weights.generations == (0,)
    model.weights.scrub()
    assert live_of(model) == content
    generation = weights.patch({n: changes_to(content[n], wanted[n]) for n in wanted})
    wanted["input"] = content["input"]
    assert live_of(model) == wanted
    assert weights.active == weights.origin(generation) == generation
    patched = unheard(model, x)
    assert not same(patched, golden)
    flip(model, np.random.default_rng(3))
    assert len(weights.mend()) == len(wanted) - 1
    assert live_of(model) == wanted
    everything = {name: image.ranges_of(None) for name, image in weights.images.items()}
    assert weights.restore(0, everything).refused == 0
    weights.activate(0)
    assert live_of(model) == content
    assert same(unheard(model, x), golden)
    for bad in ({"other": [(0, b"1")]}, {"source": [(len(source), b"1")]}):
        with pytest.raises(ValueError, match="changes: expected"):
            weights.patch(bad)
    with pytest.raises(ValueError, match="changes: expected"):
        weights.patch({"source": [(0, b"12"), (1, b"3")]})
    assert tuple(model.weights.generations) == (0, generation)


def test_pinned_generations_stay(model: she.SelfHealingModel) -> None:
    first, second = model.snapshot(), model.snapshot()
    model.weights.pin(first)
    with pytest.raises(ValueError, match=f"not pinned, got {first}"):
        model.weights.drop(first)
    assert generations(model) == (0, first, second)
    model.weights.unpin(first)
    model.weights.drop(first)
    assert generations(model) == (0, second)
    for unknown in (0, first, True, "golden", None):
        for act in (model.weights.pin, model.weights.unpin):
            with pytest.raises(ValueError, match=rf"generation: expected one of \[{second}\], got"):
                act(unknown)  # type: ignore[arg-type]


def test_without_snapshots_there_is_no_rollback(
    digits_baseline: she.Baseline,
) -> None:
    policy = she.Policy(snapshots=False)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as lean:
        for act in (lean.rollback, lean.snapshot):
            with pytest.raises(RuntimeError, match="expected a policy with snapshots"):
                act()
        assert lean.health.state == "healthy"


def test_damage_that_makes_a_repair_refuse_to_build_is_repaired_first(
    model: she.SelfHealingModel, digits: DigitsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repair of bytes that the runtime copied has to rebuild, which asks for sound bytes."""
    x: Array = digits.heldout_inputs[:20, np.newaxis]
    expected, content = answers(model, x), live_of(model)
    source = internals(model).images["source"]
    live = np.frombuffer(source.live, np.uint8)
    block = 2
    real, flips = repairs_of(model).rebuild, [2]

    def rebuild_damaged(*args: object, **kwargs: object) -> None:
        if flips[0]:
            flips[0] -= 1
            live[512 * (block + 3 + flips[0]) + 9] ^= np.uint8(1)
        real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(repairs_of(model), "rebuild", rebuild_damaged)
    monkeypatch.setattr("selfheal_edge.repair.rollback._needs_rebuild", lambda *_: True)
    live[512 * block] ^= np.uint8(4)
    model.weights.scrub()
    assert flips == [0]
    repairs = [e.strategy for e in model.events if e.kind == "repair"]
    assert repairs == ["rollback_block"]
    assert model.health.failed_repairs == 0
    assert live_of(model) == content
    assert same(answers(model, x), expected)
