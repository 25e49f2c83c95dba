"""Requests to a model that serves, left by other processes in a folder beside its store.

A command that changes something (answers a question, releases a sample, revokes a source) cannot
write the store, whose one writer is the serving process. It leaves a signed file; the serving
process takes it in, in order, and removes it. The store remembers which it has taken in, so that a
copy of one that is left again is refused.

Of the store itself there are two kinds: ``restore`` with ``{"generation": n}``, which is to serve
from now on, and ``prune`` with ``{"generations": [n, ...]}``, which are to be dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.file_format import write_atomically
from selfheal_edge.store.seal import TAG_BYTES, Seal
from selfheal_edge.store.taken_in import TakenIn

__all__ = [
    "ASK",
    "CONFIRM",
    "LABELS",
    "LABEL_KINDS",
    "PRUNE",
    "RELEASE",
    "RESTORE",
    "REVOKE",
    "Inbox",
    "Request",
]

LABELS: Final = "labels"
"""``{"labels": [...]}``: what is said of answers, each signed, or with a bare source."""
ASK: Final = "ask"
"""``{"limit": n}``: labels are to be asked for."""
RELEASE: Final = "release"
"""``{"signed": {...}}``: a suspect is to go, on the word of who signed."""
CONFIRM: Final = "confirm"
"""``{"id": n}``: a suspect is what it is suspected of."""
REVOKE: Final = "revoke"
"""``{"source": name}`` or ``{"ids": [...]}``: what is to be unlearned."""
LABEL_KINDS: Final = frozenset({LABELS, ASK, RELEASE, CONFIRM, REVOKE})
RESTORE: Final = "restore"
PRUNE: Final = "prune"

_MOST_BYTES: Final = 64 * 1024
_MOST_WAITING: Final = 256
_MOST_TOLD: Final = 8
_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{16}\.request\Z")


class Request:
    """One request.

    Parameters
    ----------
    name
        Unique; the same request is taken in once.
    kind, fields
        What is asked for.
    wall
        Seconds since 1970 when it was left.
    """

    def __init__(self, name: str, kind: str, fields: Mapping[str, Any], wall: float) -> None:
        self.id = name
        self.kind, self.fields = kind, fields
        self.wall = wall


class Inbox:
    """The folder of requests of one store.

    Parameters
    ----------
    store_path
        The store's file; the folder is ``PATH.inbox``.
    key
        The store's key: a request that it did not sign is refused. Without one any user who may
        write in the folder can leave requests, which is as good as the folder's permissions.
    taken_in
        Which were taken in before; None: none.
    """

    def __init__(
        self,
        store_path: str | os.PathLike[str],
        key: bytes | None,
        taken_in: TakenIn | None = None,
    ) -> None:
        self._folder = f"{os.path.realpath(store_path)}.inbox"  # beside the file, by any name
        self._seal = Seal(key)
        self._taken_in = TakenIn() if taken_in is None else taken_in

    def leave(self, kind: str, fields: Mapping[str, Any]) -> str:
        """Leave a request; return its id.

        Raises
        ------
        ValueError
            When it is larger than 64 KiB, or 256 requests wait already.
        OSError
            When the folder cannot be written.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        if len(os.listdir(self._folder)) >= _MOST_WAITING:
            raise ValueError(f"requests: expected at most {_MOST_WAITING} that wait: is it served?")
        name = f"{time.time_ns():020d}-{os.urandom(8).hex()}.request"
        body = json.dumps(
            {"id": name, "kind": kind, "fields": dict(fields), "wall": time.time()}
        ).encode()
        if len(body) > _MOST_BYTES:
            raise ValueError(f"fields: expected at most {_MOST_BYTES} bytes, got {len(body)}")
        write_atomically(os.path.join(self._folder, name), body + self._seal.request(body))
        return name

    def take(
        self, remember: Callable[[bytes], None] | None = None
    ) -> tuple[list[Request], list[str]]:
        """Take in all requests that wait, oldest first, and remove their files.

        Parameters
        ----------
        remember
            Called with the row of `TakenIn`, where any were taken in, before their files are gone:
            what ends the process then leaves them refused, never done twice.

        Returns
        -------
        list of Request, list of str
            Those that verify, and why others were refused; both are bounded.
        """
        taken: list[Request] = []
        refused: list[str] = []
        try:
            names = sorted(n for n in os.listdir(self._folder) if _NAME.match(n))
        except OSError:
            return taken, refused
        names = names[:_MOST_WAITING]
        for name in names:
            try:
                request = self._read(os.path.join(self._folder, name))
                if why_not := self._taken_in.why_not(name):
                    raise IntegrityError(why_not)
            except (OSError, IntegrityError) as error:
                refused.append(f"{name}: {error}")
            else:
                taken.append(request)
        self._taken_in.add(request.id for request in taken)
        if taken and remember is not None:
            remember(self._taken_in.to_bytes())
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))
        if len(refused) > _MOST_TOLD:  # who fills the folder is not to empty the journal
            refused = [*refused[:_MOST_TOLD], f"{len(refused) - _MOST_TOLD} more are refused"]
        return taken, refused

    def _read(self, path: str) -> Request:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
            data = file.read(_MOST_BYTES + TAG_BYTES + 1)
        body, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        if not Seal.same(self._seal.request(body), tag):
            raise IntegrityError("expected a request signed with the store's key")
        try:
            fields = json.loads(body)
            if fields["id"] != os.path.basename(path):
                raise ValueError("its name is not that of the request")
            return Request(
                str(fields["id"]),
                str(fields["kind"]),
                dict(fields["fields"]),
                float(fields["wall"]),
            )
        except (ValueError, LookupError, TypeError) as error:
            raise IntegrityError(f"expected a readable request: {error!r}") from None
