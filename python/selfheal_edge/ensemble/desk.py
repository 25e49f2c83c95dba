"""Take a committee's labels in: whose they are, of which answer, and whether they count."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.hashing import sha256
from selfheal_edge.learning.claims import read_claims
from selfheal_edge.learning.feedback import Claim, FeedbackReceipt, Outcome
from selfheal_edge.learning.labels import Label, LabelSpace
from selfheal_edge.learning.sources import (
    UNAUTHENTICATED,
    FeedbackSource,
    KnownSource,
    SourceTable,
)
from selfheal_edge.policy import Policy

__all__ = ["Desk", "Told"]

_MOST_ANSWERED: Final = 1024


class Told:
    """A label that was taken in: who said it, and what of."""

    __slots__ = ("correct", "id", "is_authenticated", "label", "name", "source")

    def __init__(
        self, claim: Claim, label: Label | None, correct: bool | None, source: KnownSource | None
    ) -> None:
        self.id: Final = claim.id
        self.label: Final = label
        self.correct: Final = correct
        self.source: Final = source
        self.name: Final = UNAUTHENTICATED if source is None else source.name
        self.is_authenticated: Final = source is not None and source.is_authenticated


class Desk:
    """Reads what is said of answers, and says what becomes of each.

    Parameters
    ----------
    names
        The members at its first start: sources sign for these, whatever members it has later.
    space
        What labels may be.
    policy
        Has the quotas.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, names: Sequence[str], space: LabelSpace, policy: Policy, clock: Callable[[], float]
    ) -> None:
        self.names = tuple(sorted(names))
        """Of the members at its first start."""
        self.space: Final = space
        self._quotas = policy.source_labels_per_hour, policy.unauthenticated_labels_per_hour
        self.sources = SourceTable(self.digest, *self._quotas)
        self._clock = clock
        self._answered: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        self.lowest: int | None = None
        """The lowest id that any start gave, as far as that is known."""

    @property
    def digest(self) -> str:
        """What stands for a model's hash in its sources' signatures."""
        return sha256(json.dumps(["selfheal-edge ensemble", *self.names]).encode()).hex()

    def is_answered(self, id: int) -> bool:
        """Whether a label has come for an answer."""
        return id in self._answered

    @property
    def answered(self) -> frozenset[int]:
        """Answers that labels have come of."""
        return frozenset(self._answered)

    def read(
        self,
        label: Any,
        correct: Any,
        id: Any,
        source: FeedbackSource | str | None,
        latest: int | None,
    ) -> tuple[tuple[Claim, ...], bool]:
        """Read the arguments of `SelfHealingEnsemble.feedback`; return claims, and whether many.

        Parameters
        ----------
        latest
            The latest answer's id; None: there is none.

        Raises
        ------
        TypeError, ValueError, FeedbackSourceError
            Naming the argument, what was expected and what came.
        """
        self.sources.named(source)  # raises for what is none
        return read_claims(self.space, label, correct, id, source, latest)

    def take(
        self, claim: Claim, place: tuple[Outcome, str] | None, verdict: int
    ) -> Told | FeedbackReceipt:
        """Take one claim in; return it, or why it does not count.

        Parameters
        ----------
        place
            Why the answer cannot be spoken of; None where it can.
        verdict
            The class that was answered; -1: none.
        """
        source: KnownSource | None
        if claim.signed is not None:
            source, why = self.sources.signer(claim.signed)
            if source is None:
                return FeedbackReceipt(claim.id, Outcome.REFUSED, why)
            source.counter = claim.signed.counter  # whatever becomes of it, it is used up
        else:
            source = self.sources.named(claim.source)
        if place is not None:
            return FeedbackReceipt(claim.id, *place)
        name = UNAUTHENTICATED if source is None else source.name
        if name in self._answered.get(claim.id, ()):
            return FeedbackReceipt(
                claim.id,
                Outcome.REPEATED,
                f"{name} has spoken of this answer before, and that counts",
            )
        label, correct = claim.label, claim.correct
        if isinstance(label, int):
            agrees = label == verdict
            if correct is not None and correct != agrees:
                return FeedbackReceipt(
                    claim.id,
                    Outcome.REFUSED,
                    f"it says correct={correct}, and names class {label} where {verdict} was "
                    "answered",
                )
            correct = agrees
        elif label is None and correct and verdict >= 0:
            label = verdict
        if not self.sources.quota(source).take(self._clock()):
            return FeedbackReceipt(
                claim.id, Outcome.OVER_QUOTA, "as many labels as an hour may have came"
            )
        self._answered[claim.id] = (*self._answered.pop(claim.id, ()), name)
        while len(self._answered) > _MOST_ANSWERED:
            self._answered.popitem(last=False)
        return Told(claim, label, correct, source)

    def to_plain(self) -> dict[str, Any]:
        """Return what no restart may forget."""
        return {
            "names": list(self.names),
            "sources": self.sources.to_plain(),
            "lowest": self.lowest,
        }

    def go_on_with(self, fields: Mapping[str, Any]) -> None:
        """Go on with what `to_plain` returned.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that; nothing has changed then.
        """
        lowest = None if fields["lowest"] is None else int(fields["lowest"])
        names = self.names
        try:
            self.names = tuple(sorted(str(name) for name in fields["names"]))
            sources = SourceTable(self.digest, *self._quotas)
            sources.go_on_with(fields["sources"])
        except BaseException:
            self.names = names
            raise
        self.sources, self.lowest = sources, lowest


def class_losses(
    probabilities: npt.NDArray[np.float32], label: int, ids: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Return the loss of each member for a class: as the core's, of answers kept elsewhere.

    Parameters
    ----------
    probabilities
        Shape (members, classes); NaN for a member without an answer, or with one that is no number.
    label
        The class.
    ids
        Each member's own id of its answer, -1 for one without: it has no loss. What is no number
        is wrong.
    """
    c = 1.0 / (math.e - 1.0)
    told = probabilities[:, label].astype(np.float64)
    found = np.asarray(np.clip(np.log((1.0 + c) / (told + c)), 0.0, 1.0))
    found[np.isnan(found) & (np.array(ids) >= 0)] = 1.0
    return found
