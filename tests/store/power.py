"""What a medium may hold after a power cut, replayed from a record of what was written."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("record_io.c")
SECTOR = 512
_HEAD = struct.Struct("<cIQI")


@dataclass(frozen=True)
class Entry:
    kind: str
    file: int
    offset: int
    data: bytes


def build_recorder(folder: Path) -> Path:
    """Compile the recorder; raises where there is no compiler."""
    library = folder / "record_io.so"
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(SOURCE),
        "-ldl",
        "-lpthread",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return library


def run(
    library: Path, folder: Path, record: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of Python with its writes under `folder` recorded."""
    added = {
        "LD_PRELOAD": str(library),
        "SELFHEAL_RECORD_UNDER": str(folder),
        "SELFHEAL_RECORD_TO": str(record),
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, *sys.path]))
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **added, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def entries(record: Path) -> list[Entry]:
    """Read a record."""
    data = record.read_bytes()
    found = []
    at = 0
    while at < len(data):
        kind, file, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(Entry(kind.decode(), file, offset, data[at : at + length]))
        at += length
    return found


@dataclass
class Medium:
    """Contents of files by inode, names of files, and what is not safe yet."""

    lying: bool = False
    """Whether a synchronisation makes safe only what came before the one before it."""
    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    pending: list[Entry] = field(default_factory=list)
    promised: list[Entry] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    """Names as the running system sees them."""

    def take(self, entry: Entry) -> None:
        """Let one thing happen."""
        if entry.kind == "O":
            if self.known.get(entry.data.decode()) != entry.file:
                self.known[entry.data.decode()] = entry.file
                self.pending.append(entry)
        elif entry.kind in "SD":
            safe: list[Entry] = []
            waiting: list[Entry] = []
            for done in self.pending:
                mine = entry.kind == "D" and done.kind in "OUR"
                mine = mine or (entry.kind == "S" and done.file == entry.file)
                (safe if mine else waiting).append(done)
            if self.lying:
                safe, self.promised = self.promised, safe
            for done in safe:
                self._apply(self.files, self.names, done)
            self.pending = waiting
        else:
            if entry.kind == "U":
                self.known.pop(entry.data.decode(), None)
            if entry.kind == "R":
                old, new = entry.data.decode().split("\0")
                self.known[new] = self.known.pop(old)
            self.pending.append(entry)

    @staticmethod
    def _apply(files: dict[int, bytearray], names: dict[str, int], entry: Entry) -> None:
        if entry.kind == "O":
            names[entry.data.decode()] = entry.file
            files.setdefault(entry.file, bytearray())
        elif entry.kind == "U":
            names.pop(entry.data.decode(), None)
        elif entry.kind == "R":
            old, new = entry.data.decode().split("\0")
            if old in names:
                names[new] = names.pop(old)
        elif entry.kind == "T":
            content = files.setdefault(entry.file, bytearray())
            content.extend(bytes(max(0, entry.offset - len(content))))
            del content[entry.offset :]
        else:
            content = files.setdefault(entry.file, bytearray())
            content.extend(bytes(max(0, entry.offset + len(entry.data) - len(content))))
            content[entry.offset : entry.offset + len(entry.data)] = entry.data

    def after_a_cut(self, rng: random.Random) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield what may be there if the power goes now: how, and contents by name."""
        loose = self.promised + self.pending
        yield "all lost", self._with([])
        if not loose:
            return
        yield "all written", self._with(loose)
        yield "only the last written", self._with(loose[-1:])
        if len(loose) > 1:
            yield "all but the last written", self._with(loose[:-1])
            some = [entry for entry in loose if rng.random() < 0.5]
            yield "some written", self._with(some)
        last = loose[-1]
        if last.kind == "W" and len(last.data) > 1:
            half = max(1, len(last.data) // 2 // SECTOR * SECTOR)
            first = Entry("W", last.file, last.offset, last.data[:half])
            second = Entry("W", last.file, last.offset + half, last.data[half:])
            yield "the last torn", self._with([*loose[:-1], first])
            yield "the last torn at its beginning", self._with([*loose[:-1], second])

    def _with(self, written: list[Entry]) -> dict[str, bytes]:
        files = {number: bytearray(content) for number, content in self.files.items()}
        names = dict(self.names)
        for entry in written:
            self._apply(files, names, entry)
        return {name: bytes(files.get(number, b"")) for name, number in names.items()}
