"""Tell golden that classes come in another mix: new priors, as biases of the last layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.alignment import unexplained_shift
from selfheal_edge.learning.material import LEAST_WINDOW, Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.writing import write_head

__all__ = ["NewPriors"]

Floats = npt.NDArray[np.float64]

_MOST: Final = 1.5
"""By which a logit moves at most: a factor of 4.5 in the odds of a class."""
_LEAST_SHARE: Final = 0.002
_ORDINARY: Final = 0.2
_LEAST_MOVED: Final = 0.1
_ROUNDS: Final = 50
_PRIOR: Final = 8.0  # samples of calibration's mix that an estimate is pulled to


class NewPriors:
    """Add the logarithm of the ratio of new to old shares to each class's logit."""

    name = "new_priors"
    learns: Final = True

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Take the mix from labels; without, from golden's answers, by expectation maximisation.

        That is done only where embeddings are otherwise ordinary: under a drift the estimate
        gathers on the few classes that golden falls back to.
        """
        head, note = material.head, material.noted(start)
        reference = material.reference
        has_classes = reference.classes > 1
        if not has_classes or head is None or note is None or head.stored_bias is None:
            return "there is no last layer of classes with biases"
        if len(material.window) < LEAST_WINDOW:
            return f"{len(material.window)} inputs of at least {LEAST_WINDOW}"
        if material.knows_mix:
            shares = material.shares
        elif not material.mix_moved:
            return "the mix of classes is as in calibration, as far as is known"
        else:
            inside = material.embeddings(material.window)
            shift = np.inf if inside is None else unexplained_shift(reference, inside)
            if shift >= _ORDINARY:
                return f"inputs have moved as well (shift {shift:.2f}), and labels tell no mix"
            scores = material.golden_on(material.window).scores.astype(np.float64)
            shares = estimated_mix(np.nan_to_num(scores), reference.priors)
        if 0.5 * float(np.abs(shares - reference.priors).sum()) < _LEAST_MOVED:
            return "the mix of classes is as in calibration"
        moved = _log_ratio(shares, reference.priors, len(note.bias))
        bias, refit = note.bias + moved, note.refit

        def refit_and_moved(folds: npt.NDArray[np.int64]) -> tuple[tuple[Floats, Floats], ...]:
            assert refit is not None, "else it is not asked"
            return tuple((rows, offsets + moved) for rows, offsets in refit(folds))

        fold = _refold(material, start, note, bias)
        text = f"{start.text}, priors of the new mix" if start.text else "priors of the new mix"
        made = replace(
            note, bias=bias, out_of_fold=fold, refit=None if refit is None else refit_and_moved
        )
        return write_head(material, head, made, start.inputs, text)


def _log_ratio(shares: Floats, priors: Floats, rows: int) -> Floats:
    """Return what is added to biases: at most 1.5 each way about their mean."""
    ratio = np.log(np.maximum(shares, _LEAST_SHARE) / np.maximum(priors, _LEAST_SHARE))
    if rows == 1:  # one sigmoid, of class 1
        return np.asarray(np.clip(ratio[1:2] - ratio[0], -_MOST, _MOST))
    return np.asarray(np.clip(ratio - np.median(ratio), -_MOST, _MOST))


def _refold(
    material: Material, start: Patch, note: Note, bias: Floats
) -> npt.NDArray[np.int64] | None:
    """Return answers to labelled inputs: what was held out of the head is not known any more.

    Where the head has learned labels its answers to those are not judged by the new biases, so
    that those of before stand; else the new head answers.
    """
    if note.out_of_fold is not None:
        return note.out_of_fold
    if not len(material.labelled):
        return None
    inside = material.embeddings(material.labelled.inputs, start.inputs, note.inner)
    if inside is None:
        return None
    logits = inside @ note.weights.T + bias
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0] > 0, np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)


def estimated_mix(scores: Floats, priors: Floats) -> Floats:
    """Return the mix of classes that makes a window's scores most likely, shape (classes,).

    Expectation maximisation (Saerens, Latinne and Decaestecker, 2002), pulled to calibration's
    mix by eight samples.
    """
    shares = priors.copy()
    for _ in range(_ROUNDS):
        weighed = scores * (shares / priors)
        weighed /= np.maximum(weighed.sum(axis=1, keepdims=True), 1e-30)
        shares = (weighed.sum(axis=0) + _PRIOR * priors) / (len(scores) + _PRIOR)
    return np.asarray(shares / shares.sum())
