"""Refine inner layers: gains and biases of their channels, by backpropagation in a float shadow."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.folds import folds_of, groups_of
from selfheal_edge.learning.guard import capped_weights, credibility
from selfheal_edge.learning.material import LEAST_WINDOW, Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.shadow import Shadow, find_shadow
from selfheal_edge.learning.training import log_softmax
from selfheal_edge.learning.writing import after, write_head

__all__ = ["Refine"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_RUNS: Final = 3
_LEAST_RUNS: Final = 2
_BATCH: Final = 32
_STEPS: Final = 30
_LEAST_STEPS: Final = 8
_PRODUCTS: Final = 8_000_000_000
"""Forward, of all steps: some three seconds of a desktop's core, backward included."""
_RATE: Final = 0.004
_HEAD_RATE: Final = 0.03
"""Of the last layer's rates, against the others'."""
_LABEL_WEIGHT: Final = 3.0
_REHEARSED: Final = 0.25
"""Weight of a held input as it is, against one that was carried."""


class _Task(NamedTuple):
    """What is learned: inputs with distributions over classes, and how often each is drawn."""

    inputs: Singles
    """As the shadow takes them, shape (n, numbers)."""
    targets: Singles
    """Shape (n, classes)."""
    weights: Floats
    """Shape (n,)."""
    labelled: int
    """How many of them, at the end, are labelled."""


class Refine:
    """Learn gains and biases of inner layers' channels, and the head with them.

    What is learned from: golden's held inputs carried into the condition, with golden's answers to
    the originals; labelled samples; and, so that normal operation is not forgotten, held inputs as
    they are. Of several runs, each of which leaves out another fold of the labels, the mean serves,
    and each label is judged by the run that has not learned it.

    Notes
    -----
    Some 3 s of CPU for a keyword spotter of 2.7 million products, and 0.8 MiB meanwhile, 2 MiB at
    most. `Bench.stop` ends it between two steps; nothing is kept of what was not finished.
    """

    name = "refine"
    learns: Final = True
    is_costly: Final = True

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Refine what a head was trained for."""
        head, note = material.head, material.noted(start)
        if head is None or note is None or note.inner:
            return "there is no last layer that can be trained"
        k = len(material.labelled)
        if len(material.window) < LEAST_WINDOW:
            return f"{len(material.window)} inputs of at least {LEAST_WINDOW}"
        if (k and note.refit is None) or (not k and material.carried is None):
            return "nothing is known of the condition that inner layers could learn"
        shadow = find_shadow(material.bench.model, head)
        effort = shadow if isinstance(shadow, str) else _effort(shadow)
        if isinstance(shadow, str) or isinstance(effort, str):
            return str(effort)
        runs, steps = effort
        task, folds = _task(material, start, note, shadow), np.empty(0, np.int64)
        heads: tuple[tuple[Floats, Floats], ...] = ()
        if k and note.refit is not None:
            labels = material.labelled
            groups = groups_of(labels.inputs.reshape(k, -1), contents=material.contents)
            folds = folds_of(groups, labels.labels, runs)
            heads = note.refit(folds)
        rates = shadow.rates.copy()
        rates[shadow.layers[-1].at :] *= _HEAD_RATE
        shadow.graph.set_rates(rates)
        total = np.zeros(len(shadow.start))
        seeds = material.rng.integers(1 << 62, size=runs)
        answers = np.zeros(k, np.int64)
        for run in range(runs):
            weights, held = task.weights.copy(), np.flatnonzero(folds == run)
            weights[len(weights) - k + held] = 0.0
            own = heads[run] if run < len(heads) else (note.weights, note.bias)
            shadow.graph.set_parameters(shadow.with_head(shadow.start, *own))
            rng = np.random.default_rng(seeds[run])
            came = _learn(shadow, task, weights, steps, rng, material.bench)
            total += came
            if len(held):
                shadow.graph.set_parameters(came.astype(np.float32))
                rows = np.ascontiguousarray(task.inputs[len(task.inputs) - k + held])
                answers[held] = shadow.graph.logits(rows).argmax(axis=1)
        found = (total / runs).astype(np.float32)
        try:
            inner = shadow.inner_changes(found)
        except ValueError as error:
            return f"inner layers cannot hold what was learned: {error}"
        made = Note(*shadow.head_of(found), answers if k else None, inner)
        text = f"inner layers refined in {runs} runs of {steps} steps"
        return write_head(material, head, made, start.inputs, after(start, text))


def _effort(shadow: Shadow) -> tuple[int, int] | str:
    """Return runs and steps that the budget of products allows, or that it allows too few."""
    batches = _PRODUCTS // (_BATCH * max(1, shadow.products))
    for runs in range(_RUNS, _LEAST_RUNS - 1, -1):
        if batches // runs >= _LEAST_STEPS:
            return runs, int(min(_STEPS, batches // runs))
    return f"{shadow.products} products an input are too many: inner layers are left alone"


def _learn(
    shadow: Shadow,
    task: _Task,
    weights: Floats,
    steps: int,
    rng: np.random.Generator,
    bench: Bench,
) -> Floats:
    """Take the steps of one run; return the mean of what the second half of them came to."""
    chances = weights / weights.sum()
    even = np.ones(_BATCH, np.float32)
    total = np.zeros(len(shadow.start))
    for step in range(steps):
        bench.go_on()
        drawn = rng.choice(len(chances), _BATCH, p=chances)
        shadow.graph.step(task.inputs[drawn], task.targets[drawn], even, _RATE)
        if 2 * step >= steps:
            total += shadow.graph.parameters
    return total / (steps - (steps + 1) // 2)


def _task(material: Material, start: Patch, note: Note, shadow: Shadow) -> _Task:
    reference, bench = material.reference, material.bench
    classes = max(2, reference.classes)
    parts: list[tuple[Singles, Floats, Floats]] = []
    ratio = material.shares / reference.priors
    taught = _shares(material.golden_on(reference.inputs).scores)
    even = ratio[reference.labels]
    for inputs, weight in ((material.carried, 1.0), (reference.inputs, _REHEARSED)):
        if inputs is not None:
            real = shadow.real(bench.corrected(inputs, start.inputs))
            parts.append((real, taught, weight * even))
    labelled = material.labelled
    if len(labelled):
        inside = material.embeddings(labelled.inputs, start.inputs)
        assert inside is not None, "there is a head"
        trust = credibility(
            np.exp(log_softmax(inside @ note.weights.T + note.bias)), labelled.labels
        )
        parts.append(
            (
                shadow.real(bench.corrected(labelled.inputs, start.inputs)),
                np.eye(classes)[labelled.labels],
                _LABEL_WEIGHT * trust * capped_weights(labelled.weights),
            )
        )
    return _Task(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]).astype(np.float32),
        np.maximum(np.concatenate([part[2] for part in parts]), 1e-9),
        len(labelled),
    )


def _shares(scores: npt.NDArray[np.float32]) -> Floats:
    found = np.maximum(np.nan_to_num(scores.astype(np.float64)), 0.0) + 1e-9
    return np.asarray(found / found.sum(axis=1, keepdims=True))
