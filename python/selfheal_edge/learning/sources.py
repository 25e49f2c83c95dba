"""Who may say what of an answer: sources of feedback, their signatures and their quotas.

A source is a capability, not a name: an object made from a key, or handed over inside the process.
A name that any caller can type is no source; all that comes under such names shares the smallest
quota.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from selfheal_edge.errors import FeedbackSourceError
from selfheal_edge.hashing import equal_secrets, hmac_sha256
from selfheal_edge.learning.labels import Label, label_bytes, label_from_plain, plain_label
from selfheal_edge.text import quoted

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument

__all__ = [
    "UNAUTHENTICATED",
    "FeedbackSource",
    "KnownSource",
    "Quota",
    "SignedLabel",
    "SourceTable",
]

UNAUTHENTICATED: Final = "unauthenticated"
"""What all that comes under a bare name, or under none, is counted as."""

_MOST_SOURCES: Final = 32
_LONGEST_NAME: Final = 64
_HOUR: Final = 3600.0
_MOST_COUNTER: Final = (1 << 63) - 1
_LABEL: Final = b"selfheal-edge label\0"
_SOURCE: Final = b"selfheal-edge source\0"
_MARK: Final = b"selfheal-edge source's mark"


def check_name(name: object) -> str:
    """Return a source's name, checked.

    Raises
    ------
    TypeError, ValueError
        Where it is no text of 1 to 64 printable characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {type(name).__name__}")
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"name: expected 1 to {_LONGEST_NAME} printable characters, got {quoted(name)}"
        )
    return name


def _model_bytes(model: str) -> bytes:
    try:
        found = bytes.fromhex(model)
    except (TypeError, ValueError):
        found = b""
    if len(found) != 32:
        raise ValueError(f"model: expected a file's SHA-256 in hexadecimal, got {quoted(model)}")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class SignedLabel:
    """What a source says of one answer, with a tag that only its key makes.

    Made by `FeedbackSource.sign`, anywhere; taken by `SelfHealingModel.feedback`, once.
    """

    source: str
    id: int
    label: Label | None
    correct: bool | None
    counter: int
    """Higher than in all that the source has signed before."""
    tag: bytes
    """HMAC-SHA256 over the model's hash, the source's name and all of the above."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {
            "source": self.source,
            "id": self.id,
            "label": plain_label(self.label),
            "correct": self.correct,
            "counter": self.counter,
            "tag": self.tag.hex(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SignedLabel:
        """Read what `to_dict` returned; whether it holds, its reader finds out by the tag.

        Raises
        ------
        ValueError
            When it is not that.
        """
        try:
            correct = fields["correct"]
            found = cls(
                check_name(fields["source"]),
                int(fields["id"]),
                label_from_plain(fields["label"]),
                None if correct is None else bool(correct),
                int(fields["counter"]),
                bytes.fromhex(fields["tag"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"signed label: expected what sign() made, got {error}") from None
        return found


class FeedbackSource:
    """A capability to say what is right: the device that has the object trusts who holds it.

    `SelfHealingModel.feedback_source` makes one for use inside the process, and makes it known to
    the model. Elsewhere (at a desk, on a server) one of the same name and key signs labels for it.

    Parameters
    ----------
    name
        1 to 64 printable characters.
    key
        As of a store: at least 16 bytes, a path, ``"env:NAME"`` or a callable. None: the source is
        unauthenticated, and cannot sign.
    model
        SHA-256 of the model file in hexadecimal, for which its labels are meant.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; the key is never shown.
    """

    def __init__(self, name: str, key: KeyArgument = None, *, model: str) -> None:
        from selfheal_edge.store.keys import read_key  # noqa: PLC0415 — it loads pathlib

        self.name: Final = check_name(name)
        self.model: Final = model
        secret = read_key(key)
        self.is_authenticated: Final = secret is not None
        bound = _SOURCE + name.encode() + b"\0" + _model_bytes(model)
        # Without a key it is the object that counts: its secret lies nowhere else.
        self._key = hmac_sha256(os.urandom(32) if secret is None else secret, bound)
        self._counter = 0

    @property
    def mark(self) -> bytes:
        """What tells its key from others', and not what it is."""
        return hmac_sha256(self._key, _MARK)

    def sign(
        self, id: int, label: Label | None = None, *, correct: bool | None = None
    ) -> SignedLabel:
        """Sign what is said of one answer.

        Parameters
        ----------
        id
            `Prediction.id`, or `Question.id`.
        label, correct
            As `SelfHealingModel.feedback`.

        Returns
        -------
        SignedLabel
            Its counter is the time in nanoseconds, or one more than that of the label before: those
            of one source have to arrive in the order in which they were signed.

        Raises
        ------
        FeedbackSourceError
            Without a key.
        TypeError, ValueError
            When neither `label` nor `correct` is given, or `id` is no prediction's.
        """
        if not self.is_authenticated:
            raise FeedbackSourceError(f"sign: expected a source with a key, {self.name!r} has none")
        if label is None and correct is None:
            raise TypeError("label, correct: expected at least one of them, got neither")
        if correct is not None and not isinstance(correct, bool):
            raise TypeError(f"correct: expected a bool, got {type(correct).__name__}")
        if isinstance(id, bool) or not hasattr(id, "__index__"):
            raise TypeError(f"id: expected a prediction's id, got {type(id).__name__}")
        if not 0 <= id < 1 << 63:
            raise ValueError(f"id: expected a prediction's, got {id!r}")
        self._counter = max(self._counter + 1, time.time_ns())
        signed = SignedLabel(self.name, int(id), label, correct, self._counter, b"")
        tag = self.tag(signed)
        return SignedLabel(self.name, int(id), label, correct, self._counter, tag)

    def tag(self, signed: SignedLabel) -> bytes:
        """Return the tag that a signed label must have."""
        correct = {None: 0, False: 1, True: 2}[signed.correct]
        numbers = struct.pack("<qqB", signed.id, signed.counter, correct)
        return hmac_sha256(self._key, _LABEL + numbers + label_bytes(signed.label))

    def holds(self, signed: SignedLabel) -> bool:
        """Whether this source signed it."""
        if not 0 <= signed.id <= _MOST_COUNTER or not 0 <= signed.counter <= _MOST_COUNTER:
            return False
        return equal_secrets(self.tag(signed), signed.tag)

    def __repr__(self) -> str:
        how = "with a key" if self.is_authenticated else UNAUTHENTICATED
        return f"<FeedbackSource {self.name!r}, {how}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be copied and pickled: its key would lie where its owner looks for none."""
        raise TypeError("source: expected to stay in its process, got copied")


@dataclass(slots=True)
class Quota:
    """So many labels an hour: a token bucket, whose clock may jump.

    A clock that goes back adds nothing until it is where it was, one that leaps ahead no more than
    the bucket holds: one that swings buys nothing.
    """

    per_hour: int
    tokens: float = math.nan
    second: float | None = None

    def __post_init__(self) -> None:
        """Start full."""
        if math.isnan(self.tokens):
            self.tokens = float(self.per_hour)

    def take(self, now: float) -> bool:
        """Take one label's token at this second of the clock, if there is one."""
        if self.second is not None and now > self.second:
            gained = (now - self.second) * self.per_hour / _HOUR
            self.tokens = min(float(self.per_hour), self.tokens + gained)
        if math.isfinite(now) and (self.second is None or now > self.second):
            self.second = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class KnownSource:
    """What is known of one source."""

    name: str
    mark: bytes
    is_authenticated: bool
    quota: Quota
    counter: int = 0
    source: FeedbackSource | None = field(default=None, repr=False)
    """The capability; None after a restart, until it is made again."""
    is_revoked: bool = False
    """Whether nothing that it says counts any more, until it has another key."""


class SourceTable:
    """The sources that a model knows: names, marks of their keys, quotas and counters.

    Parameters
    ----------
    model
        SHA-256 of the model file.
    per_hour
        Labels an hour of one authenticated source.
    unauthenticated_per_hour
        Labels an hour of all others together.
    """

    def __init__(self, model: str, per_hour: int, unauthenticated_per_hour: int) -> None:
        self._model = model
        self._per_hour = per_hour
        self._shared = Quota(unauthenticated_per_hour)
        self._known: dict[str, KnownSource] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The sources, in the order in which they were made."""
        return tuple(self._known)

    def check(self, name: str, key: KeyArgument = None) -> FeedbackSource:
        """Make a source that `add` would take, and change nothing.

        Raises
        ------
        FeedbackSourceError
            As `add`.
        """
        made = FeedbackSource(name, key, model=self._model)
        if name == UNAUTHENTICATED:
            raise FeedbackSourceError(f"name: expected another one than {name!r}, which is none")
        known = self._known.get(name)
        if known is None and len(self._known) >= _MOST_SOURCES:
            raise FeedbackSourceError(f"sources: expected at most {_MOST_SOURCES}")
        if known is None or known.mark == made.mark or known.is_revoked:
            return made
        if known.is_authenticated or made.is_authenticated or known.source is not None:
            raise FeedbackSourceError(
                f"name: expected one that no other source has, got {name!r} with another key"
            )
        return made

    def add(self, name: str, key: KeyArgument = None) -> FeedbackSource:
        """Make a source, or the one of this name and key once more.

        Raises
        ------
        FeedbackSourceError
            When the name is taken under another key, or there are 32 sources already.
        """
        made = self.check(name, key)
        known = self._known.get(name)
        if known is not None and known.is_revoked and known.mark != made.mark:
            del self._known[name]
            known = None
        if known is None:
            is_keyed = made.is_authenticated
            quota = Quota(self._per_hour) if is_keyed else self._shared
            known = self._known[name] = KnownSource(name, made.mark, is_keyed, quota)
        known.mark = made.mark  # without a key, that of the process before is another
        if known.source is None:
            known.source = made
        return known.source

    def named(self, source: FeedbackSource | str | None) -> KnownSource | None:
        """Return what is known of a source; None for a bare name, or for none.

        Raises
        ------
        FeedbackSourceError
            For a capability that this model did not make.
        """
        if source is None:
            return None
        if isinstance(source, str):
            check_name(source)
            return None
        if not isinstance(source, FeedbackSource):
            raise TypeError(
                f"source: expected a FeedbackSource, a string or None, got {type(source).__name__}"
            )
        known = self._known.get(source.name)
        if known is None or known.mark != source.mark:
            raise FeedbackSourceError(
                f"source: expected one that feedback_source of the same object made, got {source!r}"
            )
        return known

    def signer(self, signed: SignedLabel) -> tuple[KnownSource | None, str]:
        """Return the source that signed a label, or why there is none."""
        known = self._known.get(signed.source)
        if known is None or not known.is_authenticated:
            return None, f"no source {signed.source!r} with a key is known"
        if known.source is None:
            return None, f"the key of {signed.source!r} was not given since the start"
        if not known.source.holds(signed):
            return None, f"the signature is not that of {signed.source!r} for this model"
        if signed.counter <= known.counter:
            return None, f"signed before what {signed.source!r} said last, or said twice"
        return known, ""

    def revoke(self, name: str) -> bool | None:
        """Take nothing from a source any more, until it is made anew with another key.

        Returns
        -------
        bool or None
            Whether it was not revoked before; None where no such source is known.
        """
        known = self._known.get(name)
        if known is None:
            return None
        is_news, known.is_revoked = not known.is_revoked, True
        return is_news

    def is_keyed(self, name: str) -> bool:
        """Whether a source of this name is known that has a key."""
        return name in self._known and self._known[name].is_authenticated

    @property
    def revoked(self) -> tuple[str, ...]:
        """Those that were revoked."""
        return tuple(name for name, known in self._known.items() if known.is_revoked)

    def quota(self, known: KnownSource | None) -> Quota:
        """Return whose labels are counted together."""
        return self._shared if known is None else known.quota

    def to_plain(self) -> dict[str, Any]:
        """Return counters and what is left of the quotas, for a store."""
        return {
            "shared": self._shared.tokens,
            "sources": [
                {
                    "name": one.name,
                    "mark": one.mark.hex(),
                    "authenticated": one.is_authenticated,
                    "tokens": one.quota.tokens,
                    "counter": one.counter,
                    "revoked": one.is_revoked,
                }
                for one in self._known.values()
            ],
        }

    def go_on_with(self, fields: Mapping[str, Any]) -> None:
        """Go on with what `to_plain` returned in the process before: nothing was refilled since.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that; nothing has changed then.
        """
        left = min(float(fields["shared"]), float(self._shared.per_hour))
        found: dict[str, KnownSource] = {}
        for one in list(fields["sources"])[:_MOST_SOURCES]:
            name = check_name(one["name"])
            is_keyed = bool(one["authenticated"])
            tokens = min(float(one["tokens"]), float(self._per_hour))
            if not math.isfinite(tokens) or not 0 <= int(one["counter"]) <= _MOST_COUNTER:
                raise ValueError("sources: expected finite quotas and counters")
            quota = Quota(self._per_hour, tokens) if is_keyed else self._shared
            mark = bytes.fromhex(one["mark"])
            is_revoked = bool(one.get("revoked", False))
            found[name] = KnownSource(
                name, mark, is_keyed, quota, int(one["counter"]), is_revoked=is_revoked
            )
        if not math.isfinite(left):
            raise ValueError("sources: expected finite quotas")
        self._shared.tokens = left
        self._known = found
