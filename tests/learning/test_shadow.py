"""The float shadow of a graph: as the runtime answers, written back, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.made_models import int16_classifier
from tests.support import RUNTIMES, SHARED

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.shadow import Shadow, find_shadow
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import Array, RuntimeName
from selfheal_edge.tflite.session import Session

runtimes = pytest.mark.parametrize("runtime", RUNTIMES)


def shared(*parts: str) -> Path:
    path = SHARED.parent.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    return path


def inputs_of(name: str) -> tuple[Path, Array]:
    if name == "digits":
        return Path(digits_model_path()), load_digits().heldout_inputs[:48]
    if name == "kws":
        with np.load(shared("data", "speech_commands_mfcc_int8.npz")) as clips:
            return shared("models", "kws_dscnn_int8.tflite"), clips["x"][:24]
    rng = np.random.default_rng(3)
    smooth = np.kron(rng.normal(0, 60, (8, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    images = np.clip(smooth + rng.normal(0, 20, (8, 32, 32, 3)), -128, 127)
    return shared("models", "resnet8_cifar10_int8.tflite"), images.astype(np.int8)


def softmax(logits: Array) -> Array:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def shadow_of(model: ModelFile, *, weights: bool = False) -> Shadow:
    head = find_head(model)
    assert isinstance(head, Head)
    found = find_shadow(model, head, weights=weights)
    assert isinstance(found, Shadow), found
    return found


@runtimes
@pytest.mark.parametrize("name", ["digits", "kws", "resnet"])
def test_it_answers_as_the_runtime_does(name: str, runtime: RuntimeName) -> None:
    path, x = inputs_of(name)
    session = Session(path, runtime)
    try:
        bench = Bench(session, "probabilities", False)
        found = bench.answers(x)
        bench.close()
    finally:
        session.close()
    shadow = shadow_of(session.copy.model)
    assert shadow.graph.memory_bytes() < 2 << 20
    scores = softmax(shadow.graph.logits(shadow.real(x)))
    # What rounding each layer to 256 levels does to probabilities.
    assert np.abs(scores - found.scores).mean() < 0.02
    two = np.sort(found.scores, axis=1)[:, -2:]
    is_sure = two[:, 1] - two[:, 0] > 0.25
    assert is_sure.sum() >= 4
    assert (scores.argmax(axis=1) == found.labels)[is_sure].mean() >= 0.9


@runtimes
@pytest.mark.parametrize("weights", [False, True])
def test_what_is_learned_answers_so_in_the_file(weights: bool, runtime: RuntimeName) -> None:
    path, x = inputs_of("digits")
    session = Session(path, runtime)
    try:
        bench = Bench(session, "probabilities", False)
        shadow = shadow_of(session.copy.model, weights=weights)
        rng = np.random.default_rng(1)
        real, golden = shadow.real(x), softmax(shadow.graph.logits(shadow.real(x)))
        moved = shadow.start.copy()
        if weights:
            for layer in shadow.layers[:-1]:
                at = layer.at + 2 * layer.channels
                moved[at : at + layer.size] *= rng.uniform(0.5, 1.5, layer.size)
        for layer in shadow.layers[:-1]:
            if layer.has_gains:
                moved[layer.at : layer.at + layer.channels] = rng.uniform(0.7, 1.3, layer.channels)
            biases = slice(layer.at + layer.channels, layer.at + 2 * layer.channels)
            moved[biases] += 4 * shadow.rates[biases] * rng.uniform(-1, 1, layer.channels)
        shadow.graph.set_parameters(moved.astype(np.float32))
        head = find_head(session.copy.model)
        assert isinstance(head, Head)
        wanted = softmax(np.clip(shadow.graph.logits(real), *head.range))
        found = bench.answers(x, Patch(shadow.inner_changes(moved.astype(np.float32)))).scores
        assert np.abs(wanted - golden).mean() > 0.01, "something has changed"
        assert np.abs(wanted - found).mean() < 0.1 * np.abs(wanted - golden).mean()
        assert shadow.inner_changes(shadow.start) == ()
        bench.close()
    finally:
        session.close()


def test_an_operator_without_a_gradient_is_named() -> None:
    model = ModelFile.from_path(shared("models", "mnist_lstm_int8.tflite"))
    head = find_head(model)
    assert isinstance(head, Head)
    reason = find_shadow(model, head)
    assert reason == "UNIDIRECTIONAL_SEQUENCE_LSTM has no gradient here: left alone"


def test_too_many_bytes_and_other_types_are_refused() -> None:
    path, _ = inputs_of("digits")
    model = ModelFile.from_path(path)
    head = find_head(model)
    assert isinstance(head, Head)
    reason = find_shadow(model, head, max_bytes=1 << 10)
    assert isinstance(reason, str)
    assert "max_bytes: expected at least" in reason
    model = ModelFile.from_bytes(int16_classifier())
    head = find_head(model)
    assert isinstance(head, Head)
    reason = find_shadow(model, head)
    assert isinstance(reason, str)
    assert "left alone" in reason or "no float shadow" in reason
