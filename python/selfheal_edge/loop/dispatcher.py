"""Who does what came up: the call that noticed, or a thread of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final, Protocol

from selfheal_edge.concurrency.locks import Turns
from selfheal_edge.concurrency.worker import Worker
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.inference.serving import Notice
from selfheal_edge.loop.healer import Healer
from selfheal_edge.loop.healing_loop import HealingLoop

__all__ = ["Response", "respond"]

_MOST_MERGED: Final = 64


class Response(Protocol):
    """What is done with notices."""

    def attend(self, notice: Notice) -> None:
        """Take in what came up; called in the turn of the inference."""
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
        self._later: deque[Notice] = deque(maxlen=_MOST_MERGED)

    def attend(self, notice: Notice) -> None:
        if self._is_busy:
            self._put_off(notice)
            return
        self._is_busy = True
        try:
            self._loop.attend(notice)
            while self._later:
                self._loop.attend(self._later.popleft())
        finally:
            self._is_busy = False

    def _put_off(self, notice: Notice) -> None:
        if notice.error is not None:
            raise notice.error
        # What is still corrupt is what is being healed, or is found again.
        damage = tuple(b for b in notice.damage if b.healed or b.part != "live")
        if damage or notice.alarms:
            self._later.append(replace(notice, damage=damage, again=None))

    def wait(self, seconds: float | None) -> bool:  # noqa: ARG002 — there is nothing to wait for
        return True

    def close(self) -> None:
        pass


def _merge(waiting: Notice, posted: Notice) -> Notice | None:
    """Make one notice of two of a kind; what is too much is found again by the full check."""
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
    """Posts notices to a worker.

    Lock order: care, then a turn for as long as one inference. The thread that predicts has the
    turn, so it waits for nothing here.
    """

    def __init__(self, loop: HealingLoop, healer: Healer, turns: Turns, care: Turns) -> None:
        self._loop = loop
        self._healer = healer
        self._turns = turns
        self._care = care
        self._worker: Worker[Notice] = Worker(self._work, _merge, "selfheal-edge healing")

    def attend(self, notice: Notice) -> None:
        is_live = any(block.part == "live" for block in notice.damage)
        if is_live or notice.error is not None or (notice.alarms and self._loop.is_calm):
            self._healer.trust.doubt()
        self._worker.post(replace(notice, again=None))
        if notice.error is not None:
            raise notice.error

    def _work(self, notice: Notice) -> None:
        try:
            # What was doubted is so until sweeps go on: while somebody has the care they do not.
            with self._healer.trust.look(), self._care.lock():
                if not self._care.closed:
                    self._loop.attend(notice)
        except Exception as error:
            is_told = error is notice.error  # its caller has got it
            if not is_told and not isinstance(error, ModelClosedError):
                raise
        finally:
            self._care.ended()

    def wait(self, seconds: float | None) -> bool:
        # Whoever has a turn would wait for what waits for him.
        return self._worker.wait(0.0 if self._is_inside() else seconds)

    def close(self) -> None:
        self._worker.close(wait=not self._is_inside())

    def _is_inside(self) -> bool:
        return self._care.core.mine or self._turns.core.mine


def respond(loop: HealingLoop, healer: Healer, turns: Turns, care: Turns) -> Response:
    """Return what the policy asks for."""
    return _Inline(loop) if care is turns else _Background(loop, healer, turns, care)
