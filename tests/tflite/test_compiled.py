"""Instances answer as the raw interpreter does, and packed weights are the ones that run."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import litert_library, open_files, stays_flat
from tests.tflite.instances import (
    SETUPS,
    all_models,
    built,
    raw_answer,
    raw_interpreter,
    same,
)
from tests.tflite.support import MODULES, RUNTIMES, SHARED

from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ForkedProcessError, ModelClosedError
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.litert import LiteRt
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.runtimes.tflite_runtime import TfliteRuntime
from selfheal_edge.tflite.sandbox.packages import runtime_version

needs_litert = pytest.mark.skipif("litert" not in RUNTIMES, reason="LiteRT is not installed")
compiles = pytest.mark.skipif(
    os.environ.get("SELFHEAL_EMULATED") == "1",
    reason="an emulated processor lacks instructions that compiling needs: docs/arm.md",
)


def check_equal(path: Path, setup: Any, num_threads: int, count: int) -> None:
    runtime, kernels = setup
    with built(path, runtime, kernels, num_threads) as ours:
        raw = raw_interpreter(path.read_bytes(), runtime, kernels, num_threads)
        names = [detail["name"] for detail in raw.get_output_details()]
        assert [spec.name for spec in ours.instance.outputs] == names
        for inputs in ours.inputs(count):
            assert same(ours.answer(inputs), raw_answer(raw, inputs))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_answers_equal_the_raw_interpreter(path: Path, setup: Any, num_threads: int) -> None:
    # Builtin kernels with more threads than cores that are free spin: fewer inputs for them.
    check_equal(path, setup, num_threads, 16 if num_threads == 1 else 4)


@pytest.mark.long
@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_a_thousand_answers_equal(path: Path, setup: Any, num_threads: int) -> None:
    check_equal(path, setup, num_threads, 1000)


@needs_litert
@compiles
@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("path", all_models())
def test_what_litert_compiles_is_executing(path: Path, num_threads: int) -> None:
    with built(path, "litert", "default", num_threads) as ours:
        if any(tensor.is_variable for tensor in ours.copy.model.tensors):
            assert "keep a state" in ours.instance.note
            return
        assert isinstance(ours.instance, CompiledInstance)
        assert ours.instance.note == ""
        assert ours.instance.coverage.worst is Coverage.EXECUTING


@needs_litert
@pytest.mark.parametrize("path", all_models())
def test_packed_regions_partition_the_image(path: Path) -> None:
    with built(path, "litert", "default") as ours:
        for name, view in ours.instance.images.items():
            end = 0
            modules = {op.module for op in ours.copy.model.operators}
            for region in ours.instance.image_regions[name]:
                assert region.offset == end
                end += region.nbytes
                if region.kind == "weights":
                    assert region.modules
                    assert set(region.modules) <= modules
            assert end == len(view)


@needs_litert
@pytest.mark.parametrize("path", all_models())
def test_each_packed_region_runs_and_can_be_restored(path: Path) -> None:
    with built(path, "litert", "default") as ours:
        inputs = ours.inputs(16)
        golden = [ours.answer(x) for x in inputs]
        for name, view in ours.instance.images.items():
            image = np.frombuffer(view, np.uint8)
            for region in ours.instance.image_regions[name]:
                span = image[region.offset : region.offset + region.nbytes]
                before = span.copy()
                if region.kind == "weights":
                    span ^= 0x15
                    assert not all(
                        same(ours.answer(x), y) for x, y in zip(inputs, golden, strict=True)
                    )
                    span[:] = before
                assert all(same(ours.answer(x), y) for x, y in zip(inputs, golden, strict=True))


@needs_litert
@compiles
def test_header_padding_and_index_do_not_run() -> None:
    with built(digits_model_path(), "litert", "default") as ours:
        inputs = ours.inputs(2)
        golden = [ours.answer(x) for x in inputs]
        image = np.frombuffer(ours.instance.images["packed"], np.uint8)
        for region in ours.instance.image_regions["packed"]:
            if region.kind == "graph":
                image[region.offset : region.offset + region.nbytes] ^= 0xFF
        assert all(same(ours.answer(x), y) for x, y in zip(inputs, golden, strict=True))


@needs_litert
@pytest.mark.parametrize("path", all_models())
def test_the_index_names_the_layers_that_a_changed_weight_changes(path: Path) -> None:
    """The slow way to map packed bytes: build again with one region changed, and compare."""
    with built(path, "litert", "default") as ours:
        if not isinstance(ours.instance, CompiledInstance):
            pytest.skip("not compiled")
        before = bytes(ours.instance.images.get("packed", b""))
        source = np.frombuffer(ours.source.view, np.uint8)
        for region in ours.copy.model.regions:
            if region.kind != "weights":
                continue
            source[region.offset : region.offset + region.nbytes] ^= 1
            fresh = ours.choice.build(ours.source)
            source[region.offset : region.offset + region.nbytes] ^= 1
            after = bytes(fresh.images["packed"])
            changed = np.flatnonzero(
                np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
            )
            fresh.close()
            assert changed.size
            named = [
                r
                for r in ours.instance.image_regions["packed"]
                if set(r.modules) & set(region.modules)
            ]
            inside = np.zeros(len(before), bool)
            for r in named:
                inside[r.offset : r.offset + r.nbytes] = True
            assert inside[changed].all()
        del source


@needs_litert
@compiles
def test_the_packed_image_is_sealed_and_private() -> None:
    gc.collect()  # what tests before have left is of other sizes
    with built(digits_model_path(), "litert", "default") as ours:
        lines = Path("/proc/self/maps").read_text().splitlines()
        mine = [line for line in lines if "memfd:selfheal-packed" in line]
        assert any(" rw-s " in line for line in mine)
        files = set()
        for fd in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{fd}"
            if "memfd:selfheal-packed" not in os.path.realpath(path):
                continue
            handle = os.open(path, os.O_RDWR)
            try:
                assert os.fstat(handle).st_size == len(ours.instance.images["packed"])
                assert fcntl.fcntl(handle, 1034) & 6 == 6  # F_GET_SEALS: neither shrink nor grow
                for size in (0, 2**20):
                    with pytest.raises(PermissionError):
                        os.ftruncate(handle, size)
                files.add(os.fstat(handle).st_ino)
            finally:
                os.close(handle)
        assert len(files) == 1  # ours, which the runtime has opened as well


@needs_litert
@compiles
def test_a_view_outlives_its_instance() -> None:
    with built(digits_model_path(), "litert", "default") as ours:
        view = ours.instance.images["packed"]
        before = bytes(view)
    assert bytes(view) == before
    view[0] = view[0]


@needs_litert
def test_use_after_close_is_refused() -> None:
    with built(digits_model_path(), "litert", "default") as ours:
        inputs = ours.inputs(1)[0]
        ours.instance.close()
        ours.instance.close()
        with pytest.raises(ModelClosedError, match="closed"):
            ours.instance.run(inputs)


@needs_litert
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float32), "expected int8 of shape"),
        (lambda x: x[0], "expected int8 of shape"),
        (lambda x: np.asfortranarray(np.repeat(x, 2, 3)[..., ::2]), "C-contiguous"),
        (lambda x: x.tolist(), "expected arrays"),
    ],
)
def test_wrong_inputs_are_refused(change: Any, message: str) -> None:
    with built(digits_model_path(), "litert", "default") as ours:
        inputs = ours.inputs(1)[0]
        with pytest.raises((TypeError, ValueError), match=message):
            ours.instance.run([change(inputs[0])])
        with pytest.raises(ValueError, match="expected 1 arrays, got 0"):
            ours.instance.run([])


@needs_litert
def test_an_untested_version_is_refused_with_the_reason() -> None:
    runtime = LiteRt()
    runtime.version = "9.9.9"
    with built(digits_model_path(), "litert", "builtin") as ours:
        instance = runtime.build(ours.source.path, ours.copy, "default", 1)
        assert "9.9.9 was not tested" in instance.note
        assert instance.coverage.worst is Coverage.SOURCE
        instance.close()


@pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed")
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_without_metadata_tells_its_version_itself(
    name: RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of devices are often stripped of metadata; a nightly build has another name."""

    def missing(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    runtime_version.cache_clear()
    package = importlib.import_module(MODULES[name])
    try:
        found = LiteRt if name == "litert" else TfliteRuntime
        assert found().version == package.__version__
        monkeypatch.delattr(package, "__version__")
        runtime = found()
        assert runtime.version == "unknown"
        with built(digits_model_path(), name, "builtin") as ours:
            instance = runtime.build(ours.source.path, ours.copy, "default", 1)
            assert name != "litert" or "LiteRT unknown was not tested" in instance.note
            instance.close()
    finally:
        runtime_version.cache_clear()


def test_a_missing_library_is_refused() -> None:
    with pytest.raises(_core.RuntimeRefusedError, match="cannot be loaded"):
        _core.require_litert(library="/nowhere/libLiteRt.so", version="2.3.0")


@needs_litert
def test_bytes_that_are_no_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"\0" * 64)
    library, version = str(litert_library()), LiteRt().version
    with pytest.raises(_core.RuntimeRefusedError):
        _core.CompiledModel(library=library, version=version, source_path=str(path))


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
@pytest.mark.parametrize("setup", SETUPS)
def test_a_forked_child_may_not_run_it(setup: Any) -> None:
    with built(digits_model_path(), *setup) as ours:
        inputs = ours.inputs(1)[0]
        golden = ours.answer(inputs)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.instance.run(inputs)
            except ForkedProcessError:
                ours.instance.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert same(ours.answer(inputs), golden)


@pytest.mark.parametrize("setup", SETUPS)
def test_another_thread_runs_during_an_inference(setup: Any) -> None:
    path = SHARED / "mobilenet_v1_025_128_uint8.tflite"
    if not path.exists():
        pytest.skip("../shared/models is absent")
    with built(path, *setup) as ours:
        inputs = ours.inputs(1)[0]
        inside = []
        stop = threading.Event()

        def tick() -> None:
            while not stop.is_set():
                inside.append(time.perf_counter())
                time.sleep(0.0001)

        ours.instance.run(inputs)
        thread = threading.Thread(target=tick)
        thread.start()
        spans = []
        for _ in range(200):
            start = time.perf_counter()
            ours.instance.run(inputs)
            spans.append((start, time.perf_counter()))
        stop.set()
        thread.join()
        assert any(start < moment < end for moment in inside for start, end in spans)


@pytest.mark.parametrize("setup", SETUPS)
def test_threads_take_turns(setup: Any) -> None:
    with built(digits_model_path(), *setup) as ours:
        inputs = ours.inputs(8)
        golden = [ours.answer(x) for x in inputs]
        wrong = []

        def work(index: int) -> None:
            for _ in range(300):
                if not same(ours.instance.run(inputs[index]), golden[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def check_cycles(path: Path, setup: Any, cycles: int, allowed_kib: int) -> None:
    runtime, kernels = setup
    with built(path, runtime, kernels) as ours:
        inputs = ours.inputs(1)[0]
        golden = ours.answer(inputs)

        def cycle(count: int) -> None:
            kept = [ours.choice.build(ours.source) for _ in range(3)]
            for number in range(count):
                # Closed in an order of their own: the newest, the oldest, the one between.
                kept.pop((2, 0, 1)[number % 3]).close()
                kept.append(ours.choice.build(ours.source))
                assert same(kept[-1].run(inputs), golden)
            for instance in kept:
                instance.close()

        cycle(100)
        descriptors = open_files()
        assert stays_flat(lambda: cycle(cycles), allowed_kib)
        assert open_files() == descriptors


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
def test_building_and_closing_leaks_nothing(setup: Any) -> None:
    check_cycles(digits_model_path(), setup, 300, 512)


@pytest.mark.long
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("path", all_models())
def test_three_thousand_cycles_leak_nothing(path: Path, setup: Any) -> None:
    check_cycles(path, setup, 3000, 1024)


@needs_litert
def test_the_runtime_keeps_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with built(digits_model_path(), "litert", "default") as ours:
        ours.choice.build(ours.source).close()
    assert capfd.readouterr() == ("", "")
