"""The options of the commands on a store."""

from __future__ import annotations

import argparse
from typing import Any, Final

__all__ = ["add_store_commands", "run_store_command"]

_CODES: Final = (
    "The exit code is 0 where all is well, 1 where the store does not verify or cannot be read or "
    "written, and 2 for wrong arguments, no such file, an unusable key, or a store of a newer "
    "release. A serving process is never disturbed: what is read is a copy."
)


def _count(text: str) -> int:
    """Read a number that is not negative."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


_count.__name__ = "number"  # how argparse names it


def _generation(text: str) -> int:
    """Read a generation's number, or the name of the first."""
    return 0 if text == "golden" else _count(text)


_generation.__name__ = "generation"


def _store() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("store", metavar="STORE", help="the store's file")
    options.add_argument(
        "--key",
        metavar="FILE|env:NAME",
        help="the store's key: a file of its bytes, or a variable with them in hexadecimal",
    )
    options.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH",
        help="JSON in place of text; with a path, JSON to that file beside the text",
    )
    return options


def _journal(commands: Any, store: argparse.ArgumentParser) -> None:
    journal = commands.add_parser(
        "journal", help="show what happened on a device, and verify its record", epilog=_CODES
    )
    acts = journal.add_subparsers(dest="act", required=True, metavar="COMMAND")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument(
        "--since", type=_count, default=0, metavar="SEQ", help="from this number on"
    )
    chosen.add_argument("--kind", metavar="KIND", help="events of this kind alone")
    show = acts.add_parser("show", parents=[store, chosen], help="show events", epilog=_CODES)
    show.add_argument(
        "--last", type=_count, default=20, metavar="N", help="the latest N; 0: all (default: 20)"
    )
    verify = acts.add_parser(
        "verify",
        parents=[store],
        help="verify every row, block and record, and print the journal's number and hash",
        epilog=_CODES,
    )
    verify.add_argument(
        "--expect",
        metavar="SEQ:HASH",
        help="number and hash of an event, or of health.store, that was received from the device: "
        "a journal that is older, or another one, does not verify",
    )
    export = acts.add_parser(
        "export", parents=[store, chosen], help="write events as JSON lines", epilog=_CODES
    )
    export.add_argument(
        "--jsonl", action="store_true", help="one JSON object a line, which is the only format"
    )
    export.add_argument(
        "--output", "-o", metavar="PATH", help="a file to write (default: standard output)"
    )


def _snapshot(commands: Any, store: argparse.ArgumentParser) -> None:
    snapshot = commands.add_parser(
        "snapshot", help="list, check, export and restore saved states of weights", epilog=_CODES
    )
    acts = snapshot.add_subparsers(dest="act", required=True, metavar="COMMAND")

    def add(name: str, words: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = acts.add_parser(
            name, parents=[store], help=words, epilog=_CODES
        )
        return made

    number: dict[str, Any] = {"type": _generation, "metavar": "GENERATION"}
    add("list", "list the generations")
    add("show", "show all that is known of a generation").add_argument("generation", **number)
    add("verify", "verify a generation's bytes, or those of all").add_argument(
        "generation", nargs="?", **number
    )
    add(
        "restore",
        "have a generation serve: now, if a process serves that takes in requests, else from the "
        "next start on",
    ).add_argument("generation", help="0, or golden, is the model's own file", **number)
    prune = add("prune", "drop generations; golden, what serves and what is pinned stay")
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", type=_count, metavar="N", help="keep the latest N")
    which.add_argument("--drop", dest="generations", nargs="+", help="drop these", **number)
    export = add("export", "write a generation as a TFLite file")
    export.add_argument("generation", **number)
    export.add_argument("output", metavar="PATH")
    export.add_argument("--force", action="store_true", help="replace a file that is there")


def _explain(commands: Any, store: argparse.ArgumentParser) -> None:
    explain = commands.add_parser(
        "explain",
        parents=[store],
        help="tell why a device named a cause, and which others it ruled out",
        epilog=_CODES,
    )
    explain.add_argument(
        "event",
        nargs="?",
        type=_count,
        metavar="EVENT",
        help="number of the event (default: the latest diagnosis)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise ValueError
    return seconds


_seconds.__name__ = "seconds"

_ID: Final[dict[str, Any]] = {"type": _count, "metavar": "ID", "help": "of the prediction"}


def _source(required: bool) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--source", required=required, metavar="NAME", help="who says so", default="command"
    )
    options.add_argument(
        "--source-key",
        metavar="FILE|env:NAME",
        help="the source's own key; without it the label is unauthenticated",
    )
    return options


def _labels(commands: Any, store: argparse.ArgumentParser) -> None:
    labels = commands.add_parser(
        "labels", help="answer what a device asks, here or elsewhere", epilog=_CODES
    )
    acts = labels.add_subparsers(dest="act", required=True, metavar="COMMAND")
    ask = acts.add_parser(
        "ask", parents=[store], help="have the device ask, and show what waits", epilog=_CODES
    )
    ask.add_argument("--limit", type=_count, default=16, metavar="N", help="(default: 16)")
    ask.add_argument(
        "--wait", type=_seconds, default=10.0, metavar="S", help="for an answer (default: 10 s)"
    )
    ask.add_argument("--save", metavar="DIR", help="save inputs there, as pictures or tables")
    answer = acts.add_parser(
        "answer",
        parents=[store, _source(False)],
        help="say what is right of one answer; with --output, of a question in an exported file",
        epilog=_CODES,
    )
    answer.add_argument("id", **_ID)
    said = answer.add_mutually_exclusive_group(required=True)
    said.add_argument("--label", type=_count, metavar="CLASS", help="the class that is right")
    said.add_argument("--right", action="store_true", help="the answer was right")
    said.add_argument("--wrong", action="store_true", help="the answer was wrong")
    answer.add_argument(
        "--output",
        "-o",
        metavar="PATH",
        help="sign the answer into this file; STORE is a file that `export` has written",
    )
    export = acts.add_parser(
        "export",
        parents=[store],
        help="write the questions that wait as signed JSON lines",
        epilog=_CODES,
    )
    export.add_argument("output", metavar="PATH")
    export.add_argument("--limit", type=_count, default=256, metavar="N", help="(default: 256)")
    taken = acts.add_parser(
        "import", parents=[store], help="have the device take signed answers in", epilog=_CODES
    )
    taken.add_argument("answers", metavar="PATH")
    revoke = acts.add_parser(
        "revoke",
        parents=[store],
        help="have the device unlearn what a source has said, or what predictions taught it",
        epilog=_CODES,
    )
    what = revoke.add_mutually_exclusive_group(required=True)
    what.add_argument("--source", metavar="NAME", help="of which nothing counts from now on")
    what.add_argument("--id", type=_count, nargs="+", metavar="ID", help="of the predictions")


def _quarantine(commands: Any, store: argparse.ArgumentParser) -> None:
    quarantine = commands.add_parser(
        "quarantine", help="look at suspects, and release or confirm them", epilog=_CODES
    )
    acts = quarantine.add_subparsers(dest="act", required=True, metavar="COMMAND")
    acts.add_parser("list", parents=[store], help="list them", epilog=_CODES)
    show = acts.add_parser("show", parents=[store], help="show one", epilog=_CODES)
    show.add_argument("id", **_ID)
    show.add_argument("--save", metavar="DIR", help="save its input there")
    release = acts.add_parser(
        "release", parents=[store, _source(True)], help="let one go", epilog=_CODES
    )
    release.add_argument("id", **_ID)
    release.add_argument("--label", type=_count, metavar="CLASS", help="the class that is right")
    acts.add_parser(
        "confirm", parents=[store], help="it is what it is suspected of", epilog=_CODES
    ).add_argument("id", **_ID)


def add_store_commands(commands: Any) -> None:
    """Add the commands on a store."""
    store = _store()
    _labels(commands, store)
    _quarantine(commands, store)
    _explain(commands, store)
    _journal(commands, store)
    _snapshot(commands, store)


def run_store_command(arguments: argparse.Namespace) -> int:
    """Run one of them; errors are the caller's."""
    if arguments.command == "journal":
        from selfheal_edge.cli.journal import run_journal  # noqa: PLC0415 — --help stays quick

        return run_journal(arguments)
    if arguments.command == "explain":
        from selfheal_edge.cli.explain import run_explain  # noqa: PLC0415

        return run_explain(arguments)
    if arguments.command in ("labels", "quarantine"):
        from selfheal_edge.cli.labels import run_labels, run_quarantine  # noqa: PLC0415

        return (run_labels if arguments.command == "labels" else run_quarantine)(arguments)
    from selfheal_edge.cli.snapshot import run_snapshot  # noqa: PLC0415

    return run_snapshot(arguments)
