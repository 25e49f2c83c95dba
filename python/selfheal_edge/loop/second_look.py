"""While an attack lasts, answer from moved copies of inputs, or abstain where one is suspect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.moved_copies import COST, MOST_COST, count_of, raw_copies
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.inference.second_answers import Given
from selfheal_edge.monitoring.signals import OutputKind
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["SecondLook"]

Asker = Callable[[npt.NDArray[Any], float], "npt.NDArray[Any] | None"]
_RESERVE: Final = 0.5
"""Share of a minute's budget that is kept for suspects."""


class SecondLook:
    """Gives other answers while an attack lasts.

    Parameters
    ----------
    how
        ``"vote"``: the mean of what the model says to copies that were moved by one step each way;
        of suspects first, and of all others while half of the budget is left: what was crafted well
        is no suspect. ``"abstain"``: none to suspects.
    profile
        How inputs are made up, and what a vote costs; None where calibration learned nothing.
    kind
        What output 0 holds; None for a model without classes.
    spec
        Of the output.
    ask
        Asks the model about raw inputs, within a budget of which a share is to be left: outputs of
        shape (n, elements), or None.
    value
        What each number of an answer is where the model abstains, or the nearest that the answer
        can hold; None, and NaN for integers: it stays what it was.
    is_stateful
        Whether an extra inference would move a recurrent model's state on.
    """

    def __init__(
        self,
        how: Literal["vote", "abstain"],
        profile: Profile | None,
        kind: OutputKind | None,
        spec: TensorSpec,
        ask: Asker,
        *,
        value: float | None = None,
        is_stateful: bool = False,
    ) -> None:
        self.how: Final = how
        self._profile = profile
        self._kind = kind
        self._spec = spec
        self._ask = ask
        self._value = value
        self.voted = 0
        """Inputs that were answered from copies."""
        self.refused = self._reason(is_stateful) if how == "vote" else ""
        """Why there are no votes; empty: there may be."""

    def _reason(self, is_stateful: bool) -> str:
        profile = self._profile
        if self._kind is None or profile is None:
            return "the model has no classes, or calibration learned no profile"
        if is_stateful:
            return "an extra inference would move the state of a recurrent model on"
        if not count_of(profile.layout):
            return "no neighbours in an input look alike, so that nothing can be moved"
        cost = profile.bounds.get(COST)
        if cost is None:
            return "the baseline is of an older release, and does not say what it costs"
        if cost > MOST_COST:
            return f"it would cost {cost:.1%} of calibration's accuracy"
        return ""

    def __str__(self) -> str:
        if self.how == "abstain":
            return "no answer is given to suspects"
        assert self._profile is not None
        copies = count_of(self._profile.layout)
        cost = self._profile.bounds[COST]
        return (
            f"inputs are answered by the mean over {copies} copies, moved by one step, which "
            f"costs {cost:.1%} of calibration's accuracy and {copies} inferences each"
        )

    def give(self, output: Array, inputs: npt.NDArray[Any], is_suspect: bool) -> Given | None:
        """Return another answer to one input; None: it stays.

        Parameters
        ----------
        output
            What the model says.
        inputs
            The raw input, shape (1, ...).
        is_suspect
            Whether it is.
        """
        if self.how == "abstain":
            if not is_suspect:
                return None
            return Given(output if self._value is None else _filled(output, self._value))
        assert self._profile is not None
        asked = self._ask(raw_copies(self._profile, inputs)[:, 0], 0.0 if is_suspect else _RESERVE)
        if asked is None:
            return None
        self.voted += 1
        mean = asked.astype(np.float64).mean(axis=0)
        spec = self._spec
        real = spec.scale * (mean - spec.zero_point) if spec.quantized else mean
        said = real
        if output.dtype.kind in "iu":
            info = np.iinfo(output.dtype)
            said = np.clip(np.rint(mean), info.min, info.max)
        return Given(said.astype(output.dtype).reshape(output.shape), *_read(real, self._kind))


def _filled(output: Array, value: float) -> Array:
    """Return an answer of which each number is this, or the nearest that it can hold."""
    if output.dtype.kind in "iu":
        if np.isnan(value):
            return output
        info = np.iinfo(output.dtype)
        value = int(np.clip(np.rint(value), info.min, info.max))
    with np.errstate(over="ignore"):
        return np.full_like(output, value)


def _read(real: npt.NDArray[np.float64], kind: OutputKind | None) -> tuple[int, float]:
    """Return the most likely class and its probability."""
    if real.size == 1:
        value = float(real[0])
        yes = 1.0 / (1.0 + np.exp(-np.clip(value, -80, 80))) if kind == "logits" else value
        return (1, yes) if yes > 0.5 else (0, 1.0 - yes)
    if kind == "logits":
        real = np.exp(real - real.max())
        real = real / real.sum()
    label = int(real.argmax())
    return label, float(real[label])
