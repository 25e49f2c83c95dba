"""The coverage table is never better than what flips show, and a rebuild heals what is derived."""

from __future__ import annotations

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
from tests.tflite.instances import SETUPS, all_models, built, same

from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.coverage.flip_check import (
    Finding,
    RegionFlips,
    check_coverage,
    never_better_than,
)
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.protocol import Coverage


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


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("make", [int16_classifier, branching_classifier])
def test_int16_and_inner_subgraphs(
    tmp_path: Path, make: Callable[[], bytes], setup: Any, num_threads: int
) -> None:
    """What XNNPACK may have packed where nobody sees it is never called a rebuild away."""
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


@pytest.mark.parametrize("num_threads", [1, 4])
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
