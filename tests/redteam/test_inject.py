"""Random flips hit every byte that executes, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from tests.made_models import clamped, tied_weights, with_operands
from tests.support import Array
from tests.tflite.builder import Builder

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.protocol import RuntimeName


def reading(words: int = 400, size: int = 16, classes: int = 4) -> bytes:
    """Return a text model: a table that is looked up, the mean over a text, and a dense layer."""
    rng = np.random.default_rng(0)
    builder = Builder()
    graph = builder.graph()

    def constant(values: Array) -> int:
        return graph.tensor(list(values.shape), str(values.dtype), values.tobytes())

    table = constant(rng.standard_normal((words, size)).astype(np.float32))
    text = graph.tensor([8], "int32")
    found, mean, scores = (
        graph.tensor([8, size]),
        graph.tensor([1, size]),
        graph.tensor([1, classes]),
    )
    graph.operator("GATHER", [table, text], [found], ("GatherOptions", {"axis": 0}))
    axes = constant(np.zeros(1, np.int32))
    graph.operator("MEAN", [found, axes], [mean], ("ReducerOptions", {"keep_dims": True}))
    weights = rng.standard_normal((classes, size)).astype(np.float32)
    dense = [mean, constant(weights), constant(np.zeros(classes, np.float32))]
    graph.operator("FULLY_CONNECTED", dense, [scores], ("FullyConnectedOptions", {}))
    graph.tree.update(inputs=[text], outputs=[scores])
    return builder.file()


def opened(data: bytes, x: Array, runtime: RuntimeName) -> she.SelfHealingModel:
    baseline = she.calibrate(data, x, runtime=runtime, seed=0)
    return she.SelfHealingModel(data, baseline, runtime=runtime, seed=0)


def test_a_table_that_executes_from_the_source(runtime: RuntimeName) -> None:
    x = np.random.default_rng(1).integers(0, 400, (60, 8)).astype(np.int32)
    with opened(reading(), x, runtime) as model:
        rows = [
            row
            for row in model.weights.coverage.rows
            if row.region.kind in ("weights", "bias") and row.coverage is Coverage.EXECUTING
        ]
        table = max(rows, key=lambda row: row.region.nbytes)
        assert table.region.nbytes == 400 * 16 * 4
        assert table.image == "source"
        flips = she.redteam.inject(model).flip_bits(200, seed=0)
        region = table.region
        hits = [
            f
            for f in flips
            if f.image == "source" and region.offset <= f.offset < region.offset + region.nbytes
        ]
        everything = sum(
            r.nbytes
            for image in model.weights.images.values()
            if image.name == "packed"
            for r in image.regions.values()
            if r.kind in ("weights", "bias")
        ) + sum(row.region.nbytes for row in rows if row.image == "source")
        # Every executing byte alike: within four standard deviations of the table's share.
        share = region.nbytes / everything
        assert abs(len(hits) - 200 * share) < 4 * (200 * share * (1 - share)) ** 0.5 + 1
        assert model.weights.scrub()
        assert not model.weights.scrub()


@pytest.mark.parametrize("make", [tied_weights, with_operands])
def test_only_what_executes_is_hit(runtime: RuntimeName, make: object) -> None:
    data = make()  # type: ignore[operator]
    x = np.random.default_rng(2).normal(0, 1, (60, 1, 8)).astype(np.float32)
    if make is tied_weights:
        x = np.random.default_rng(2).integers(0, 8, (60, 1)).astype(np.int32)
    with opened(data, x, runtime) as model:
        executing = [
            (row.region.offset, row.region.offset + row.region.nbytes)
            for row in model.weights.coverage.rows
            if row.coverage is Coverage.EXECUTING and row.image == "source"
        ]
        for flip in she.redteam.inject(model).flip_bits(300, seed=0):
            if flip.image == "source":
                assert any(start <= flip.offset < end for start, end in executing)
        model.weights.scrub()


def test_as_many_bits_as_asked_for(digits: DigitsData, runtime: RuntimeName) -> None:
    """Of one image every bit may come, none twice."""
    path = digits_model_path()
    how = {"runtime": runtime, "kernels": "builtin"}
    baseline = she.calibrate(path, digits.calibration_inputs[:60], **how)  # type: ignore[arg-type]
    with she.SelfHealingModel(path, baseline, **how) as model:  # type: ignore[arg-type]
        regions = [r for r in model.weights.images["source"].regions.values() if r.kind == "bias"]
        bits = 8 * sum(r.nbytes for r in regions)
        flips = she.redteam.inject(model).flip_bits(bits, kinds=("bias",))
        assert len(set(flips)) == bits
        assert {f.offset for f in flips} == {r.offset + i for r in regions for i in range(r.nbytes)}
        model.weights.scrub()


def test_a_model_without_weights(runtime: RuntimeName) -> None:
    x = np.random.default_rng(3).normal(0, 1, (60, 1, 8)).astype(np.float32)
    builder = Builder()
    graph = builder.graph()
    source, result = graph.tensor([1, 8]), graph.tensor([1, 8])
    graph.operator("EXP", [source], [result], ("ExpOptions", {}))
    graph.tree.update(inputs=[source], outputs=[result])
    with opened(builder.file(), x, runtime) as model:
        door = she.redteam.inject(model)
        with pytest.raises(ValueError, match=r"kinds: expected kinds of bytes that the model has"):
            door.flip_bits(1)
        assert len(door.flip_bits(5, kinds=("graph",))) == 5
    with opened(clamped(), x, runtime) as model:  # one number, which runs from a copy
        assert she.redteam.inject(model).flip_bits(3, kinds=("weights", "bias", "other"))


def test_a_replaced_run_is_a_fault_until_the_rebuild(
    digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    """The bare runtime answers as the guarded one; what replaces it is found by known answers."""
    x: Array = digits.heldout_inputs[:60, np.newaxis]
    policy = she.Policy(known_answers_every=20)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        injector = she.redteam.inject(model)
        expected = model.predict(x)
        assert isinstance(expected, np.ndarray)
        assert [injector.run([row])[0].tobytes() for row in x] == [r.tobytes() for r in expected]
        injector.replace_run(lambda inputs: [np.full((1, 10), inputs[0].flat[0], np.int8)])
        assert injector.run([x[0]])[0].tobytes() == bytes([int(x[0].flat[0]) & 255] * 10)
        for row in x[:25]:
            model.predict(row)
        repairs = [event for event in model.events if event.kind == "repair"]
        assert [event.cause for event in repairs] == ["runtime_fault"]
        assert np.asarray(model.predict(x)).tobytes() == expected.tobytes()
        assert injector.run([x[0]])[0].tobytes() == expected[0].tobytes()
