"""Outputs that no operator computes, tensors without axes, names that repeat: same bits as raw."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tests.tflite.builder import Builder, dense_model
from tests.tflite.instances import SETUPS, built, raw_answer, raw_interpreter, same
from tests.tflite.support import RUNTIMES

from selfheal_edge.tflite.runtimes import litert
from selfheal_edge.tflite.runtimes.protocol import KernelsChoice, RuntimeName


def dense_with_outputs(outputs: list[int]) -> bytes:
    """Return logits of a dense layer, tensor 3; 0 is the input, 2 the bias."""
    builder = dense_model(softmax=False)
    builder.tree["subgraphs"][0]["outputs"] = outputs
    return builder.file()


def scaled_scalar() -> bytes:
    builder = Builder()
    graph = builder.graph()
    graph.tensor([])
    graph.tensor([], data=struct.pack("<f", 2.5))
    graph.tensor([])
    graph.operator("MUL", [0, 1], [2], ("MulOptions", {}))
    graph.tree.update(inputs=[0], outputs=[2])
    return builder.file()


def namesakes() -> bytes:
    builder = Builder()
    graph = builder.graph()
    graph.tensor([1, 4], name="same")
    graph.tensor([1, 4], name="same")
    graph.tensor([1, 4])
    graph.operator("SUB", [0, 1], [2], ("SubOptions", {}))
    graph.tree.update(inputs=[0, 1], outputs=[2])
    return builder.file()


MODELS = {
    "an input": (dense_with_outputs([3, 0]), "is an input"),
    "a constant": (dense_with_outputs([3, 2]), "is a constant"),
    "twice the same": (dense_with_outputs([3, 3]), "have the same name"),
    "inputs of one name": (namesakes(), "have the same name"),
    "a scalar": (scaled_scalar(), ""),
}


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", MODELS)
def test_answers_equal_the_raw_interpreter(
    tmp_path: Path,
    name: str,
    setup: tuple[RuntimeName, KernelsChoice],
    capfd: pytest.CaptureFixture[str],
) -> None:
    data, reason = MODELS[name]
    path = tmp_path / "model"
    path.write_bytes(data)
    with built(path, *setup) as ours:
        raw = raw_interpreter(data, *setup, 1)
        capfd.readouterr()
        for inputs in ours.inputs(20):
            assert same(ours.answer(inputs), raw_answer(raw, inputs))
        assert capfd.readouterr() == ("", "")
        if setup == ("litert", "default"):
            assert reason in ours.instance.note


@pytest.mark.skipif("litert" not in RUNTIMES, reason="LiteRT is not installed")
def test_compiled_answers_that_differ_are_never_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT compiles this one, and reads the input from where the output goes."""
    data = dense_with_outputs([3, 0])
    path = tmp_path / "model"
    path.write_bytes(data)
    monkeypatch.setattr(litert, "_unlike_compiled", lambda _: "")
    with built(path, "litert", "default") as ours:
        assert "packed weights cannot be owned" in ours.instance.note
        raw = raw_interpreter(data, "litert", "default", 1)
        inputs = [np.ones((1, 4), np.float32)]
        assert same(ours.answer(inputs), raw_answer(raw, inputs))
        again = ours.choice.build(ours.source)
        assert again.note == ours.instance.note
        again.close()
