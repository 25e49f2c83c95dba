"""The code that runs a model, swept in a thread for all models that are open in this process."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from selfheal_edge import _core
from selfheal_edge.log import logger
from selfheal_edge.tflite.sandbox.packages import PACKAGES

__all__ = ["LIBRARIES", "CodeCoverage", "CodeDamage", "CodeWatch", "shared_watch"]

LIBRARIES: Final = (*(package.module for package in PACKAGES.values()), "selfheal_edge")
"""In the paths of the libraries that run a model."""

_SLICE: Final = 1 << 20  # bytes between two pauses
_FIRST_SLICE: Final = 1 << 18  # where files are read as well
_PAGE: Final = 4096
_PAUSES: Final = (0.02, 60.0)  # seconds


@dataclass(frozen=True, slots=True)
class CodeDamage:
    """A page of code or constants that is not what its library's file holds."""

    path: str
    """Of the library."""
    offset: int
    """Of the first wrong byte in its file; of the page where no file tells."""
    address: int
    symbol: str
    """The nearest exported symbol before it; may be empty."""
    wrong_bytes: int
    """Of the page; 0 where no file tells."""

    def __str__(self) -> str:
        wrong = f"{self.wrong_bytes} wrong byte(s)" if self.wrong_bytes else "changed"
        where = f", after {self.symbol}" if self.symbol else ""
        return f"page of {os.path.basename(self.path)} at offset {self.offset:#x}: {wrong}{where}"


@dataclass(frozen=True, slots=True)
class CodeCoverage:
    """How the read-only pages of the runtime's and our libraries are watched."""

    nbytes: int
    """Bytes that are swept; 0 before they were hashed, and where the system does not say what is
    mapped: then nothing is checked."""
    unproven_bytes: int
    """Bytes of these that no file proves: relocated by the library, or of a file that was replaced.
    They are watched as they were found."""
    direct_bytes: int
    """Bytes compared with a file that was read around the page cache, in the first round."""
    sweeps: int
    """Complete rounds."""
    round_seconds: float | None
    """What the last round took; None before the second one is complete."""
    damage: tuple[CodeDamage, ...]
    """Every page that was found damaged."""

    def __str__(self) -> str:
        if not self.nbytes:
            return "code is not checked"
        took = "" if self.round_seconds is None else f", the last in {self.round_seconds:.3g} s"
        return f"{self.nbytes} bytes of code, {self.sweeps} rounds{took}"


Listener: TypeAlias = Callable[[tuple[CodeDamage, ...]], None]


@dataclass(slots=True)
class _Listening:
    budget: float
    told: int = 0  # damages


@dataclass(slots=True)
class CodeWatch:
    """Sweeps libraries' pages under a budget of CPU time while there is a listener.

    Parameters
    ----------
    names
        Libraries with one of these in their path.

    Notes
    -----
    Pages are hashed when the first listener comes, by the thread, and again when a runtime has been
    loaded since. Any thread may call any method. Listeners are called by the thread that sweeps.
    """

    names: Sequence[str] = LIBRARIES
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    _listeners: dict[Listener, _Listening] = field(default_factory=dict)
    _forgotten: deque[Listener] = field(default_factory=deque)
    _pages: _core.CodePages | None = None
    _mapped: frozenset[str] = frozenset()
    _is_stale: bool = False
    _damage: tuple[CodeDamage, ...] = ()
    _round_seconds: float | None = None

    def listen(self, listener: Listener, budget: float) -> None:
        """Tell this listener of damage, that of before included, and sweep meanwhile.

        Parameters
        ----------
        listener
            Called with what is new to it.
        budget
            The share of one CPU's time that sweeping may take, above 0; of several listeners' the
            largest counts.
        """
        if not _core.code_is_watchable():
            return
        with self._lock:
            self._listeners[listener] = _Listening(budget)
            self._is_stale = True
            self._wake.set()
            if self.thread is None:
                thread = threading.Thread(
                    target=self._sweep, name="selfheal-edge code", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # the next model that is opened asks again
                    logger().warning("code is not checked: %s", error)
                else:
                    self.thread = thread

    def leave(self, listener: Listener) -> None:
        """Tell it no more; the thread ends with the last one."""
        with self._lock:
            self._listeners.pop(listener, None)
            self._wake.set()

    def forget(self, listener: Listener) -> None:
        """Tell it no more, by and by; takes no lock.

        For the collector of garbage, which may call it in a thread that has the lock.
        """
        self._forgotten.append(listener)

    @property
    def coverage(self) -> CodeCoverage:
        """What is watched, and what was found."""
        pages = self._pages
        if pages is None:
            return CodeCoverage(0, 0, 0, 0, None, ())
        return CodeCoverage(
            pages.nbytes,
            pages.unproven_bytes,
            pages.direct_bytes,
            pages.sweeps,
            self._round_seconds,
            self._damage,
        )

    @property
    def memory_bytes(self) -> int:
        """Bytes of hashes."""
        return 0 if self._pages is None else self._pages.memory_bytes()

    def stop(self) -> None:
        """End the thread, and wait for it: the interpreter is about to go."""
        with self._lock:
            self._listeners.clear()
            self._wake.set()
            thread = self.thread
        if thread is not None:
            thread.join()

    def forget_thread(self) -> None:
        """Begin anew in a forked child, which has no thread: one was perhaps at these pages."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self.thread = None
        self._listeners = {}
        self._forgotten.clear()
        self._pages, self._mapped, self._round_seconds = None, frozenset(), None

    def _sweep(self) -> None:
        used = time.thread_time()
        begun, sweeps = time.monotonic(), 0
        while True:
            with self._lock:
                while self._forgotten:
                    self._listeners.pop(self._forgotten.popleft(), None)
                if not self._listeners:
                    self.thread = None
                    return
                budget = max(one.budget for one in self._listeners.values())
                self._wake.clear()
            is_able = True
            try:
                pages = self._current_pages()
                found = pages.step(_SLICE if pages.sweeps else _FIRST_SLICE)
                self._note([CodeDamage(*one) for one in found])
                if pages.sweeps != sweeps:
                    now = time.monotonic()
                    self._round_seconds = now - begun if pages.sweeps > 1 else None
                    begun, sweeps = now, pages.sweeps
                self._tell()
            except Exception:  # no memory, say: another time there may be some
                logger().exception("code could not be swept")
                is_able = False
            now_used = time.thread_time()
            least, most = _PAUSES
            pause = min(most, max(least, (now_used - used) / budget)) if is_able else most
            used = now_used
            self._wake.wait(pause)

    def _current_pages(self) -> _core.CodePages:
        if self._pages is None or self._is_stale:
            self._is_stale = False
            mapped = _libraries(self.names)
            if self._pages is None or mapped != self._mapped:  # a runtime was loaded since
                key, seed = os.urandom(16), int.from_bytes(os.urandom(8), "little")
                self._pages = _core.CodePages(self.names, key, seed)
                self._mapped = mapped
        return self._pages

    def _note(self, found: Sequence[CodeDamage]) -> None:
        known = {(one.path, one.offset // _PAGE) for one in self._damage}
        self._damage += tuple(o for o in found if (o.path, o.offset // _PAGE) not in known)

    def _tell(self) -> None:
        count = len(self._damage)
        with self._lock:
            due = [(who, one) for who, one in self._listeners.items() if one.told < count]
        for listener, one in due:
            new = self._damage[one.told :]
            one.told = count
            try:
                listener(new)
            except BaseException:  # SystemExit of a user's callback, too: others are told as well
                logger().exception("a listener to damaged code failed")


def _libraries(names: Sequence[str]) -> frozenset[str]:
    """Return the paths of mapped libraries."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return frozenset()
    fields = (line.split(maxsplit=5) for line in lines)
    return frozenset(f[5] for f in fields if len(f) == 6 and any(n in f[5] for n in names))


_SHARED: Final = CodeWatch()
atexit.register(_SHARED.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SHARED.forget_thread)


def shared_watch() -> CodeWatch:
    """Return the one of this process."""
    return _SHARED
