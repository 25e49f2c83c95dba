"""A head that was learned is what both runtimes run, whatever types it is written in."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_models import halved_weights, int16_classifier, tied_weights
from tests.operator_models import QUANTISATIONS, image_model, last_layer
from tests.support import examples
from tests.tflite.builder import Builder
from tests.tflite.instances import SETUPS, all_models

from selfheal_edge.learning.head import (
    Head,
    capped,
    distance,
    find_head,
    head_changes,
    into_range,
)
from selfheal_edge.learning.patch import Patch
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.flatbuffer import root_table
from selfheal_edge.tflite.format.schema import TFLITE
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.session import Session

MADE = {
    **{f"image_{name}": image_model(name) for name in QUANTISATIONS if name != "float16_weights"},
    **{
        f"{name}_convolution": last_layer(name, convolution=True)
        for name in QUANTISATIONS
        if name != "float16_weights"
    },
    "int16": int16_classifier(),
    "without_bias": last_layer("int8", has_bias=False),
    "without_bias_float": last_layer("float32", has_bias=False),
    "logits": last_layer("int8_per_channel", activation=""),
    "sigmoid": last_layer("int8", classes=1, activation="LOGISTIC"),
    "sigmoid_float": last_layer("float32", classes=1, activation="LOGISTIC"),
}


def found(model: ModelFile) -> Head:
    head = find_head(model)
    assert isinstance(head, Head), head
    return head


def patched(session: Session, changes: Any) -> ModelFile:
    """Return the user's file with a patch of our copy."""
    Patch(changes)  # in order, disjoint
    data = bytearray(session.copy.model.data)
    for offset, part in changes:
        data[offset : offset + len(part)] = part
    return ModelFile.from_bytes(session.copy.file_with(bytes(data)))


def taps(model: ModelFile) -> list[int]:
    assert model.head is not None
    return [model.head.embedding, model.head.logits]


def opened(file: ModelFile, setup: Any) -> Session:
    runtime, kernels = setup
    vouched = ProbePolicy(vouched=(file.sha256,))
    return Session(file, runtime, kernels, taps=taps, probe=vouched)


def asked(session: Session, count: int) -> tuple[Any, Any]:
    """Return embeddings and logits of inputs over the full range, dequantised."""
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(count):
        session.instance.reset_variables()
        session.instance.run([full_range_input(spec, rng) for spec in session.instance.inputs])
        inside.append([value.ravel() for value in session.instance.tapped()])
    real = []
    for spec, values in zip(session.instance.taps, zip(*inside, strict=True), strict=True):
        stacked = np.stack(values).astype(np.float64)
        real.append(spec.scale * (stacked - spec.zero_point) if spec.quantized else stacked)
    return real[0], real[1]


def allowed(head: Head, embeddings: Any) -> Any:
    """Return by how much logits may differ from the head's: what a kernel rounds."""
    if head.activations != "float32":
        return 1.01 * head.output_scale
    sizes = np.abs(embeddings).max(axis=1, keepdims=True) * np.abs(head.weights).sum(axis=1)
    # A hybrid kernel rounds embeddings to eight bits first.
    return sizes * (1.0 / 127 if head.dtype == "int8" else 1e-5) + 1e-6


def parameters() -> list[Any]:
    made = [pytest.param(data, id=name) for name, data in MADE.items()]
    with_head = []
    for case in all_models():
        path = case.values[0]
        if not isinstance(path, Path) or ModelFile.from_path(path).head is not None:
            with_head.append(case)
    return [*made, *with_head]


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("file", parameters())
def test_the_runtime_answers_with_the_head_that_was_written(file: Any, setup: Any) -> None:
    """Golden's own layer, then others: larger, one row far larger, and other biases."""
    session = opened(ModelFile.of(file), setup)
    try:
        head = found(session.copy.model)
        embeddings, logits = asked(session, 24)
        expected = np.clip(head.logits(embeddings), *head.range)
        assert (np.abs(logits - expected) <= allowed(head, embeddings)).all()
        assert head_changes(head, head.weights, head.bias) == ()
        rng = np.random.default_rng(1)
        size = np.abs(head.weights).mean()
        one = np.where(np.arange(len(head.weights)) == 0, 3.0, 1.0)[:, None]
        for factor, noise in ((1.0, 0.0), (0.02, 0.01), (one, 0.2)):
            weights = head.weights * factor + rng.normal(0, noise * size, head.weights.shape)
            bias = head.bias * 0.7 + rng.normal(0, 0.2, head.bias.shape) * np.ptp(logits) / 10
            if head.stored_bias is None:
                bias = np.zeros_like(bias)
            bias = into_range(head, weights, bias, embeddings)
            check_written(session, head, weights, bias, setup)
    finally:
        session.close()


def check_written(session: Session, head: Head, weights: Any, bias: Any, setup: Any) -> None:
    file = patched(session, head_changes(head, weights, bias))
    fresh = opened(file, setup)
    try:
        made = found(fresh.copy.model)
        assert made.stored_weights.offset == head.stored_weights.offset
        if head.dtype != "float32" and not np.array_equal(weights, head.weights):
            steps = made.stored_weights.scales.astype(float)[:, None]
            assert (np.abs(made.weights - weights) <= 0.501 * steps).all()
            assert np.abs(made.weights / steps).max() > 120  # all levels are used
        assert made.bias == pytest.approx(bias, rel=1e-5, abs=0.1 * head.output_scale + 1e-6)
        embeddings, logits = asked(fresh, 24)
        expected = np.clip(made.logits(embeddings), *made.range)
        assert (np.abs(logits - expected) <= allowed(made, embeddings)).all()
    finally:
        fresh.close()


def equal_rows(head: Head) -> Any:
    """Return weights whose rows want the same scale."""
    rows = np.tile(np.linspace(-1, 1, head.weights.shape[1]), (len(head.weights), 1))
    return rows * np.abs(head.weights).max() * np.where(np.arange(len(rows)) % 2, 1, -1)[:, None]


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", ["dynamic_range_per_channel", "int8_per_channel", "int16x8"])
@pytest.mark.parametrize("convolution", [False, True])
def test_rows_of_equal_scales_are_no_zeros(name: str, convolution: bool, setup: Any) -> None:
    """The older runtime takes several equal scales of a hybrid convolution for 0."""
    file = last_layer(name, convolution=convolution)
    session = opened(ModelFile.of(file), setup)
    try:
        head = found(session.copy.model)
        check_written(session, head, equal_rows(head), head.bias, setup)
    finally:
        session.close()


def several_rows() -> bytes:
    """Return a classifier of which one sample gives two rows."""
    builder = Builder()
    graph = builder.graph()
    x, y, z = graph.tensor([1, 10]), graph.tensor([1, 8]), graph.tensor([2, 4])
    for source, shape, result in ((x, [8, 10], y), (y, [4, 4], z)):
        weights = graph.tensor(shape, data=np.ones(shape, np.float32).tobytes())
        options: Any = ("FullyConnectedOptions", {})
        graph.operator("FULLY_CONNECTED", [source, weights, -1], [result], options)
    graph.tree.update(inputs=[x], outputs=[z])
    return builder.file()


REFUSED = {
    "halved": (halved_weights(), "weights are computed"),
    "tied": (tied_weights(), "another use as well"),
    "fused": (last_layer("int8", fused=1), "fused activation"),
    "sigmoids": (last_layer("int8", activation="LOGISTIC"), "several sigmoids"),
    "score": (last_layer("int8", classes=1, activation=""), "a score, not classes"),
    "rows": (several_rows(), "2 rows a sample"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_is_said(case: str) -> None:
    file, reason = REFUSED[case]
    assert reason in str(find_head(ModelFile.of(file)))


def test_bytes_that_others_use_are_refused() -> None:
    """A writer may let two tensors have one buffer of zeros for biases, or one vector of scales."""
    builder = Builder()
    graph = builder.graph()
    x = y = graph.tensor([1, 5])
    zeros = graph.tensor([8], data=bytes(32))
    for size in (5, 8):
        weights = graph.tensor([8, size], data=np.ones((8, size), np.float32).tobytes())
        bias = graph.tensor([8])
        graph.tree["tensors"][bias]["buffer"] = graph.tree["tensors"][zeros]["buffer"]
        operands, y = [y, weights, bias], graph.tensor([1, 8])
        graph.operator("FULLY_CONNECTED", operands, [y], ("FullyConnectedOptions", {}))
    graph.tree.update(inputs=[x], outputs=[y])
    reason = find_head(ModelFile.of(builder.file()))
    assert "have another use as well" in str(reason)

    data = bytearray(last_layer("int8"))
    tables = root_table(bytes(data), TFLITE).tables("subgraphs")[0].tables("tensors")
    head = ModelFile.of(data).head
    assert head is not None
    first, second = (tables[i].table("quantization") for i in (head.weights, head.logits))
    for one, other in ((first, second), (second, first)):
        assert one is not None
        assert other is not None
        field, (start, _) = one.position("scale") or 0, other.span("scale") or (0, 0)
        if start - 4 > field:  # offsets lead forward only
            struct.pack_into("<I", data, field, start - 4 - field)
    assert "the scales of" in str(find_head(ModelFile.of(data)))


HEADS = {
    name: found(ModelFile.of(MADE[name]))
    for name in (
        "image_float32",
        "image_int8",
        "image_int8_per_channel",
        "image_uint8",
        "image_int16x8",
        "image_dynamic_range",
        "without_bias",
    )
}


def shifted(head: Head, values: Any) -> Any:
    return np.full_like(head.bias, values if head.stored_bias is not None else 0.0)


@pytest.mark.parametrize("name", HEADS)
def test_wrong_numbers_are_refused(name: str) -> None:
    head = HEADS[name]
    for bad in (np.nan, np.inf, -np.inf):
        weights = head.weights.copy()
        weights[1, 2] = bad
        with pytest.raises(ValueError, match=r"weights: expected finite numbers"):
            head_changes(head, weights, head.bias)
        with pytest.raises(ValueError, match=r"bias: expected finite numbers"):
            head_changes(head, head.weights, np.full_like(head.bias, bad))
    with pytest.raises(ValueError, match=r"weights: expected shape"):
        head_changes(head, head.weights[:, 1:], head.bias)
    with pytest.raises(ValueError, match=r"bias: expected shape"):
        head_changes(head, head.weights, head.bias[1:])
    with pytest.raises(ValueError, match=r"weights: expected .*"):
        head_changes(head, head.weights * 1e42, head.bias)
    if head.stored_bias is None:
        with pytest.raises(ValueError, match=r"bias: expected zeros, since the layer has none"):
            head_changes(head, head.weights, np.ones_like(head.bias))


@pytest.mark.parametrize("name", HEADS)
def test_tiny_weights_leave_room_for_the_bias(name: str) -> None:
    """The bias counts in steps of input times weights, and has 32 bits."""
    head = HEADS[name]
    for size in (0.0, 1e-12):
        changes = head_changes(head, head.weights * size, shifted(head, 3.0))
        Patch(changes)
        written = dict(changes)
        at = head.stored_bias
        if at is not None and at.dtype != "float32":
            scales = np.frombuffer(written[head.stored_weights.scales_offset or 0], "<f4")
            levels = np.frombuffer(written[at.offset], at.dtype)
            assert levels * head.input_scale * scales.astype(float) == pytest.approx(3.0, rel=1e-4)
            assert np.abs(levels.astype(float)).max() <= 2**40


@given(name=st.sampled_from(sorted(HEADS)), seed=st.integers(0, 2**32 - 1), size=st.floats(0.01, 9))
@examples(60)
def test_rounding_is_taken_off_where_the_mean_is_known(name: str, seed: int, size: float) -> None:
    head = HEADS[name]
    rng = np.random.default_rng(seed)
    weights = head.weights + rng.normal(0, size * np.abs(head.weights).mean(), head.weights.shape)
    bias = shifted(head, float(rng.normal()))
    mean: Any = rng.uniform(0, 6, head.weights.shape[1])
    wanted = head.logits(mean, weights, bias)
    model = ModelFile.of(MADE[name])

    def written(changes: Any) -> Head:
        data = bytearray(model.data)
        for offset, part in changes:
            data[offset : offset + len(part)] = part
        return found(ModelFile.from_bytes(data))

    plain = written(head_changes(head, weights, bias))
    with_mean = written(head_changes(head, weights, bias, mean))
    step = np.abs(plain.weights - weights).max(axis=1) + 1e-6
    off = np.abs(plain.logits(mean) - wanted)
    assert (off <= step * mean.sum() + 1e-4).all()
    if head.stored_bias is not None:
        near = np.abs(with_mean.logits(mean) - wanted)
        assert (near <= 2 * step + 1e-4).all()
    else:
        assert head_changes(head, weights, bias) == head_changes(head, weights, bias, mean)


def test_greatest_logits_are_kept_within_the_range() -> None:
    head = HEADS["image_int8"]
    rng = np.random.default_rng(2)
    embeddings = rng.uniform(0, 6, (50, head.weights.shape[1]))
    bias = head.bias + 9.0
    assert head.cut(embeddings, head.weights, bias) > 0.5
    kept = into_range(head, head.weights, bias, embeddings)
    assert head.cut(embeddings, head.weights, kept) == 0.0
    assert np.ptp(bias - kept) < 1e-12
    assert into_range(head, head.weights, kept, embeddings) == pytest.approx(kept)
    assert head.cut(embeddings[:0]) == 0.0
    assert HEADS["image_float32"].cut(embeddings * 1e6) == 0.0


@given(name=st.sampled_from(sorted(HEADS)), seed=st.integers(0, 2**32 - 1), most=st.floats(0, 3))
@examples(40)
def test_the_distance_from_golden_is_capped(name: str, seed: int, most: float) -> None:
    head = HEADS[name]
    rng = np.random.default_rng(seed)
    width = head.weights.shape[1]
    known: Any = {"mean": rng.uniform(0, 3, width), "spread": rng.uniform(0.1, 2, width)}
    none: Any = {}
    for moments in (none, known):
        assert distance(head, head.weights, head.bias, **moments) == 0.0
        weights = head.weights + rng.normal(0, 1, head.weights.shape)
        bias = shifted(head, 0.5)
        if head.stored_bias is not None:
            bias = bias + rng.normal(0, 1, bias.shape)
        far = distance(head, weights, bias, **moments)
        common = rng.normal(0, 5, width)
        assert distance(head, weights + common, bias, **moments) == pytest.approx(far)
        near = capped(head, weights, bias, most, **moments)
        assert distance(head, *near, **moments) == pytest.approx(min(most, far), abs=1e-9)
        if far <= most:
            assert np.array_equal(near[0], weights)
        if not moments:
            zero = distance(head, head.weights * 0, head.bias, mean=0.0, spread=1.0)
            assert zero == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"most: expected a distance"):
        capped(head, head.weights, head.bias, float("nan"))
