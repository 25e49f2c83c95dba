"""Rules of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import ROOT

PACKAGE = ROOT / "python" / "selfheal_edge"
CPP = ROOT / "cpp"
GENERATED = {"tflite/format/schema_options.py", "tflite/format/schema.py"}

# Lowest first. A module imports from its own layer or from one below it, never from one above.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "text", "_core"}),
    frozenset({"assets", "concurrency", "store", "tflite", "drift"}),
    frozenset({"monitoring", "integrity"}),
    frozenset({"calibration"}),
    frozenset({"diagnosis", "repair", "trial", "policy"}),
    frozenset({"inference", "health", "weights"}),
    frozenset({"loop"}),
    frozenset({"model"}),
    frozenset({"redteam", "cli", "report", "telemetry"}),
)
FACE = ("SelfHealingModel", "Baseline", "calibrate", "Policy", "Cause", "Event")
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(p for end in ("hpp", "cpp") for p in CPP.rglob(f"*.{end}"))
TEXTS = [*MODULES, *SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    """Return the name that `LAYERS` uses for a module."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST) -> set[str]:
    """Return the dotted names of our own modules that a module imports, at any depth."""
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
    return {n for n in found if n.split(".")[0] == "selfheal_edge"}


def layer(part: str) -> int:
    return next(n for n, parts in enumerate(LAYERS) if part in parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    mine = part_of(path)
    if path == PACKAGE / "__init__.py":
        return  # the face may name anything; what it loads is tested below
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else "__init__"
        if other in ("__init__", "__version__", *FACE):
            assert mine in LAYERS[-1], f"{mine} imports the package's face"
            continue
        assert layer(other) <= layer(mine), f"{mine} imports {name}, which lies above it"
        assert (mine, other) != ("repair", "diagnosis")
        if mine == "tflite":
            assert other in ("tflite", "errors", "text", "_core"), f"tflite imports {name}"


def test_every_part_has_its_layer() -> None:
    parts = {part_of(p) for p in MODULES} - {"__init__"}
    listed = frozenset().union(*LAYERS)
    assert parts <= listed, f"say in LAYERS where these belong: {sorted(parts - listed)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_python_modules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert "\t" not in text
    if str(path.relative_to(PACKAGE)) not in GENERATED:
        assert len(text.splitlines()) < 400


@pytest.mark.skipif(not CPP.is_dir(), reason="the C++ sources are not here")
@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_cpp_sources(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 500
    if path.relative_to(CPP).parts[0] in ("include", "src"):
        assert not re.search(r"pybind11|Python\.h|tflite|tensorflow", text, re.IGNORECASE), (
            "the core knows no Python and no TFLite"
        )
        assert not re.search(r"#include\s*<(fstream|iostream|filesystem)>", text)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
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
