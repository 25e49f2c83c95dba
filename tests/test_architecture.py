"""Rules of the house that a machine can check."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import ROOT, all_hold

PACKAGE = ROOT / "python" / "selfheal_edge"
CPP = ROOT / "cpp"
GENERATED = {"tflite/format/schema_options.py", "tflite/format/schema.py"}

# Which parts of the package each part may import, beside `LEAVES`. The folder tree is the
# architecture: what is not listed here is no arrow.
LEAVES = frozenset({"errors", "text", "hashing", "log", "_core"})
ARROWS: dict[str, frozenset[str]] = {
    part: frozenset(others.split())
    for part, others in {
        "errors": "",
        "text": "",
        "hashing": "",
        "log": "",
        "causes": "",
        "assets": "",
        "drift": "",
        "concurrency": "",
        "tflite": "",
        "store": "causes",
        "monitoring": "tflite store",
        "integrity": "tflite concurrency",
        "weights": "integrity store tflite",
        "calibration": "diagnosis learning monitoring tflite store",
        "diagnosis": "causes monitoring",
        "policy": "causes diagnosis tflite",
        "learning": "causes monitoring store tflite",
        "repair": "learning integrity tflite causes",
        "trial": "repair learning integrity monitoring tflite",
        "health": "causes integrity monitoring store tflite",
        "inference": "health policy integrity monitoring concurrency tflite",
        "loop": "inference diagnosis repair trial learning calibration store policy causes "
        "integrity monitoring concurrency tflite",
        "model": "loop inference health weights policy diagnosis repair learning store integrity "
        "monitoring concurrency tflite",
        "ensemble": "model health policy causes learning store tflite concurrency",
        "redteam": "model weights health learning causes tflite",
        "cli": "redteam model calibration diagnosis health policy causes integrity learning store "
        "tflite assets weights",
        "__main__": "cli",
    }.items()
}
# The same inside `tflite`, from a loaded model down to the format of its file.
INSIDE_TFLITE: dict[str, frozenset[str]] = {
    part: frozenset(others.split())
    for part, others in {
        "format": "",
        "validation": "format",
        "file": "validation format",
        "memory": "",
        "float_environment": "",
        "coverage": "file format",
        "sandbox": "memory file",
        "runtimes": "coverage sandbox memory file format float_environment",
        "arrays": "runtimes",
        "input_table": "runtimes",
        "signatures": "runtimes file",
        "correction_file": "input_table runtimes file",
        "fixed_shapes": "runtimes sandbox memory file format",
        "flip_check": "runtimes coverage memory format",
        "session": "flip_check signatures runtimes coverage sandbox memory file float_environment",
    }.items()
}
# Whatever else changes: a strategy knows no cause, an inference neither heals nor knows that it is
# healed, and what learns writes nothing.
NEVER = {
    ("repair", "diagnosis"),
    ("diagnosis", "repair"),
    ("inference", "diagnosis"),
    ("inference", "repair"),
    ("inference", "loop"),
    ("learning", "integrity"),
}
# A file holds one idea. These are lists, or join the parts of the loop.
LISTS = {"errors.py", "loop/actions.py", "loop/incidents.py", "tflite/format/records.py"}
JOINTS = {
    "model.py",
    "loop/executor.py",
    "loop/repair_executor.py",
    "loop/assembly.py",
    "loop/label_desk.py",
}
MOST_NAMES = 10
MOST_PARTS = 7
FACE = ("SelfHealingModel", "Baseline", "calibrate", "Policy", "Cause", "Event")
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(p for end in ("hpp", "cpp") for p in CPP.rglob(f"*.{end}"))
TEXTS = [*MODULES, *SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]


def holds_for(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make a test of a rule for one file: it names every file that breaks it, and how."""

    def test_of(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            all_hold(rule, {str(path.relative_to(ROOT)): path for path in paths})

        test.__doc__ = rule.__doc__
        return test

    return test_of


def part_of(path: Path) -> str:
    """Return the name that `ARROWS` uses for a module."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def read(path: Path) -> tuple[str | None, frozenset[str]]:
    """Return a module's docstring, and the dotted names of ours that it imports, at any depth."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            if node.module == "selfheal_edge":
                found |= {f"selfheal_edge.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    ours = frozenset(n for n in found if n.split(".")[0] == "selfheal_edge")
    return ast.get_docstring(tree), ours


def parts_imported(path: Path) -> set[str]:
    """Return the other parts of the package that a module imports."""
    parts = {[*name.split("."), "__init__"][1] for name in read(path)[1]}
    return parts - {part_of(path)}


@holds_for(MODULES)
def test_imports_follow_the_arrows(path: Path) -> None:
    mine = part_of(path)
    if path == PACKAGE / "__init__.py":
        return  # the face may name anything; what it loads is tested below
    allowed = ARROWS[mine] | LEAVES
    if mine in ("cli", "redteam"):
        allowed |= {"__init__", "__version__", *FACE}
    assert parts_imported(path) <= allowed, f"no arrow leads from {mine} there"


@holds_for(sorted((PACKAGE / "tflite").rglob("*.py")))
def test_imports_follow_the_arrows_inside_tflite(path: Path) -> None:
    mine = path.relative_to(PACKAGE / "tflite").with_suffix("").parts[0]
    names = (n.split(".") for n in read(path)[1])
    parts = {n[2] for n in names if n[1:2] == ["tflite"]} - {mine}
    assert mine == "__init__" or parts <= INSIDE_TFLITE[mine], f"no arrow leads from {mine} there"


def test_some_arrows_are_never_drawn() -> None:
    assert not [(a, b) for a, b in NEVER if b in ARROWS.get(a, ())]


@pytest.mark.parametrize("arrows", [ARROWS, INSIDE_TFLITE], ids=["package", "tflite"])
def test_arrows_point_down(arrows: dict[str, frozenset[str]]) -> None:
    """No part imports, by whatever way, what imports it."""
    below = {part: set(others) for part, others in arrows.items()}
    for _ in below:
        for others in below.values():
            others.update(*(below[other] for other in tuple(others)))
    assert not [part for part, others in below.items() if part in others]


def test_every_part_has_its_arrows() -> None:
    parts = {part_of(p) for p in MODULES} - {"__init__"}
    assert parts <= ARROWS.keys(), f"say in ARROWS what these import: {parts - ARROWS.keys()}"


def test_tests_mirror_the_package() -> None:
    """A folder of tests is named after what it tests; `core` is the compiled module."""
    folders = {p.name for p in (ROOT / "tests").iterdir() if any(p.glob("test_*.py"))}
    assert folders <= {p.name for p in PACKAGE.iterdir() if p.is_dir()} | {"core"}


@holds_for(MODULES)
def test_python_modules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert read(path)[0], "no docstring"
    assert "\t" not in text
    name = str(path.relative_to(PACKAGE))
    if name in GENERATED | LISTS or path.name == "__init__.py":
        return
    exported = re.search(r"^__all__ = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    names = exported.group(1).count('"') // 2 if exported else 0
    assert names <= MOST_NAMES, f"{names} names are more than one idea"
    if name not in JOINTS:
        parts = parts_imported(path) - LEAVES
        assert len(parts) <= MOST_PARTS, f"one idea needs no {len(parts)} parts: {sorted(parts)}"


@pytest.mark.skipif(not CPP.is_dir(), reason="the C++ sources are not here")
@holds_for(SOURCES)
def test_cpp_sources(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 500
    if path.relative_to(CPP).parts[0] in ("include", "src"):
        assert not re.search(r"pybind11|Python\.h|tflite|tensorflow", text, re.IGNORECASE), (
            "the core knows no Python and no TFLite"
        )
        assert not re.search(r"#include\s*<(fstream|iostream|filesystem)>", text)
    if path.relative_to(CPP).parts[0] != "tests":
        assert not re.search(r"std::bit_cast<|std::source_location|std::format\(|<format>", text), (
            "wheels for aarch64 are built with libstdc++ 10, which has none of these"
        )


@holds_for(TEXTS)
def test_nothing_is_left_to_do(path: Path) -> None:
    words = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
    text = path.read_text(encoding="utf-8")
    assert not [w for w in words if re.search(rf"\b{w}\b", text)]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_importing_loads_no_runtime() -> None:
    loaded = run("import sys, selfheal_edge; print('\\n'.join(sys.modules))").splitlines()
    assert "selfheal_edge._core" in loaded
    for name in ("ai_edge_litert", "tflite_runtime", "selfheal_edge.tflite", "hypothesis", "rich"):
        assert not [m for m in loaded if m == name or m.startswith(name + ".")]


def test_every_public_name_is_there() -> None:
    names = run(
        "import selfheal_edge as she\n"
        "assert set(she.__all__) <= set(dir(she))\n"
        "print(*[n for n in she.__all__ if getattr(she, n) is None])"
    )
    assert names.strip() == ""


def test_an_unknown_name() -> None:
    import selfheal_edge

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = selfheal_edge.nothing


def test_every_error_has_one_root() -> None:
    from selfheal_edge import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.SelfHealError)
