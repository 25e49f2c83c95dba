"""A thread that does one job after the other."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Worker"]

_log = logging.getLogger("selfheal_edge")

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
    """

    def __init__(
        self, work: Callable[[Job], None], merge: Callable[[Job, Job], Job | None], name: str
    ) -> None:
        self._work = work
        self._merge = merge
        self._name = name
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def post(self, job: Job) -> None:
        """Have a job done; returns at once. After `close` it is dropped."""
        with self._changed:
            if self._closed:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()  # may fail, and is tried again then
                self._thread = thread
            for index, waiting in enumerate(self._jobs):
                merged = self._merge(waiting, job)
                if merged is not None:
                    self._jobs[index] = merged
                    break
            else:
                self._jobs.append(job)
            self._changed.notify_all()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do; return whether that is so.

        The worker itself does not wait: what it does is not done.
        """
        with self._changed:
            if threading.current_thread() is self._thread:
                return False
            return self._changed.wait_for(lambda: not (self._jobs or self._busy), seconds)

    def close(self, *, wait: bool = True) -> None:
        """Drop what has not begun, and wait for what has, unless that is what calls."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job = self._jobs.popleft()
                self._busy = True
            try:
                self._work(job)
            except BaseException:  # the next job may fare better; there is nobody else to tell
                _log.exception("%s failed", self._name)
