"""What repairs by learning recover of models that are no classifiers: regressors under real drift.

A soft sensor reads one of the gas array's sensors off the 15 others (120 features), an int8 network
of dense layers that was trained on a half of the first batch; the other half is normal operation,
the second and third batch are months later. What drift costs was looked at of sensors 1 to 7
of the array before any figure here was made; 9, 11, 13 and 15 score.

Targets come from the window in four rounds of 16, as in `adaptation`: a round first judges the
candidate that was learned from the rounds before, in the loop's own trial with a tolerance that is
drawn, and then trains the next one.
"""

from __future__ import annotations

import warnings
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.made_models import dense_regressor

import harness
from adaptation_data import GAS_TRAINED, Floats, share_rows
from harness import Row
from made_classifiers import quantise
from selfheal_edge.causes import Cause
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.errors import MOST_SAVED, POINTS, error_of
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.questions import AskedLabel, Parting
from selfheal_edge.learning.reference import LearningReference, learn_reference
from selfheal_edge.loop.learning_pace import LARGEST_ERROR as ERROR
from selfheal_edge.monitoring.embedding import find_embedding
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import Session
from selfheal_edge.trial.betting import Evidence

__all__ = ["other_rows"]

RECIPE: Final = (Realign(), RetrainHead(), NewPriors())
SENSORS: Final = (9, 11, 13, 15)
FEATURES: Final = 8
"""Of each sensor of the array; the first is what the soft sensor reads."""
ROUND: Final = 16
ROUNDS: Final = 4
WINDOW: Final = 256
OWNER: Final = "owner"
Raw = npt.NDArray[np.int8]
Rows = npt.NDArray[np.intp]


class SoftSensor(NamedTuple):
    """A model, and what it is served, by batch."""

    model: bytes
    raw: dict[int, Raw]
    """Inputs of a batch, shape (n, 120); of the first those that it was not trained on."""
    targets: dict[int, Floats]
    """Shape (n, 1)."""


def soft_sensor(number: int) -> SoftSensor:
    """Return the one that reads a sensor, counted from 1, off the others."""
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415 — an extra

    with np.load(harness.SHARED / "data" / "gas_sensor_drift_batches_1-3.npz") as gas:
        x, batch = gas["x"].astype(np.float64), gas["batch"]
    x = np.sign(x) * np.log1p(np.abs(x))
    mine = FEATURES * (number - 1)
    others = np.setdiff1d(np.arange(x.shape[1]), np.arange(mine, mine + FEATURES))
    first = np.random.default_rng(0).permutation(np.flatnonzero(batch == GAS_TRAINED))
    train, rest = first[: len(first) // 2], first[len(first) // 2 :]
    centre, spread = x[train].mean(0), x[train].std(0) + 1e-9
    scores = np.clip((x - centre) / spread, -4, 4)[:, others]
    wanted = (x[:, mine] - centre[mine]) / spread[mine]
    net = MLPRegressor(hidden_layer_sizes=(32,), alpha=0.01, max_iter=200, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        net.fit(scores[train], wanted[train])
    layers = list(zip(net.coefs_, net.intercepts_, strict=True))
    model = dense_regressor(layers, scores[train])
    rows = {n: np.flatnonzero(batch == n) for n in (GAS_TRAINED + 1, GAS_TRAINED + 2)}
    rows[GAS_TRAINED] = rest
    scale = 1.25 * float(np.abs(scores[train]).max()) / 127  # as `dense_regressor` has it
    return SoftSensor(
        model,
        {n: quantise(scores[those], scale) for n, those in rows.items()},
        {n: wanted[those][:, None] for n, those in rows.items()},
    )


def _taps(file: ModelFile) -> tuple[int, ...]:
    found = find_embedding(file, None, is_regression=True)
    return () if found is None else (found,)


class Asked:
    """One draw: a calibrated soft sensor, a window and what scores."""

    def __init__(
        self, bench: Bench, head: Head, reference: LearningReference, raw: Raw, targets: Floats
    ) -> None:
        self.bench, self.head, self.reference = bench, head, reference
        self.window, self.told = raw[:WINDOW], targets[:WINDOW]
        self.test, self.test_targets = raw[WINDOW:], targets[WINDOW:]

    def material(self, rows: Rows, targets: Floats) -> Material:
        """Return what strategies are given after these of the window got targets."""
        count = len(rows)
        labelled = Labelled(self.window[rows], targets.astype(np.float32),
                            np.ones(count, np.float32), (OWNER,) * count, rows)  # fmt: skip
        rng = np.random.default_rng(0)
        return Material(self.reference, self.head, self.bench, self.window, labelled, False,
                        Cause.COVARIATE_DRIFT, "", rng)  # fmt: skip

    def error(self, patch: Patch | None = None) -> float:
        """Return the mean error of what scores."""
        return _error(self.bench, self.test, self.test_targets, patch)

    def course(self, rng: np.random.Generator, said: Floats) -> tuple[float, bool]:
        """Return the error in the end, and whether a trial has confirmed; `said` are targets."""
        rows, evidence, is_confirmed = np.empty(0, np.intp), Evidence(), False
        patch: Patch | None = None
        for n in range(ROUNDS + 1):
            material = self.material(rows, said[rows])
            patch = propose(material, RECIPE, OWNER).patch
            if n == ROUNDS:
                break
            left = np.setdiff1d(np.arange(len(said)), rows)
            picked = rng.choice(left, ROUND, replace=False)
            if patch is not None and not is_confirmed:
                evidence = self._judged(evidence, patch, picked, said, material.units, rng)
                verdict = evidence.verdict(ERROR, OWNER)
                if verdict == "reject":
                    return self.error(), False
                is_confirmed = verdict == "confirm"
            rows = np.concatenate([rows, picked])
        return self.error(patch), is_confirmed

    def _judged(
        self,
        evidence: Evidence,
        patch: Patch,
        picked: Rows,
        said: Floats,
        units: Floats,
        rng: np.random.Generator,
    ) -> Evidence:
        golden = self.bench.answers(self.window[picked]).values
        other = self.bench.answers(self.window[picked], patch).values
        assert golden is not None
        assert other is not None
        parting = Parting(golden, other, 1, None, units)
        for k in np.flatnonzero(parting.parts):
            tolerance = tuple((MOST_SAVED * (1.0 - rng.random()) * units).tolist())
            answers = tuple(golden[k].tolist()), tuple(other[k].tolist())
            asked = AskedLabel("parting", 1.0, *answers, 1, tolerance=tolerance)
            new, old = asked.judged(said[picked[k]])
            evidence = evidence.with_label(OWNER, new_right=new, old_right=old)
        return evidence


def other_rows(draws: int) -> list[Row]:
    """Return rows of soft sensors: what comes back, what normal operation loses, and poison."""
    batches = GAS_TRAINED + 1, GAS_TRAINED + 2
    shape = draws, len(SENSORS) * len(batches)
    losses, gains, poisoned = (np.zeros(shape) for _ in range(3))
    confirmed, clean, alone = np.zeros(shape, bool), [], []
    for s, number in enumerate(SENSORS):
        made = soft_sensor(number)

        session = Session(made.model, taps=_taps)
        bench = Bench(session, None)
        head = find_head(session.copy.model, is_regression=True)
        assert isinstance(head, Head), head
        spec = session.instance.inputs[0]
        for draw in range(draws):
            rng = np.random.default_rng((draw, number))
            order = rng.permutation(len(made.raw[GAS_TRAINED]))
            normal, held = made.raw[GAS_TRAINED][order], made.targets[GAS_TRAINED][order]
            half = len(order) * 2 // 3
            inside = bench.answers(normal[:half]).embeddings
            reference = learn_reference(
                normal[:half], np.zeros(half, np.int64), 1, inside, (spec.scale, spec.zero_point),
                has_truth=False, axis=0, targets=held[:half], seed=draw,
            )  # fmt: skip
            before = _error(bench, normal[half:], held[half:])
            # A stream that has not drifted: whatever is learned of it must not be worse.
            part = half // 2
            stay = Asked(bench, head, reference, normal[:part], held[:part])
            rows = rng.permutation(part)[: ROUND * ROUNDS]
            same = propose(stay.material(rows, held[:part][rows]), RECIPE, OWNER).patch
            clean.append(_error(bench, normal[half:], held[half:], same) / before - 1.0)
            for b, batch in enumerate(batches):
                those = rng.permutation(len(made.raw[batch]))
                asked = Asked(bench, head, reference, made.raw[batch][those],
                              made.targets[batch][those])  # fmt: skip
                at = draw, s * len(batches) + b
                drifted = asked.error()
                losses[at] = drifted - before
                chance = np.random.default_rng((draw, number))
                found, is_confirmed = asked.course(chance, asked.told)
                gains[at], confirmed[at] = drifted - found, is_confirmed
                lies = asked.told.copy()
                bad = rng.permutation(WINDOW)[: WINDOW * 10 // 64]
                lies[bad] = rng.permutation(asked.told[bad]) + 1.0
                spoiled, _ = asked.course(np.random.default_rng((draw, number)), lies)
                poisoned[at] = drifted - spoiled
                alone.append(found / drifted - 1.0)
        bench.close()
        session.close()
    lost = float(np.maximum(losses, 0.0).sum())
    name = "soft sensors, 64 targets"

    def share(what: str, gained: Floats, *, higher: bool = True) -> Row:
        return Row(f"{name}: {what}", float(gained.sum()) / lost, "share", None, higher)

    return [
        *share_rows(name, gains, losses, 0.7),
        share("recovered, confirmed", gains[confirmed]),
        share("recovered, 10 of 64 false", poisoned),
        share("lost to 10 of 64 false", gains - poisoned, higher=False),
        Row(f"{name}: confirmed", float(confirmed.mean()), "share", None, True),
        Row(f"{name}: error, worst draw", 100 * max(alone), "% more", None, False),
        Row(
            f"{name}: error of a stream without drift",
            100 * float(np.mean(clean)),
            "% more",
            100 * POINTS,
            False,
        ),
    ]


def _error(bench: Bench, raw: Raw, targets: Floats, patch: Patch | None = None) -> float:
    values = bench.answers(raw, patch).values
    assert values is not None
    return float(error_of(values, targets).mean())
