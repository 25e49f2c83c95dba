from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.tflite import builder
from tests.tflite.support import RUNTIMES, shared_models

from selfheal_edge.errors import (
    ForkedProcessError,
    ModelFormatError,
    ProbeError,
    RuntimeUnavailableError,
)
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.sandbox import probe as probe_module
from selfheal_edge.tflite.sandbox.probe import Prober, known_hashes, mark_known, probe
from selfheal_edge.tflite.sandbox.sharing import helpers, sharing_helpers

PACKAGE = str(Path(probe_module.__file__).resolve().parents[2])
pytestmark = pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed")


@pytest.fixture(autouse=True)
def helpers_of_its_own() -> Iterator[None]:
    """What begins and ends with a prober here is not what the whole run shares."""
    token = helpers.set(None)
    yield
    helpers.reset(token)


def _loop_model() -> bytes:
    """A WHILE that never ends: its condition is a constant true."""
    made = builder.branching_model()
    cond = made.tree["subgraphs"][3]
    cond["tensors"][1]["buffer"] = made.buffer(b"\x00\x00\x80\x7f")  # x < infinity
    made.tree["subgraphs"][4]["tensors"][1]["buffer"] = made.buffer(bytes(4))  # x + 0
    return made.file()


def _huge_model() -> bytes:
    made = builder.Builder()
    graph = made.graph()
    graph.tensor([1, 200_000_000])
    graph.tensor([1, 200_000_000])
    graph.operator("EXP", [0], [1], ("ExpOptions", {}))
    graph.tree.update(inputs=[0], outputs=[1])
    return made.file()


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_a_good_model_passes(runtime: Any, kernels: Any) -> None:
    with Prober(runtime, kernels=kernels, num_threads=2) as prober:
        for made in (builder.dense_model(), builder.branching_model()):
            result = prober.probe(made.file())
            assert result.ok, result.reason
            assert result.reason == ""
            assert 0 < result.seconds < 10


@pytest.mark.parametrize("path", shared_models())
def test_every_shared_model_passes(runtime: Any, path: Path) -> None:
    probe(path.read_bytes(), runtime)


@pytest.mark.parametrize("path", shared_models("hostile"))
@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_hostile_files_are_refused_with_a_reason(runtime: Any, path: Path, kernels: Any) -> None:
    with pytest.raises(ModelFormatError, match=r"the runtime (refused|crashed)") as caught:
        probe(path.read_bytes(), runtime, kernels)
    if "custom_op" in path.stem:
        assert "custom op" in str(caught.value)
    if path.stem == "crashes_when_destroyed":
        assert "crashed with SIG" in str(caught.value)


def counted(name: str, options: str, field: str, count: int) -> bytes:
    """Return a graph whose operator has two tensors on a side, and options that say otherwise."""
    made = builder.Builder()
    graph = made.graph()
    whole, first, second = graph.tensor([2, 4]), graph.tensor([4]), graph.tensor([4])
    parts, many = ([first, second], [whole]) if name == "PACK" else ([whole], [first, second])
    given = parts
    if name.startswith("SPLIT"):
        axis = graph.tensor([], "int32", bytes(4))
        sizes = graph.tensor([2], "int32", struct.pack("<2i", 1, 1))
        given = [axis, *parts] if name == "SPLIT" else [*parts, sizes, axis]
    graph.operator(name, given, many, (options, {field: count}))
    graph.tree.update(inputs=parts, outputs=many)
    return made.file()


COUNTS = {
    "PACK": ("PackOptions", "values_count"),
    "SPLIT": ("SplitOptions", "num_splits"),
    "SPLIT_V": ("SplitVOptions", "num_splits"),
    "UNPACK": ("UnpackOptions", "num"),
}


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_numbers_of_tensors_are_for_the_runtime_to_refuse(runtime: Any, kernels: Any) -> None:
    """No rule of ours looks at them: the runtime refuses such a file, or its child dies of it."""
    with Prober(runtime, kernels=kernels) as prober:
        for name, (options, field) in COUNTS.items():
            assert prober.probe(counted(name, options, field, 2)).ok, name
            for count in (-1, 1, 5):
                data = counted(name, options, field, count)
                ModelFile.from_bytes(data)
                result = prober.probe(data)
                assert not result.ok, (name, count)
                assert re.search("the runtime (refused|crashed)", result.reason), result.reason


def test_a_hang_ends_at_the_timeout(runtime: Any) -> None:
    sound = builder.dense_model().file()
    with Prober(runtime, timeout_s=3.0) as prober:
        assert prober.probe(sound).ok  # the child has started and has the runtime
        start = time.monotonic()
        result = prober.probe(_loop_model())
        assert not result.ok
        assert "hung: no end within 3 s while running the model" in result.reason
        assert time.monotonic() - start < 30
        assert prober.probe(sound).ok


def test_memory_is_limited(runtime: Any) -> None:
    with Prober(runtime, memory_bytes=256 * 2**20) as prober:
        result = prober.probe(_huge_model())
        assert not result.ok
        assert prober.probe(builder.dense_model().file()).ok


def test_truncated_files_only_kill_the_child(runtime: Any) -> None:
    data = builder.dense_model().file()
    with Prober(runtime) as prober:
        for size in (0, 4, 64, len(data) // 2):
            assert not prober.probe(data[:size]).ok


def test_known_hashes_skip_the_trial(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = builder.dense_model(5, 3).file()
    before = set(known_hashes)
    try:
        probe(data, runtime)
        assert len(known_hashes - before) == 1
        monkeypatch.setattr(probe_module, "Prober", None)
        probe(data, runtime)
        with pytest.raises(TypeError):
            probe(data, runtime, "builtin")
        known = next(iter(known_hashes - before))
        assert mark_known(known.sha256, runtime, "builtin", 1).kernels == "builtin"
        probe(data, runtime, "builtin")
    finally:
        known_hashes.intersection_update(before)


def test_a_missing_runtime_is_named() -> None:
    missing = next((name for name in get_args(RuntimeName) if name not in RUNTIMES), None)
    if missing is None:
        pytest.skip("both runtimes are installed")
    with pytest.raises(RuntimeUnavailableError, match="importable"):
        probe(builder.dense_model().file(), missing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "tflm"}, "runtime: expected"),
        ({"kernels": "fast"}, "kernels: expected"),
        ({"num_threads": 0}, "num_threads: expected"),
        ({"timeout_s": 0}, "timeout_s: expected"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prober(**{"runtime": "litert", **arguments})


def test_works_from_threads(runtime: Any) -> None:
    data = builder.dense_model().file()
    results: list[bool] = []
    with Prober(runtime) as prober:
        # The thread that starts the helper ends before the helper is used again.
        first = threading.Thread(target=lambda: results.append(prober.probe(data).ok))
        first.start()
        first.join()
        threads = [
            threading.Thread(target=lambda: results.append(prober.probe(data).ok)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 5


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_dead(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not _alive(pid)


def test_closing_leaves_no_process_and_no_descriptor(runtime: Any) -> None:
    prober = Prober(runtime)
    before = set(os.listdir("/proc/self/fd"))
    prober.probe(builder.dense_model().file())
    pid = prober.pid
    assert pid is not None
    prober.close()
    prober.close()
    assert not Path(f"/proc/{pid}").exists()
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ProbeError, match="closed"):
        prober.probe(b"")


def test_a_killed_helper_is_replaced(runtime: Any) -> None:
    data = builder.dense_model().file()
    with Prober(runtime) as prober:
        assert prober.probe(data).ok
        assert prober.pid is not None
        os.kill(prober.pid, signal.SIGKILL)
        assert _wait_dead(prober.pid)
        assert prober.probe(data).ok


def test_one_helper_tries_all_of_a_scope(runtime: Any) -> None:
    data = builder.dense_model().file()
    with sharing_helpers():
        pids = set()
        for kernels in ("default", "builtin"):
            with Prober(runtime, kernels=kernels) as prober, sharing_helpers():
                assert prober.probe(data).ok
                assert prober.pid is not None
                pids.add(prober.pid)
        (pid,) = pids
        assert _alive(pid)
    assert not Path(f"/proc/{pid}").exists()


def test_a_fork_may_not_use_it(runtime: Any) -> None:
    with Prober(runtime) as prober:
        prober.probe(builder.dense_model().file())
        prober._pid += 1
        with pytest.raises(ForkedProcessError):
            prober.probe(b"")
        prober._pid -= 1


def _script(body: str, runtime: str, data_path: Path) -> list[str]:
    prelude = f"""
        import os, sys, signal
        sys.path.insert(0, {PACKAGE!r})
        from selfheal_edge.tflite.sandbox.probe import Prober
        data = open({str(data_path)!r}, "rb").read()
        runtime = {runtime!r}
    """
    return [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(body)]


def test_the_helper_and_its_candidate_die_with_their_parent(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "loop.tflite"
    path.write_bytes(_loop_model())
    body = """
        import threading
        prober = Prober(runtime, timeout_s=60)
        threading.Thread(target=prober.probe, args=(data,), daemon=True).start()
        while prober.pid is None: pass
        import time; time.sleep(1.0)
        print(prober.pid, flush=True)
        sys.stdin.read()
    """
    parent = subprocess.Popen(
        _script(body, runtime, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        children = Path(f"/proc/{helper}/task/{helper}/children")
        candidates = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        assert _alive(helper)
        parent.kill()
    assert _wait_dead(helper)
    assert all(_wait_dead(pid) for pid in candidates)


@pytest.mark.parametrize("hostile_setup", ["closed", "sigchld", "masked"])
def test_works_in_odd_callers(runtime: str, tmp_path: Path, hostile_setup: str) -> None:
    path = tmp_path / "good.tflite"
    path.write_bytes(builder.dense_model().file())
    setups = {
        "closed": "os.close(0); os.close(1); os.close(2)",
        "sigchld": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "masked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    }
    body = f"""
        {setups[hostile_setup]}
        with Prober(runtime) as prober:
            ok = prober.probe(data).ok and prober.probe(data).ok
        os._exit(7 if ok else 1)
    """
    done = subprocess.run(_script(body, runtime, path), timeout=60, check=False)
    assert done.returncode == 7


def test_native_stderr_stays_out_of_the_callers_terminal(runtime: Any, capfd: Any) -> None:
    with Prober(runtime) as prober:
        prober.probe(builder.dense_model().file())
        prober.probe(b"junk")
    assert capfd.readouterr() == ("", "")
