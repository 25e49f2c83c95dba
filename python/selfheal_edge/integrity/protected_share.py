"""Which share of the bytes that can influence an answer is watched, and how that is counted."""

from __future__ import annotations

import os
from dataclasses import dataclass

from selfheal_edge.hashing import sha256
from selfheal_edge.integrity.code_watch import LIBRARIES
from selfheal_edge.log import logger
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.memory.heap import allocated_bytes
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.session import Session

__all__ = ["ProtectedShare", "code_bytes", "measure_protected_share"]


@dataclass(frozen=True, slots=True)
class ProtectedShare:
    """Bytes of this process that can influence a model's answers, by how they are guarded."""

    watched: int
    """Swept, and restored in place: the images that execute."""
    copied: int
    """What the runtime copied when it was built: unseen, renewed by each rebuild."""
    heap: int | None
    """Allocations of a fresh instance beside those: arena, kernels' state. Bounded by the rebuild.
    None where that cannot be known."""
    code: int | None
    """Mapped pages of the runtime's and our libraries: `Health.code` says how they are swept. None
    without /proc, and until they are counted."""

    @property
    def watched_share(self) -> float:
        """Watched, of all data that decides; the rest of that is renewed by each rebuild."""
        return self.watched / (self.watched + self.copied + (self.heap or 0))

    @property
    def share_with_code(self) -> float:
        """Watched or renewed by each rebuild, of data and code."""
        data = self.watched + self.copied + (self.heap or 0)
        return data / (data + (self.code or 0))

    def __str__(self) -> str:
        heap = "unknown" if self.heap is None else f"{self.heap}"
        code = "unknown" if self.code is None else f"{self.code}"
        return (
            f"{self.watched} bytes watched ({self.watched_share:.0%} of the data that decides); "
            f"{self.copied} copied and {heap} of heap, renewed by each rebuild; "
            f"{code} of code"
        )


def code_bytes() -> int | None:
    """Return the bytes of executable and read-only pages of the libraries that run a model.

    None without /proc. Reads the list of all mappings of this process: 1.5 ms.
    """
    try:
        with open(f"/proc/{os.getpid()}/maps", encoding="utf-8", errors="replace") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return None
    total = 0
    for line in lines:
        if not any(name in line for name in LIBRARIES):
            continue
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "w" not in fields[1]:
            begin, end = (int(part, 16) for part in fields[0].split("-"))
            total += end - begin
    return total


def measure_protected_share(session: Session, *, builds: bool = True) -> ProtectedShare:
    """Count the bytes of this process that can influence a session's answers.

    Parameters
    ----------
    session
        An open one.
    builds
        Whether a second instance may be built, from the bytes of the file, for its share of the
        heap and the list of mappings be read for the code's; else these are left out, and it takes
        no time to speak of.

    Notes
    -----
    Costs a build of the runtime. Counted are the images; what coverage says the runtime has
    copied; what malloc hands out while a second instance is built and run once (inputs and outputs
    included; memory mapped directly is not seen); and the libraries' read-only pages.
    """
    coverage = session.coverage
    by_kind = coverage.bytes_by_coverage
    copied = by_kind[Coverage.DERIVED] + by_kind[Coverage.SOURCE]
    images = sum(live.nbytes for live in session.instance.images.values())
    # What is not packed runs from the source, both in one model, too.
    in_place = (
        row.region.nbytes
        for row in coverage.rows
        if row.coverage is Coverage.EXECUTING and row.image == "source"
    )
    table = 0 if session.correction is None else session.correction.memory.nbytes
    watched = images + table + sum(in_place)
    heap, code = (_heap(session), code_bytes()) if builds else (None, None)
    return ProtectedShare(watched, copied, heap, code)


def _heap(session: Session) -> int | None:
    """Return what a fresh instance takes of the heap, or None where that cannot be known.

    That is where malloc does not tell, where the file's bytes in memory are damaged (a runtime that
    parses damage may end the process), and while there is no memory, descriptor or room for a file.
    """
    file = session.copy.model
    if allocated_bytes() is None:
        return None
    try:
        if sha256(data := file.data).hex() != file.sha256:
            return None
        source = SourceImage(data)  # the running instance's may be damaged just now
        try:
            before = allocated_bytes()
            fresh = session.choice.build(source)
            after = allocated_bytes()
            fresh.close()
        finally:
            source.close()
    except Exception:
        logger().warning("no second instance could be built to be counted", exc_info=True)
        return None
    return max(0, (after or 0) - (before or 0))
