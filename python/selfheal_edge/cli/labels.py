"""`selfheal-edge labels` and `quarantine`: what a device asks, and what it does not trust."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from selfheal_edge.cli.picture import save_input
from selfheal_edge.cli.screen import is_silent, print_facts, print_rows, write_json
from selfheal_edge.cli.store_file import place_and_key, reading
from selfheal_edge.errors import IntegrityError
from selfheal_edge.learning.kept_rows import AREA, NAMES, kept_questions, kept_suspects
from selfheal_edge.learning.labels_file import (
    read_answers,
    read_questions,
    write_answers,
    write_questions,
)
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.sources import FeedbackSource, SignedLabel
from selfheal_edge.store.file_format import write_atomically
from selfheal_edge.store.inbox import ASK, CONFIRM, LABELS, RELEASE, REVOKE, Inbox
from selfheal_edge.store.keys import read_key
from selfheal_edge.text import shown

__all__ = ["run_labels", "run_quarantine"]

_EACH: Final = 64
"""Labels in one request."""
_LOOK_EVERY: Final = 0.25
_SHOWN: Final = 200


def run_labels(arguments: argparse.Namespace) -> int:
    """Run one of the commands; errors are the caller's."""
    acts = {
        "ask": _ask,
        "answer": _answer,
        "export": _export,
        "import": _import,
        "revoke": _revoke,
    }
    return acts[arguments.act](arguments)


def run_quarantine(arguments: argparse.Namespace) -> int:
    """Run one of the commands; errors are the caller's."""
    acts = {"list": _list, "show": _show, "release": _release, "confirm": _confirm}
    return acts[arguments.act](arguments)


def _kept(arguments: argparse.Namespace) -> tuple[str, Mapping[str, bytes]]:
    """Return the model's SHA-256, and the rows that tell of its labels."""
    with reading(arguments) as database:
        held = database.get("model", "serves")
        rows = {name: row for name in NAMES if (row := database.get(AREA, name)) is not None}
    model = "" if held is None else str(json.loads(held).get("sha256", ""))
    return model, rows


def _leave(arguments: argparse.Namespace, kind: str, fields: Mapping[str, Any]) -> str:
    path, key = place_and_key(arguments)
    return Inbox(path, key).leave(kind, fields)


# -------------------------------------------------------------------- labels


def _ask(arguments: argparse.Namespace) -> int:
    limit = arguments.limit
    request = _leave(arguments, ASK, {"limit": limit})
    until = time.monotonic() + arguments.wait
    questions: tuple[Question, ...] = ()
    while True:
        questions = kept_questions(_kept(arguments)[1])[-limit:]
        if len(questions) >= limit or time.monotonic() >= until:
            break
        time.sleep(_LOOK_EVERY)
    saved = _saved(questions, arguments.save)
    facts = [_facts(one, saved.get(one.id)) for one in questions]
    write_json({"request": request, "questions": facts}, arguments.json)
    if not is_silent(arguments.json):
        if facts:
            print_rows(
                ("id", "in question", "why", "input"),
                [
                    (
                        one["id"],
                        " or ".join(map(str, one["answers"])),
                        shown(one["reason"], _SHOWN),
                        one["file"] or ("kept" if one["has_input"] else "not kept"),
                    )
                    for one in facts
                ],
            )
        else:
            print("no question waits yet: a process that serves is asked, and answers by and by")
    return 0


def _saved(questions: tuple[Question, ...], folder: str | None) -> dict[int, str]:
    if folder is None:
        return {}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    found = {}
    for one in questions:
        if one.input is not None and not isinstance(one.input, tuple):
            found[one.id] = str(save_input(place, str(one.id), one.input))
    return found


def _facts(one: Question, file: str | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "answers": list(one.answers),
        "reason": one.reason,
        "has_input": one.input is not None,
        "file": file,
    }


def _said(arguments: argparse.Namespace) -> tuple[int | None, bool | None]:
    return arguments.label, (True if arguments.right else False if arguments.wrong else None)


def _signer(arguments: argparse.Namespace, model: str) -> FeedbackSource | None:
    key = read_key(arguments.source_key, "--source-key")
    return None if key is None else FeedbackSource(arguments.source, key, model=model)


def _answer(arguments: argparse.Namespace) -> int:
    label, correct = _said(arguments)
    if arguments.output is not None:
        return _answer_elsewhere(arguments, label, correct)
    model, _ = _kept(arguments)
    source = _signer(arguments, model)
    if source is None:
        one: dict[str, Any] = {
            "id": arguments.id,
            "label": label,
            "correct": correct,
            "source": arguments.source,
        }
    else:
        one = source.sign(arguments.id, label, correct=correct).to_dict()
    request = _leave(arguments, LABELS, {"labels": [one]})
    return _told(arguments, {"request": request, "id": arguments.id, "signed": source is not None})


def _answer_elsewhere(
    arguments: argparse.Namespace, label: int | None, correct: bool | None
) -> int:
    """Sign an answer to a question out of a file, into another file."""
    key = read_key(arguments.key, "--key")
    model, questions = read_questions(Path(arguments.store).read_bytes(), key)
    if arguments.id not in {one.id for one in questions}:
        raise ValueError(f"id: expected a question of {arguments.store}, got {arguments.id}")
    source = _signer(arguments, model)
    if source is None:
        raise ValueError("--source-key: expected a key to sign the answer with")
    before: tuple[SignedLabel, ...] = ()
    output = Path(arguments.output)
    if output.exists():
        of, before = read_answers(output.read_bytes(), key)
        if of != model:
            raise ValueError(f"{output}: expected answers for the model {model[:16]}")
    signed = source.sign(arguments.id, label, correct=correct)
    write_atomically(output, write_answers(model, [*before, signed], key))
    return _told(arguments, {"written": str(output), "answers": len(before) + 1})


def _export(arguments: argparse.Namespace) -> int:
    _, key = place_and_key(arguments)
    model, rows = _kept(arguments)
    questions = kept_questions(rows)[-arguments.limit :]
    write_atomically(arguments.output, write_questions(model, questions, key))
    inputs = sum(one.input is not None for one in questions)
    found = {"written": arguments.output, "questions": len(questions), "with_input": inputs}
    return _told(arguments, found)


def _import(arguments: argparse.Namespace) -> int:
    _, key = place_and_key(arguments)
    model, _ = _kept(arguments)
    of, answers = read_answers(Path(arguments.answers).read_bytes(), key)
    if of != model:
        raise IntegrityError(
            f"{arguments.answers}: expected answers for the model {model[:16]}, got {of[:16]}"
        )
    requests = []
    for start in range(0, len(answers), _EACH):
        part = [one.to_dict() for one in answers[start : start + _EACH]]
        requests.append(_leave(arguments, LABELS, {"labels": part}))
    return _told(arguments, {"requests": requests, "answers": len(answers)})


def _revoke(arguments: argparse.Namespace) -> int:
    source, ids = arguments.source, arguments.id
    what = {"source": source} if ids is None else {"ids": ids}
    return _told(arguments, {"request": _leave(arguments, REVOKE, what), **what})


def _told(arguments: argparse.Namespace, found: Mapping[str, Any]) -> int:
    write_json(found, arguments.json)
    if not is_silent(arguments.json):
        print_facts(
            [(name.replace("_", " "), shown(value, _SHOWN)) for name, value in found.items()]
        )
    return 0


# -------------------------------------------------------------------- quarantine


def _list(arguments: argparse.Namespace) -> int:
    facts = [one.to_dict() for one in kept_suspects(_kept(arguments)[1])]
    write_json({"quarantine": facts}, arguments.json)
    if not is_silent(arguments.json):
        if facts:
            head = ("id", "incident", "reason", "confirmed")
            cells = [
                (f["id"], f["incident"], shown(f["reason"]), "yes" if f["confirmed"] else "")
                for f in facts
            ]
            print_rows(head, cells)
        else:
            print("nothing is in quarantine")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    found = [one for one in kept_suspects(_kept(arguments)[1]) if one.id == arguments.id]
    if not found:
        raise ValueError(f"id: expected one in quarantine, got {arguments.id}")
    one = found[0]
    facts: dict[str, Any] = {**one.to_dict(), "file": None}
    if arguments.save is not None and one.sample.input is not None:
        place = Path(arguments.save)
        place.mkdir(parents=True, exist_ok=True)
        facts["file"] = str(save_input(place, str(one.id), one.sample.input))
    write_json(facts, arguments.json)
    if not is_silent(arguments.json):
        print_facts([(name, shown(value, _SHOWN)) for name, value in facts.items()])
    return 0


def _release(arguments: argparse.Namespace) -> int:
    model, _ = _kept(arguments)
    source = _signer(arguments, model)
    if source is None:
        raise ValueError("--source-key: expected a key: who releases a suspect stands for it")
    # Without a label it is the input that is vouched for; its label is asked for then.
    signed = source.sign(
        arguments.id, arguments.label, correct=True if arguments.label is None else None
    )
    request = _leave(arguments, RELEASE, {"signed": signed.to_dict()})
    return _told(arguments, {"request": request, "id": arguments.id})


def _confirm(arguments: argparse.Namespace) -> int:
    request = _leave(arguments, CONFIRM, {"id": arguments.id})
    return _told(arguments, {"request": request, "id": arguments.id})
