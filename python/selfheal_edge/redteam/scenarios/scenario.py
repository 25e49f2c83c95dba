"""One thing that may befall a stream of inputs, at any strength, on any share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import KINDS, Domain, InputKind, Raw, Real

__all__ = ["Ask", "Change", "Pace", "Part", "Scenario", "Setting"]

Ask: TypeAlias = Callable[[Raw], Real]
"""Raw inputs, shape (n, *sample), to probabilities, shape (n, classes): the model, unguarded."""
Part: TypeAlias = Literal["tuning", "measured", "held_out"]
Pace: TypeAlias = Literal["sudden", "gradual", "recurring"]

_PERIOD = 96
"""Samples from one visit of a recurring change to the next; it stays for half of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """Where a change happens."""

    domain: Domain
    rng: np.random.Generator
    strength: float
    amount: Real
    """Strength at each sample, shape (n,): `strength` times what the pace makes of it."""
    ask: Ask | None = None
    pool: Real | None = None
    """Further samples that were never changed, to draw from."""
    labels: npt.NDArray[np.int64] | None = None
    """Of the pool."""

    def column(self, real: Real) -> Real:
        """Return `amount` so that it broadcasts over samples."""
        return self.amount.reshape(-1, *([1] * (real.ndim - 1)))

    def answers(self, real: Real) -> Real:
        """Return the model's probabilities for real samples."""
        if self.ask is None:
            raise ValueError("ask: this scenario needs a model to question, got None")
        if not len(real):
            raise ValueError("ask: expected samples, got none")
        return self.ask(self.domain.raw(real))

    def source(self, real: Real) -> Real:
        """Return samples to borrow from: the pool, or what is being changed where there is none."""
        return real if self.pool is None else self.pool


class Change(Protocol):
    """What a scenario does."""

    def __call__(self, real: Real, setting: Setting, /) -> Real:
        """Return changed copies of real samples, shape (n, *axes); never changes its argument."""
        ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cause, and how it comes about.

    Attributes
    ----------
    name : str
        Unique among all.
    cause : Cause or None
        What a diagnosis should name; None for healthy streams.
    kind : str
        Within the cause: "stuck", "gain", "patch" …
    family : str
        What makes it; families belong to one part.
    part : str
        "tuning" may be looked at while a diagnoser is built; "measured" only measures, and was read
        between rounds; "held_out" was scored when all rules stood.
    change : Change
        Makes it.
    strengths : tuple of float
        The least and the greatest that make sense, in the domain's units if not said otherwise.
    kinds : tuple of str
        Kinds of input that it applies to.
    pace : str
        "sudden" is there from its onset on, "gradual" grows until the stream's end, "recurring"
        comes and goes.
    also : tuple of Cause
        Causes that are as right, since the inputs do not tell them apart.
    is_crafted : bool
        Whether every sample is changed by itself, at the price of many questions: change a pool
        once and draw streams from it.
    needs_labels : bool
        Whether it draws from a labelled pool.
    min_colours : int
        Channels that an image must have.
    """

    name: str
    cause: Cause | None
    kind: str
    family: str
    part: Part
    change: Change
    strengths: tuple[float, float] = (1.0, 1.0)
    kinds: tuple[InputKind, ...] = KINDS
    pace: Pace = "sudden"
    also: tuple[Cause, ...] = ()
    is_crafted: bool = False
    needs_labels: bool = False
    min_colours: int = 1

    def fits(self, domain: Domain) -> bool:
        """Whether it applies to inputs of this domain."""
        return domain.kind in self.kinds and domain.colours >= self.min_colours

    def is_right(self, cause: Cause | None) -> bool:
        """Whether a diagnosis that named `cause` is right."""
        return cause == self.cause or cause in self.also

    def apply(
        self,
        inputs: Raw,
        rng: np.random.Generator,
        *,
        domain: Domain,
        strength: float | None = None,
        share: float = 1.0,
        ask: Ask | None = None,
        pool: Raw | None = None,
        labels: npt.ArrayLike | None = None,
    ) -> Raw:
        """Return changed copies of raw inputs.

        Parameters
        ----------
        inputs
            Raw samples in the order in which they will be served, shape (n, *domain.shape).
        rng
            Where all chance comes from: the same state gives the same result.
        domain
            What the inputs are.
        strength
            None draws one from `strengths`.
        share
            Of the samples that are changed, 0 to 1; the others stay as they are, bit for bit.
        ask
            The model, for scenarios that question it.
        pool, labels
            Further raw samples that were never changed, and their classes. Label shift draws from
            them.

        Returns
        -------
        ndarray
            Of the same shape and dtype.

        Raises
        ------
        ValueError
            Where an argument does not fit, or `ask` or `labels` is missing and needed.
        """
        given = np.asarray(inputs)
        if given.shape[1:] != domain.shape or given.dtype != domain.dtype:
            raise ValueError(
                f"inputs: expected {domain.dtype.name}{[*domain.shape]} a sample, "
                f"got {given.dtype.name}{[*given.shape[1:]]}"
            )
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share: expected 0 to 1, got {share}")
        if not self.fits(domain):
            raise ValueError(f"domain: {self.name} does not apply to this {domain.kind}")
        if self.needs_labels and (pool is None or labels is None):
            raise ValueError(f"labels: {self.name} draws from a labelled pool, got none")
        if self.needs_labels and len(np.unique(np.asarray(labels))) < 2:
            raise ValueError("labels: expected two classes or more, got one")
        result = np.array(given)
        count = round(share * len(given))
        if strength is None:
            strength = float(rng.uniform(*self.strengths))
        if count == 0:
            return result
        chosen = np.sort(rng.permutation(len(given))[:count])
        profile = self._profile(len(given))[chosen]
        setting = Setting(
            domain,
            rng,
            strength,
            strength * profile,
            ask,
            None if pool is None else domain.real(pool),
            None if labels is None else np.asarray(labels, np.int64),
        )
        changed = self.change(domain.real(given[chosen]), setting)
        result[chosen] = domain.raw(changed)
        return result

    def _profile(self, count: int) -> Real:
        """Return how much of the strength is there at each sample."""
        if self.pace == "gradual":
            return np.linspace(0.0, 1.0, count + 1)[1:]
        if self.pace == "recurring":
            return (np.arange(count) % _PERIOD < _PERIOD // 2).astype(np.float64)
        return np.ones(count)
