"""What a calling thread may have changed for itself turns no sound weights into a fault."""

from __future__ import annotations

import ctypes
import locale
import os
import platform
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import Array, answers, kinds

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path

X86 = platform.machine() in ("x86_64", "AMD64")
UPWARD = 0x800 if X86 else 0x400000
FLUSH = 0x8040  # flush to zero, denormals are zero
LIBC = ctypes.CDLL(None)


def round_up() -> None:
    assert LIBC.fesetround(UPWARD) == 0


def flush_denormals() -> None:
    if not X86:
        pytest.skip("how this is set is known for x86")
    environment = (ctypes.c_uint32 * 16)()
    LIBC.fegetenv(environment)
    environment[7] |= FLUSH  # MXCSR
    LIBC.fesetenv(environment)


def be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})


def change_locale() -> None:
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        return


CHANGES = [round_up, flush_denormals, be_nice, block_signals, change_locale]


def in_a_changed_thread(change: Callable[[], None], work: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            change()
            work()
        except BaseException as error:
            failed.append(error)

    before = locale.setlocale(locale.LC_ALL)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    locale.setlocale(locale.LC_ALL, before)
    if failed:
        raise failed[0]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hot_spare", [False, True])
def test_known_answers_are_the_same_in_every_thread(
    digits_baseline: she.Baseline, samples: Array, change: Callable[[], None], hot_spare: bool
) -> None:
    """Asked, rebuilt, failed over to, and healed: by a thread that computes otherwise."""
    policy = she.Policy(known_answers_every=5, rebuild_after_predictions=7, hot_spare=hot_spare)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        expected = answers(model, samples[:20])[0]

        def serve() -> None:
            for x in samples[:40]:
                model.predict(x)
            she.redteam.inject(model).flip_bits(3, seed=1)
            model.weights.scrub()
            model.rollback()

        in_a_changed_thread(change, serve)
        assert "runtime_fault" not in [str(e.cause) for e in model.events]
        assert model.health.state == "healthy"
        assert model.health.failed_repairs == 0
        assert kinds(model).count("diagnosis") == 1, "the flips, and nothing else"
        assert np.array_equal(answers(model, samples[:20])[0], expected)


@pytest.mark.parametrize("change", [round_up, flush_denormals])
def test_a_model_may_be_opened_by_such_a_thread(
    digits_baseline: she.Baseline, samples: Array, change: Callable[[], None]
) -> None:
    models: list[Any] = []

    def work() -> None:
        models.append(she.SelfHealingModel(digits_model_path(), digits_baseline))

    in_a_changed_thread(change, work)
    with models[0] as model:
        assert "commissioned" not in kinds(model), "the known answers are those of the baseline"
        model.rollback()
        model.predict(samples[:50])
        assert model.health.state == "healthy"
        assert kinds(model) == ["rollback"]


def test_the_thread_keeps_what_it_has_set(digits_baseline: she.Baseline, samples: Array) -> None:
    policy = she.Policy(known_answers_every=1)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:

        def serve() -> None:
            model.predict(samples[0])
            assert LIBC.fegetround() == UPWARD

        in_a_changed_thread(round_up, serve)
