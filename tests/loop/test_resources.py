"""Nothing leaks: descriptors, maps, memory."""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.support import Array, flip, largest_region, open_files, stays_flat

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.model import parts_of

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs /proc to count what is open"
)


def mapped() -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("selfheal-model")


def use(baseline: she.Baseline, samples: Array, cycles: int) -> None:
    for n in range(cycles):
        with she.SelfHealingModel(digits_model_path(), baseline) as model:
            model.predict(samples[n % 490 :][:10])
            if n % 10 == 0:
                flip(model, n)
                model.weights.scrub()


@pytest.mark.slow
@pytest.mark.parametrize("cycles", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_open_and_close(digits_baseline: she.Baseline, samples: Array, cycles: int) -> None:
    def use_and_collect() -> None:
        use(digits_baseline, samples, cycles)
        gc.collect()

    use(digits_baseline, samples, 30)
    files, maps = open_files(), mapped()
    assert stays_flat(use_and_collect, 20 * cycles)  # a model that leaks leaves 33 KiB and more
    assert open_files() == files
    assert mapped() == maps == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["inline", "background"])
def test_forgotten_models(
    digits_baseline: she.Baseline, samples: Array, mode: Literal["inline", "background"]
) -> None:
    """Without close: the garbage collector finds all of it, a worker that has nothing to do too."""
    files, threads = open_files(), threading.active_count()
    policy = she.Policy(mode=mode, scrub_bytes_per_predict=1 << 20)
    for _ in range(5):  # one that is kept shows in an exact count
        model = she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy)
        flip(model, largest_region(model).offset)
        model.predict(samples[0])
        assert model.wait_healed(30)
        assert model.health.repairs == 1
        del model
    end = time.monotonic() + 120.0
    while time.monotonic() < end:  # a worker may still be on its way back from its last job
        gc.collect()
        # Threads of tests that ran before may end meanwhile, and then there are fewer.
        if threading.active_count() <= threads and open_files() <= files:
            break
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert open_files() <= files
    assert mapped() == 0


def test_failed_openings(digits_baseline: she.Baseline, tmp_path: Path) -> None:
    broken: Any = 5
    there = dataclasses.replace(digits_baseline.fingerprint, machine="elsewhere")
    elsewhere = dataclasses.replace(digits_baseline, fingerprint=there)  # the start writes an event
    other = tmp_path / "other.tflite"
    other.write_bytes(digits_model_path().read_bytes() + bytes(4))
    files = open_files()
    for _ in range(5):
        with pytest.raises(she.errors.BaselineMismatchError):
            she.SelfHealingModel(other, digits_baseline)
        with pytest.raises(TypeError):
            she.SelfHealingModel(digits_model_path(), elsewhere, clock=broken)
    assert open_files() == files
    assert mapped() == 0


def test_serving(model: she.SelfHealingModel, samples: Array) -> None:
    for _ in range(4):
        model.predict(samples)
    files = open_files()

    def serve() -> None:
        for n in range(3000):
            model.predict(samples[n % 500])
            if n % 300 == 0:
                flip(model, n)
                model.weights.scrub()
                model.rollback()

    assert stays_flat(serve, 4 * 1024)
    assert open_files() == files


@pytest.mark.skipif(sys.platform != "linux", reason="memory files and seals are Linux")
def test_the_memory_file_is_sealed(model: she.SelfHealingModel) -> None:
    import fcntl

    fd = int(Path(parts_of(model).session.source.path).name)  # /proc/self/fd/…
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 10)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 10**6)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    was = behind(fd)
    model.close()
    # Another thread, such as the one that sweeps code, may be given the number at once.
    assert behind(fd) != was


def behind(descriptor: int) -> tuple[int, int] | None:
    """Return which file a descriptor is of, None where it is closed."""
    try:
        about = os.fstat(descriptor)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def test_no_descriptor_left(digits_baseline: she.Baseline, samples: Array) -> None:
    """A device out of descriptors still restores bytes in place, and says what it could not do."""
    import resource

    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        expected = model.predict(samples[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            she.redteam.inject(model).flip_bits(5, seed=1)
            assert model.weights.scrub()
            assert model.weights.scrub(repair=False) == ()
            assert bytes(model.predict(samples[0])) == bytes(expected)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        model.rollback()
        assert model.health.state == "healthy"


def test_nowhere_to_write(
    digits_baseline: she.Baseline, samples: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only device has no temporary folder: models open all the same."""
    import tempfile

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    files = open_files()
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        model.predict(samples[0])
        model.rollback()
    assert open_files() == files
