"""Learn what a diagnosis compares with: from calibration, and from harmless changes made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout, find_layout, read_real, smoothed
from selfheal_edge.diagnosis.profile import MOST_CELLS, Profile, channel_numbers
from selfheal_edge.diagnosis.window import STRANGE, Answers, Prober, Window, strangeness
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec
from selfheal_edge.tflite.session import Session

__all__ = ["Asker", "harmless_changes", "is_profiled", "learn_profile", "profile_size"]

_WINDOW: Final = 128
_HEALTHY: Final = 32
_KEPT: Final = 40  # three diagnoses a minute by the default policy
_NEIGHBOURS: Final = 256
_LEAST_KEPT: Final = 8
_KEPT_BYTES: Final = 1 << 19
_MOST_NUMBERS: Final = 1 << 16
_PULL: Final = 4  # samples that a class's reference is pulled to all classes' by
_TINY: Final = 1e-6
_FAR: Final = 3.5
_WINDOWS: Final = 100
"""Of so many windows under a harmless change one exceeds a bound."""
_MOVED: Final = 1 / 16  # of an axis
_LEAST_HELD: Final = 64
_MOST_HELD: Final = 300
_HELD_BYTES: Final = 8 << 20
_SEED: Final = 1


def profile_size(input_bytes: int) -> int:
    """Return how many inputs of a calibration are held for a profile: 300, or what 8 MiB hold."""
    return max(_LEAST_HELD, min(_MOST_HELD, _HELD_BYTES // max(1, input_bytes)))


def is_profiled(session: Session) -> bool:
    """Whether a profile can be learned of a model: it has one input, of numbers."""
    inputs = session.instance.inputs
    return len(inputs) == 1 and inputs[0].dtype.kind in "iuf" and 0 not in inputs[0].shape


class Asker:
    """Asks a session about inputs, one after the other.

    Parameters
    ----------
    session
        Its state, if it carries one, goes on.
    kind
        What output 0 holds; None for a model without classes.
    """

    def __init__(self, session: Session, kind: str | None) -> None:
        self._instance = session.instance
        self._kind = kind
        spec = session.instance.inputs[0]
        self._shape = spec.shape
        self.quantization = _quantization(spec)
        """Scale and zero point of the input."""

    def read(self, outputs: Sequence[Array], inside: Sequence[Array] | None) -> Answers | None:
        """Read raw outputs and embeddings; None for a model without classes."""
        if self._kind is None:
            return None
        spec = self._instance.outputs[0]
        embeddings = None if not inside else np.stack(inside)
        return Answers.of(np.stack(outputs), _quantization(spec), self._kind, embeddings)

    def __call__(self, inputs: npt.NDArray[Any], /) -> Answers | None:
        """Run raw inputs, shape (n, *shape of one)."""
        outputs, inside = [], []
        for row in inputs:
            outputs.append(self._instance.run([row.reshape(self._shape)])[0].reshape(-1).copy())
            inside += [tensor.reshape(-1).copy() for tensor in self._instance.tapped()[:1]]
        return self.read(outputs, inside)


def _quantization(spec: TensorSpec) -> tuple[float, int]:
    return (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)


def learn_profile(
    inputs: npt.NDArray[Any],
    answers: Answers | None,
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    quantization: tuple[float, int],
    probe: Prober | None,
    error_rate: float | None = None,
) -> Profile:
    """Learn a profile from calibration.

    Parameters
    ----------
    inputs
        Raw, shape (n, *shape of one), in the order in which they came: all of the calibration, or
        a sample of it.
    answers
        What the model makes of them; None for a model without classes.
    scores
        Their normal scores, shape (n, signals).
    labels
        What the model named all of the calibration's inputs, in order; -1: nothing.
    quantization
        Scale and zero point of the input; 1 and 0 for real numbers.
    probe
        Runs the model on changed inputs; None where it cannot be asked.
    error_rate
        How often its answers are wrong; None where that is not known.

    Notes
    -----
    Deterministic. Up to 168 inferences for each of 11 to 17 changes: some 3,000. Nothing is learned
    from attacks, only from windows of the calibration and from changes that cameras, microphones
    and sensors know: noise, blur, gain, offset, and inputs that are moved or stretched.
    """
    rng = np.random.default_rng(_SEED)
    scale, zero_point = quantization
    real = read_real(inputs, scale, zero_point)
    layout = find_layout(real)
    x = layout.read(inputs, scale, zero_point)
    most = max(_LEAST_KEPT, _KEPT_BYTES // inputs[0].nbytes)
    some = max(_LEAST_KEPT, len(x) // 3)  # the others are neighbours
    kept = np.sort(rng.choice(len(x), min(len(x), some, _KEPT, most), replace=False))
    profile = _references(layout, inputs, quantization, answers, scores, labels, kept, rng)
    if answers is not None:
        profile = _with_answers(profile, answers, kept, rng)
    bounds = dict(profile.bounds)

    def window(rows: npt.NDArray[np.intp], changed: Floats | None = None) -> Window:
        chosen = inputs[rows]
        found = None if answers is None else _rows(answers, rows)
        window = Window(profile, chosen, found, scores[rows], probe)
        if changed is None:
            return window
        raw = window.raw(changed)
        found = None if probe is None else probe(raw)
        return Window(profile, raw, found, np.empty((0, scores.shape[1])), probe)

    size = min(_WINDOW, len(x) // 2)
    healthy: list[Window] = []
    for n in range(_HEALTHY):
        if n % 2:
            rows = np.arange(size) + rng.integers(len(x) - size + 1)
        else:
            rows = np.sort(rng.choice(len(x), size, replace=False))
        healthy.append(window(rows))
    # Windows of the calibration vary less around it than new ones will.
    growth = np.sqrt((1 / size + 1 / len(x)) / ((1 / size) * (1 - size / len(x))))
    for name, measure in _HEALTHY_MEASURES.items():
        found = np.array([measure(w) for w in healthy])
        bounds[name] = float(found.mean() + _FAR * growth * (found.std() + 1e-3))
    if probe is not None and answers is not None:
        order = _by_turns(answers.labels, rng)
        changes = harmless_changes(layout, x)
        drawn = [np.sort(np.roll(order, -n * size)[:size]) for n in range(len(changes))]
        changed = [
            window(rows, change(x[rows])) for rows, change in zip(drawn, changes, strict=True)
        ]
        for name, measure in _HARM_MEASURES.items():
            few = np.array([measure(w) for w in (*changed, *healthy[:4])])
            bounds[name] = _exceeded_once_in(_WINDOWS, few)
    if error_rate is not None:
        profile = replace(profile, error_rate=max(error_rate, 1 / len(labels)))
    return replace(profile, bounds=bounds)


_HEALTHY_MEASURES: Final[dict[str, Callable[[Window], float]]] = {
    "visible": lambda w: w.visible,
    "channel": lambda w: float(w.by_channel.max()),
    "alone": lambda w: w.alone,
    "low": lambda w: w.extremes[0],
    "high": lambda w: w.extremes[1],
    "mixed": lambda w: w.mixed,
    "within class": lambda w: w.within_class,
    "flat": lambda w: w.flat_inputs,
    "still": lambda w: w.still_cells,
    "body": lambda w: w.body,
    "lost low": lambda w: w.lost[0],
    "lost high": lambda w: w.lost[1],
    "near": lambda w: w.near,
    "across": lambda w: float(w.across),
    "repeated": lambda w: w.repeated,
    "newcomers": lambda w: w.newcomers,
}
_HARM_MEASURES: Final[dict[str, Callable[[Window], float]]] = {
    "harm": lambda w: w.harm,
    "unexplained": lambda w: w.unexplained,
    "undecided": lambda w: w.undecided,
}


def _by_turns(labels: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return all rows in an order of which each part holds the classes in their shares."""
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels))
    for label in np.unique(labels):
        rows = shuffled[labels[shuffled] == label]
        turn[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(turn, kind="stable")


def _exceeded_once_in(windows: int, found: npt.NDArray[np.float64]) -> float:
    """Return what the next of normal numbers like these exceeds once in so many: by Student's t.

    Its quantile is that of Cornish and Fisher, within 0.5 % from 10 degrees of freedom on.
    """
    z = NormalDist().inv_cdf(1 - 1 / windows)
    free = len(found) - 1
    t = (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )
    return float(found.mean() + t * found.std(ddof=1) * np.sqrt(1 + 1 / len(found)))


def harmless_changes(layout: Layout, x: Floats) -> list[Callable[[Floats], Floats]]:
    """Return changes that do happen to sensors, each weak and strong, for inputs like `x`."""
    rng = np.random.default_rng(_SEED)
    spread = float(x.std())
    least, most = float(x.min()), float(x.max())
    centre = float(x.mean())

    def noise(size: float) -> Callable[[Floats], Floats]:
        return lambda y: y + np.float32(size * spread) * rng.standard_normal(y.shape, np.float32)

    def gain(factor: float) -> Callable[[Floats], Floats]:
        return lambda y: least + (y - least) * np.float32(factor)

    def offset(size: float) -> Callable[[Floats], Floats]:
        return lambda y: y + np.float32(size * spread)

    def blur(times: int) -> Callable[[Floats], Floats]:
        def changed(y: Floats) -> Floats:
            for _ in range(times):
                y = smoothed(layout, y)
            return y

        return changed

    def contrast(factor: float) -> Callable[[Floats], Floats]:
        return lambda y: centre + (y - centre) * np.float32(factor)

    def specks(share: float) -> Callable[[Floats], Floats]:
        def changed(y: Floats) -> Floats:
            drawn = rng.random(y.shape, np.float32)
            dark = np.where(drawn < share / 2, np.float32(least), y)
            return np.where(drawn > 1 - share / 2, np.float32(most), dark)

        return changed

    def moved(axis: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, np.full(1, _MOVED * y.shape[axis + 1]))

    def stretched(axis: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, _ramp(y, axis, _MOVED * y.shape[axis + 1]))

    def sheared(axis: int, other: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, _ramp(y, other, _MOVED * y.shape[axis + 1]))

    changes = [
        *(moved(axis) for axis in layout.smooth),
        *(stretched(axis) for axis in layout.smooth),
        *(sheared(a, b) for a in layout.smooth for b in layout.smooth if a != b),
        specks(0.03),
        noise(0.2),
        noise(0.5),
        noise(1.0),
        blur(1),
        blur(3),
        gain(0.7),
        gain(1.3),
        offset(-0.3),
        offset(0.5),
        contrast(0.6),
    ]

    def within(change: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
        return lambda y: np.clip(change(y), least, most)

    return [within(change) for change in changes]


def _ramp(y: Floats, axis: int, most: float) -> npt.NDArray[np.float64]:
    """Return displacements that grow along an axis, from -most to most."""
    shape = [1] * y.ndim
    shape[axis + 1] = y.shape[axis + 1]
    return np.linspace(-most, most, y.shape[axis + 1]).reshape(shape)


def _displaced(y: Floats, axis: int, by: npt.NDArray[np.float64]) -> Floats:
    """Return inputs whose elements come from elsewhere along an axis, interpolated."""
    size = y.shape[axis + 1]
    shape = [1] * y.ndim
    shape[axis + 1] = size
    at = np.broadcast_to(np.clip(np.arange(size).reshape(shape) - by, 0, size - 1), y.shape)
    low = np.floor(at).astype(np.intp)
    below = np.take_along_axis(y, low, axis + 1)
    above = np.take_along_axis(y, np.minimum(low + 1, size - 1), axis + 1)
    return np.asarray(below + (at - low) * (above - below), np.float32)


def _references(
    layout: Layout,
    inputs: npt.NDArray[Any],
    quantization: tuple[float, int],
    answers: Answers | None,
    scores: npt.NDArray[np.float64],
    all_labels: npt.NDArray[np.int64],
    kept: npt.NDArray[np.intp],
    rng: np.random.Generator,
) -> Profile:
    x = layout.read(inputs, *quantization)
    numbers = channel_numbers(layout, x)
    classes = 1 if answers is None else answers.outputs.shape[1]
    labels = np.zeros(len(x), np.intp) if answers is None else answers.labels
    rows = classes if classes * numbers[0].size <= _MOST_NUMBERS else 1
    means = _by_class(numbers, labels if rows > 1 else np.zeros_like(labels), rows)
    within = (numbers - means[labels if rows > 1 else 0]).std(axis=0)
    by = layout.by_channel(x)
    counts = np.bincount(labels, minlength=classes)
    named = all_labels[(all_labels >= 0) & (all_labels < classes)]
    if answers is None or len(named) < 2:
        named = labels
    shares = np.bincount(named, minlength=classes)
    flat = x.reshape(len(x), -1)
    limits = np.stack([by.min(axis=(0, 1)), by.max(axis=(0, 1))])
    is_small = flat.shape[1] <= MOST_CELLS
    cells = (flat.mean(axis=0), flat.std(axis=0)) if is_small else (np.empty(0, np.float32),) * 2
    score_rows = classes if classes * max(1, scores.shape[1]) <= _MOST_NUMBERS else 1
    finite = np.clip(np.nan_to_num(scores), -4, 4)
    which = labels if score_rows > 1 else np.zeros_like(labels)
    score_means = _by_class(finite.astype(np.float32), which, score_rows)
    score_sd = np.sqrt(
        _by_class(np.square(finite - score_means[which]).astype(np.float32), which, score_rows)
    )
    return Profile(
        layout=layout,
        quantization=np.array(quantization, np.float64),
        inputs=inputs[kept],
        kept=np.zeros((len(kept), 2), np.float32),
        range=np.array([x.min(), x.max()], np.float32),
        moments=np.stack(
            [by.mean(axis=(0, 1)), by.std(axis=(0, 1)), layout.roughness(x).mean(axis=0)], 1
        ),
        class_numbers=means,
        class_counts=counts if rows > 1 else np.array([len(x)]),
        quartiles=np.quantile(by, (0.25, 0.5, 0.75), axis=(0, 1)).astype(np.float32),
        number_sd=np.maximum(within, np.median(within, axis=0)) + _TINY * (1 + np.abs(x).max()),
        mean_sd=numbers[:, :, 0].std(axis=0),
        priors=((shares + 0.5) / (shares.sum() + 0.5 * classes)).astype(np.float32),
        stickiness=_stickiness(named, classes),
        centroids=np.empty((0, 0), np.float32),
        embedding_sd=np.empty(0, np.float32),
        neighbours=np.empty((0, 0), np.float32),
        neighbour_labels=np.empty(0, np.int64),
        margin=np.array([0, 1], np.float32),
        extremes=np.array(
            [
                np.median((flat <= flat.min(axis=1, keepdims=True)).mean(axis=1)),
                np.median((flat >= flat.max(axis=1, keepdims=True)).mean(axis=1)),
            ],
            np.float32,
        ),
        limits=limits,
        at_limits=np.stack(
            [
                (by <= limits[0]).mean(axis=0).reshape(-1),
                (by >= limits[1]).mean(axis=0).reshape(-1),
            ]
        ).astype(np.float32)
        if is_small
        else np.empty((2, 0), np.float32),
        cell_mean=cells[0],
        cell_sd=cells[1],
        class_scores=np.stack([score_means, np.maximum(score_sd, 0.3)], axis=2),
        nearest=_nearest(flat, cells[1] if is_small else None, rng),
    )


def _with_answers(
    profile: Profile, answers: Answers, kept: npt.NDArray[np.intp], rng: np.random.Generator
) -> Profile:
    """Add what answers and embeddings look like in calibration.

    Those that are carried into a window's condition are no neighbours of what becomes of them.
    """
    margins = answers.margins
    of_kept = np.stack([margins[kept], np.zeros(len(kept), np.float32)], axis=1)
    profile = replace(
        profile, margin=np.array([margins.mean(), margins.std() + 1e-3], np.float32), kept=of_kept
    )
    inside, labels = answers.embeddings, answers.labels
    if inside is None:
        return profile
    centroids = _by_class(inside, labels, answers.outputs.shape[1])
    away = np.square(inside - centroids[labels])
    sd = np.sqrt(away.mean(axis=0)) + 0.05 * np.sqrt(away.mean()) + _TINY
    others = np.setdiff1d(np.arange(len(inside)), kept)
    near = np.sort(rng.choice(others, min(len(others), _NEIGHBOURS), replace=False))
    profile = replace(
        profile,
        centroids=centroids,
        embedding_sd=np.asarray(sd, np.float32),
        neighbours=inside[near],
        neighbour_labels=labels[near].astype(np.int64),
    )
    own = np.full(len(inside), -1)
    own[near] = np.arange(len(near))
    strange = strangeness(profile, answers, own)
    of_kept[:, 1] = strange[kept]
    return replace(profile, bounds={**profile.bounds, STRANGE: float(strange.mean())})


def _by_class(values: Floats, labels: npt.NDArray[np.intp], classes: int) -> Floats:
    """Return means by class, pulled to the mean of all where a class has few samples."""
    overall = values.mean(axis=0)
    total = np.zeros((classes, *values.shape[1:]), np.float32)
    np.add.at(total, labels, values - overall)
    counts = np.bincount(labels, minlength=classes).reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(overall + total / (counts + _PULL), np.float32)


def _stickiness(labels: npt.NDArray[np.intp], classes: int) -> float:
    """Return how much more often a label follows itself than by chance, 0 to 0.98."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    by_chance = float(np.sum(shares**2))
    same = float(np.mean(labels[1:] == labels[:-1]))
    return float(np.clip((same - by_chance) / max(1 - by_chance, 1e-6), 0, 0.98))


def _nearest(flat: Floats, spread: Floats | None, rng: np.random.Generator) -> float:
    few = flat[rng.choice(len(flat), min(len(flat), 256), replace=False)]
    if spread is not None:
        few = few / (spread + 0.05 * spread.mean() + _TINY)
    found = np.full(len(few), np.inf, np.float32)
    for n in range(len(few)):
        others = few[np.arange(len(few)) != n][:64]
        found[n] = np.sqrt(np.mean(np.square(others - few[n]), axis=1)).min()
    return float(np.quantile(found, 0.01))


def _rows(answers: Answers, rows: npt.NDArray[np.intp]) -> Answers:
    inside = answers.embeddings
    return Answers(answers.outputs[rows], None if inside is None else inside[rows])
