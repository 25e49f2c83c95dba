"""Who does what came up: the call that noticed, or a thread of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from selfheal_edge.background import Worker
from selfheal_edge.healing import Healer
from selfheal_edge.loop import HealingLoop
from selfheal_edge.serving import Notice
from selfheal_edge.turns import Turns

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
    def __init__(self, loop: HealingLoop) -> None:
        self.attend = loop.attend

    def wait(self, seconds: float | None) -> bool:  # noqa: ARG002 — there is nothing to wait for
        return True

    def close(self) -> None:
        pass


def _merge(waiting: Notice, posted: Notice) -> Notice | None:
    """Make one notice of two of a kind; what is too much is found again by the full check."""
    if bool(waiting.damage) != bool(posted.damage) or waiting.error or posted.error:
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

    def __init__(self, loop: HealingLoop, healer: Healer, care: Turns) -> None:
        self._loop = loop
        self._healer = healer
        self._care = care
        self._worker: Worker[Notice] = Worker(self._work, _merge, "selfheal-edge healing")

    def attend(self, notice: Notice) -> None:
        is_live = any(block.part == "live" for block in notice.damage)
        if is_live or notice.error is not None or (notice.alarms and self._loop.is_calm):
            self._healer.doubt()
        self._worker.post(replace(notice, again=None))
        if notice.error is not None:
            raise notice.error

    def _work(self, notice: Notice) -> None:
        with self._care, self._healer.look():
            try:
                self._loop.attend(notice)
            except Exception as error:
                if error is not notice.error:  # else its caller has got it
                    raise

    def wait(self, seconds: float | None) -> bool:
        return self._worker.wait(seconds)

    def close(self) -> None:
        self._worker.close()


def respond(loop: HealingLoop, healer: Healer, turns: Turns, care: Turns) -> Response:
    """Return what the policy asks for."""
    return _Inline(loop) if care is turns else _Background(loop, healer, care)
