"""Render docs/benchmarks: a page for each JSON file there, and the list of pages.

    python benchmarks/guard.py --json docs/benchmarks/guard.json
    python benchmarks/tables.py

A file is what a benchmark's ``--json`` wrote, to which a line "title" may be added, or, for figures
of before benchmarks wrote down how they came about, tables of text. The instruction counts come
from where `callgrind.py` keeps them. --check renders nothing, and fails where a page is not what
would be rendered.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import callgrind
import guard_tables
from guard_tables import Table

PAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
INSTRUCTIONS: Final = "instructions"
_OF_BEFORE: Final = (
    "Not regenerated yet: figures as they stood in the docs, from before benchmarks wrote down how "
    "they came about."
)


def markdown(table: Table) -> str:
    """Write a table in Markdown."""
    lines = [f"| {' | '.join(table.head)} |", f"|{' --- |' * len(table.head)}"]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """Write a figure with three digits that mean something, and all of those before the point."""
    if value == 0 or value != value:
        return f"{value:g}"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-4 else f"{value:.1e}"


def generic(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """Return rows as they are, those of one case side by side where several have the same ones.

    A case is what stands before the first colon of a row's name.
    """
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        case, colon, figure = row["name"].partition(": ")
        cases.setdefault(case if colon else "", {})[figure if colon else case] = row
    alike: dict[tuple[str, ...], list[str]] = {}
    for case, figures in cases.items():
        alike.setdefault(tuple(figures), []).append(case)
    return [
        side_by_side(cases, names, figures)
        if len(names) > 1 and len(figures) < 8
        else one_below_the_other(cases, names)
        for figures, names in alike.items()
    ]


def target_of(row: dict[str, Any]) -> str:
    """Write what a figure should be; nothing without a target."""
    if row["target"] is None:
        return ""
    return f"{'≥' if row['higher_is_better'] else '≤'} {number(row['target'])}"


def is_missed(row: dict[str, Any]) -> bool:
    """Whether a figure has a target and does not reach it."""
    if row["target"] is None:
        return False
    reached = (
        row["value"] >= row["target"]
        if row["higher_is_better"]
        else (row["value"] <= row["target"])
    )
    return not reached


def side_by_side(
    cases: dict[str, dict[str, dict[str, Any]]], names: Iterable[str], figures: Iterable[str]
) -> Table:
    """Return a line for each case."""
    names, head, body = list(names), ["case"], []
    for figure in figures:
        row = cases[names[0]][figure]
        about = ", ".join(part for part in (row["unit"], target_of(row)) if part)
        head.append(f"{figure} ({about})" if about else figure)
    for name in names:
        rows = cases[name].values()
        body.append([name, *(number(r["value"]) + " (missed)" * is_missed(r) for r in rows)])
    return Table(head, body)


def one_below_the_other(cases: dict[str, dict[str, dict[str, Any]]], names: Iterable[str]) -> Table:
    """Return a line for each figure."""
    body = []
    for name in names:
        for figure, row in cases[name].items():
            verdict = "missed" if is_missed(row) else "met" if target_of(row) else ""
            label = f"{name}: {figure}" if name else figure
            body.append([label, number(row["value"]), row["unit"], target_of(row), verdict])
    return Table(["figure", "value", "unit", "target", ""], body)


def machine(facts: dict[str, Any] | str) -> str:
    """Write what figures depend on."""
    if isinstance(facts, str):
        return facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    wide = "with" if facts["avx512"] else "without"
    return f"{facts['cpu']}, {facts['cores']} cores, {wide} AVX-512; {versions}"


def title_of(name: str, content: dict[str, Any]) -> str:
    """Return the heading of a page."""
    return str(content.get("title", name.replace("_", " ").capitalize()))


def page(name: str, content: dict[str, Any]) -> str:
    """Return a page in Markdown."""
    if "tables" in content:
        tables = [Table(one["head"], one["rows"]) for one in content["tables"]]
    elif name.startswith(("guard", "memory")):
        tables = guard_tables.all_of({r["name"]: r["value"] for r in content["rows"]})
    else:
        tables = generic(content["rows"])
    parts = [
        f"# {title_of(name, content)}",
        f"Made by `python benchmarks/tables.py` from [{name}.json]({name}.json): change no figure "
        "here.",
        f"- `{content['command']}`\n- {machine(content['machine'])}\n- {content['date']}",
    ]
    if "tables" in content:
        parts.append(_OF_BEFORE)
    return "\n\n".join([*parts, *(markdown(one) for one in tables)]) + "\n"


def page_of_instructions() -> str:
    """Return the page of the instruction counts."""
    kept = json.loads(callgrind.TABLE.read_text(encoding="utf-8"))
    counted = [
        f"- {guard_tables.RUNTIMES[runtime]}: "
        + ", ".join(f"{what} {value}" for what, value in models["counted with"].items())
        for runtime, models in kept.items()
    ]
    parts = [
        "# Instructions of a prediction's part in the core",
        "Made by `python benchmarks/tables.py` from [instructions.json]"
        "(../../benchmarks/instructions.json), which `nox -s instructions -- --write` counts: "
        "change no figure here.",
        "\n".join(["- `python benchmarks/callgrind.py --write`", *counted]),
        markdown(guard_tables.instructions(kept)),
    ]
    return "\n\n".join(parts) + "\n"


def index(contents: dict[str, dict[str, Any]]) -> str:
    """Return the list of pages."""
    rows = [
        [f"[{title_of(name, content)}]({name}.md)", f"`{content['command']}`", content["date"]]
        for name, content in sorted(contents.items())
    ]
    rows.append(
        [
            f"[Instructions of a prediction's part in the core]({INSTRUCTIONS}.md)",
            "`python benchmarks/callgrind.py --write`",
            "",
        ]
    )
    parts = [
        "# Figures",
        "What benchmarks measured, as `python benchmarks/tables.py` renders it from the JSON files "
        "beside these pages. What a figure means and what follows from it stands in "
        "[performance](../performance.md), [integrity](../integrity.md) and "
        "[detectors](../detectors.md). Figures of virtual machines drift; ratios measured turn by "
        "turn in one run are what to look at.",
        markdown(Table(["page", "command", "date"], rows)),
    ]
    return "\n\n".join(parts) + "\n"


def rendered() -> dict[Path, str]:
    """Return every page by its path."""
    contents = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PAGES.glob("*.json")
    }
    pages = {PAGES / f"{name}.md": page(name, content) for name, content in contents.items()}
    pages[PAGES / f"{INSTRUCTIONS}.md"] = page_of_instructions()
    pages[PAGES / "README.md"] = index(contents)
    return pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page is out of date")
    pages = rendered()
    if parser.parse_args().check:
        stale = [
            path.name
            for path in {*pages, *PAGES.glob("*.md")}
            if not path.exists() or path.read_text(encoding="utf-8") != pages.get(path)
        ]
        if stale:
            sys.exit(f"not as `python benchmarks/tables.py` renders it: {', '.join(sorted(stale))}")
        return
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
