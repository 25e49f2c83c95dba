"""Which thread handles an incident: the calling thread, or a worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol, TypeAlias

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.inference.incident import Incident
from selfheal_edge.loop.incidents import AnyIncident, FeedbackCame, FeedbackDue, Looked, Posted
from selfheal_edge.loop.state import LoopState

__all__ = ["Dispatcher", "dispatcher_for"]

_MOST_MERGED: Final = 64

Told: TypeAlias = FeedbackCame | FeedbackDue
"""What is no inference's."""


class Handler(Protocol):
    """What incidents are dispatched to."""

    @property
    def state(self) -> LoopState:
        """What it knows."""
        ...

    def handle(self, incident: AnyIncident) -> None:
        """Do what has to be done about an incident."""
        ...

    def handle_next(self) -> None:
        """Have the next inference handled, whatever it reports; called under the inference lock."""
        ...

    def note(self, incident: AnyIncident) -> LoopState:
        """Take note of an incident that needs no action now."""
        ...


class Dispatcher(Protocol):
    """What is done with incidents."""

    def handle(self, incident: Incident) -> None:
        """Handle an incident; called under the inference lock."""
        ...

    def post(self, about: Told) -> None:
        """Have something handled that is no inference's; returns at once where a worker does it."""
        ...

    def wait(self, seconds: float | None) -> bool:
        """Wait until all is done; return whether that is so."""
        ...

    def close(self) -> None:
        """Do no more."""
        ...


class _Inline:
    """The calling thread handles what it found, before it answers."""

    def __init__(self, handler: Handler) -> None:
        self.handle = handler.handle

    def post(self, about: Told) -> None:
        self.handle(about)

    def wait(self, seconds: float | None) -> bool:  # noqa: ARG002 — there is nothing to wait for
        return True

    def close(self) -> None:
        pass


def _merge(waiting: Incident | Told, posted: Incident | Told) -> Incident | Told | None:
    """Merge two incidents of a kind; what that drops, the full check finds again."""
    if isinstance(waiting, FeedbackCame) and isinstance(posted, FeedbackCame):
        return FeedbackCame(waiting.records + posted.records)  # quotas bound them
    if isinstance(waiting, FeedbackDue) and isinstance(posted, FeedbackDue):
        return posted
    if not (isinstance(waiting, Incident) and isinstance(posted, Incident)):
        return None
    same_kind = bool(waiting.damage) == bool(posted.damage) and (
        (waiting.error is None) == (posted.error is None)
    )
    if not same_kind:
        return None
    return replace(
        posted,
        damage=(waiting.damage + posted.damage)[:_MOST_MERGED],
        alarms=(waiting.alarms + posted.alarms)[:_MOST_MERGED],
    )


class _Background:
    """Posts incidents to a worker.

    Lock order: the maintenance lock, then the inference lock for as long as one inference. The
    thread that predicts has the inference lock, so it waits for nothing here.
    """

    def __init__(
        self, handler: Handler, inference_lock: ModelLock, maintenance_lock: ModelLock
    ) -> None:
        self._handler = handler
        self._inference_lock = inference_lock
        self._maintenance_lock = maintenance_lock
        # Threads and queues are for those who ask for a worker.
        from selfheal_edge.concurrency.worker import Worker  # noqa: PLC0415

        self._worker: Worker[Incident | Told] = Worker(self._work, _merge, "selfheal-edge healing")

    def post(self, about: Told) -> None:
        self._worker.post(about)

    def handle(self, incident: Incident) -> None:
        self._handler.note(Posted(incident))
        if not self._worker.post(replace(incident, again=None)):
            self._handler.handle_next()  # no thread can be had now: the next inference asks again
        if incident.error is not None:
            raise incident.error

    def _work(self, incident: Incident | Told) -> None:
        try:
            suspicions = self._handler.state.trust.suspicions
            try:
                # Under the maintenance lock there are no sweeps: what is suspected is so meanwhile.
                with self._maintenance_lock.lock():
                    if not self._maintenance_lock.closed:
                        self._handler.handle(incident)
            finally:
                self._handler.note(Looked(suspicions))
        except Exception as error:
            is_told = (
                isinstance(incident, Incident) and error is incident.error
            )  # its caller has got it
            if not is_told and not isinstance(error, ModelClosedError):
                raise
        finally:
            self._maintenance_lock.ended()

    def wait(self, seconds: float | None) -> bool:
        # A thread that has a lock would wait for the worker, which waits for that lock.
        return self._worker.wait(0.0 if self._is_inside() else seconds)

    def close(self) -> None:
        self._worker.close(wait=not self._is_inside())

    def _is_inside(self) -> bool:
        return self._maintenance_lock.core.mine or self._inference_lock.core.mine


def dispatcher_for(
    handler: Handler, inference_lock: ModelLock, maintenance_lock: ModelLock
) -> Dispatcher:
    """Return what the policy's mode asks for: with one lock for both, no worker could use it."""
    if maintenance_lock is inference_lock:
        return _Inline(handler)
    return _Background(handler, inference_lock, maintenance_lock)
