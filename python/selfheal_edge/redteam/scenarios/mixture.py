"""Two causes in one stream: at once, or one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Domain, Raw
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.scenario import Ask, Scenario

__all__ = ["MIXTURES", "Mixture"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A first scenario, and a second one during it or after it.

    Attributes
    ----------
    name : str
        Unique among mixtures.
    first, second : Scenario
        The second changes what the first made of the samples ("during"), or the later half of
        them, where the first no longer acts ("then").
    order : str
        "during" or "then".
    share : float
        Of the samples that the second changes.
    """

    name: str
    first: Scenario
    second: Scenario
    order: Literal["during", "then"]
    share: float = 0.5

    def causes(self, at: float) -> frozenset[Cause | None]:
        """Return what is right to name at a part `at` of the stream behind the onset, 0 to 1."""
        first = {self.first.cause, *self.first.also}
        second = {self.second.cause, *self.second.also}
        if self.order == "during":
            return frozenset(first | second)
        return frozenset(first if at < 0.5 else second)

    def fits(self, domain: Domain) -> bool:
        """Whether both apply."""
        return self.first.fits(domain) and self.second.fits(domain)

    def apply(
        self,
        inputs: Raw,
        rng: np.random.Generator,
        *,
        domain: Domain,
        ask: Ask | None = None,
        pool: Raw | None = None,
        labels: npt.ArrayLike | None = None,
    ) -> Raw:
        """Return changed copies of raw inputs; arguments as of `Scenario.apply`."""
        result = np.array(inputs)
        if self.order == "then":
            half = len(result) // 2
            result[:half] = self.first.apply(
                result[:half], rng, domain=domain, ask=ask, pool=pool, labels=labels
            )
            result[half:] = self.second.apply(
                result[half:], rng, domain=domain, share=self.share, ask=ask, pool=pool,
                labels=labels,
            )  # fmt: skip
            return result
        drifted = self.first.apply(result, rng, domain=domain, ask=ask, pool=pool, labels=labels)
        # The attacker starts from what the sensor gives now.
        return self.second.apply(
            drifted, rng, domain=domain, share=self.share, ask=ask, pool=None, labels=None
        )


def _named(name: str) -> Scenario:
    return next(s for s in SCENARIOS if s.name == name)


_DRIFTS: Final = ("weather, fog, sudden", "acoustics, tilt, sudden", "ageing, own gains, sudden")

MIXTURES: Final[tuple[Mixture, ...]] = (
    *(
        Mixture(f"attack during {drift}", _named(drift), _named("attack, square"), "during")
        for drift in _DRIFTS
    ),
    *(
        Mixture(
            f"{drift}, then labels",
            _named(drift),
            _named("labels, few classes, sudden"),
            "then",
            1.0,
        )
        for drift in _DRIFTS
    ),
    *(
        Mixture(f"{drift}, then an attack", _named(drift), _named("attack, sign"), "then", 1.0)
        for drift in _DRIFTS
    ),
    Mixture(
        "a loose wire, then an attack", _named("worn sensor, loose wire"), _named("attack, sign"),
        "then", 1.0,
    ),
)  # fmt: skip
"""Of the measured part."""
