"""What is newer than our tables is for the runtime to judge, and its weights are `derived`.

The tables are cut off behind a test's model was written, so that they know less than the runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.made_models import int16_classifier, with_operands
from tests.tflite.builder import Builder, dense_model
from tests.tflite.instances import SETUPS, built, raw_answer, raw_interpreter, same

from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.coverage.rules import BuiltOperator, cover
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format import schema


def check_answers(path: Path, setup: Any) -> dict[str, Coverage]:
    """Compare with the raw interpreter; return the coverage of each module's weights."""
    runtime, kernels = setup
    with built(path, runtime, kernels) as ours:
        raw = raw_interpreter(path.read_bytes(), runtime, kernels, 1)
        for inputs in ours.inputs(5):
            assert same(ours.answer(inputs), raw_answer(raw, inputs))
        names = {op.module: op.name for op in ours.copy.model.operators}
        return {
            names[module]: row.coverage
            for row in ours.instance.coverage.weights
            for module in row.region.modules
        }


@pytest.mark.parametrize("setup", SETUPS)
def test_operators(tmp_path: Path, setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.write_bytes(with_operands())
    code = schema.BUILTIN_OPERATORS.index("PRELU")
    monkeypatch.setattr(schema, "BUILTIN_OPERATORS", schema.BUILTIN_OPERATORS[:code])
    found = check_answers(path, setup)
    assert f"UNKNOWN_{code}" in found
    if setup[1] == "default":
        assert found[f"UNKNOWN_{code}"] is not Coverage.EXECUTING


def test_what_an_unknown_operator_reads_is_derived() -> None:
    """An interpreter tells the names of its operators, and may tell one that has no rule."""
    model = ModelFile.from_bytes(with_operands())
    operators = [BuiltOperator(op.index, "BRAND_NEW", op.inputs) for op in model.operators]
    table = cover(model.regions, operators, {}, 1)
    assert {row.coverage for row in table.weights} == {Coverage.DERIVED}


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_types(tmp_path: Path, setup: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    data = digits_model_path().read_bytes() if dtype == "int8" else int16_classifier()
    path.write_bytes(data)
    code = next(i for i, kind in enumerate(schema.TENSOR_TYPES) if kind.dtype == dtype)
    monkeypatch.setattr(schema, "TENSOR_TYPES", schema.TENSOR_TYPES[:code])
    assert any(t.dtype == f"unknown_{code}" for t in ModelFile.from_path(path).tensors)
    check_answers(path, setup)


@pytest.mark.parametrize("setup", SETUPS)
def test_options(tmp_path: Path, setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """LEAKY_RELU reads its slope from options that we cannot."""
    builder = Builder()
    graph = builder.graph()
    x, y = graph.tensor([1, 8]), graph.tensor([1, 8])
    graph.operator("LEAKY_RELU", [x], [y], ("LeakyReluOptions", {"alpha": 0.5}))
    graph.tree.update(inputs=[x], outputs=[y])
    path = tmp_path / "model"
    path.write_bytes(builder.file())
    known = schema.UNIONS["BuiltinOptions"]
    cut = known[: known.index("LeakyReluOptions")]
    monkeypatch.setitem(schema.UNIONS, "BuiltinOptions", cut)
    (operator,) = ModelFile.from_path(path).operators
    assert (operator.options_type, dict(operator.options)) == (None, {})
    check_answers(path, setup)


def test_required_options_of_an_unknown_kind_are_still_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel would find none and take a stride of 0."""
    data = dense_model().file()
    monkeypatch.setitem(schema.UNIONS, "BuiltinOptions", ())
    with pytest.raises(ModelFormatError, match="expected FullyConnectedOptions, got None"):
        ModelFile.from_bytes(data)


@pytest.mark.parametrize("code", [210, 1000])
def test_operators_that_the_runtime_does_not_know_are_its_to_refuse(
    tmp_path: Path, code: int
) -> None:
    if not isinstance(SETUPS[0], tuple):
        pytest.skip("no TFLite runtime is installed")
    model = dense_model(softmax=False)
    model.tree["operator_codes"][0]["builtin_code"] = code
    path = tmp_path / "model"
    path.write_bytes(model.file())
    assert ModelFile.from_path(path).operators[0].name == f"UNKNOWN_{code}"
    setup: Any = SETUPS[0]
    with (
        pytest.raises(ModelFormatError, match="the runtime refused"),
        built(path, setup[0], setup[1]),
    ):
        raise AssertionError


def test_enums_may_grow() -> None:
    model = dense_model()
    options = model.tree["subgraphs"][0]["operators"][0]["builtin_options"][1]
    options["fused_activation_function"] = 17
    (first, _) = ModelFile.from_bytes(model.file()).operators
    assert first.options["fused_activation_function"] == 17
