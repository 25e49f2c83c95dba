"""A patch becomes a generation: it serves, heals, is proven, goes, and comes back."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator_models import image_model, sequence_model
from tests.support import Array, Raw, answers, examples, internals, run_by, same, stored_copy

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.cli import main
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.generations import NoRoomError
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head, head_changes
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.loop.repair_executor import RepairExecutor
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.correction_file import correction_path, read_correction
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.runtimes.protocol import TensorSpec
from selfheal_edge.tflite.session import Session

MODELS = ("int8", "int8_per_channel", "uint8", "float32")
SAMPLES = 40


def raw_inputs(spec: TensorSpec, count: int = SAMPLES, seed: int = 0) -> Array:
    """Return inputs over half of the range, so that a correction does not saturate all."""
    rng = np.random.default_rng(seed)
    shape = (count, *spec.shape)
    if spec.dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(np.float32)
    info = np.iinfo(spec.dtype)
    middle, quarter = (info.max + info.min + 1) // 2, (info.max - info.min) // 4
    return rng.integers(middle - quarter, middle + quarter, shape, spec.dtype)


@functools.cache  # it takes longer than all else here
def baseline_of(data: bytes, runtime: Any) -> she.Baseline:
    session = Session(data, runtime)
    x = raw_inputs(session.instance.inputs[0], 64, 9)
    session.close()
    return she.calibrate(data, x, runtime=runtime, seed=1)


@contextmanager
def opened(data: bytes, runtime: Any, **how: Any) -> Iterator[she.SelfHealingModel]:
    baseline = baseline_of(data, runtime)
    with she.SelfHealingModel(data, baseline, runtime=runtime, **how) as model:
        yield model


def repairs_of(model: she.SelfHealingModel) -> RepairExecutor:
    return parts_of(model).loop.repairs


def correction(model: she.SelfHealingModel, axis: int = 2, seed: int = 3) -> InputMap:
    """Return gains and offsets that change most inputs, on the axis that calibration found."""
    spec = parts_of(model).session.instance.inputs[0]
    rng = np.random.default_rng(seed)
    features = spec.shape[1:][axis]
    step = spec.scale if spec.quantized else 0.01
    gain = rng.uniform(0.6, 1.5, features).astype(np.float32)
    return InputMap(axis, gain, (step * rng.normal(0, 12, features)).astype(np.float32))


def head_patch(model: she.SelfHealingModel, seed: int = 0) -> tuple[tuple[int, bytes], ...]:
    """Return a head with other weights, other biases, and scales of its own."""
    head = find_head(parts_of(model).session.copy.model)
    assert isinstance(head, Head)
    rng = np.random.default_rng(seed)
    weights = head.weights * rng.uniform(0.3, 1.2, head.weights.shape)
    return head_changes(head, weights[::-1], head.bias[::-1] * 0.5)


def patch_of(model: she.SelfHealingModel, seed: int = 0) -> Patch:
    return Patch(head_patch(model, seed), correction(model, seed=seed + 3), "a test")


def live_of(model: she.SelfHealingModel) -> dict[str, bytes]:
    return {name: bytes(image.live) for name, image in internals(model).images.items()}


def predicted(model: she.SelfHealingModel, x: Array) -> Array:
    """Return answers that no monitor hears to: a drift would be diagnosed."""
    (found,) = answers(model, x)
    return found


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, runtime: Any) -> Iterator[she.SelfHealingModel]:
    with opened(image_model(request.param), runtime) as found:
        yield found


def of_bench(model: she.SelfHealingModel, x: Array, patch: Patch | None) -> Array:
    session = parts_of(model).session
    bench = Bench(session, "probabilities")
    try:
        return bench.answers(x, patch).outputs
    finally:
        bench.close()


@pytest.mark.slow
def test_a_patch_serves_as_the_bench_said(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    golden, content = predicted(model, x), live_of(model)
    patches = [
        patch_of(model),
        Patch(head_patch(model, 1)),
        Patch(inputs=correction(model, seed=5)),
    ]
    made: dict[int, tuple[Array, dict[str, bytes]]] = {0: (golden, content)}
    for patch in patches:
        expected = of_bench(model, x, patch)
        assert not same([expected], [golden])
        generation = repairs_of(model).adopt_patch(patch)
        assert model.weights.active == model.health.generation == generation
        assert same([predicted(model, x)], [expected])
        assert same([predicted(model, x[0])], [expected[0]])
        assert repairs_of(model).known_answers_right()
        made[generation] = expected, live_of(model)
    assert model.weights.scrub() == ()
    # Each of them leads to each other one, in any order.
    for one, other in itertools.permutations(made, 2):
        for generation in (one, other):
            repairs_of(model).switch_to(generation)
            assert live_of(model) == made[generation][1]
            assert same([predicted(model, x)], [made[generation][0]])
    model.rollback()
    assert live_of(model) == content
    assert not parts_of(model).session.correction.is_on  # type: ignore[union-attr]
    assert same([predicted(model, x)], [golden])
    assert model.health.failed_repairs == 0


def test_damage_to_the_table_is_found_and_healed(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    repairs_of(model).adopt_patch(patch_of(model))
    expected, content = predicted(model, x), live_of(model)
    table = she.redteam.inject(model).memory("input")
    for place, mask in ((0, 1), (64, 0x80), (70, 0x10), (len(table) - 1, 1)):
        table[place] ^= np.uint8(mask)
        found = model.weights.scrub()
        assert [block.image for block in found] == ["input"]
        assert live_of(model) == content
        assert same([predicted(model, x)], [expected])
    # A table that corrects something else is told by the known answers alone.
    live = internals(model).images["input"]
    rng = np.random.default_rng(1)
    live.guard.write(64, bytes(rng.permutation(np.frombuffer(live.live[64:], np.uint8))))
    assert not repairs_of(model).known_answers_right()
    model.rollback(to=model.weights.active)
    assert same([predicted(model, x)], [expected])


def test_a_flip_while_golden_serves_is_healed_too(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    golden = predicted(model, x)
    for value in (1, 2, 3, 4, 200, 255):
        # What breaks again at the same place moves to other memory.
        table = she.redteam.inject(model).memory("input")
        table[0] = value
        model.predict(x[0])  # whatever it says, it reads nothing but what is there
        assert [block.image for block in model.weights.scrub()] in (["input"], [])
        assert not she.redteam.inject(model).memory("input").any()
    assert same([predicted(model, x)], [golden])


def test_signals_are_of_what_came_in(model: she.SelfHealingModel) -> None:
    """A repair does not hide the drift that it was made for, and inputs are kept as they came."""
    x = raw_inputs(model.inputs[0])
    extractor = parts_of(model).extractor
    places = [i for i, name in enumerate(extractor.names) if name.startswith("input_")]
    parts_of(model).extractor.forget()
    model.predict(x)
    recent = extractor.recent().inputs[0][-len(x) :]
    before = parts_of(model).monitor.window[-len(x) :, places]
    repairs_of(model).adopt_patch(Patch(inputs=correction(model)))
    parts_of(model).extractor.forget()
    model.predict(x)
    assert same([extractor.recent().inputs[0][-len(x) :]], [recent])
    after = parts_of(model).monitor.window[-len(x) :, places]
    assert np.array_equal(before[1:], after[1:], equal_nan=True)


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_real_numbers_are_corrected_after_they_are_quantised(name: str, runtime: Any) -> None:
    with opened(image_model(name), runtime) as model:
        spec = model.inputs[0]
        levels = raw_inputs(spec)
        x = (levels.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
        repairs_of(model).adopt_patch(patch_of(model))
        out = model.outputs[0]
        expected = (predicted(model, levels).astype(np.float32) - out.zero_point) * out.scale
        assert np.array_equal(predicted(model, x), expected.astype(np.float32))
        assert np.array_equal(predicted(model, x[0]), expected[0].astype(np.float32))


def test_an_instance_whose_tensors_move_is_corrected_too(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    patch = patch_of(model)
    repairs_of(model).adopt_patch(patch)
    expected = predicted(model, x)
    run = parts_of(model).session.instance.run
    run_by(model, run)  # a Python function
    assert same([predicted(model, x)], [expected])


def test_threads_get_whole_answers_while_generations_change(
    model: she.SelfHealingModel,
) -> None:
    x = raw_inputs(model.inputs[0], 6)
    repairs = repairs_of(model)
    one, two = repairs.adopt_patch(patch_of(model)), repairs.adopt_patch(patch_of(model, 1))
    allowed = {}
    for generation in (0, one, two):
        repairs.switch_to(generation)
        allowed[generation] = [row.tobytes() for row in predicted(model, x)]
    wrong: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            for i, row in enumerate(x):
                if model.predict(row).tobytes() not in {a[i] for a in allowed.values()}:  # type: ignore[union-attr]
                    wrong.append(i)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for generation in (one, two, 0) * 5:
            repairs.switch_to(generation)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_modules_go_back_alone(model: she.SelfHealingModel) -> None:
    """Rolling a module back leaves the correction of inputs, and is a generation of its own."""
    x = raw_inputs(model.inputs[0])
    patch = patch_of(model)
    patched = repairs_of(model).adopt_patch(patch)
    last = find_last_module(model)
    model.rollback(modules=[last])
    assert model.weights.active > patched
    assert parts_of(model).session.correction.is_on  # type: ignore[union-attr]
    assert repairs_of(model).known_answers_right()
    model.rollback(to=patched)
    assert same([predicted(model, x)], [of_bench(model, x, patch)])


def find_last_module(model: she.SelfHealingModel) -> str:
    file = parts_of(model).session.copy.model
    assert file.head is not None
    return file.subgraphs[0].operators[file.head.operator].module


def test_a_reload_is_golden_with_inputs_as_they_come(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    golden, content = predicted(model, x), live_of(model)
    repairs_of(model).adopt_patch(patch_of(model))
    repairs_of(model).reload()
    assert live_of(model) == content
    assert same([predicted(model, x)], [golden])
    assert model.weights.generations == (0,)
    assert repairs_of(model).known_answers_right()
    repairs_of(model).adopt_patch(patch_of(model))


def test_golden_copies_are_made_anew_beside_a_patch(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    golden, content = predicted(model, x), live_of(model)
    generation = repairs_of(model).adopt_patch(patch_of(model))
    for image in internals(model).images.values():
        assert image.pool is not None
        block = image.pool.changed_blocks(generation)[0]
        stored_copy(image, 0, block)[5] ^= np.uint8(4)
    model.rollback()
    assert live_of(model) == content
    assert same([predicted(model, x)], [golden])


def test_what_does_not_fit_is_refused_before_anything_changes(model: she.SelfHealingModel) -> None:
    content = live_of(model)
    size = len(content["source"])
    axes = parts_of(model).session.instance.inputs[0].shape[1:]
    for patch in (
        Patch(),
        Patch(((size, b"1"),)),
        Patch(inputs=InputMap(3, np.ones(2, np.float32), np.zeros(2, np.float32))),
        Patch(inputs=InputMap(2, np.ones(1, np.float32), np.zeros(1, np.float32))),
        Patch(inputs=InputMap(0, *(np.ones(axes[0], np.float32),) * 2)),  # no room for so many
    ):
        with pytest.raises(ValueError, match="expected"):
            repairs_of(model).adopt_patch(patch)
    with pytest.raises(ValueError, match="generation: expected one of"):
        repairs_of(model).switch_to(7)
    assert live_of(model) == content
    assert model.weights.generations == (0,)


def test_a_patch_that_is_not_what_was_built_goes_back(
    model: she.SelfHealingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits flip between the building beside and the change: golden serves, nothing is kept."""
    x = raw_inputs(model.inputs[0])
    golden, content = predicted(model, x), live_of(model)
    weights = internals(model)
    patch = weights.patch

    def damaged(changes: Any, at_least: int = 0) -> int:
        generation = patch(changes, at_least)
        image = weights.images["input"]
        image.guard.write(64, bytes(image.nbytes - 64))  # sound for every checksum, and wrong
        return generation

    monkeypatch.setattr(weights, "patch", damaged)
    with pytest.raises(IntegrityError):
        repairs_of(model).adopt_patch(patch_of(model))
    monkeypatch.undo()
    assert live_of(model) == content
    assert model.weights.generations == (0,)
    assert same([predicted(model, x)], [golden])
    assert model.infer(x[0]).trusted


def test_the_spare_answers_as_golden(runtime: Any) -> None:
    with opened(image_model("int8"), runtime, policy=she.Policy(hot_spare=True)) as model:
        x = raw_inputs(model.inputs[0])
        golden = predicted(model, x)
        repairs_of(model).adopt_patch(patch_of(model))
        patched = predicted(model, x)
        parts = parts_of(model)
        assert parts.spare is not None
        assert parts.spare.verify(parts.loop.repairs.golden_known)
        with parts.inference_lock:
            parts.loop.serving.attach(parts.spare.instance, spare=True)
        assert same([predicted(model, x)], [golden])
        with parts.inference_lock:
            parts.loop.serving.attach(parts.session.instance)
        assert same([predicted(model, x)], [patched])


def test_a_recurrent_model_goes_on_where_it_is(runtime: Any) -> None:
    with opened(sequence_model("float32"), runtime) as model:
        x = raw_inputs(model.inputs[0])
        repairs = repairs_of(model)
        generation = repairs.adopt_patch(Patch(head_patch(model), correction(model, axis=1)))
        assert repairs.known_answers_right()
        predicted(model, x)
        state = parts_of(model).session.instance.variables(
            [t.index for t in parts_of(model).session.copy.model.tensors if t.is_variable]
        )
        assert state
        assert any(array.any() for array in state)
        model.rollback()
        repairs.switch_to(generation)
        assert repairs.known_answers_right()


def test_a_model_without_snapshots_learns_nothing(runtime: Any) -> None:
    with opened(image_model("int8"), runtime, policy=she.Policy(snapshots=False)) as model:
        assert "input" not in model.weights.images
        with pytest.raises(RuntimeError, match="snapshots"):
            repairs_of(model).adopt_patch(Patch(head_patch(model)))


def test_what_is_taken_back_is_gone(model: she.SelfHealingModel) -> None:
    x = raw_inputs(model.inputs[0])
    golden = predicted(model, x)
    generation = repairs_of(model).adopt_patch(patch_of(model), on_trial=True)
    repairs_of(model).take_back(generation, "worse than golden")
    assert model.weights.generations == (0,)
    assert same([predicted(model, x)], [golden])
    again = repairs_of(model).adopt_patch(patch_of(model), on_trial=True)
    repairs_of(model).confirm(again)
    assert again > generation


@pytest.mark.slow
def test_three_generations_have_room_and_no_more_is_lost(model: she.SelfHealingModel) -> None:
    """One confirmed, one on trial and its successor fit, however large the head is."""
    repairs = repairs_of(model)
    first = repairs.adopt_patch(patch_of(model))
    second = repairs.adopt_patch(patch_of(model, 9))
    memory = model.memory_report()["total"]
    for seed in range(1, 9):
        generation = repairs.adopt_patch(patch_of(model, seed))
        repairs.switch_to(first)
        model.weights.drop(generation)
    assert model.memory_report()["total"] <= memory + 64 * 1024  # what answers are kept of
    assert model.weights.generations == (0, first, second)
    refused = ""
    for seed in range(10, 64):
        try:
            repairs.adopt_patch(patch_of(model, seed))
        except NoRoomError as error:
            refused = str(error)
            break
    assert "drop" in refused
    repairs.switch_to(first)


@pytest.mark.parametrize("name", MODELS)
def test_an_export_answers_alike_in_a_plain_interpreter(
    name: str, runtime: Any, tmp_path: Path
) -> None:
    with opened(image_model(name), runtime) as model:
        x = raw_inputs(model.inputs[0], 10)
        golden = predicted(model, x)
        generation = repairs_of(model).adopt_patch(patch_of(model))
        healed = predicted(model, x)
        path = tmp_path / "healed.tflite"
        assert model.export(path) is None
        kernels = parts_of(model).session.choice.kernels
        plain = Raw(path, runtime, kernels)
        assert same([plain.run([row])[0] for row in x], list(healed))
        # From the store of generations as from what serves.
        model.rollback()
        assert model.export(tmp_path / "again.tflite", generation) is None
        assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()
        assert model.export(path) is None
        assert same([Raw(path, runtime, kernels).run([row])[0] for row in x], list(golden))


def test_what_lies_beside_a_model_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(image_model("int8"))
    for text in ("", "[]", "{}", '{"format": "selfheal-edge input correction", "version": 9}'):
        Path(correction_path(path)).write_text(text)
        with pytest.raises(IntegrityError, match="expected a correction of an input"):
            read_correction(path)


def test_diff_says_what_was_changed(
    runtime: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden, healed = tmp_path / "golden.tflite", tmp_path / "healed.tflite"
    with opened(image_model("int8_per_channel"), runtime) as model:
        head = find_head(parts_of(model).session.copy.model)
        assert isinstance(head, Head)
        repairs_of(model).adopt_patch(
            Patch(head_changes(head, 2 * head.weights, head.bias), correction(model))
        )
        model.export(healed)
        model.export(golden, 0)
        last = find_last_module(model)
    assert main(["diff", str(golden), str(healed), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tensors = {tuple(t["modules"]): t for t in found["tensors"] if t["dtype"] == "int8"}
    assert list(tensors) == [(last,)]
    weights = tensors[(last,)]
    # Twice as large: each change is what was there, but for a rounding of the fresh scales.
    assert weights["rms"] == pytest.approx(weights["golden_rms"], rel=0.02)
    assert weights["largest"] == pytest.approx(np.abs(head.weights).max(), rel=0.02)
    assert all(1.8 < factor < 2.2 for factor in weights["scales"])
    assert weights["share"] > 0.9
    about = {"axis": 2, "features": 2, "in_graph": True}
    assert found["input"] == {"name": found["input"]["name"], **about}
    assert main(["diff", str(golden), str(healed)]) == 0
    text = capsys.readouterr().out
    assert "2 feature(s) corrected, by its graph" in text
    assert last[:20] in text.replace("\n", "")
    assert main(["diff", str(golden), str(golden)]) == 0
    assert "no weight differs" in capsys.readouterr().out
    other = tmp_path / "other.tflite"
    other.write_bytes(image_model("float32"))
    assert main(["diff", str(golden), str(other)]) == 1
    assert "two files of one graph" in capsys.readouterr().err


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(data=st.data(), shape=SHAPES, dtype=st.sampled_from(["int8", "uint8", "float32"]))
@examples(300)
def test_the_core_corrects_as_numpy_does(data: Any, shape: tuple[int, ...], dtype: str) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    seed = data.draw(st.integers(0, 1 << 30))
    room = data.draw(st.integers(0, 300))
    scale = data.draw(st.sampled_from([0.0, 1e-3, 0.0078125, 0.3, 2.5]))
    rng = np.random.default_rng(seed)
    is_float = dtype == "float32"
    zero = 0 if is_float or not scale else int(rng.integers(-128, 128)) + 128 * (dtype == "uint8")
    spec = TensorSpec("x", (1, *shape), np.dtype(dtype), 0.0 if is_float else scale, zero)
    table = InputTable(spec)
    gain = rng.normal(1, 2, shape[axis]).astype(np.float32)
    offset = (rng.normal(0, 40, shape[axis]) * (scale or 1)).astype(np.float32)
    levels = table.levels(axis, gain, offset)
    core = _core.InputCorrection(dtype, shape, table.nbytes(shape[axis]) + room)
    core.memory[:] = np.frombuffer(table.encode(axis, gain, offset, core.memory.nbytes), np.uint8)
    x = raw_inputs(spec, 3, seed)
    if not is_float:
        x = rng.integers(*_limits(spec.dtype), x.shape, spec.dtype, endpoint=True)
    expected = table.apply(x, axis, levels)
    assert same([core.corrected(row) for row in x], list(expected))
    # And both as the obvious arithmetic, one element at a time.
    for place in np.ndindex(*x.shape[:1], *shape):
        feature, value = place[1 + axis], x.reshape(len(x), *shape)[place]
        found = expected.reshape(len(x), *shape)[place]
        if is_float:
            assert found == np.float32(gain[feature] * value) + offset[feature]
            continue
        steps = float(gain[feature]) * (float(value) - zero if scale else float(value))
        steps += float(offset[feature]) / (scale or 1.0)
        low, high = _limits(spec.dtype)
        assert int(found) == int(np.clip(np.rint(steps) + (zero if scale else 0), low, high))


def _limits(dtype: Any) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def test_the_identity_changes_nothing(model: she.SelfHealingModel) -> None:
    """Gain 1 and offset 0 is a table like any other, and gives the same answers to the bit."""
    x = raw_inputs(model.inputs[0])
    golden = predicted(model, x)
    axes = model.inputs[0].shape[1:]
    ones, zeros = np.ones(axes[2], np.float32), np.zeros(axes[2], np.float32)
    repairs_of(model).adopt_patch(Patch(inputs=InputMap(2, ones, zeros)))
    assert same([predicted(model, x)], [golden])
