"""The coverage table is never better than what flips show, and a rebuild heals what is derived."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_models import (
    branching_classifier,
    clamped,
    halved_weights,
    int16_classifier,
    tied_weights,
    with_operands,
)
from tests.tflite.builder import Builder
from tests.tflite.instances import SETUPS, all_models, built, same
from tests.tflite.operand_cases import CASES, FEW

from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.flip_check import (
    Finding,
    FlipEffort,
    RegionFlips,
    check_coverage,
    never_better_than,
)
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.select import choose
from selfheal_edge.tflite.sandbox.known import KernelsName, mark_known


@pytest.mark.slow
@pytest.mark.parametrize(("num_threads"), [1, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_no_region_is_marked_better_than_flips_show(
    path: Path, setup: Any, num_threads: int
) -> None:
    runtime, kernels = setup
    with built(path, runtime, kernels, num_threads) as ours:
        flips = check_coverage(ours.choice, seed=0)
        assert len(flips) == len(ours.instance.coverage.weights)
        for found in flips:
            assert not found.contradicts, found
            assert found.finding is not Finding.UNPROVEN, found
            if found.table is not Coverage.EXECUTING:
                assert found.finding is Finding.BUILT, found


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("make", [int16_classifier, branching_classifier])
def test_int16_and_inner_subgraphs(
    tmp_path: Path, make: Callable[[], bytes], setup: Any, num_threads: int
) -> None:
    """What XNNPACK may have packed out of sight is never called a rebuild away."""
    path = tmp_path / "model"
    path.write_bytes(make())
    runtime, kernels = setup
    with built(path, runtime, kernels, num_threads) as ours:
        hidden = kernels == "default" and not isinstance(ours.instance, CompiledInstance)
        for found in check_coverage(ours.choice, seed=0):
            assert not found.contradicts, found
            assert found.finding is not Finding.UNPROVEN, found
            if hidden and found.region.uses[0].subgraph:
                assert (found.table, found.finding) == (Coverage.SOURCE, Finding.BUILT), found


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("make", [with_operands, clamped, halved_weights, tied_weights])
def test_operands_that_are_not_packed(
    tmp_path: Path, make: Callable[[], bytes], setup: Any, num_threads: int
) -> None:
    """What is compiled is watched wherever its bytes lie, and not said to be better than it is."""
    path = tmp_path / "model"
    path.write_bytes(make())
    runtime, kernels = setup
    with built(path, runtime, kernels, num_threads) as ours:
        flips = check_coverage(ours.choice, seed=0)
        for found in flips:
            assert not found.contradicts, found
            assert found.finding is not Finding.UNPROVEN, found
        if isinstance(ours.instance, CompiledInstance):
            hidden = [f for f in flips if f.table is not Coverage.EXECUTING]
            assert all(f.finding is Finding.BUILT for f in hidden), hidden
            assert bool(hidden) == (make is clamped)
            modules = {op.module for op in ours.copy.model.operators}
            for region in ours.instance.image_regions["packed"]:
                if region.kind == "weights":
                    assert region.modules
                    assert set(region.modules) <= modules
        elif kernels == "builtin":
            assert (ours.instance.coverage.worst is Coverage.EXECUTING) == (
                make is not halved_weights
            )


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_a_rebuild_heals_what_is_not_executing(path: Path, setup: Any) -> None:
    runtime, kernels = setup
    with built(path, runtime, kernels) as ours:
        inputs = ours.inputs(4)
        golden = [ours.answer(x) for x in inputs]
        source = np.frombuffer(ours.source.view, np.uint8)
        for region in ours.copy.model.regions:
            if region.kind not in ("weights", "bias"):
                continue
            span = source[region.offset : region.offset + region.nbytes]
            span ^= 1
            damaged = ours.choice.build(ours.source)
            span ^= 1
            damaged.close()
        healed = ours.choice.build(ours.source)
        for x, y in zip(inputs, golden, strict=True):
            healed.reset_variables()
            assert same(healed.run(x), y)
        healed.close()


@pytest.mark.skipif(not SETUPS or not isinstance(SETUPS[0], tuple), reason="no TFLite runtime")
def test_a_table_that_is_too_good_is_lowered() -> None:
    runtime, kernels = SETUPS[0]
    with built(digits_model_path(), runtime, kernels) as ours:  # type: ignore[arg-type]
        table = ours.instance.coverage
        row = table.weights[0]
        lie = RegionFlips(row.region, Coverage.EXECUTING, Finding.BUILT, True, 3)
        lowered = never_better_than(table, [lie])
        assert lowered.worst is Coverage.DERIVED
        assert len(lowered.rows) == len(table.rows)
        assert never_better_than(table, []) == table


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("cases", [FEW, pytest.param(CASES, marks=pytest.mark.long)])
@pytest.mark.parametrize("operator", sorted({name.split("-")[0] for name in CASES}))
def test_every_operator_and_kind_of_operand(
    operator: str, cases: dict[str, bytes], setup: Any
) -> None:
    """Nothing is called executing that flips show to be a copy made when the model was built."""
    runtime, kernels = setup
    tried = 0
    for name, data in cases.items():
        if name.split("-")[0] != operator:
            continue
        model = ModelFile.from_bytes(data)
        source = SourceImage(data)
        ways: tuple[KernelsName, ...] = ("default", "builtin", "compiled")
        for way in ways:  # ours, so that no probe is needed
            mark_known(model.sha256, runtime, way, 1)
        try:
            choice, instance = choose(model, source, runtime, kernels, 1)
        except ModelFormatError:
            continue  # the runtime has no such kernel
        finally:
            source.close()
        instance.close()
        for found in check_coverage(choice, seed=0, max_inputs=16):
            assert not found.contradicts, (name, found)
            tried += 1
    assert tried


@pytest.mark.skipif(not isinstance(SETUPS[0], tuple), reason="no TFLite runtime")
def test_time_bounds_the_check_and_progress_shows_it() -> None:
    """What there is no time for is untried, and leaves the table as it is."""
    setup: Any = SETUPS[0]
    with built(digits_model_path(), *setup) as ours:
        regions = ours.instance.coverage.weights
        seen: list[tuple[int, int]] = []
        flips = check_coverage(
            ours.choice,
            effort=FlipEffort(progress=lambda done, total: seen.append((done, total))),
            seed=0,
        )
        assert seen == [(n, len(regions)) for n in range(1, len(regions) + 1)]
        assert [f.region.name for f in flips] == [row.region.name for row in regions]
        begin = time.monotonic()
        flips = check_coverage(ours.choice, effort=FlipEffort(seconds=0), seed=0)
        assert time.monotonic() - begin < 5
        assert {f.finding for f in flips} == {Finding.UNTRIED}
        assert not any(f.contradicts for f in flips)
        assert never_better_than(ours.instance.coverage, flips) == ours.instance.coverage


@pytest.mark.parametrize("setup", SETUPS)
def test_inputs_that_the_runtime_refuses_are_passed_over(tmp_path: Path, setup: Any) -> None:
    """A quantised division by the level of zero is an error of the kernel, not of the check."""
    levels: Any = {"quantization": {"scale": [0.05], "zero_point": [125]}}
    graph = Builder().graph()
    x, divisor = graph.tensor([1, 4], "uint8", **levels), graph.tensor([1, 4], "uint8", **levels)
    weights = graph.tensor([1, 4], "uint8", bytes([130, 140, 150, 160]), **levels)
    between, y = (graph.tensor([1, 4], "uint8", **levels) for _ in range(2))
    graph.operator("ADD", [x, weights], [between], ("AddOptions", {}))
    graph.operator("DIV", [between, divisor], [y], ("DivOptions", {}))
    graph.tree.update(inputs=[x, divisor], outputs=[y])
    path = tmp_path / "model"
    path.write_bytes(graph.file())
    zeros = [np.full((1, 4), 125, np.uint8)] * 2
    with built(path, *setup) as ours:
        assert len(check_coverage(ours.choice, [zeros], seed=0)) == 1
