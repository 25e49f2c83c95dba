"""`selfheal-edge explain`: a diagnosis as the device would report it to a person."""

from __future__ import annotations

import argparse

from selfheal_edge.cli.screen import is_silent, moment, write_json
from selfheal_edge.cli.store_file import reading
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.journal import Event, EventKind

__all__ = ["run_explain"]


def run_explain(arguments: argparse.Namespace) -> int:
    """Print one diagnosis of a store's journal; errors are the caller's.

    Raises
    ------
    ValueError
        When there is no such event, or it is none of a diagnosis.
    """
    found: Event | None = None
    with reading(arguments) as database:
        for record in database.records(0 if arguments.event is None else arguments.event):
            try:
                event = Event.from_record(record.seq, record.hash, record.body)
            except IntegrityError:  # of a newer release
                continue
            if arguments.event is not None and event.seq != arguments.event:
                break
            if event.kind is EventKind.DIAGNOSIS or arguments.event is not None:
                found = event
    if found is None:
        wanted = "a diagnosis" if arguments.event is None else f"event {arguments.event}"
        raise ValueError(f"{arguments.store}: expected {wanted} in the journal, got none")
    if found.details is None:
        raise ValueError(
            f"event {found.seq}: expected a diagnosis with its details, got {found.kind}"
        )
    try:
        diagnosis = Diagnosis.from_dict(found.details)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"event {found.seq}: expected a diagnosis, got {error!r}") from None
    write_json(found.to_dict(), arguments.json)
    if not is_silent(arguments.json):
        print(f"event      {found.seq}, {moment(found.wall)} UTC, prediction {found.prediction:,}")
        print(diagnosis.explain())
    return 0
