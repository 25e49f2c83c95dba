"""What it costs to train a last layer anew on the device, and what that is good for.

A keyword spotter, six drifts of its input, 64 labels of each; nothing was chosen by the clips that
score it: strengths come from cross-validation on the labels (the least loss: the better rule on a
model of digits under other drifts). The head begins where the embedding, dimension by dimension,
has calibration's mean and spread again, for which no label is needed.
"""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import harness
from harness import Row
from selfheal_edge.learning.folds import folds_of, groups_of
from selfheal_edge.learning.guard import credibility
from selfheal_edge.learning.head import Head, find_head, head_changes, into_range
from selfheal_edge.learning.training import HeadTrainer, log_softmax
from selfheal_edge.monitoring.embedding import find_embedding
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.session import Session

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

DRIFTS: Final = (
    "noise_snr20",
    "noise_snr10",
    "noise_snr5",
    "noise_snr0",
    "lowpass_1500hz",
    "hum_50hz",
)
LABELS: Final = 64
CALIBRATION, WINDOW = 300, 300
BAD: Final = 10
MODEL: Final = "kws_dscnn_int8"


@dataclass
class Condition:
    """Embeddings of one condition: a window without labels, from which some are drawn, and a test.

    `start` is golden's head, after the embedding's alignment.
    """

    inputs: npt.NDArray[Any]
    window: Floats
    window_labels: Labels
    test: Floats
    test_labels: Labels
    start: tuple[Floats, Floats]
    spread: tuple[Floats, Floats]


def opened(file: ModelFile) -> Session:
    """Build an instance that shows the embedding."""

    def taps(model: ModelFile) -> list[int]:
        found = find_embedding(model, None)
        assert found is not None
        return [found]

    return Session(file, taps=taps, probe=ProbePolicy(vouched=(file.sha256,)))


def embeddings_of(session: Session, inputs: npt.NDArray[Any]) -> tuple[Floats, Labels]:
    """Return embeddings in real units, and the runtime's answers."""
    spec = session.instance.inputs[0]
    inside, answers = [], []
    for one in inputs:
        answers.append(int(session.instance.run([one.reshape(spec.shape)])[0].argmax()))
        inside.append(session.instance.tapped()[0].ravel())
    tap = session.instance.taps[0]
    raw = np.stack(inside).astype(np.float64)
    return tap.scale * (raw - tap.zero_point), np.array(answers)


def aligned(head: Head, reference: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Fold the embedding's mean and spread, brought back to the reference's, into the head."""
    floor = 0.05 * reference.std(axis=0).max()
    gain = np.clip(
        np.maximum(reference.std(axis=0), floor) / np.maximum(window.std(axis=0), floor), 0.25, 4
    )
    weights = head.weights * gain
    offset = reference.mean(axis=0) - gain * window.mean(axis=0)
    return weights, head.bias + head.weights @ offset


def conditions(session: Session, head: Head, names: tuple[str, ...]) -> dict[str, Condition]:
    """Return what the drifts do to the embedding."""
    data = harness.SHARED / "data"
    with (
        np.load(data / "speech_commands_mfcc_int8.npz") as clean,
        np.load(data / "speech_commands_mfcc_drift_int8.npz") as drifted,
    ):
        inputs, labels = clean["x"], clean["y"].astype(np.int64)
        streams = {name: drifted[f"x_{name}"] for name in names}
    order = np.random.default_rng(0).permutation(len(labels))
    parts = np.split(order, [CALIBRATION, CALIBRATION + WINDOW])
    reference, _ = embeddings_of(session, inputs[parts[0]])
    made = {}
    for name, stream in streams.items():
        window, _ = embeddings_of(session, stream[parts[1]])
        test, _ = embeddings_of(session, stream[parts[2]])
        made[name] = Condition(
            stream[parts[2]],
            window,
            labels[parts[1]],
            test,
            labels[parts[2]],
            aligned(head, reference, window),
            (window.mean(axis=0), window.std(axis=0)),
        )
    return made


def accuracy(weights: Floats, bias: Floats, case: Condition) -> float:
    """Return the share of right answers on the test's embeddings, without rounding."""
    answers = (case.test @ weights.T + bias).argmax(axis=1)
    return float((answers == case.test_labels).mean())


@dataclass
class Learned:
    """A repaired head."""

    weights: Floats
    bias: Floats
    changes: tuple[tuple[int, bytes], ...]
    trainer_bytes: int


def repaired(head: Head, case: Condition, picked: Labels, labels: Labels, guard: bool) -> Learned:
    """Repair the head by labelled samples: all that the device does, but the embeddings."""
    x = case.window[picked]
    weights, bias = case.start
    trust = np.ones(len(picked))
    if guard:
        trust = credibility(np.exp(log_softmax(x @ weights.T + bias)), labels)
    trainer = HeadTrainer(len(weights), x.shape[1], len(x))
    trainer.load(x, weights, bias, *case.spread)
    folds = folds_of(groups_of(x), labels)
    found = trainer.cross_validate(labels, trust, folds)
    best = trainer.fit(labels, trust, found.pulls[found.best])
    bias = into_range(head, best.weights, best.bias, x)
    changes = head_changes(head, best.weights, bias, case.spread[0])
    return Learned(best.weights, bias, changes, trainer.memory_bytes)


def draws(case: Condition, count: int) -> list[Labels]:
    """Return which samples of the window are labelled, `count` times."""
    return [
        np.random.default_rng((7, n)).permutation(len(case.window))[:LABELS] for n in range(count)
    ]


def written_accuracy(session: Session, learned: Learned, case: Condition) -> float:
    """Return the share of right answers of the runtime with the patched file."""
    data = bytearray(session.copy.model.data)
    for offset, part in learned.changes:
        data[offset : offset + len(part)] = part
    fresh = opened(ModelFile.from_bytes(session.copy.file_with(bytes(data))))
    try:
        return float((embeddings_of(fresh, case.inputs)[1] == case.test_labels).mean())
    finally:
        fresh.close()


def recovery(session: Session, head: Head, cases: dict[str, Condition], count: int) -> list[Row]:
    """Return what 64 labels win by the head alone, in floats and as written, and poisoned."""
    golden, start, exact, written, plain, poisoned, open_ = (list[float]() for _ in range(7))
    for case in cases.values():
        golden.append(accuracy(head.weights, head.bias, case))
        start.append(accuracy(*case.start, case))
        for n, picked in enumerate(draws(case, count)):
            labels = case.window_labels[picked]
            learned = repaired(head, case, picked, labels, guard=True)
            exact.append(accuracy(learned.weights, learned.bias, case))
            if n < max(1, count // 10):
                plain.append(exact[-1])
                written.append(written_accuracy(session, learned, case))
            rng = np.random.default_rng((8, n))
            bad = labels.copy()
            which = rng.permutation(LABELS)[:BAD]
            bad[which] = (bad[which] + rng.integers(1, head.classes, BAD)) % head.classes
            for guard, into in ((True, poisoned), (False, open_)):
                found = repaired(head, case, picked, bad, guard=guard)
                into.append(accuracy(found.weights, found.bias, case))

    values = (golden, start, exact, written, plain, poisoned, open_)
    golden_, start_, exact_, written_, plain_, poisoned_, unguarded = (
        100 * float(np.mean(one)) for one in values
    )
    bad_rows = (("", poisoned_, 1.0), (", no guard", unguarded, None))
    return [
        Row("KWS, golden under drift: accuracy", golden_, "%", None, True),
        Row("KWS, embedding aligned: accuracy", start_, "%", None, True),
        Row("KWS, head trained on 64 labels: accuracy", exact_, "%", None, True),
        Row("KWS, int8 in the file against float", written_ - plain_, "points", -0.5, True),
        *(
            Row(f"KWS, 10 of 64 labels bad{how}: lost", exact_ - one, "points", most, False)
            for how, one, most in bad_rows
        ),
    ]


def cost(head: Head, case: Condition, rounds: int) -> list[Row]:
    """Return the time and the memory of one repair."""
    picked = draws(case, 1)[0]
    labels = case.window_labels[picked]

    def repair() -> Learned:
        return repaired(head, case, picked, labels, guard=True)

    repair()
    tracemalloc.start()
    learned = repair()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = harness.interleaved([repair], rounds=rounds, calls=1)[0]
    cpu = time.process_time()
    for _ in range(rounds):
        repair()
    cpu = (time.process_time() - cpu) / rounds
    kib = (peak + learned.trainer_bytes) / 1024
    return [
        Row("KWS, head repair with cross-validation: time", 1e3 * seconds, "ms", 50.0, False),
        Row("KWS, head repair with cross-validation: CPU", 1e3 * cpu, "ms", None, False),
        Row("KWS, head repair: memory beyond the pool", kib, "KiB", 256.0, False),
        Row("KWS, of which the solver", learned.trainer_bytes / 1024, "KiB", None, False),
    ]


@dataclass
class Peer:
    """One fit of ours and of scikit-learn's, on the same samples in units of their spread."""

    sgd: type[Any]
    case: Condition
    picked: Labels

    def __post_init__(self) -> None:
        """Bring samples, tests and start into those units."""
        mean, spread = self.case.spread
        spread = np.maximum(spread, 0.02 * spread.max())
        weights, bias = self.case.start
        self.start = weights * spread, bias + weights @ mean
        self.test = (self.case.test - mean) / spread
        self.x = (self.case.window[self.picked] - mean) / spread
        self.labels = self.case.window_labels[self.picked]

    def fit(self) -> Floats:
        """Fit ours, its memory included; return the test's answers."""
        trainer = HeadTrainer(len(self.start[0]), self.x.shape[1], len(self.x))
        width = self.x.shape[1]
        trainer.load(self.x, *self.start, np.zeros(width), np.ones(width))
        found = trainer.fit(self.labels, np.ones(len(self.x)), 10.0)
        return np.asarray((self.test @ found.weights.T + found.bias).argmax(axis=1))

    def fit_sgd(self, *, is_warm: bool = False) -> Floats:
        """Fit scikit-learn's with its defaults; return the test's answers."""
        model = self.sgd(loss="log_loss", random_state=0)
        classes = np.unique(self.labels)
        begin = {"coef_init": self.start[0][classes], "intercept_init": self.start[1][classes]}
        model.fit(self.x, self.labels, **(begin if is_warm else {}))
        return np.asarray(model.predict(self.test))

    def right(self, answers: Floats) -> float:
        """Return the share of right answers."""
        return float((answers == self.case.test_labels).mean())


def against_sgd(cases: dict[str, Condition], count: int, rounds: int) -> list[Row]:
    """Return one fit beside scikit-learn's stochastic gradient descent on the same embeddings."""
    try:
        from sklearn.linear_model import SGDClassifier  # noqa: PLC0415 — an extra
    except ImportError:
        print("skipped: scikit-learn is not installed")
        return []
    ours, cold, warm = list[float](), list[float](), list[float]()
    times: list[list[float]] = []
    for case in cases.values():
        for picked in draws(case, count):
            peer = Peer(SGDClassifier, case, picked)
            ours.append(peer.right(peer.fit()))
            cold.append(peer.right(peer.fit_sgd()))
            warm.append(peer.right(peer.fit_sgd(is_warm=True)))
        times.append(harness.interleaved([peer.fit, peer.fit_sgd], rounds=rounds, calls=1))
    fitted, theirs = np.median(np.array(times), axis=0)
    accuracies = [100 * float(np.mean(values)) for values in (ours, cold, warm)]
    return [
        Row("one fit: time", 1e3 * fitted, "ms", None, False),
        Row("SGDClassifier.fit: time", 1e3 * theirs, "ms", None, False),
        Row("one fit over SGDClassifier.fit: time", fitted / theirs, "ratio", 1.0, False),
        Row("one fit, pull 10: accuracy", accuracies[0], "%", accuracies[1], True),
        Row("SGDClassifier: accuracy", accuracies[1], "%", None, True),
        Row("SGDClassifier from the aligned head on: accuracy", accuracies[2], "%", None, True),
    ]


def made(rows: int, dimensions: int, samples: int, rounds: int) -> list[Row]:
    """Return what a head of another size costs, on made embeddings."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, rows, samples)
    centres = rng.normal(0, 1, (rows, dimensions))
    x = (centres[labels] + rng.normal(0, 1, (samples, dimensions))).astype(np.float32)
    start = rng.normal(0, dimensions**-0.5, (rows, dimensions))
    trainer = HeadTrainer(rows, dimensions, samples, max_bytes=256 << 20)

    def fit() -> object:
        trainer.load(x, start, np.zeros(rows))
        return trainer.fit(labels, np.ones(samples), 10.0)

    name = f"{rows} classes, {dimensions} dimensions, {samples} samples"
    seconds = harness.interleaved([fit], rounds=rounds, calls=1)[0]
    return [
        Row(f"{name}: one fit", 1e3 * seconds, "ms", None, False),
        Row(f"{name}: solver", trainer.memory_bytes / 1024, "KiB", None, False),
    ]


def main() -> None:
    """Measure and report."""
    args = harness.arguments(__doc__)
    rounds, count = (3, 1) if args.quick else (30, 50)
    rows: list[Row] = []
    if (harness.SHARED / "data").is_dir():
        file = ModelFile.from_path(harness.SHARED / "models" / f"{MODEL}.tflite")
        session = opened(file)
        head = find_head(session.copy.model)
        assert isinstance(head, Head)
        names = DRIFTS[:1] if args.quick else DRIFTS
        cases = conditions(session, head, names)
        rows += cost(head, cases[names[-1]], rounds)
        rows += recovery(session, head, cases, count)
        rows += against_sgd(cases, 1 if args.quick else 10, rounds)
        session.close()
    else:
        print(f"skipped: {harness.SHARED} is not here, and with it the keyword spotter")
    sizes = [(2, 256, 64), (12, 64, 512), (1001, 256, 64), (1000, 1280, 64)]
    for size in sizes[: 2 if args.quick else None]:
        rows += made(*size, 3 if args.quick else 5)
    harness.report(rows, args.json)


if __name__ == "__main__":
    main()
