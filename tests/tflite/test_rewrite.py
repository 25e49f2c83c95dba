from __future__ import annotations

from pathlib import Path

import pytest
from tests.tflite.instances import all_models

from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy, copy_model


def computed(model: ModelFile) -> list[int]:
    return [i for op in model.subgraphs[0].operators for i in op.outputs]


@pytest.mark.parametrize("path", all_models())
def test_a_copy_has_the_taps_behind_the_own_outputs(path: Path) -> None:
    model = ModelFile.from_path(path)
    own = [tensor.index for tensor in model.outputs]
    for tap in computed(model):
        copy = copy_model(model, [tap])
        outputs = [tensor.index for tensor in copy.model.outputs]
        assert outputs[: copy.own_outputs] == own
        assert outputs[copy.taps[0]] == tap
        assert len(outputs) == len(set(outputs))


@pytest.mark.parametrize("path", all_models())
def test_no_region_moves_or_changes(path: Path) -> None:
    model = ModelFile.from_path(path)
    copy = copy_model(model, computed(model)[:3])
    theirs = [r for r in model.regions if r.kind != "graph"]
    ours = [r for r in copy.model.regions if r.kind != "graph"]
    assert ours == theirs
    for region in theirs:
        span = slice(region.offset, region.offset + region.nbytes)
        assert copy.model.data[span] == model.data[span]


@pytest.mark.parametrize("path", all_models())
def test_the_copy_has_no_signatures(path: Path) -> None:
    model = ModelFile.from_path(path)
    copy = copy_model(model)
    assert copy.model.signatures == ()
    assert copy.original is model
    assert copy.taps == ()
    if not model.signatures:
        assert copy.model is model


def test_a_tap_can_be_named() -> None:
    model = ModelFile.from_path(digits_model_path())
    assert model.head is not None
    name = model.tensor(model.head.embedding).name
    by_name = copy_model(model, [name])
    assert by_name.model.data == copy_model(model, [model.head.embedding]).model.data


def test_an_output_that_is_tapped_is_not_listed_twice() -> None:
    model = ModelFile.from_path(digits_model_path())
    copy = copy_model(model, [model.outputs[0].index])
    assert copy.taps == (0,)
    assert len(copy.model.outputs) == copy.own_outputs == 1


@pytest.mark.parametrize("tap", [-1, 10_000, True, "no such tensor"])
def test_unknown_taps_are_refused(tap: int | str) -> None:
    model = ModelFile.from_path(digits_model_path())
    with pytest.raises(ValueError, match="taps: expected"):
        copy_model(model, [tap])


def test_inputs_and_constants_are_no_taps() -> None:
    model = ModelFile.from_path(digits_model_path())
    constant = next(tensor for tensor in model.tensors if tensor.is_constant)
    for tensor in (model.inputs[0], constant):
        with pytest.raises(ValueError, match="an operator computes"):
            copy_model(model, [tensor.index])


def test_unchanged_is_the_model_itself() -> None:
    model = ModelFile.from_path(digits_model_path())
    copy = ModelCopy.unchanged(model)
    assert copy.model is copy.original is model
    assert copy.own_outputs == 1
