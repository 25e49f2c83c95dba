"""The obvious loop: any alarm, and the last layer is trained anew on what came lately."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import Baseline
from selfheal_edge.learning.head import Head, find_head, head_changes
from selfheal_edge.learning.patch import patched
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.contestant import Asked, Told
from selfheal_edge.redteam.survival.contestants.operator import MeanConfidence
from selfheal_edge.redteam.survival.contestants.undefended import Undefended
from selfheal_edge.redteam.survival.plain import PlainModel
from selfheal_edge.redteam.survival.world import World
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.session import ModelSource

__all__ = ["Naive"]

Floats = npt.NDArray[np.float64]

_STEPS: Final = 300
_RATE: Final = 1.0


class Naive(Undefended):
    """Retrains its last layer at every alarm, on the latest 256 inputs.

    Labels are those that were told, by any source, and its own answers where none was. No
    hold-out, no trial, no way back. A model whose last layer cannot be trained only alarms.
    """

    name = "naive"

    def __init__(self, world: World, baseline: Baseline, folder: Path) -> None:
        self._baseline = baseline
        super().__init__(world, folder)
        self._alarm = MeanConfidence(world)
        self._labels: dict[int, int] = {}
        self._is_due = False
        is_classifier = world.kind == "classifier"
        found = find_head(self.plain.session.copy.model) if is_classifier else None
        has_embedding = bool(self.plain.session.instance.taps)
        self._head = found if isinstance(found, Head) and has_embedding else None
        self._weights: Floats | None = None
        self._bias: Floats | None = None
        self._forget()

    def _open(self, model: ModelSource) -> PlainModel:
        return self.world.opened(model, self._taps, self._baseline.made)

    def _taps(self, model: object) -> tuple[int, ...]:
        """Return the embedding's tensor, which stays where it is when the last layer changes."""
        del model
        embedding = self._baseline.embedding
        return () if embedding is None else (embedding.tensor,)

    def watch(self, raw: Raw, outputs: Raw) -> None:
        """Alarm, and train with what comes within the hour."""
        del raw
        if self._alarm.hears(outputs):
            self.told.append(Told(self.predictions, "alarm"))
            self._alarm.forget()
            self._is_due = True

    def hour_begins(self) -> None:
        """Train what is due."""
        if self._is_due and self._head is not None:
            began = time.process_time()
            self._train()
            self._cpu += time.process_time() - began
        self._is_due = False

    def is_worried(self) -> bool:
        """Whether it has alarmed within the hour."""
        return self._is_due

    def wanted(self, limit: int) -> Sequence[Asked]:
        """Ask for any of the latest inputs, once there was an alarm."""
        if not self._is_due or self._head is None:
            return ()
        unknown = [one for one in self._recent if one[0] not in self._labels]
        return [Asked(id_, x, (label,)) for id_, x, label in unknown[-limit:]]

    def feedback(self, label: Any, id: int, source: str, *, authenticated: bool = False) -> bool:
        """Believe it."""
        del source, authenticated
        known = any(one[0] == id for one in self._recent)
        if known:
            self._labels[id] = label
        return known

    def serves(self) -> str:
        """Name what serves now."""
        return "golden" if not self._trained else f"generation {self._trained}"

    def restart(self, *, clean: bool) -> None:
        """Load the shipped file anew: what was learned lay in memory."""
        super().restart(clean=clean)
        self._forget()

    def _forget(self) -> None:
        self._trained = 0
        if self._head is not None:
            self._weights, self._bias = self._head.weights, self._head.bias

    def _train(self) -> None:
        head, weights, bias = self._head, self._weights, self._bias
        assert head is not None
        assert weights is not None
        assert bias is not None
        ids = [one[0] for one in self._recent]
        raw = np.stack([one[1] for one in self._recent])
        own = np.array([one[2] for one in self._recent])
        labels = np.array([self._labels.get(i, int(a)) for i, a in zip(ids, own, strict=True)])
        inside = self.plain.run_tapped(raw)[1].astype(np.float64)
        tap = self.plain.session.instance.taps[0]
        if tap.quantized:
            inside = (inside - tap.zero_point) * tap.scale
        weights, bias = _descended(inside, labels, weights, bias, head.classes)
        try:
            data = patched(self.plain.session.copy, head_changes(head, weights, bias))
        except ValueError as error:
            self.told.append(Told(self.predictions, "repair", None, f"failed: {error}"))
            return
        session = self.plain.session
        source = SourceImage(data)
        old_source, old, _ = session.exchange(source, session.choice.build(source), None)
        old.close()
        old_source.close()
        self._weights, self._bias = weights, bias
        self._trained += 1
        self.told.append(Told(self.predictions, "repair", None, "healed: trained", "retrain"))


def _descended(
    inside: Floats, labels: npt.NDArray[np.int64], weights: Floats, bias: Floats, classes: int
) -> tuple[Floats, Floats]:
    """Return a last layer after gradient descent on these labels, from where it was."""
    rows, offsets = weights.copy(), bias.copy()
    single = len(rows) == 1
    rate = _RATE / max(1.0, float(np.square(inside).sum(axis=1).mean()))
    targets = np.eye(classes)[labels]
    for _ in range(_STEPS):
        logits = inside @ rows.T + offsets
        if single:
            wrong = 1 / (1 + np.exp(-logits)) - targets[:, 1:]
        else:
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            wrong = shares / shares.sum(axis=1, keepdims=True) - targets
        rows -= rate * wrong.T @ inside / len(labels)
        offsets -= rate * wrong.mean(axis=0)
    return rows, offsets
