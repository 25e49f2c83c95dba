"""Who does what came up: the call that incidentd, or a thread of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final, Protocol

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.concurrency.worker import Worker
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.inference.incident import Incident
from selfheal_edge.loop.healer import Healer
from selfheal_edge.loop.healing_loop import HealingLoop

__all__ = ["Response", "respond"]

_MOST_MERGED: Final = 64


class Response(Protocol):
    """What is done with incidents."""

    def handle(self, incident: Incident) -> None:
        """Take in what came up; called under the inference lock."""
        ...

    def wait(self, seconds: float | None) -> bool:
        """Wait until all is done; return whether that is so."""
        ...

    def close(self) -> None:
        """Do no more."""
        ...


class _Inline:
    """Does at once what came up.

    What comes up while that is done, since a strategy or a diagnoser predicts, waits for its end:
    or damage that is being healed would be found, and healed, without end.
    """

    def __init__(self, loop: HealingLoop) -> None:
        self._loop = loop
        self._is_busy = False
        self._later: deque[Incident] = deque(maxlen=_MOST_MERGED)

    def handle(self, incident: Incident) -> None:
        if self._is_busy:
            self._put_off(incident)
            return
        self._is_busy = True
        try:
            self._loop.handle(incident)
            while self._later:
                self._loop.handle(self._later.popleft())
        finally:
            self._is_busy = False

    def _put_off(self, incident: Incident) -> None:
        if incident.error is not None:
            raise incident.error
        # What is still corrupt is what is being healed, or is found again.
        damage = tuple(b for b in incident.damage if b.healed or b.part != "live")
        if damage or incident.alarms:
            self._later.append(replace(incident, damage=damage, again=None))

    def wait(self, seconds: float | None) -> bool:  # noqa: ARG002 — there is nothing to wait for
        return True

    def close(self) -> None:
        pass


def _merge(waiting: Incident, posted: Incident) -> Incident | None:
    """Make one incident of two of a kind; what is too much is found again by the full check."""
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
        self,
        loop: HealingLoop,
        healer: Healer,
        inference_lock: ModelLock,
        maintenance_lock: ModelLock,
    ) -> None:
        self._loop = loop
        self._healer = healer
        self._inference_lock = inference_lock
        self._maintenance_lock = maintenance_lock
        self._worker: Worker[Incident] = Worker(self._work, _merge, "selfheal-edge healing")

    def handle(self, incident: Incident) -> None:
        is_live = any(block.part == "live" for block in incident.damage)
        if is_live or incident.error is not None or (incident.alarms and self._loop.is_calm):
            self._healer.trust.doubt()
        self._worker.post(replace(incident, again=None))
        if incident.error is not None:
            raise incident.error

    def _work(self, incident: Incident) -> None:
        try:
            # What was doubted is so until sweeps go on: under the maintenance lock they do not.
            with self._healer.trust.look(), self._maintenance_lock.lock():
                if not self._maintenance_lock.closed:
                    self._loop.handle(incident)
        except Exception as error:
            is_told = error is incident.error  # its caller has got it
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


def respond(
    loop: HealingLoop, healer: Healer, inference_lock: ModelLock, maintenance_lock: ModelLock
) -> Response:
    """Return what the policy asks for."""
    return (
        _Inline(loop)
        if maintenance_lock is inference_lock
        else _Background(loop, healer, inference_lock, maintenance_lock)
    )
