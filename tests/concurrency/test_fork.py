"""A forked child is refused, never hangs, and leaves its parent alone."""

from __future__ import annotations

import functools
import gc
import operator
import os
import select
import signal
import threading
import time
from collections.abc import Callable

import pytest
from tests import warm
from tests.loop.test_bad_input import CALLS, Call
from tests.support import Array, answers, bytes_of, pristine, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import ForkedProcessError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(work: Callable[[], object], *, gently: bool = False, timeout_s: float = 20.0) -> str:
    """Run in a forked child, return what it says; fail if it hangs or dies."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        if gently:  # with the destructors of what is not held any more
            del work
            gc.collect()
        os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], timeout_s)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            pytest.fail("the child hangs")
        said = os.read(reader, 65536).decode()
        end = time.monotonic() + timeout_s
        while (waited := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                pytest.fail(f"the child said {said!r} and does not end")
            time.sleep(0.005)
        assert waited[1] == 0, (waited, said)
        return said
    finally:
        os.close(reader)


@pytest.mark.parametrize("what", [*CALLS, "health", "events"])
def test_every_call_is_refused(model: she.SelfHealingModel, samples: Array, what: str) -> None:
    expected = answers(model, samples[:10])
    call: Call = CALLS.get(what, operator.attrgetter(what))

    def work() -> str:
        call(model)
        return "served"

    assert in_child(work).startswith("ForkedProcessError: model: expected use in the process that")
    assert same(answers(model, samples[:10]), expected)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_child_ends_and_the_parent_goes_on(
    digits_baseline: she.Baseline, samples: Array, num_threads: int
) -> None:
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, num_threads=num_threads
    ) as model:
        expected = answers(model, samples[:20])
        held = [model]

        def work() -> str:
            held[0].close()
            held.clear()
            return "closed"

        assert in_child(work, gently=True) == "closed"
        assert same(answers(model, samples[:20]), expected)
        assert bytes_of(model) == pristine(digits_model_path(), model)
        assert model.weights.scrub() == ()


@pytest.mark.slow
@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.long)])
def test_a_lock_that_another_thread_holds(
    model: she.SelfHealingModel, samples: Array, times: int
) -> None:
    """The child must not wait for a thread that only its parent has."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            model.predict(samples)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(times):
            for what in ("predict", "scrub", "generations", "snapshot"):
                said = in_child(functools.partial(CALLS[what], model), timeout_s=10)
                assert said.startswith("ForkedProcessError"), said
            assert in_child(model.close, timeout_s=10) == "None"
    finally:
        stop.set()
        thread.join()
    assert model.weights.scrub() == ()


def test_a_child_may_open_its_own(
    model: she.SelfHealingModel, digits_baseline: she.Baseline, samples: Array
) -> None:
    expected = answers(model, samples[:5])

    def work() -> str:
        with she.SelfHealingModel(digits_model_path(), digits_baseline) as own:
            she.redteam.inject(own).flip_bits(50, seed=1)
            own.weights.scrub()
            return str(same(answers(own, samples[:5]), expected))

    assert in_child(work) == "True"


def test_a_childs_child(model: she.SelfHealingModel) -> None:
    assert "ForkedProcessError" in in_child(lambda: in_child(lambda: model.health))


def test_the_error_is_one_of_ours() -> None:
    assert issubclass(ForkedProcessError, she.errors.SelfHealError)


ENDS_BY_ITSELF = """
import os, sys, time, warnings
warnings.simplefilter("ignore")  # Python's own, of a fork beside threads
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

digits = load_digits()
options = {"num_threads": 4, "kernels": sys.argv[1]}
baseline = she.calibrate(digits_model_path(), digits.calibration_inputs[:60], **options)
model = she.SelfHealingModel(digits_model_path(), baseline, **options)
before = model.predict(digits.heldout_inputs[:20])
child = os.fork()
if child == 0:
    sys.exit(0)  # not os._exit: the interpreter of Python is taken down, with all destructors
end = time.monotonic() + 60
while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
    if time.monotonic() > end:
        os.kill(child, 9)
        sys.exit("the child hangs")
    time.sleep(0.01)
assert waited[1] == 0, f"the child died: {waited}"
assert np.array_equal(model.predict(digits.heldout_inputs[:20]), before)
model.close()
"""


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_a_child_that_ends_by_itself(kernels: str) -> None:
    """A runtime's destructor waits for its threads, which a forked child has not."""
    done = warm.run(ENDS_BY_ITSELF, kernels)
    assert done.returncode == 0, done.stderr
