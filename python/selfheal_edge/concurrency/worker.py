"""A thread that does one job after the other."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from selfheal_edge.log import logger

__all__ = ["Worker"]


Job = TypeVar("Job")


class Worker(Generic[Job]):
    """Does jobs in the order in which they were posted, in a thread that starts with the first.

    Parameters
    ----------
    work
        Does one job; what it raises is logged.
    merge
        Makes one job of one that still waits and one that is posted, or returns None where they
        have to stay two. The queue is as long as there are kinds of jobs that do not merge.
    name
        Of the thread.

    Notes
    -----
    The thread keeps the worker only while it has something to do: one that is forgotten without
    `close` goes, with all that its jobs know, and so does the thread.

    The lock, the latches and the queue are written in C: what a signal's handler raises in the
    middle of `post` or `wait` leaves none of them in a state between two.
    """

    def __init__(
        self, work: Callable[[Job], None], merge: Callable[[Job, Job], Job | None], name: str
    ) -> None:
        self._work = work
        self._merge = merge
        self._name = name
        self._lock = threading.RLock()  # a signal's handler may post in the middle of a post
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._jobs: deque[Job] = deque()
        self._latches: list[threading.Lock] = []  # of those who wait, locked until all is done
        self._busy = False
        self._closed = False
        self._is_refused = False
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._wake.put, None).atexit = False

    @property
    def waiting(self) -> int:
        """Threads that `wait` holds until all is done."""
        return len(self._latches)

    def post(self, job: Job) -> bool:
        """Have a job done; returns at once. After `close` it is dropped.

        Returns
        -------
        bool
            Whether there is a thread to do it. Where none can be had now the job waits: the next
            `post` tries again, and `wait` does it in the thread that waits.
        """
        with self._lock:
            if self._closed:
                return True
            has_thread = self._start()
            if self._wake.empty():  # first: an interrupted caller has posted nothing, or all
                self._wake.put(None)
            self._queue(job)
            return has_thread

    # A function of its own, as `Journal._deliver` is: its loop is not right inside of a `with`.
    def _queue(self, job: Job) -> None:
        for index, waiting in enumerate(self._jobs):
            merged = self._merge(waiting, job)
            if merged is not None:
                self._jobs[index] = merged
                return
        self._jobs.append(job)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do; return whether that is so.

        The worker itself does not wait: what it does is not done.
        """
        latch = threading.Lock()
        latch.acquire()
        with self._lock:
            if threading.current_thread() is self._thread:
                return False
            if not (self._jobs or self._busy):
                return True
            self._latches.append(latch)
            has_thread = self._busy or self._start()
        if not has_thread:
            self._do_all()
        longest = threading.TIMEOUT_MAX
        if latch.acquire(timeout=longest if seconds is None else min(max(0.0, seconds), longest)):
            return True
        with self._lock:
            if latch not in self._latches:
                return True
            self._latches.remove(latch)
            return False

    def close(self, *, wait: bool = True) -> None:
        """Drop what has not begun, and wait for what has, unless that is what calls."""
        with self._lock:
            self._closed = True
            self._jobs.clear()
            if not self._busy:
                self._all_done()
            self._wake.put(None)
            thread = self._thread
        if not wait or thread is None or thread is threading.current_thread():
            return
        if thread.ident is not None:
            thread.join()

    def _start(self) -> bool:
        """Start the thread unless it runs; return whether it does."""
        if self._thread is None or self._thread.ident is None:
            self._thread = threading.Thread(
                target=_run, args=(weakref.ref(self), self._wake), name=self._name, daemon=True
            )
            try:
                self._thread.start()
            except (RuntimeError, MemoryError):  # no more threads, or no memory for its stack
                self._thread = None
                if not self._is_refused:
                    self._is_refused = True
                    logger().warning("%s: no thread can be started now", self._name, exc_info=True)
                return False
            self._is_refused = False
        return True

    def _all_done(self) -> None:
        while self._latches:
            self._latches.pop().release()

    def _do_all(self) -> bool:
        """Do what there is to do; return whether there may be more later."""
        while True:
            with self._lock:
                if self._busy:  # a second thread, since the start of the first was interrupted
                    return True
                if self._closed or not self._jobs:
                    self._all_done()
                    return not self._closed
                job = self._jobs.popleft()
                self._busy = True
            try:
                self._work(job)
            except BaseException:  # the next job may fare better; no caller waits for this error
                logger().exception("%s failed", self._name)
            del job
            self._busy = False


def _run(reference: Callable[[], Worker[Any] | None], wake: SimpleQueue[None]) -> None:
    while True:
        wake.get()
        worker = reference()
        if worker is None or not worker._do_all():  # noqa: SLF001 — its own thread
            wake.put(None)
            return
        del worker
