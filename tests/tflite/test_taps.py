"""Taps show what the same kernels compute inside, and change nothing that the user sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tflite.instances import SETUPS, all_models, built, raw_answer, raw_interpreter, same

from selfheal_edge.tflite.file.model_file import ModelFile


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_outputs_stay_and_taps_equal_preserved_tensors(path: Path, setup: Any) -> None:
    runtime, kernels = setup
    model = ModelFile.from_path(path)
    produced = [i for op in model.subgraphs[0].operators for i in op.outputs]
    overwritten = {
        i: op.outputs[0]
        for op in model.subgraphs[0].operators
        if op.name == "ADD"
        for i in op.inputs
    }
    taps = produced[:: max(1, len(produced) // 6)]
    with built(path, runtime, kernels, taps=taps) as ours:
        plain = raw_interpreter(model.data, runtime, kernels, 1)
        preserving = raw_interpreter(
            model.data, runtime, "builtin", 1, experimental_preserve_all_tensors=True
        )
        assert [spec.name for spec in ours.instance.outputs] == [t.name for t in model.outputs]
        assert [spec.name for spec in ours.instance.taps] == [model.tensor(i).name for i in taps]
        for inputs in ours.inputs(4):
            assert same(ours.answer(inputs), raw_answer(plain, inputs))
            values = ours.instance.tapped()
            assert len(values) == len(taps)
            if kernels == "builtin":  # preserving all tensors switches XNNPACK off
                raw_answer(preserving, inputs)
                for tap, value in zip(taps, values, strict=True):
                    kept = preserving.get_tensor(tap)
                    if not same([value], [kept]):
                        # tflite-runtime's ADD works in place even there, and what is "preserved"
                        # is its result; a tap is an output, which no operator may overwrite.
                        assert tap in overwritten
                        assert same([kept], [preserving.get_tensor(overwritten[tap])])


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_default_kernels_taps_equal_a_graph_cut_there(path: Path, setup: Any) -> None:
    """Each tap alone, beside all taps together: a tap is a value, however many are read."""
    runtime, kernels = setup
    model = ModelFile.from_path(path)
    if model.head is None:
        pytest.skip("no head, so no embedding")
    with (
        built(path, runtime, kernels, taps=[model.head.embedding, model.head.logits]) as both,
        built(path, runtime, kernels, taps=[model.head.embedding]) as one,
    ):
        for inputs in both.inputs(4):
            assert same(both.answer(inputs), one.answer(inputs))
            assert same(both.instance.tapped()[:1], one.instance.tapped())
