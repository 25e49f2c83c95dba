"""Where packed weights cannot be owned, another way runs the model, and the reason can be read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import RUNTIMES, Array, Raw, answers, executing, flip, litert_library, same

import selfheal_edge as she
from selfheal_edge import _core, cli
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.select import KernelsArgument, load_runtime

pytestmark = [
    pytest.mark.skipif("litert" not in RUNTIMES, reason="LiteRT is not installed"),
    pytest.mark.usefixtures("plain_calibration"),
]

# LiteRT, but every second time that a model runs for the first time its packed weights are hit.
# All other functions are found in the library that this one is linked with.
UNSTEADY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static int packings;

int LiteRtCreateOpaqueOptions(const char *name, void *payload, void (*destroy)(void *), void **o) {
  int (*next)(const char *, void *, void (*)(void *), void **) =
      dlsym(RTLD_NEXT, "LiteRtCreateOpaqueOptions");
  const char *from = strstr(payload, "/proc/self/fd/");
  size_t size = from ? strcspn(from, "\"") : 0;
  if (size && size < sizeof path) {
    memcpy(path, from, size);
    path[size] = 0;
  }
  return next(name, payload, destroy, o);
}

int LiteRtRunCompiledModel(void *model, size_t i, size_t n, void *in, size_t m, void *out) {
  int (*next)(void *, size_t, size_t, void *, size_t, void *) =
      dlsym(RTLD_NEXT, "LiteRtRunCompiledModel");
  int status = next(model, i, n, in, m, out);
  if (path[0] && ++packings % 2 == 0) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char value;
    if (pread(fd, &value, 1, 1000) != 1) return 77;
    value ^= 1;
    if (pwrite(fd, &value, 1, 1000) != 1) return 77;
    close(fd);
  }
  path[0] = 0;
  return status;
}
"""


@pytest.fixture(scope="module")
def unsteady() -> Iterator[str]:
    """A library that packs the same weights differently each time."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = litert_library()
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/libUnsteady.so"
        source = Path(folder, "unsteady.c")
        source.write_text(UNSTEADY)
        command = [compiler, "-shared", "-fPIC", "-o", made, str(source), "-Wl,--no-as-needed"]
        command += [str(library), f"-Wl,-rpath,{library.parent}", "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        yield made


def litert() -> Any:
    return load_runtime("litert")


REASONS = {
    "untested version": "LiteRT 9.9.9 was not tested with this release",
    "missing function": "LiteRT's library lacks the function LiteRtCreateEnvironment",
    "missing library": "LiteRT's library cannot be loaded",
    "unsteady packing": "LiteRT packed the same weights twice and differently",
}


@pytest.fixture(params=REASONS)
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Make LiteRT unfit to own packed weights, in one way after the other."""
    runtime = litert()
    if not owned():
        pytest.skip("packed weights cannot be owned here anyway")
    if request.param == "untested version":
        monkeypatch.setattr(runtime, "version", "9.9.9")
    elif request.param == "missing function":
        monkeypatch.setattr(runtime, "_library", _core.__file__)
    elif request.param == "missing library":
        monkeypatch.setattr(runtime, "_library", str(tmp_path / "libLiteRt.so"))
    else:
        monkeypatch.setattr(runtime, "_library", request.getfixturevalue("unsteady"))
    monkeypatch.setattr(runtime, "_refusals", {})
    return REASONS[request.param]


def owned() -> bool:
    from selfheal_edge.tflite.session import Session

    session = Session(digits_model_path(), "litert", "default")
    try:
        return "packed" in session.instance.images
    finally:
        session.close()


@pytest.mark.parametrize(
    ("kernels", "chosen", "worst"),
    [("auto", "builtin", Coverage.EXECUTING), ("default", "default", Coverage.SOURCE)],
)
def test_the_interpreter_runs_it_and_says_why(
    digits: DigitsData,
    samples: Array,
    reason: str,
    kernels: KernelsArgument,
    chosen: Any,
    worst: Coverage,
) -> None:
    path = digits_model_path()
    baseline = she.calibrate(path, digits.calibration_inputs, runtime="litert", kernels=kernels)
    with she.SelfHealingModel(path, baseline, runtime="litert", kernels=kernels) as model:
        coverage = model.health.coverage
        assert set(model.weights.images) == {"source", "input"}
        assert model.health.fingerprint.kernels == chosen
        assert coverage.worst is worst
        assert f"packed weights cannot be owned: {reason}" in coverage.reason
        assert reason in str(coverage)
        raw = Raw(path, "litert", chosen)
        for x in samples[:20]:
            assert same(answers(model, x), raw.run([x]))
        # Guarded is what there is: the file's bytes.
        flip(model, 5000, image=executing(model))
        assert len(model.weights.scrub()) == 1
        assert same(answers(model, samples[0]), raw.run([samples[0]]))


def test_inspect_says_why(reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(digits_model_path()), "--runtime", "litert"]) == 0
    assert reason in " ".join(capsys.readouterr().out.split())


def test_a_fault_while_packing_is_gone_with_the_next_build(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What LiteRT lacks is remembered; that it packed differently once is not."""
    from selfheal_edge.tflite.session import Session

    session = Session(digits_model_path(), "litert", "default")
    try:
        assert reason in session.instance.note
        remembered = litert()._refusals
        assert any(remembered.values()) == ("twice" not in reason)
        monkeypatch.undo()
        monkeypatch.setattr(litert(), "_refusals", remembered)
        session.rebuild()
        assert ("packed" in session.instance.images) == ("twice" in reason)
    finally:
        session.close()


def test_an_interpreter_that_cannot_be_loaded_is_told_as_such(
    digits_baseline: she.Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded when something asks for it, long after the runtime was found."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(she.errors.RuntimeUnavailableError, match=r"ai_edge_litert\.interpreter"):
        she.SelfHealingModel(
            digits_model_path(), digits_baseline, runtime="litert", kernels="builtin"
        )
