"""The pages of docs/benchmarks are what their JSON renders to, and say how it came about."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import harness
import tables


def check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    tables.main()


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pages, which the script takes for them."""
    shutil.copytree(tables.PAGES, tmp_path / "pages")
    monkeypatch.setattr(tables, "PAGES", tmp_path / "pages")
    return tmp_path / "pages"


def test_committed_pages_are_what_the_script_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch)


def test_what_is_changed_by_hand_or_left_behind_is_named(
    pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = pages / "guard.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.99", "0.98"), encoding="utf-8")
    (pages / "of_nothing.md").write_text("# Figures of nothing\n", encoding="utf-8")
    (pages / "runtime.json").unlink()
    with pytest.raises(SystemExit, match=r"README\.md, guard\.md, of_nothing\.md, runtime\.md"):
        check(monkeypatch)


def test_a_benchmarks_json_becomes_a_page(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/somewhere/benchmarks/some.py", "--parts", "a", "--json", "x.json"]
    )
    rows = [
        harness.Row("model one: time", 1234.5, "us", None, False),
        harness.Row("model one: ratio", 1.043, "ratio", 1.02, False),
        harness.Row("model two: time", 0.04321, "us", None, False),
        harness.Row("model two: ratio", 1.01, "ratio", 1.02, False),
        harness.Row("bandwidth", 12.0, "GB/s", 10.0, True),
    ]
    harness.write(rows, pages / "some.json")
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    tables.main()
    text = (pages / "some.md").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads((pages / "some.json").read_text(encoding="utf-8"))
    assert "`python benchmarks/some.py --parts a`" in text
    assert facts["machine"]["cpu"] in text
    assert "AVX-512; Python 3" in text
    assert facts["date"] in text
    assert "| model one | 1,234 | 1.04 (missed) |" in text
    assert "| model two | 0.0432 | 1.01 |" in text
    assert "| bandwidth | 12 | GB/s | ≥ 10 | met |" in text
    assert "[Some](some.md)" in (pages / "README.md").read_text(encoding="utf-8")
