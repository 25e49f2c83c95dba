"""Which of several patches serves: golden, unless evidence is for another one.

Every candidate is compared with golden, pair by pair, on the same inputs:

- *without labels*: how much surer its answers to the window are, and how much nearer their mix
  comes to the mix that is expected there. A model that is led astray by its inputs is unsure, or
  sure of a few classes only. Where golden's held inputs can be carried into the condition, on how
  many more of them it is right: their classes are known. Together, what is expected before a label
  is seen;
- *with labels*: on how many more labelled inputs it is right. A candidate that has learned labels
  is asked about those that were held out while it learned (cross-validation).

Both are put together as normal distributions are. The candidate with the largest expected gain is
taken, a simpler one where the two are within half a point, and none whose gain is less than three
quarters of its standard deviation (1.645 of them where only carried inputs and answers speak):
golden stays.

Of a regressor targets alone speak: by how much nearer the answers come (`learning.errors`). Of an
autoencoder labels say what is normal; without one it is expected that most inputs are, so that a
repair in whose eyes more of them are is put on probation, and people decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.learning.errors import POINTS, error_of, saved, worth
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.training import log_softmax

__all__ = ["ALIKE", "LEAST_GAIN", "Proposal", "Standing", "choose", "keeps_its_place"]

Floats = npt.NDArray[np.float64]


class _Doubt(NamedTuple):
    """Standard deviation of gains around what is expected before a label is seen."""

    least: float
    of_gain: float
    """What is added, as a share of the gain."""
    sure: float
    """Standard deviations that a gain has to have, where no label speaks."""


# What evidence without labels was worth, on drifts that score nothing (docs/learning.md).
_SURER: Final = 0.52
"""Gain for each point by which answers to the window are surer, or their mix is nearer."""
_SIMULATED: Final = 0.2
"""For each point gained on inputs that were carried into the condition."""
_ALONE: Final = _Doubt(0.06, 0.25, 0.75)
"""Where none can be carried: a model can be led to be sure of what is wrong."""
_WITH_SIMULATION: Final = _Doubt(0.02, 0.15, 1.645)
"""Little of what is recovered is lost by being sure: of ten tuning drifts of clips 12.7 points of
12.9 came back, and none of the 4 % of repairs that cost a point or more were left."""
_BEYOND_DOUBT: Final = 0.1
"""On carried inputs, where nothing else speaks. Crafted inputs move them little: by 2.5 points at
most on tuning attacks; and what they gained told real gains within 5 points."""
_LEAST_TARGETS: Final = 8
LEAST_GAIN: Final = 0.01
_SURE: Final = 0.75
ALIKE: Final = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What is to serve, and why."""

    patch: Patch | None
    """None: golden."""
    names: tuple[str, ...]
    """Of the strategies that made it, in order."""
    evidence: tuple[str, ...]
    """In words, for the journal."""
    gain: float
    """Expected gain in accuracy over golden; 0 for golden. Of a regressor what errors are less, as
    `learning.errors` counts it."""
    details: dict[str, Any] = field(default_factory=dict)
    """Plain data, for the journal."""
    sources: frozenset[str] | None = None
    """Of the labels that it was learned from; None: of all of them."""


class Standing(NamedTuple):
    """A repair that serves, whose refinement is looked for."""

    patch: Patch
    learned: npt.NDArray[np.int64]
    """`Labelled.ids` of what it was learned from: that it is right there says little."""


_Judged: TypeAlias = "tuple[float, float, str, Patch, str]"
"""Gain and its standard deviation; names, patch and evidence."""


def choose(material: Material, candidates: Sequence[tuple[str, Patch]]) -> Proposal:
    """Pick one of several patches, or golden, which is always among them.

    Parameters
    ----------
    material
        What they were made from.
    candidates
        Names of strategies, joined by "+", and what they made; the simpler ones first.

    Notes
    -----
    Where inputs can be carried, golden is asked about them: as many inferences as there are held
    inputs. Else it costs none beyond those that strategies have asked already.
    """
    if material.reference.targets is not None:
        return _nearer(material, candidates)
    golden = _answers(material, material.golden)
    if golden is None:
        return Proposal(None, (), ("there is no head to compare with",), 0.0)
    # Then how sure answers are may be an attacker's doing; labels, or known inputs, have to speak.
    needs_proof = material.cause is Cause.UNKNOWN and not len(material.labelled)
    rows: list[_Judged] = []
    for name, patch in candidates:
        answers = _answers(material, patch)
        if answers is None:
            continue
        gain, sd, text = _judged(material, golden, answers)
        if needs_proof and not _is_borne_out(golden, answers):
            gain, text = 0.0, f"{text}, which known inputs do not bear out"
        rows.append((gain, sd, name, patch, f"{name}: {text}"))
    sure = _SURE
    if not len(material.labelled):
        sure = (_ALONE if golden.simulated is None else _WITH_SIMULATION).sure
    return _best_of(rows, sure)


def _best_of(rows: Sequence[_Judged], sure: float) -> Proposal:
    evidence = tuple(row[4] for row in rows)
    details = {row[2]: [round(row[0], 4), round(row[1], 4)] for row in rows}
    fit = [row for row in rows if row[0] >= max(LEAST_GAIN, sure * row[1])]
    if not fit:
        return Proposal(None, (), (*evidence, "golden stays"), 0.0, details)
    most = max(row[0] for row in fit)
    gain, _, name, patch, _ = next(row for row in fit if row[0] >= most - ALIKE)
    return Proposal(patch, tuple(name.split("+")), (*evidence, f"{name} is taken"), gain, details)


def _nearer(material: Material, candidates: Sequence[tuple[str, Patch]]) -> Proposal:
    """Pick one of several patches of a regressor, or golden, by targets that it has not learned."""
    labelled, golden = material.labelled, material.told_values(material.golden)
    if golden is None:
        return Proposal(None, (), ("there is no last layer to compare with",), 0.0)
    if len(labelled) < _LEAST_TARGETS:
        few = f"{len(labelled)} of at least {_LEAST_TARGETS} targets: nothing else tells its error"
        return Proposal(None, (), (few,), 0.0)
    weights = labelled.weights.astype(np.float64)
    total = max(float(weights.sum()), 1e-12)
    before = error_of(golden, labelled.labels, material.units)
    rows: list[_Judged] = []
    for name, patch in candidates:
        values = material.told_values(patch)
        if values is None:
            continue
        gains = saved(before, error_of(values, labelled.labels, material.units))
        mean = float(gains @ weights) / total
        squares = float(np.square(weights) @ np.square(gains - mean))
        squares += 0.5 * float(np.square(weights).max()) * POINTS**2
        nearer, farther = int((gains > 0).sum()), int((gains < 0).sum())
        text = (
            f"{name}: nearer than golden to {nearer} of {len(labelled)} targets, farther from "
            f"{farther}: {worth(mean)} less expected"
        )
        rows.append((mean, float(np.sqrt(squares)) / total, name, patch, text))
    return _best_of(rows, _SURE)


def keeps_its_place(material: Material, standing: Standing, proposal: Proposal) -> str:
    """Return why a repair that serves is not replaced by what was found; empty: it is.

    The two are compared as a candidate is with golden, on labels that neither has learned: what
    was found is asked about those that were held out. What is expected to be worse than what
    serves does not take its place, though it may be better than golden.

    Parameters
    ----------
    material
        What the new one was made from.
    standing
        What serves.
    proposal
        From the same material; with a patch. Where sources were left out, their labels say nothing
        here either.
    """
    found = proposal.patch
    assert found is not None, "golden takes no repair's place here"
    if proposal.sources is not None:
        material = material.of_sources(proposal.sources)
    patch, labelled = standing.patch, material.labelled
    if found.says_as(patch):
        return "it is what serves"
    fresh = ~np.isin(labelled.ids, standing.learned)
    answers = material.bench.answers(labelled.inputs, patch)
    if material.reference.targets is not None:
        new, old = material.told_values(found), answers.values
        if new is None or old is None or not fresh.any():
            return ""
        weights = labelled.weights[fresh].astype(np.float64)
        labels, units = labelled.labels[fresh], material.units
        gains = saved(error_of(old[fresh], labels, units), error_of(new[fresh], labels, units))
        gain = float(gains @ weights) / max(float(weights.sum()), 1e-12)
        return f"what serves errs less, by {worth(-gain)}" if gain < 0 else ""
    seen = _answers(material, found)
    if seen is None:
        return ""
    served = _Seen(
        _verdicts(material, patch, None).chances
        if material.reconstructs
        else np.nan_to_num(
            material.bench.answers(material.window, patch).scores.astype(np.float64)
        ),
        answers.labels,
        None if seen.simulated is None else _carried_right(material, patch),
    )
    gain, _, text = _judged(material, served, seen, fresh)
    return f"against what serves: {text}" if gain < 0 else ""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    chances: Floats
    """On the window, shape (n, classes)."""
    labels: npt.NDArray[np.int64]
    """On labelled inputs, shape (k,)."""
    simulated: float | None
    """Share of carried inputs that are named rightly; None where none can be carried."""


def _answers(material: Material, patch: Patch) -> _Seen | None:
    note = material.noted(patch)
    if material.reconstructs:
        return _verdicts(material, patch, note)
    if note is None:
        return None
    inside = material.embeddings(material.window, patch.inputs, note.inner)
    if inside is None:
        return None
    chances = np.exp(_logs(inside, note))
    simulated = _simulated(material, patch, note)
    if note.out_of_fold is not None:
        return _Seen(chances, note.out_of_fold, simulated)
    if not len(material.labelled):
        return _Seen(chances, np.empty(0, np.int64), simulated)
    labelled = material.embeddings(material.labelled.inputs, patch.inputs, note.inner)
    assert labelled is not None
    return _Seen(chances, _logs(labelled, note).argmax(axis=1), simulated)


def _verdicts(material: Material, patch: Patch, note: Note | None) -> _Seen:
    """Return what an autoencoder finds normal: the share of it stands for being sure."""
    chances = (material.bench.answers(material.window, patch).labels == 0).astype(np.float64)
    named = None if note is None else note.out_of_fold
    if named is None:
        named = material.bench.answers(material.labelled.inputs, patch).labels
    return _Seen(chances[:, None], named, None)


def _simulated(material: Material, patch: Patch, note: Note) -> float | None:
    """Return the share of carried inputs named rightly, in the condition's mix of classes."""
    carried, reference = material.carried, material.reference
    if carried is None or len(material.shares) != max(2, reference.classes):
        return None
    inside = material.embeddings(carried, patch.inputs, note.inner)
    if inside is None:
        return None
    weights = (material.shares / reference.priors)[reference.labels]
    named = _logs(inside, note).argmax(axis=1)
    return float((named == reference.labels) @ weights / weights.sum())


def _carried_right(material: Material, patch: Patch) -> float | None:
    """Return `_simulated` of a patch whose head is not noted: the model is asked."""
    carried, reference = material.carried, material.reference
    if carried is None:
        return None
    weights = (material.shares / reference.priors)[reference.labels]
    right = material.bench.answers(carried, patch).labels == reference.labels
    return float(right @ weights / weights.sum())


def _is_borne_out(golden: _Seen, other: _Seen) -> bool:
    """Whether known inputs that were carried into the condition are named better beyond doubt."""
    if golden.simulated is None or other.simulated is None:
        return False
    return other.simulated - golden.simulated >= _BEYOND_DOUBT


def _logs(inside: Floats, note: Note) -> Floats:
    return log_softmax(inside @ note.weights.T + note.bias)


def _judged(
    material: Material,
    golden: _Seen,
    other: _Seen,
    those: npt.NDArray[np.bool_] | None = None,
) -> tuple[float, float, str]:
    """Return the expected gain, its standard deviation, and both in words: by these labels."""
    surer = float(other.chances.max(axis=1).mean() - golden.chances.max(axis=1).mean())
    nearer = _from_mix(material, golden) - _from_mix(material, other)
    text = f"confidence {surer:+.1%}, distance from the expected mix {-nearer:+.1%}"
    if material.reconstructs:
        text = f"found normal: {surer:+.1%} of the inputs"
    doubts, better = _ALONE, 0.0
    if other.simulated is not None and golden.simulated is not None:
        doubts, better = _WITH_SIMULATION, other.simulated - golden.simulated
        text += f", of carried inputs {better:+.1%} right"
    unlabelled = _SURER * (surer + nearer) + _SIMULATED * better
    doubt = doubts.least + doubts.of_gain * abs(unlabelled)
    beside = "golden" if those is None else "it"
    those = np.ones(len(material.labelled), bool) if those is None else those
    labels = material.labelled.labels[those]
    if not len(labels):
        return unlabelled, doubt, f"{text}: {unlabelled:+.1%} expected"
    weights = material.labelled.weights[those].astype(np.float64)
    total = max(float(weights.sum()), 1e-12)
    paired = (other.labels[those] == labels).astype(np.float64) - (golden.labels[those] == labels)
    mean = float(paired @ weights) / total
    # Half a label more on which they part: where none has been seen, one may come yet.
    squares = float(np.square(weights) @ np.square(paired - mean))
    squares += 0.5 * float(np.square(weights).max())
    variance = squares / total**2
    precision = 1.0 / doubt**2 + 1.0 / variance
    gain = (unlabelled / doubt**2 + mean / variance) / precision
    ups, downs = int((paired > 0).sum()), int((paired < 0).sum())
    text += (
        f", right where {beside} is wrong on {ups} of {len(labels)} labels, the reverse on {downs}"
    )
    return gain, float(np.sqrt(1.0 / precision)), f"{text}: {gain:+.1%} expected"


def _from_mix(material: Material, seen: _Seen) -> float:
    """Return how far the named classes' shares are from those expected (total variation)."""
    shares = material.shares
    if len(shares) != seen.chances.shape[1] or material.is_mix_in_doubt:
        return 0.0
    named = np.bincount(seen.chances.argmax(axis=1), minlength=len(shares)) / len(seen.chances)
    return 0.5 * float(np.abs(named - shares).sum())
