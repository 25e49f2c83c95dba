"""`selfheal-edge snapshot`: the saved states of a model's weights in its store."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, Final

from selfheal_edge.cli.change import Change, make
from selfheal_edge.cli.screen import is_silent, moment, print_facts, print_rows, write_json
from selfheal_edge.cli.store_file import DirectStore, place_and_key, reading
from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.generations import ACTIVE, StoredGeneration, StoredGenerations
from selfheal_edge.store.inbox import PRUNE, RESTORE
from selfheal_edge.text import LIST, shown
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.weights import write_model

__all__ = ["run_snapshot"]

_GOLDEN: Final = 0
_TRIAL: Final = "trial"
_DIGITS_SHOWN: Final = 16


def run_snapshot(arguments: argparse.Namespace) -> int:
    """Run one of the commands; errors are the caller's."""
    acts = {
        "list": _list,
        "show": _show,
        "verify": _verify,
        "export": _export,
        "restore": _restore,
        "prune": _prune,
    }
    return acts[arguments.act](arguments)


def _one(generations: StoredGenerations, number: int) -> StoredGeneration:
    found = generations.find(number)
    if found is None:
        held = [row.number for row in generations.all()]
        raise ValueError(f"generation: expected one of {held}, got {number}")
    return found


def _facts(row: StoredGeneration, active: int, golden: frozenset[bytes]) -> dict[str, Any]:
    is_golden = row.number == _GOLDEN
    return {
        "generation": row.number,
        "state": "golden" if is_golden else str(row.fields.get("state")),
        "serves": row.number == active,
        "pinned": bool(row.fields.get("pinned")),
        "nbytes": row.nbytes,
        "blocks": len(row.blocks),
        "own_blocks": 0 if is_golden else len(set(row.blocks) - golden),
        "wall": row.fields.get("wall"),
        "sha256": row.digest,
        "fields": dict(row.fields),
    }


def _all_facts(generations: StoredGenerations) -> list[dict[str, Any]]:
    rows, active = generations.all(), generations.active
    golden = frozenset(name for row in rows if row.number == _GOLDEN for name in row.blocks)
    return [_facts(row, active, golden) for row in rows]


def _list(arguments: argparse.Namespace) -> int:
    with reading(arguments) as database:
        generations = DirectStore(database).generations
        facts, active = _all_facts(generations), generations.active
    write_json({"active": active, "generations": facts}, arguments.json)
    if is_silent(arguments.json):
        return 0
    if facts:
        head = ("generation", "state", "own blocks", "saved (UTC)", "sha256")
        print_rows(
            head,
            [
                (
                    fact["generation"],
                    ", ".join(
                        [
                            fact["state"],
                            *(["serves"] if fact["serves"] else []),
                            *(["pinned"] if fact["pinned"] else []),
                        ]
                    ),
                    fact["own_blocks"],
                    moment(fact["wall"]),
                    fact["sha256"][:_DIGITS_SHOWN],
                )
                for fact in facts
            ],
        )
    else:
        print("no generations are kept here: the model's own file serves")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    with reading(arguments) as database:
        generations = DirectStore(database).generations
        _one(generations, arguments.generation)
        facts = next(
            fact for fact in _all_facts(generations) if fact["generation"] == arguments.generation
        )
    write_json(facts, arguments.json)
    if is_silent(arguments.json):
        return 0
    named = {**facts, "saved (UTC)": moment(facts["wall"])}
    others = {**named.pop("fields")}
    for name in ("state", "pinned", "wall"):
        others.pop(name, None)
    named.pop("wall")
    named["own blocks"] = f"{named.pop('own_blocks')} of {named.pop('blocks')}"
    print_facts([*named.items(), *others.items()])
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    problems: dict[int, str | None] = {}
    with reading(arguments) as database:
        generations = DirectStore(database).generations
        given = arguments.generation
        rows = generations.all() if given is None else (_one(generations, given),)
        for row in rows:
            problems[row.number] = _problem(generations, row.number)
        active = generations.active
    if given is None and active != _GOLDEN and active not in problems:
        problems[active] = "it is to serve, and is not held"
    is_well = not any(problems.values())
    found = [{"generation": n, "problem": p} for n, p in sorted(problems.items())]
    write_json({"verified": is_well, "generations": found}, arguments.json)
    if not is_silent(arguments.json):
        if found:
            rows_shown = [(n, "damaged" if p else "sound", p or "") for n, p in problems.items()]
            print_rows(("generation", "bytes", "problem"), sorted(rows_shown))
        else:
            print("no generations are kept here: the model's own file serves")
    return 0 if is_well else 1


def _problem(generations: StoredGenerations, number: int) -> str | None:
    try:
        generations.load(number)
    except (IntegrityError, StoreError) as error:
        return str(error)
    return None


def _export(arguments: argparse.Namespace) -> int:
    if os.path.exists(arguments.output) and not arguments.force:
        raise FileExistsError(f"{arguments.output}: expected a new file; --force replaces it")
    with reading(arguments) as database:
        generations = DirectStore(database).generations
        row = _one(generations, arguments.generation)
        data, inputs = generations.read(arguments.generation)
    beside = write_model(arguments.output, data, inputs)
    written = ModelFile.from_path(arguments.output)
    nbytes, digest = len(written.data), written.sha256
    content = {
        "generation": row.number,
        "path": arguments.output,
        "nbytes": nbytes,
        "sha256": digest,
        "input": beside,
    }
    write_json(content, arguments.json)
    if not is_silent(arguments.json):
        facts = [("written", arguments.output), ("bytes", nbytes), ("sha256", digest)]
        if beside is not None:
            facts.append(("its input", f"is corrected first, by {beside}"))
        print_facts(facts)
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    number = arguments.generation
    with reading(arguments) as database:
        generations = DirectStore(database).generations
        if number != _GOLDEN:  # the model's own file, which need not be kept here
            row = _one(generations, number)
            if row.fields.get("state") == _TRIAL:
                raise ValueError(f"generation: expected one that is not on trial, got {number}")
            generations.load(number)

    def act(writer: DirectStore, record: bytes) -> None:
        if number != _GOLDEN:
            writer.generations.load(number)
        writer.commit(Changes([Row(*ACTIVE, b"%d" % number)], [record]))

    outcome = f"generation {number} serves from the next start on"
    return _make(arguments, Change(RESTORE, {"generation": number}, outcome, act))


def _prune(arguments: argparse.Namespace) -> int:
    with reading(arguments) as database:
        dropped = _chosen(DirectStore(database).generations, arguments)
    if not dropped:
        write_json({"done": True, "generations": [], "request": None}, arguments.json)
        if not is_silent(arguments.json):
            print("nothing to drop")
        return 0

    def act(writer: DirectStore, record: bytes) -> None:
        writer.generations.drop(*dropped, also=[record])

    outcome = f"dropped: {', '.join(map(str, dropped))}"
    return _make(arguments, Change(PRUNE, {"generations": dropped}, outcome, act))


def _chosen(generations: StoredGenerations, arguments: argparse.Namespace) -> list[int]:
    """Return what to drop: never golden, what serves, what is pinned or on trial."""
    active = generations.active
    free = [
        row.number
        for row in generations.all()
        if row.number not in (_GOLDEN, active)
        and not row.fields.get("pinned")
        and row.fields.get("state") != _TRIAL
    ]
    if arguments.keep is not None:
        return free[: len(free) - arguments.keep] if arguments.keep < len(free) else []
    given: Sequence[int] = arguments.generations
    if others := sorted(set(given) - set(free)):
        raise ValueError(
            f"generation: expected some of {free} (golden, what serves, what is pinned and what "
            f"is on trial stay), got {others}"
        )
    return sorted(set(given))


def _make(arguments: argparse.Namespace, change: Change) -> int:
    path, key = place_and_key(arguments)
    made = make(path, key, change)
    content = {"done": made.request is None, **change.fields, "request": made.request}
    write_json(content, arguments.json)
    if not is_silent(arguments.json):
        print_facts([("asked" if made.request else "done", shown(made.words, LIST))])
    return 0
