"""Labels that other processes have left in a store's inbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

from selfheal_edge.learning.feedback import FeedbackReceipt
from selfheal_edge.learning.labels import label_from_plain
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.revocation import Revocation
from selfheal_edge.learning.sources import SignedLabel
from selfheal_edge.loop.label_desk import LabelDesk
from selfheal_edge.store.inbox import ASK, CONFIRM, LABEL_KINDS, LABELS, RELEASE, REVOKE, Request

__all__ = ["LABEL_KINDS", "Asker", "serve_labels"]

_MOST: Final = 256
_MOST_LABELS: Final = 1024


class Asker(Protocol):
    """The face of a model, as far as labels go."""

    def feedback(
        self, label: Any = None, *, correct: Any = None, id: Any = None, source: Any = None
    ) -> FeedbackReceipt | tuple[FeedbackReceipt, ...]:
        """Take a label in."""
        ...

    def revoke(self, source: str | None = None, id: Any = None) -> Revocation:
        """Unlearn."""
        ...

    def wanted_labels(self, limit: int = 16) -> tuple[Question, ...]:
        """Ask for labels."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """Suspects."""
        ...


def serve_labels(model: Asker, desk: LabelDesk, request: Request) -> str:
    """Do what a request asks for; return what came of it, for the journal."""
    try:
        match request.kind:
            case str(kind) if kind == LABELS:
                done = _take(model, request.fields)
            case str(kind) if kind == ASK:
                limit = int(request.fields["limit"])
                done = f"{len(model.wanted_labels(max(1, min(limit, _MOST))))} questions wait"
            case str(kind) if kind == RELEASE:
                signed = SignedLabel.from_dict(request.fields["signed"])
                source = desk.spend(signed)
                label = signed.label if isinstance(signed.label, int) else None
                done = model.quarantine.release(signed.id, source=source, label=label)
                done = f"{signed.id}: {done}"
            case str(kind) if kind == CONFIRM:
                model.quarantine.confirm(int(request.fields["id"]))
                done = f"{int(request.fields['id'])} is what it is suspected of"
            case str(kind) if kind == REVOKE:
                name, ids = request.fields.get("source"), request.fields.get("ids")
                who = None if name is None else str(name)
                done = str(model.revoke(who, None if ids is None else list(ids)))
            case _:
                done = "refused: expected a request on labels"
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        done = f"refused: {error}"
    return f"{request.kind}: {done}"


def _take(model: Asker, fields: Mapping[str, Any]) -> str:
    told: Counter[str] = Counter()
    for one in list(fields["labels"])[:_MOST_LABELS]:
        try:
            if "tag" in one:
                receipt = model.feedback(SignedLabel.from_dict(one))
            else:
                receipt = model.feedback(
                    label_from_plain(one.get("label")),
                    correct=one.get("correct"),
                    id=one["id"],
                    source=str(one["source"]) if one.get("source") else None,
                )
            assert isinstance(receipt, FeedbackReceipt)
            told[receipt.outcome.value] += 1
        except (ValueError, LookupError, TypeError) as error:
            told[f"refused: {error}"] += 1
    return ", ".join(f"{count} {what}" for what, count in told.items()) or "none"
