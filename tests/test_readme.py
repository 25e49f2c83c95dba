"""What the README and the docstrings show is run as it stands."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from tests.support import ROOT, all_hold

import selfheal_edge

README = ROOT / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
MODULES = [
    info.name
    for info in pkgutil.walk_packages(selfheal_edge.__path__, "selfheal_edge.")
    if not info.name.endswith(("make_digits_cnn", "__main__", "_probe_child"))
]


def with_examples() -> list[str]:
    """Return the modules whose docstrings show one."""
    package = Path(selfheal_edge.__file__).parent
    paths = [path for path in package.rglob("*.py") if ">>>" in path.read_text(encoding="utf-8")]
    shown = {".".join(path.relative_to(package.parent).with_suffix("").parts) for path in paths}
    return [name for name in MODULES if name in shown or f"{name}.__init__" in shown]


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks, one after the other, as a reader would paste them."""
    assert len(BLOCKS) >= 3
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README block {number}", "exec"), names)
    assert (tmp_path / "digits.baseline").exists()


def test_every_module_can_be_imported() -> None:
    for name in MODULES:
        importlib.import_module(name)


@pytest.mark.parametrize("name", with_examples())
def test_docstring_examples(name: str) -> None:
    """Examples in docstrings give what they say."""
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted


def stub_docstrings() -> list[tuple[str, str]]:
    """Name and text of each docstring of the compiled module's stub that has an example."""
    stub = Path(selfheal_edge.__file__).with_name("_core.pyi")
    return [
        (node.name, text)
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and ">>>" in (text := ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize(("name", "text"), stub_docstrings(), ids=lambda value: value[:20])
def test_examples_of_the_stub(name: str, text: str) -> None:
    """Examples of the compiled module give what they say; doctest does not look into stubs."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, "_core.pyi", None)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).failed == 0


PAGES = sorted(
    path for where in ("*.md", "docs/*.md", "docs/benchmarks/*.md") for path in ROOT.glob(where)
)


def test_links_lead_somewhere() -> None:
    """Every relative link of README and docs has a target."""
    all_hold(links_lead_somewhere, {str(page.relative_to(ROOT)): page for page in PAGES})


def links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_sessions_that_are_named_exist() -> None:
    """What README, docs and the checks themselves call `nox -s NAME` is a session."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    named = set()
    for page in (*PAGES, ROOT / ".ci" / "run"):
        for given in re.findall(
            r"nox(?:\[@\]\}\")? -s ([^`#|\n]+)", page.read_text(encoding="utf-8")
        ):
            words = given.split(" -- ")[0].split("  ")[0].split()
            named |= {re.split(r"[-(]", word.strip("\"'"))[0] for word in words}
    assert len(named) > 5
    assert named <= sessions
