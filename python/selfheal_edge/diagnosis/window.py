"""What a window of inferences shows, in numbers: the measures that the questions are asked of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import (
    MOST,
    Floats,
    fine_structure,
    smoothed,
    with_mirrored,
    with_permuted,
)
from selfheal_edge.diagnosis.profile import Profile, channel_numbers

__all__ = ["STRANGE", "Answers", "Prober", "Window"]

_TINY: Final = 1e-6
_SUSPECTS: Final = 24
_SIMULATED_SUSPECTS: Final = 16
_WHITE: Final = 1.128  # mean absolute difference of two normal numbers of unit spread
_SEED: Final = 1
_NEIGHBOURS: Final = 5
_EARLIER: Final = 64
_CRAFTED: Final = 1.4
_LEAST_SHARE: Final = 0.1
"""Of all answers: fewer of them prove nothing, whatever they do."""
_ERRORS: Final = 4.0
STRANGE: Final = "strange"
"""Name of the mean of `strangeness` in calibration, which lies beside the bounds."""
_NEAR_SHARE: Final = 0.3
_NEARER: Final = 0.75
_PAIRS: Final = 2
"""Near inputs with different answers from which an attacker may be asking: one may be chance."""
_IN_DOUBT: Final = 0.8
"""Parts of the limit: not ruled out, and not named."""
_ON_BORDER: Final = 0.2
"""A margin below which an answer lies on a border."""
_STOPPED: Final = 0.35
_QUIET: Final = 0.3
_WAVERING: Final = 0.08
_SWAP_CANDIDATES: Final = 6
_SWAPPED: Final = 0.2
_ROUNDS: Final = 30
_PRIOR: Final = 8.0
_MIXED: Final = 1.2
_QUARTILES: Final = np.array([0.25, 0.5, 0.75])
_MOST_LOST: Final = 0.45
"""Of values, at either end: of what is left, the middle is still seen."""
_VISIBLE: Final = 0.35
_NEWCOMERS: Final = 0.2
_UNSEEN: Final = 0.06
_CROSSING: Final = 0.1
"""Spreads by which inputs of each class move while the mix moves by its limit."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the model makes of some inputs."""

    outputs: Floats
    """Probabilities, shape (n, classes), two classes at least."""
    embeddings: Floats | None
    """Real or raw, but always the same; shape (n, width)."""

    @classmethod
    def of(
        cls,
        outputs: npt.NDArray[Any],
        quantization: tuple[float, int],
        kind: str,
        embeddings: npt.NDArray[Any] | None,
    ) -> Answers:
        """Read raw tensors.

        Parameters
        ----------
        outputs
            Output 0 of n inferences, shape (n, ...). A single sigmoid is the probability of class 1
            of two.
        quantization
            Its scale and zero point; 1 and 0 for real numbers.
        kind
            ``"probabilities"`` or ``"logits"``.
        embeddings
            Shape (n, ...), taken as they are; None without any.
        """
        scale, zero_point = quantization
        values = outputs.reshape(len(outputs), -1).astype(np.float32)
        values = np.nan_to_num((values - np.float32(zero_point)) * np.float32(min(scale, MOST)))
        values = np.clip(values, -MOST, MOST)
        if values.shape[1] == 1:
            if kind == "logits":
                values = 1 / (1 + np.exp(-values))
            values = np.concatenate([1 - values, values], axis=1)
        elif kind == "logits":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        inside = None
        if embeddings is not None:
            inside = embeddings.reshape(len(embeddings), -1).astype(np.float32)
            inside = np.clip(np.nan_to_num(inside), -MOST, MOST)
        return cls(values, inside)

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Most likely classes."""
        return np.asarray(self.outputs.argmax(axis=1), np.intp)

    @property
    def margins(self) -> Floats:
        """Largest less second largest."""
        top = np.partition(self.outputs, -2, axis=1)[:, -2:]
        return top[:, 1] - top[:, 0]


class Prober(Protocol):
    """Asks the model about inputs beside the stream, within a budget."""

    def __call__(self, inputs: npt.NDArray[Any], /) -> Answers | None:
        """Run raw inputs, shape (n, *shape of one); None where the budget does not allow it."""
        ...


def distances(profile: Profile, embeddings: Floats) -> Floats:
    """Return root mean square distances to each class, in its spread: shape (n, classes)."""
    scaled = embeddings / profile.embedding_sd
    centres = profile.centroids / profile.embedding_sd
    squares = np.square(scaled).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)[None]
    return np.asarray(
        np.sqrt(np.maximum(squares - 2 * scaled @ centres.T, 0) / scaled.shape[1]), np.float32
    )


def own_distance(profile: Profile, answers: Answers) -> Floats:
    """Return the distance of each answer's embedding to its own class, shape (n,)."""
    assert answers.embeddings is not None
    far = distances(profile, answers.embeddings)
    return far[np.arange(len(far)), answers.labels]


def strangeness(
    profile: Profile, answers: Answers, own: npt.NDArray[np.intp] | None = None
) -> Floats:
    """Return margins times the shares of neighbours with another label, shape (n,).

    `own`: for each answer the row of the profile's neighbours that is itself, -1 for none.
    """
    assert answers.embeddings is not None
    here = answers.embeddings / profile.embedding_sd
    there = profile.neighbours / profile.embedding_sd
    squares = np.square(here).sum(axis=1)[:, None] + np.square(there).sum(axis=1)[None]
    squares -= 2 * here @ there.T
    if own is not None:
        known = np.flatnonzero(own >= 0)
        squares[known, own[known]] = np.inf
    count = min(_NEIGHBOURS, len(there))
    nearest = np.argpartition(squares, count - 1, axis=1)[:, :count]
    strange = (profile.neighbour_labels[nearest] != answers.labels[:, None]).mean(axis=1)
    return np.asarray(strange * answers.margins, np.float32)


@dataclass(eq=False)
class Window:
    """A window of inferences, oldest first, and what it shows against a `Profile`.

    Parameters
    ----------
    profile
        What calibration learned.
    inputs
        Raw inputs, shape (m, *shape of one).
    answers
        What the model made of the latest n inputs, m of which are known, the last ones; None for a
        model without classes.
    scores
        Normal scores of all signals, shape (n or fewer, signals): the last rows are theirs.
    probe
        Asks the model about changed inputs; None where that cannot be.
    """

    profile: Profile
    inputs: npt.NDArray[Any]
    answers: Answers | None
    scores: npt.NDArray[np.float64]
    probe: Prober | None = None

    @property
    def size(self) -> int:
        """Inferences whose inputs are known."""
        return len(self.inputs)

    @property
    def inferences(self) -> int:
        """All inferences of the window."""
        return len(self.inputs) if self.answers is None else len(self.answers.outputs)

    @cached_property
    def _latest(self) -> Answers | None:
        """The answers to the inputs that are known."""
        answers = self.answers
        if answers is None or len(answers.outputs) == self.size:
            return answers
        inside = answers.embeddings
        return Answers(
            answers.outputs[-self.size :], None if inside is None else inside[-self.size :]
        )

    @cached_property
    def x(self) -> Floats:
        """The inputs as real numbers."""
        return self.profile.real(self.inputs)

    def raw(self, x: Floats) -> npt.NDArray[Any]:
        """Return real inputs as the model takes them."""
        kind = self.inputs.dtype
        if kind.kind not in "iu":
            return x.astype(kind).reshape(len(x), *self.inputs.shape[1:])
        scale, zero_point = self.profile.quantization
        limits = np.iinfo(kind)
        levels = np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max)
        return np.asarray(levels, kind).reshape(len(x), *self.inputs.shape[1:])

    # ---- What the inputs show

    @cached_property
    def _numbers(self) -> Floats:
        return channel_numbers(self.profile.layout, self.x)

    @cached_property
    def _class_of(self) -> npt.NDArray[np.intp]:
        """The row of the profile's references for each input."""
        if self.answers is None or len(self.profile.class_numbers) == 1:
            return np.zeros(self.size, np.intp)
        return self.answers.labels[-self.size :]

    @cached_property
    def shifts(self) -> Floats:
        """Mean shift of each channel's numbers, in spreads within a class: (channels, 1 or 3)."""
        expected = self.profile.class_numbers[self._class_of]
        away: Floats = (self._numbers - expected).mean(axis=0) / self.profile.number_sd
        return away

    @cached_property
    def visible(self) -> float:
        """How far the inputs have moved in all, in spreads: root mean square of `shifts`.

        Less what chance alone gives, with so many inputs here and in the calibration.
        """
        return float(np.sqrt(max(0.0, float(np.mean(np.square(self.shifts))) - self._chance)))

    @cached_property
    def _chance(self) -> float:
        """The variance of a mean shift by chance."""
        counts = self.profile.class_counts
        shares = np.bincount(self._class_of, minlength=len(counts)) / self.size
        return float(1 / self.size + np.sum(np.square(shares) / (counts + 1)))

    @cached_property
    def by_channel(self) -> Floats:
        """How far each channel has moved, shape (channels,)."""
        numbers = self._numbers
        moved = np.abs(self.shifts).max(axis=1)
        # A channel whose mean has stopped to vary, or varies far more.
        spread = numbers[:, :, 0].std(axis=0)
        floor = 0.1 * self.profile.number_sd[:, 0]
        change = np.abs(np.log((spread + floor) / (self.profile.mean_sd + floor)))
        return np.asarray(np.maximum(moved, 0.7 * change), np.float32)

    @cached_property
    def alone(self) -> float:
        """How far the channel that moved farthest stands out from the median one: 0 to 1.

        1: it alone has moved. 0 where there are fewer than three channels.
        """
        far = np.sqrt(np.maximum(np.square(self.by_channel) - 3 * self._chance, 0))
        if len(far) < 3 or far.max() <= 0:
            return 0.0
        return float(1 - np.median(far) / far.max())

    @property
    def moved_most(self) -> float:
        """How far the channel that moved farthest has moved, in spreads."""
        return float(self.by_channel.max())

    @property
    def is_quiet(self) -> bool:
        """Whether the channel that moved farthest hardly varies in calibration: a blank margin."""
        own = self.profile.mean_sd
        return bool(own[self.by_channel.argmax()] < _QUIET * np.median(own))

    @property
    def moved_median(self) -> float:
        """How far the median channel has."""
        return float(np.median(self.by_channel))

    @cached_property
    def swapped(self) -> tuple[int, int] | None:
        """Two channels that show what the other showed, if there are any."""
        by = self.profile.layout.by_channel(self.x)
        if by.shape[2] < 3:
            return None
        far = np.argsort(-self.by_channel)[:_SWAP_CANDIDATES]
        now = np.stack([by.mean(axis=(0, 1)), by.std(axis=(0, 1))], axis=1)
        was = self.profile.moments[:, :2]
        scale = was[:, 1] + 0.05 * was[:, 1].mean() + _TINY
        best, pair = _SWAPPED, None
        for n, first in enumerate(far):
            for second in far[n + 1 :]:
                unlike = np.square((now[first] - was[first]) / scale[first]).sum()
                unlike += np.square((now[second] - was[second]) / scale[second]).sum()
                crossed = np.square((now[first] - was[second]) / scale[second]).sum()
                crossed += np.square((now[second] - was[first]) / scale[first]).sum()
                if unlike > 0 and crossed / unlike < best:
                    best, pair = (
                        crossed / unlike,
                        (int(min(first, second)), int(max(first, second))),
                    )
        return pair

    @property
    def offset_in_spreads(self) -> float:
        """The fitted offset over the calibration's mean spread."""
        _, offset, _ = self.affine
        return abs(offset) / float(self.profile.moments[:, 1].mean() + _TINY)

    @cached_property
    def _neighbours(self) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Distance to the nearest of 64 earlier inputs, where that is not equal, and its row.

        Of several as near, the earliest.
        """
        flat = self.x.reshape(self.size, -1)
        if self.profile.cell_sd.size:
            flat = flat / (self.profile.cell_sd + 0.05 * self.profile.cell_sd.mean() + _TINY)
        far = np.full(self.size, np.inf, np.float32)
        rows = np.zeros(self.size, np.intp)
        for before in range(1, min(_EARLIER, self.size - 1) + 1):
            change = flat[before:] - flat[:-before]
            away = np.einsum("ij,ij->i", change, change)
            later = np.arange(before, self.size)
            nearer = later[away <= far[before:]]
            far[nearer], rows[nearer] = away[nearer - before], nearer - before
        equal = far == 0
        far[equal], rows[equal] = np.inf, 0
        return np.sqrt(far / flat.shape[1]), rows

    @property
    def near(self) -> float:
        """The share of inputs nearer to an earlier one than calibration inputs ever are."""
        far, _ = self._neighbours
        return int(np.sum(far < _NEARER * self.profile.nearest)) / max(1, self.size - 1)

    @property
    def across(self) -> int:
        """How many inputs have such a neighbour, and another answer than it got.

        Less contrast brings all inputs nearer: the distance is seen in parts of what is left of it.
        """
        latest = self._latest
        if latest is None:
            return 0
        far, rows = self._neighbours
        is_near = far < _NEARER * self.profile.nearest * min(1.0, self.stopped)
        return int(np.sum(is_near & (latest.labels != latest.labels[rows])))

    @cached_property
    def body(self) -> float:
        """How far the middle of all values has moved, in the calibration's spread: its quartiles.

        Those that were lost are left out. Small where only the largest or the smallest values
        changed, or some were lost: clipped, saturated, or dropped.
        """
        by = self.profile.layout.by_channel(self.x)
        low, high = np.clip(self.lost, 0, _MOST_LOST)
        now = np.quantile(by, low + (1 - low - high) * _QUARTILES, axis=(0, 1))
        spread = self.profile.moments[:, 1] + 0.05 * self.profile.moments[:, 1].mean() + _TINY
        return float(np.mean(np.abs(now - self.profile.quartiles) / spread))

    @cached_property
    def roughened(self) -> float:
        """How much more neighbours differ than the spread explains: a logarithm, 0 for a gain."""
        layout = self.profile.layout
        if not layout.smooth:
            return 0.0
        by = layout.by_channel(self.x)
        floor = 0.05 * self.profile.moments.mean(axis=0) + _TINY
        rough = layout.roughness(self.x).mean(axis=0) + floor[2]
        spread = by.std(axis=(0, 1)) + floor[1]
        was = self.profile.moments + floor
        return float(np.median(np.log(rough / was[:, 2]) - np.log(spread / was[:, 1])))

    @property
    def mix_ratio(self) -> float:
        """How far the mix of predicted classes has moved, in parts of the limit."""
        return self.mixed / (_MIXED * max(1.0, self.profile.bounds["mixed"]))

    @property
    def is_same_by_class(self) -> bool:
        """Whether inputs look like those of the class that they are named.

        The little by which they may have moved could not move the mix as far: where inputs drift,
        a few cross over to another class.
        """
        is_near = self.visible <= _VISIBLE
        is_known = self.newcomers <= _NEWCOMERS + self.visible / 2
        by_drift = max(0.0, self.visible - _UNSEEN) / _CROSSING
        return is_near and is_known and self.mix_ratio >= 1 + by_drift

    @property
    def is_relabelled(self) -> bool:
        """Whether another mix of classes explains what the elements show."""
        return self.mix_ratio >= 1 and self.is_same_by_class

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Log ratios of the share of elements at an input's own least and greatest value."""
        flat = self.x.reshape(self.size, -1)
        low = np.median((flat <= flat.min(axis=1, keepdims=True)).mean(axis=1))
        high = np.median((flat >= flat.max(axis=1, keepdims=True)).mean(axis=1))
        was_low, was_high = self.profile.extremes
        return (
            float(np.log((low + 0.002) / (was_low + 0.002))),
            float(np.log((high + 0.002) / (was_high + 0.002))),
        )

    @cached_property
    def affine(self) -> tuple[float, float, float]:
        """Gain and offset over all channels that explain the window best, and what they leave.

        The third is the residual in parts of the shift.
        """
        profile, layout = self.profile, self.profile.layout
        by = layout.by_channel(self.x)
        mean, spread = by.mean(axis=(0, 1)), by.std(axis=(0, 1))
        was_mean, was_spread = profile.moments[:, 0], profile.moments[:, 1]
        scale = was_spread + 0.05 * was_spread.mean() + _TINY
        ones = np.ones_like(mean)
        was = [was_mean, was_spread]
        now = [mean, spread]
        steps = [ones, 0 * ones]
        scales = [scale, scale]
        if layout.smooth:
            rough = profile.moments[:, 2]
            was, now = [*was, rough], [*now, layout.roughness(self.x).mean(axis=0)]
            steps, scales = [*steps, 0 * ones], [*scales, rough + 0.05 * rough.mean() + _TINY]
        size = np.concatenate(scales)
        rows = np.stack([np.concatenate(was) / size, np.concatenate(steps) / size], axis=1)
        seen = np.concatenate(now) / size
        (gain, offset), *_ = np.linalg.lstsq(rows, seen, rcond=None)
        left = np.sqrt(np.mean(np.square(rows @ [gain, offset] - seen)))
        moved = np.sqrt(np.mean(np.square(rows[:, 0] - seen)))
        return float(gain), float(offset), float(left / (moved + 0.05))

    @cached_property
    def sudden(self) -> float:
        """The shift of the first quarter of the window in parts of that of the last."""
        quarter = max(4, self.size // 4)
        expected = self.profile.class_numbers[self._class_of]
        away = (self._numbers - expected) / self.profile.number_sd
        direction = away.mean(axis=0)
        size = float(np.sqrt(np.mean(np.square(direction)))) + _TINY
        along = (away * direction).mean(axis=(1, 2)) / size
        return float(along[:quarter].mean() / (abs(along[-quarter:].mean()) + 0.1))

    @cached_property
    def stopped(self) -> float:
        """The median over cells of the spread in the window, in parts of the calibration's."""
        if not self.profile.cell_sd.size:
            return 1.0
        spread = self.x.reshape(self.size, -1).std(axis=0)
        normal = self.profile.cell_sd
        varies = normal > 0.05 * normal.mean()
        return float(np.median(spread[varies] / normal[varies])) if varies.any() else 1.0

    @cached_property
    def still_cells(self) -> float:
        """The share of cells that vary in calibration and have stopped in the window."""
        if not self.profile.cell_sd.size:
            return 0.0
        spread = self.x.reshape(self.size, -1).std(axis=0)
        normal = self.profile.cell_sd
        varies = normal > 0.2 * normal.mean()
        return float(np.mean(spread[varies] < 0.02 * normal[varies])) if varies.any() else 0.0

    @cached_property
    def flat_inputs(self) -> float:
        """The share of inputs that have almost no spread: dropped, or covered."""
        flat = self.x.reshape(self.size, -1)
        span = float(self.profile.range[1] - self.profile.range[0])
        return float(np.mean(flat.std(axis=1) < 0.01 * span))

    # ---- What the answers show

    @cached_property
    def harm(self) -> float:
        """How much the margin has lost, in spreads, in parts of what the inputs show."""
        if self.answers is None:
            return 0.0
        lost = (self.profile.margin[0] - self.answers.margins.mean()) / self.profile.margin[1]
        return float(lost / (0.3 + self.visible))

    @cached_property
    def mixed(self) -> float:
        """G statistic of predicted classes against the calibration's, standardised."""
        if self.answers is None:
            return 0.0
        priors = self.profile.priors
        counts = np.bincount(self.answers.labels, minlength=len(priors))
        expected = len(self.answers.outputs) * priors
        seen = counts > 0
        g = 2 * float(np.sum(counts[seen] * np.log(counts[seen] / expected[seen])))
        # Labels that stick count for fewer.
        g *= (1 - self.profile.stickiness) / (1 + self.profile.stickiness)
        freedom = max(1, len(priors) - 1)
        return float((g - freedom) / np.sqrt(2 * freedom))

    @cached_property
    def new_priors(self) -> tuple[Floats, Floats]:
        """The shares of classes now, and their standard errors: shape (classes,) each.

        By expectation maximisation over the probabilities (Saerens, Latinne and Decaestecker,
        2002), with a Dirichlet prior around the calibration's shares worth eight inputs.
        """
        assert self.answers is not None
        was = self.profile.priors.astype(np.float64)
        chances = np.clip(self.answers.outputs.astype(np.float64), 1e-4, None)
        chances /= chances.sum(axis=1, keepdims=True)
        priors = was.copy()
        total = len(chances)
        for _ in range(_ROUNDS):
            weighted = chances * (priors / was)
            weighted /= weighted.sum(axis=1, keepdims=True) + _TINY
            priors = (weighted.sum(axis=0) + _PRIOR * was) / (total + _PRIOR)
        effective = total * (1 - self.profile.stickiness) / (1 + self.profile.stickiness)
        errors = np.sqrt(priors * (1 - priors) / (effective + _PRIOR + 1))
        return priors.astype(np.float32), errors.astype(np.float32)

    @cached_property
    def within_class(self) -> float:
        """The largest mean shift of a signal's scores within the predicted class."""
        table = self.profile.class_scores
        if self.answers is None or not table.shape[1] or self.scores.shape[1:] != table.shape[1:2]:
            return 0.0
        rows = self.scores[-self.size :]
        if not len(rows):
            return 0.0
        labels = self.answers.labels[-len(rows) :]
        chosen = table[labels if len(table) > 1 else np.zeros_like(labels)]
        away = (np.nan_to_num(rows) - chosen[:, :, 0]) / chosen[:, :, 1]
        shift = np.square(np.clip(away, -4, 4).mean(axis=0)) - self._chance
        return float(np.sqrt(max(0.0, float(shift.max()))))

    # ---- What questions beside the stream show

    @cached_property
    def lost(self) -> tuple[float, float]:
        """The shares of values that were lost to their channel's least, and to its greatest.

        Estimated from cells that are seldom there in calibration.
        """
        if not self.profile.at_limits.size:
            return 0.0, 0.0
        by = self.profile.layout.by_channel(self.x)
        low, high = self.profile.limits
        found = []
        for at, normal in zip((by <= low, by >= high), self.profile.at_limits, strict=True):
            now = at.reshape(self.size, -1).mean(axis=0)
            rare = 1 - normal
            weight = float(np.sum(rare * rare))
            found.append(float(np.sum(rare * (now - normal))) / weight if weight > 0 else 0.0)
        return found[0], found[1]

    @cached_property
    def repeated(self) -> float:
        """The share of inputs that equal the one before to the bit."""
        flat = self.inputs.reshape(self.size, -1)
        return float(np.mean((flat[1:] == flat[:-1]).all(axis=1))) if self.size > 1 else 0.0

    @cached_property
    def newcomers(self) -> float:
        """How far inputs of the class that grew most are from those that calibration knew.

        Root mean square, in spreads within a class, less what chance alone gives.
        """
        if self.answers is None or len(self.profile.class_numbers) == 1:
            return self.visible
        labels = self.answers.labels[-self.size :]
        excess = np.bincount(labels, minlength=len(self.profile.priors)) / self.size
        grown = int(np.argmax(excess - self.profile.priors))
        rows = labels == grown
        away = (self._numbers[rows] - self.profile.class_numbers[grown]).mean(axis=0)
        square = float(np.mean(np.square(away / self.profile.number_sd)))
        chance = 1 / max(1, int(rows.sum())) + 1 / (self.profile.class_counts[grown] + 1)
        return float(np.sqrt(max(0.0, square - chance)))

    @cached_property
    def simulated(self) -> Answers | None:
        """What the model makes of calibration inputs that were carried into this condition."""
        if self.probe is None:
            return None
        return self.probe(self.raw(self._carried))

    @cached_property
    def _carried(self) -> Floats:
        return carried(self.profile, self.x)

    @cached_property
    def unexplained(self) -> float:
        """How much more the margin has lost than the inputs' visible change costs by itself."""
        if self.answers is None or self.simulated is None:
            return 0.0
        profile = self.profile
        lost = profile.margin[0] - self.answers.margins.mean()
        by_itself = profile.kept[:, 0].mean() - self.simulated.margins.mean()
        return float((lost - by_itself) / profile.margin[1])

    @property
    def undecided(self) -> float:
        """How many more answers than the inputs' visible change explains lie on a border.

        A share of all. Natural changes spread margins over all values; who feels his way along the
        border of two classes leaves them close to zero, however many of the others are sure.
        """
        if self.answers is None or self.simulated is None:
            return 0.0
        on_border, by_itself = (a.margins < _ON_BORDER for a in (self.answers, self.simulated))
        return float(on_border.mean() - by_itself.mean())

    @property
    def astray(self) -> float:
        """How much more often than the visible change explains answers are sure among strangers.

        Of an input: the share of its nearest neighbours in the embedding with another label, times
        its margin. Natural changes that lead an input among strangers leave it unsure.
        """
        return self._strayed[0]

    @property
    def most_astray(self) -> float:
        """The limit of `astray`: four standard errors, and a tenth of all answers at least."""
        bound = self.profile.bounds
        if STRANGE in bound:
            return max(_LEAST_SHARE, _ERRORS * self._strayed[1])
        # Calibrated by an earlier release: by the largest of some twenty windows.
        return _CRAFTED * (1.2 * max(bound["astray"], 0.03) + 0.01)

    @cached_property
    def _strayed(self) -> tuple[float, float]:
        """What is `astray`, and its standard error."""
        profile, seen, simulated = self.profile, self.answers, self.simulated
        if seen is None or simulated is None or not len(profile.neighbours):
            return 0.0, 0.0
        if seen.embeddings is None or simulated.embeddings is None:  # too wide to be kept
            return 0.0, 0.0
        here, by_itself = strangeness(profile, seen), strangeness(profile, simulated)
        normal = profile.bounds.get(STRANGE, 0.0)
        if STRANGE in profile.bounds:
            by_itself = by_itself - profile.kept[: len(by_itself), 1]
        error = math.sqrt(here.var() / len(here) + by_itself.var() / len(by_itself))
        return float(here.mean() - normal - by_itself.mean()), error

    @cached_property
    def asked(self) -> float:
        """How much speaks for an attacker's questions, in parts of the limit.

        Inputs that hardly differ from each other, and whose answers waver and are unsure all the
        same: a walk along the border between two classes. A stuck sensor's answers stay.
        """
        latest = self._latest
        if latest is None:
            return 0.0
        close = max(self.near - self.profile.bounds["near"], 0.0) / _NEAR_SHARE
        if self.stopped < _STOPPED:
            close = max(close, 1.5)
        labels = np.bincount(latest.labels, minlength=2) / len(latest.labels)
        wavering = float(1 - labels.max()) / _WAVERING
        mean, spread = self.profile.margin
        unsure = float((mean - latest.margins.mean()) / spread)
        return min(close, wavering, max(0.0, unsure))

    @cached_property
    def crafted(self) -> float:
        """How much speaks for crafted inputs, in parts of the limit: 1 and more is an attack.

        The larger of two: margins that fall out of proportion, by both measures of proportion, and
        answers that are sure among strangers; each in parts of what the device's own harmless
        changes reached.
        """
        if self.answers is None or self.simulated is None:
            return 0.0
        bound = self.profile.bounds
        harm = max(0.0, self.harm) / (max(0.0, bound["harm"]) + 0.2)
        unexplained = max(0.0, self.unexplained) / (max(0.0, bound["unexplained"]) + 0.25)
        out_of_proportion = float(np.sqrt(harm * unexplained)) / _CRAFTED
        asks = max(self.asked, _IN_DOUBT if self.may_be_asked else 0.0)
        return max(out_of_proportion, self.astray / self.most_astray, asks)

    @property
    def may_be_asked(self) -> bool:
        """Whether an attacker may be asking, however sure most answers are.

        Inputs that hardly differ have got different answers, or more answers lie on a border than
        harmless changes bring there. Never by a baseline of an earlier release.
        """
        bound = self.profile.bounds
        crosses = "across" in bound and self.across >= max(_PAIRS, bound["across"])
        return crosses or ("undecided" in bound and self.undecided >= self.most_undecided)

    @property
    def most_undecided(self) -> float:
        """The limit of `undecided`: what harmless changes reached, and a tenth at least."""
        return max(_LEAST_SHARE, self.profile.bounds.get("undecided", 1.0))

    @cached_property
    def knows_one_class(self) -> bool:
        """Whether calibration saw inputs of one class alone, or too few of any other one.

        Then every answer of another class is among strangers, whatever the input is.
        """
        known = np.bincount(self.profile.neighbour_labels, minlength=2)
        return int(np.sum(known >= _NEIGHBOURS)) < 2

    @property
    def may_be_crafted(self) -> bool:
        """Whether inputs look crafted, or the model could not be asked, so that they may be."""
        is_open = self.answers is not None and self.probe is not None and self.simulated is None
        return is_open or self.crafted >= 1

    @cached_property
    def control(self) -> float:
        """How much more the matched control gains on suspects than the visible change explains.

        The mean of what two controls gain, less the same of calibration inputs in this condition.
        """
        if self.answers is None or self.simulated is None:
            return 0.0
        chosen = self.suspects
        gains = control_gains(self, self.x[chosen], self._answers_of(chosen))
        like = np.arange(min(_SIMULATED_SUSPECTS, len(self.simulated.outputs)))
        inside = self.simulated.embeddings
        simulated = Answers(self.simulated.outputs[like], None if inside is None else inside[like])
        by_itself = control_gains(self, self._carried[like], simulated)
        if gains is None or by_itself is None:
            return 0.0
        return float(gains.mean() - by_itself.mean())

    @cached_property
    def suspects(self) -> npt.NDArray[np.intp]:
        """Half of them farthest from their class, half at random."""
        rng = np.random.default_rng(_SEED)
        count = min(_SUSPECTS, self.size)
        random = rng.choice(self.size, count - count // 2, replace=False)
        answers = self._latest
        if answers is None or answers.embeddings is None:
            return random
        own = own_distance(self.profile, answers)
        rest = np.setdiff1d(np.argsort(-own), random, assume_unique=True)
        return np.concatenate([rest[: count // 2], random])

    def _answers_of(self, rows: npt.NDArray[np.intp]) -> Answers:
        latest = self._latest
        assert latest is not None
        inside = latest.embeddings
        return Answers(latest.outputs[rows], None if inside is None else inside[rows])


def control_gains(window: Window, x: Floats, answers: Answers) -> Floats | None:
    """Return what two matched controls gain in margin, and a half where the label changes.

    The control takes an input's fine structure away and puts it back mirrored, or permuted: noise
    of that size and spectrum leaves a natural input's margin alone, while a crafted change loses
    its effect.
    """
    assert window.probe is not None
    layout = window.profile.layout
    smooth, fine = fine_structure(layout, x)
    gains = []
    for changed in (with_mirrored(layout, smooth, fine), with_permuted(layout, smooth, fine)):
        found = window.probe(window.raw(changed))
        if found is None:
            return None
        gains.append(found.margins - answers.margins + 0.5 * (found.labels != answers.labels))
    return np.stack(gains, axis=1)


def carried(profile: Profile, x: Floats) -> Floats:
    """Carry calibration inputs into the condition of other inputs, as light, gain or noise would.

    Each channel gets their mean and spread; then it is smoothed, or white noise is added, until
    neighbours differ as much as theirs.
    """
    layout = profile.layout
    rng = np.random.default_rng(_SEED)
    y = profile.real(profile.inputs)
    by = layout.by_channel(x)
    mean, spread = by.mean(axis=(0, 1)), by.std(axis=(0, 1))
    was_mean, was_spread = profile.moments[:, 0], profile.moments[:, 1]
    shape = [1] * y.ndim
    if layout.channel is not None:
        shape[layout.channel + 1] = -1
    gain = np.clip(spread / (was_spread + 0.05 * was_spread.mean() + _TINY), 0.2, 5)
    y = (y - was_mean.reshape(shape)) * gain.reshape(shape) + mean.reshape(shape)
    if layout.smooth:
        wanted = layout.roughness(x).mean(axis=0)
        for _ in range(4):
            rough = layout.roughness(y).mean(axis=0)
            if (rough <= 1.05 * wanted).all():
                break
            less = smoothed(layout, y)
            lost = rough - layout.roughness(less).mean(axis=0)
            part = np.clip((rough - wanted) / (lost + _TINY), 0, 1).reshape(shape)
            y = y + part * (less - y)
        for _ in range(4):
            rough = layout.roughness(y).mean(axis=0)
            if (rough >= 0.97 * wanted).all():
                break
            size = np.sqrt(np.maximum(np.square(wanted) - np.square(rough), 0)) / _WHITE
            y = y + size.reshape(shape) * rng.standard_normal(y.shape, np.float32)
        by = layout.by_channel(y)
        gain = np.clip(spread / (by.std(axis=(0, 1)) + _TINY), 0.3, 3).reshape(shape)
        y = (y - by.mean(axis=(0, 1)).reshape(shape)) * gain + mean.reshape(shape)
    return np.asarray(np.clip(y, profile.range[0], profile.range[1]), np.float32)
