"""What healing needs is refused: answers go on, nothing is lost, and trust comes back."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import warm
from tests.support import RUNTIMES

import selfheal_edge as she

LITERT_BUILDS = pytest.mark.skipif(
    "litert" not in RUNTIMES,
    reason="tflite-runtime builds so small a model from what it holds: nothing can be refused",
)

BEGIN = """
import os, resource, sys, threading, time, logging
import numpy as np, numpy.random
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.redteam import inject
logging.disable(logging.CRITICAL)
digits = load_digits()
x = digits.heldout_inputs[:, np.newaxis]
baseline = she.Baseline.load(sys.argv[1])
def opened(**changes):
    changes = {"scrub_bytes_per_predict": 1 << 30, "rediagnose_after": 8, **changes}
    return she.SelfHealingModel(digits_model_path(), baseline, policy=she.Policy(**changes), seed=1)
def refuse(what, limit):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    return before
def put_off(model):
    # The rebuild that was due was refused, and the journal says so.
    return [e for e in model.events if e.strategy == "rebuild" and "put off" in str(e.outcome)]
def restored(model, expected):
    assert model.wait_healed(30)
    for n in range(800):
        model.predict(x[n % len(x)])
        model.wait_healed(30)
        if model.health.state == "healthy":
            break
    assert model.health.state == "healthy", (model.health.trouble, model.events[-3:])
    assert np.array_equal(model.predict(x[:50]), expected)
    assert model.weights.scrub() == ()
"""


Run = Callable[[str], None]


@pytest.fixture
def run(digits_baseline: she.Baseline, tmp_path: Path) -> Run:
    digits_baseline.save(tmp_path / "baseline")

    def ends_well(code: str) -> None:
        done = warm.run(BEGIN + textwrap.dedent(code), tmp_path / "baseline")
        assert done.returncode == 0, done.stderr[-3000:]

    return ends_well


def test_no_thread_for_the_worker(run: Run) -> None:
    """The kernel refuses the thread: predictions go on, and what was found waits for one."""
    run("""
    import _thread
    with opened(mode="background") as model:
        expected = model.predict(x[:50])
        # Root has no limit on threads, so the stack of a thread gets no room instead.
        threading.stack_size(1 << 38)
        before = refuse(resource.RLIMIT_AS, 1 << 37)
        try:
            threading.Thread(target=print).start()
        except (RuntimeError, MemoryError):
            pass
        else:
            raise SystemExit("a thread was to be had after all")
        inject(model).flip_bits(3, seed=1)
        assert not model.infer(x[0]).trusted
        for n in range(100):
            model.predict(x[n])
        assert not model.infer(x[0]).trusted, "it was not looked at"
        assert model.health.state == "untrusted"
        resource.setrlimit(resource.RLIMIT_AS, before)
        threading.stack_size(0)
        model.predict(x[0])  # asks again
        assert any(t.name == "selfheal-edge healing" for t in threading.enumerate())
        restored(model, expected)
        assert model.health.corrupt_blocks >= 1
        assert "weight_corruption" in [e.cause for e in model.events]
    """)


def test_no_thread_and_a_caller_waits(run: Run) -> None:
    """A thread that waits for the healing does it, where no other can be had."""
    run("""
    with opened(mode="background") as model:
        expected = model.predict(x[:50])
        threading.stack_size(1 << 38)
        before = refuse(resource.RLIMIT_AS, 1 << 37)
        inject(model).flip_bits(3, seed=1)
        model.predict(x[0])
        assert model.wait_healed(30)
        assert model.health.state == "healthy"
        assert model.health.repairs == 1
        resource.setrlimit(resource.RLIMIT_AS, before)
        threading.stack_size(0)
        restored(model, expected)
    """)


def test_no_thread_for_the_store(run: Run, tmp_path: Path) -> None:
    """A model opens without the store's thread; what waits is written when one can be had."""
    run(f"""
    def stored():
        path = {str(tmp_path / "store")!r}
        return she.SelfHealingModel(digits_model_path(), baseline, store=path, seed=1)
    with stored() as model:
        expected = model.predict(x[:50])
    for is_given_back in (False, True):
        threading.stack_size(1 << 38)
        before = refuse(resource.RLIMIT_AS, 1 << 37)
        with stored() as model:
            assert np.array_equal(model.predict(x[:50]), expected)
            inject(model).flip_bits(3, seed=1)
            assert model.weights.scrub()
            assert not any(t.name == "selfheal-store" for t in threading.enumerate())
            if is_given_back:
                resource.setrlimit(resource.RLIMIT_AS, before)
                threading.stack_size(0)
                inject(model).flip_bits(3, seed=2)
                assert model.weights.scrub()
                assert any(t.name == "selfheal-store" for t in threading.enumerate())
        resource.setrlimit(resource.RLIMIT_AS, before)
        threading.stack_size(0)
    with stored() as model:
        assert model.health.predictions == 150
        assert model.health.corrupt_blocks >= 3
    """)


@pytest.mark.parametrize("mode", ["inline", "background"])
@pytest.mark.parametrize("hot_spare", [False, True])
def test_no_descriptor(run: Run, mode: str, hot_spare: bool) -> None:
    """Nothing can be opened, so nothing can be built: what needs no building is healed."""
    run(f"""
    with opened(mode="{mode}", hot_spare={hot_spare}, known_answers_every=20,
                rebuild_after_predictions=30) as model:
        expected = model.predict(x[:50])
        assert model.wait_healed(30)
        before = refuse(resource.RLIMIT_NOFILE, 8 + max(map(int, os.listdir("/proc/self/fd"))))
        for _ in range(5):  # what other threads had open for a moment is taken as well
            try:
                while True:
                    os.dup(0)
            except OSError:
                time.sleep(0.02)
        inject(model).flip_bits(3, seed=1)
        for n in range(200):
            model.predict(x[n])
        assert model.wait_healed(30)
        assert model.health.corrupt_blocks >= 1
        assert "diagnosis" in [e.kind for e in model.events]
        assert put_off(model), "nothing was refused"
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        restored(model, expected)
    """)


@LITERT_BUILDS
@pytest.mark.parametrize("mode", ["inline", "background"])
def test_no_memory_to_build(run: Run, mode: str) -> None:
    run(f"""
    with opened(mode="{mode}", known_answers_every=20, rebuild_after_predictions=30) as model:
        expected = model.predict(x[:50])
        inject(model).flip_bits(1, seed=1)  # so that a worker is there
        model.predict(x[0])
        assert model.wait_healed(30)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        before = refuse(resource.RLIMIT_AS, used + (1 << 16))
        inject(model).flip_bits(3, seed=2)
        answered = 0
        for n in range(200):
            model.predict(x[n])
            answered += 1
        assert answered == 200
        assert model.wait_healed(30)
        resource.setrlimit(resource.RLIMIT_AS, before)
        assert model.health.corrupt_blocks >= 2
        assert put_off(model), "nothing was refused"
        restored(model, expected)
    """)


@LITERT_BUILDS
@pytest.mark.parametrize("mode", ["inline", "background"])
@pytest.mark.parametrize("room", [0, 4096])
def test_no_room_for_a_file(run: Run, mode: str, room: int) -> None:
    """No file can be written in full, in memory neither: nothing at all, or its beginning alone."""
    run(f"""
    with opened(mode="{mode}", known_answers_every=20, rebuild_after_predictions=30) as model:
        expected = model.predict(x[:50])
        assert model.wait_healed(30)
        before = refuse(resource.RLIMIT_FSIZE, {room})
        file = os.memfd_create("room")
        os.ftruncate(file, 0)
        os.lseek(file, {room}, os.SEEK_SET)
        try:
            os.write(file, b"1")
        except OSError:
            pass
        else:
            raise SystemExit("there was room after all")
        inject(model).flip_bits(3, seed=1)
        for n in range(200):
            model.predict(x[n])
        assert model.wait_healed(30)
        assert model.health.corrupt_blocks >= 1
        assert "diagnosis" in [e.kind for e in model.events]
        assert put_off(model), "nothing was refused"
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        restored(model, expected)
    """)


@LITERT_BUILDS
def test_a_model_opens_where_files_are_small(run: Run) -> None:
    """LiteRT aborts the process where its packed weights cannot be written to the end."""
    run("""
    refuse(resource.RLIMIT_FSIZE, digits_model_path().stat().st_size + 64)
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        assert "RLIMIT_FSIZE" in model.health.coverage.reason, model.health.coverage
        answers = model.predict(x)
        assert (answers.reshape(len(x), -1).argmax(1) == digits.heldout_labels).mean() > 0.9
    """)


NO_PROCESS = """
if os.getuid() == 0:  # whom no limit on processes holds
    os.setuid(65534)
before = refuse(resource.RLIMIT_NPROC, 0)
try:
    child = os.fork()
except OSError:
    pass
else:
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    raise SystemExit("a process was to be had after all")
"""


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_no_process(run: Run, mode: str) -> None:
    """Neither a process nor a thread can be had: what needs none is healed."""
    run(
        f"""
    with opened(mode="{mode}", known_answers_every=20, rebuild_after_predictions=30) as model:
        expected = model.predict(x[:50])
{textwrap.indent(NO_PROCESS, "        ")}
        inject(model).flip_bits(3, seed=1)
        for n in range(200):
            model.predict(x[n])
        assert model.wait_healed(30)
        assert model.health.corrupt_blocks >= 1
        assert model.health.repairs >= 1
        assert "diagnosis" in [e.kind for e in model.events]
        resource.setrlimit(resource.RLIMIT_NPROC, before)
        restored(model, expected)
    """
    )


def test_no_process_to_try_a_file_in(run: Run) -> None:
    """The trial of an unknown file is refused with a reason, and not held against the file."""
    run(
        """
    model = bytearray(open(digits_model_path(), "rb").read())
    model += bytes(16)  # another file, which no baseline vouches for
    """
        + NO_PROCESS
        + """
    try:
        she.calibrate(bytes(model), digits.calibration_inputs)
    except Exception as error:
        assert "process" in str(error) or isinstance(error, OSError), repr(error)
    else:
        raise SystemExit("it was not tried")
    resource.setrlimit(resource.RLIMIT_NPROC, before)
    she.calibrate(bytes(model), digits.calibration_inputs)
    """
    )
