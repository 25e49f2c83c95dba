"""`selfheal-edge journal`: what happened on a device, and whether its record is whole."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfheal_edge.cli.screen import is_silent, moment, print_facts, print_rows, write_json
from selfheal_edge.cli.store_file import reading
from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.database import Database, Record, sqlite_facts
from selfheal_edge.store.file_format import write_atomically
from selfheal_edge.store.journal import Event
from selfheal_edge.text import LIST, shown

__all__ = ["run_journal"]


def run_journal(arguments: argparse.Namespace) -> int:
    """Run one of the commands; errors are the caller's."""
    acts = {"show": _show, "verify": _verify, "export": _export}
    return acts[arguments.act](arguments)


def _fields(record: Record) -> dict[str, Any]:
    """Return a record as plain data; what this release does not know as it stands there."""
    try:
        return Event.from_record(record.seq, record.hash, record.body).to_dict()
    except IntegrityError:
        text = shown(record.body.decode("utf-8", "backslashreplace"), LIST)
        return {"seq": record.seq, "hash": record.hash.hex(), "kind": "unknown", "text": text}


def _wanted(database: Database, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the records that were asked for; the whole chain is verified on the way."""
    for record in database.records(max(0, arguments.since)):
        fields = _fields(record)
        if arguments.kind in (None, fields["kind"]):
            yield fields


def _what(fields: dict[str, Any]) -> str:
    told = [fields.get(name) for name in ("cause", "strategy", "outcome", "text")]
    evidence = "; ".join(map(str, fields.get("evidence", ())))
    words = ", ".join(str(part) for part in told if part)
    return f"{words} ({evidence})" if words and evidence else words or evidence


def _show(arguments: argparse.Namespace) -> int:
    with reading(arguments) as database:
        found = list(_wanted(database, arguments))
        state = database.journal
    last = found[-arguments.last :] if arguments.last else found
    about = {"first": state.first, "next": state.next, "head": state.head.hex()}
    write_json({"journal": about, "records": last}, arguments.json)
    if is_silent(arguments.json):
        return 0
    if last:
        rows = [(f["seq"], moment(f.get("wall")), f["kind"], _what(f)) for f in last]
        print_rows(("seq", "time (UTC)", "kind", "what"), rows)
        print()
    kept = f"{state.next - state.first} of {state.next} records are kept"
    print(f"{kept}, {len(found)} match, {len(last)} shown")
    return 0


@dataclass(frozen=True)
class _Told:
    """What a receiver of events has of one: its number and hash."""

    seq: int
    hash: str

    @classmethod
    def read(cls, text: str) -> _Told:
        seq, _, hash_ = text.partition(":")
        try:
            told = cls(int(seq), bytes.fromhex(hash_).hex())
        except ValueError:
            told = cls(-1, "")
        if told.seq < 0 or not told.hash:
            raise ValueError(f"--expect: expected SEQ:HASH, as events carry them, got {text!r:.80}")
        return told

    def compare(self, database: Database) -> tuple[str | None, str]:
        """Return what is wrong, or None, and what was found."""
        state = database.journal
        hashes = {state.first - 1: state.before.hex()}
        hashes.update((record.seq, record.hash.hex()) for record in database.records())
        # An event has its own number, `health.store` that of the next one; a hash fits one alone.
        if self.hash in (hashes.get(self.seq), hashes.get(self.seq - 1)):
            return None, f"record {self.seq} is the one that was told"
        if self.seq < state.first:
            return None, f"record {self.seq} is no longer kept: the journal has gone on since"
        if self.seq >= state.next:
            return (
                f"the journal ends with record {state.next - 1}, and record {self.seq} was told: "
                "the whole file is an older one, or its latest events were lost when the process "
                "ended"
            ), ""
        return (
            f"record {self.seq} is not the one that was told: this is another history than that "
            "of the device that told it"
        ), ""


def _verify(arguments: argparse.Namespace) -> int:
    told = None if arguments.expect is None else _Told.read(arguments.expect)
    wrong, compared = None, "nothing was told to compare with (--expect)"
    with reading(arguments) as database:
        database.verify()
        state, commits, keyed = database.journal, database.commits, arguments.key is not None
        if told is not None:
            wrong, compared = told.compare(database)
    content: dict[str, Any] = {
        "verified": wrong is None,
        "problem": wrong,
        "keyed": keyed,
        "commits": commits,
        "first": state.first,
        "next": state.next,
        "seq": state.next - 1,
        "head": state.head.hex(),
        "sqlite": sqlite_facts(),
    }
    write_json(content, arguments.json)
    if wrong is not None:
        print(f"selfheal-edge: {arguments.store}: {wrong}", file=sys.stderr)
    if is_silent(arguments.json) or wrong is not None:
        return int(wrong is not None)
    records = f"{state.first} to {state.next - 1}" if state.next > state.first else "none"
    print_facts(
        [
            ("verified", "every row, block and record, against the root of the latest commit"),
            ("seal", "with the key" if keyed else "without a key: accidents alone are found"),
            ("commits", commits),
            ("records", records),
            ("head", f"{state.next - 1}:{state.head.hex()}"),
            ("told", compared),
            ("SQLite", _sqlite()),
        ]
    )
    return 0


def _sqlite() -> str:
    found = sqlite_facts()
    if not found["wal_reset_fault"]:
        return str(found["version"])
    return (
        f"{found['version']}, in which a log may be lost that two connections write: ours has one"
    )


def _export(arguments: argparse.Namespace) -> int:
    with reading(arguments) as database:
        lines = [json.dumps(fields) + "\n" for fields in _wanted(database, arguments)]
    if arguments.output is None:
        sys.stdout.writelines(lines)
        return 0
    if os.path.exists(arguments.output) and not Path(arguments.output).is_file():
        raise ValueError(f"--output: expected a file to write, got {arguments.output!r}")
    write_atomically(arguments.output, "".join(lines).encode())
    write_json({"records": len(lines), "path": arguments.output}, arguments.json)
    if not is_silent(arguments.json):
        print(f"{len(lines)} records written to {shown(arguments.output, LIST)}")
    return 0
