"""What a committee is worth: weights through damage and heal, accuracy, regret, poison, price.

Digits with three members that the project makes itself: the demo's convolutional network in int8,
the same in float32, and dense layers trained here; and keyword spotting in int8 beside its
dynamic-range twin, where `../shared` has them. Members are calibrated with one part of the data and
judged by another. Losses and weights are those of the library's committee on real models; the long
streams for regret and poison replay its members' recorded answers through the same core.

What is drawn (which samples of keywords calibrate, streams, damage, flips) is of a family of seeds
that was not looked at when the core's constants were chosen; family 0 was.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from harness import SHARED, Row, parser, report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.made_members import BLIND as BLIND_MEMBERS
from tests.made_members import digits_parts, float_twin, trained_mlp

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.file.model_file import ModelFile

Reals = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

KEY: Final = b"benchmark of ens"
FAMILY: Final = 1900
"""Added to every seed; 0 is what the core's constants were chosen in sight of."""
RATES: Final = [1 / 2048, 1 / 512, 1 / 128, 1 / 32]
GRAVE: Final = 0.63
"""Of a source that may lie in a fifth of its labels, 0.4 of what damage costs a label may be lies;
weights ask for 2.3 above that, so that ten labels can tell what costs 0.63 or more."""
BLIND: Final = replace(BLIND_MEMBERS, source_labels_per_hour=100_000)
SEEING: Final = she.Policy(heal="observe", source_labels_per_hour=100_000)


@dataclass(frozen=True)
class Task:
    """Members, and samples that none of them was trained or calibrated with."""

    name: str
    files: dict[str, bytes]
    baselines: dict[str, she.Baseline]
    inputs: npt.NDArray[np.float32]
    labels: Labels

    @contextlib.contextmanager
    def opened(self, policy: she.Policy) -> Iterator[dict[str, she.SelfHealingModel]]:
        """Open the members."""
        with contextlib.ExitStack() as stack:
            yield {
                name: stack.enter_context(
                    she.SelfHealingModel(file, self.baselines[name], policy=policy, seed=n + 1)
                )
                for n, (name, file) in enumerate(self.files.items())
            }


def digits() -> Task:
    """Return the task of digits."""
    parts = digits_parts()
    cnn = digits_model_path().read_bytes()
    files = {"cnn int8": cnn, "cnn float32": float_twin(cnn), "dense float32": trained_mlp()}
    baselines = {
        name: she.calibrate(file, parts.calibration, parts.calibration_labels, seed=1)
        for name, file in files.items()
    }
    return Task("digits", files, baselines, parts.heldout, parts.heldout_labels)


def keywords() -> Task | None:
    """Return the task of keyword spotting; None without its files."""
    models = SHARED / "models"
    data = SHARED / "data" / "speech_commands_mfcc_int8.npz"
    paths = {
        "int8": models / "kws_dscnn_int8.tflite",
        "dynamic range": models / "kws_dscnn_dynamic_range.tflite",
    }
    if not data.exists() or not all(path.exists() for path in paths.values()):
        return None
    spec = ModelFile.from_path(paths["int8"]).inputs[0]
    with np.load(data, allow_pickle=False) as arrays:
        levels, labels = arrays["x"], arrays["y"].astype(np.int64)
    scale, zero = np.float32(spec.scales[0]), int(spec.zero_points[0])
    inputs = (scale * (levels.astype(np.float32) - zero)).reshape(len(levels), *spec.shape[1:])
    order = np.random.default_rng(FAMILY).permutation(len(inputs))
    inputs, labels = inputs[order], labels[order]
    files = {name: path.read_bytes() for name, path in paths.items()}
    half = len(inputs) // 2
    baselines = {
        name: she.calibrate(file, inputs[:half], labels[:half], seed=1)
        for name, file in files.items()
    }
    return Task("keywords", files, baselines, inputs[half:], labels[half:])


def damage(model: she.SelfHealingModel, seed: int) -> None:
    """Flip bits in what runs."""
    size = sum(model.weights.coverage.weight_bytes_by_coverage.values())
    she.redteam.inject(model).flip_bits(max(64, size // 16), seed=FAMILY + seed)


def one(found: Any) -> she.EnsemblePrediction:
    """Return the answer to one sample."""
    assert isinstance(found, she.EnsemblePrediction)
    return found


class Stream:
    """Serves a task's samples in random order, for as long as one asks."""

    def __init__(self, task: Task, seed: int) -> None:
        rng = np.random.default_rng(FAMILY + seed)
        self.order = np.concatenate([rng.permutation(len(task.inputs)) for _ in range(12)])
        self.task = task
        self.at = 0

    def next(self) -> tuple[npt.NDArray[np.float32], int]:
        """Return a sample and its label."""
        n = int(self.order[self.at % len(self.order)])
        self.at += 1
        return self.task.inputs[n : n + 1], int(self.task.labels[n])


def unseen_damage(task: Task, seeds: int, *, labelled: bool) -> list[int]:
    """Return, for each member and seed, the answers until its weight is below 5 %.

    No sweep looks for the damage. Each answer gets a label of a source that is not the owner, or
    none does.
    """
    rounds = []
    for seed, name in itertools.product(range(seeds), task.files):
        with task.opened(BLIND) as models:
            committee = she.SelfHealingEnsemble(models, seed=seed)
            damage(models[name], seed)
            served = live(task, committee, seed, 200, labelled=labelled)
            rounds.append(
                next((n for n, _ in enumerate(served) if committee.weights[name] < 0.05), 200)
            )
    return rounds


def live(
    task: Task, committee: she.SelfHealingEnsemble, seed: int, count: int, *, labelled: bool
) -> Iterator[bool]:
    """Yield whether each answer is right, after one that says nothing, to begin with."""
    source = committee.feedback_source("operator", KEY)
    stream = Stream(task, seed)
    yield False
    for _ in range(count):
        x, label = stream.next()
        answer = one(committee.infer(x))
        if labelled:
            committee.feedback(label, id=answer.id, source=source)
        yield answer.label == label


@dataclass(frozen=True)
class Alone:
    """What labels alone did with a damaged member, without known answers."""

    costs: float
    """Share of answers that the member gets wrong more than the best one."""
    heard: int
    """Labels until it is below 5 %: of a source that may lie."""
    owned: int
    """Of the owner's."""
    asked: int
    """Of the owner's, of answers on which members part, as `wanted_labels` asks."""


def labels_alone(task: Task, recorded: Recorded) -> list[Alone]:
    """Replay labels of each damaged member's answers through the core's weights."""

    def until(losses: Reals, member: int, *, owned: bool) -> int:
        share = _core.FixedShare(losses.shape[1], rates=RATES)
        for n, row in enumerate(losses, 1):
            (share.update if owned else share.hear)(row)
            if share.weights[member] < 0.05:
                return n
        return 200

    found = []
    rng = np.random.default_rng(FAMILY + 5)
    for k, damaged in recorded.damaged:
        order = rng.permutation(len(task.labels))[:200]
        answers, labels = damaged[order], task.labels[order]
        named = np.nan_to_num(answers).argmax(axis=2)
        right = np.mean(named == labels[:, None], axis=0)
        losses = losses_of(answers, labels)
        parted = losses[(named != named[:, :1]).any(axis=1)]
        found.append(
            Alone(
                float(right.max() - right[k]),
                until(losses, k, owned=False),
                until(losses, k, owned=True),
                until(parted, k, owned=True),
            )
        )
    return found


def damage_rows(task: Task, recorded: Recorded, seeds: int) -> list[Row]:
    """Return how long a damaged member keeps its weight, by what speaks against it."""
    labelled = unseen_damage(task, seeds, labelled=True)
    silent = unseen_damage(task, seeds, labelled=False)
    alone = labels_alone(task, recorded)
    grave = [one_.heard for one_ in alone if one_.costs >= GRAVE]
    mild = [one_.heard for one_ in alone if one_.costs < GRAVE]
    kinds: list[tuple[str, list[int], float | None]] = [
        ("labels, which have known answers asked,", labelled, 10.0),
        ("answers without a label", silent, None),
        ("labels alone, damage that costs 63 points or more,", grave, 10.0),
        ("labels alone, damage that costs less,", mild, None),
        ("labels of the owner alone", [one_.owned for one_ in alone], 10.0),
        ("labels of the owner alone, where members part", [one_.asked for one_ in alone], 10.0),
    ]
    return [
        Row(
            f"{task.name}: {kind} until a damaged member is below 5 %, {what}",
            value,
            "answers" if counts is silent else "labels",
            target,
            higher_is_better=False,
        )
        for kind, counts, target in kinds
        if counts
        for what, value in (
            ("median", float(np.median(counts))),
            (f"slowest of {len(counts)}", float(max(counts))),
        )
    ]


@dataclass(frozen=True)
class Course:
    """Weights through damage, sleep and heal."""

    weights: Reals
    right: npt.NDArray[np.bool_]
    damaged_at: int
    healed_at: int
    at_once: bool
    back_after: int


def course(task: Task, seed: int, name: str) -> Course:
    """Damage a member where integrity sees it, heal it, and follow the weights."""
    with task.opened(SEEING) as models:
        committee = she.SelfHealingEnsemble(models, seed=seed)
        source = committee.feedback_source("operator", KEY)
        stream = Stream(task, seed)
        weights, right = [], []

        def step() -> she.EnsemblePrediction:
            x, label = stream.next()
            answer = one(committee.infer(x))
            right.append(answer.label == label)
            committee.feedback(label, id=answer.id, source=source)
            weights.append(list(committee.weights.values()))
            return answer

        for _ in range(60):
            step()
        before = committee.weights[name]
        damage(models[name], seed)
        models[name].weights.scrub()
        place = list(task.files).index(name)
        at_once = step().weights[place] == 0.0
        for _ in range(59):
            step()
        models[name].heal = "all"
        models[name].weights.scrub()
        healed = len(weights)
        back = 0
        for n in range(80):
            step()
            if not back and committee.weights[name] >= 0.8 * before:
                back = n + 1
        return Course(np.array(weights), np.array(right), 60, healed, at_once, back or 999)


@dataclass(frozen=True)
class Recorded:
    """What each member answers to each sample, calibrated: shape (samples, members, classes)."""

    clean: npt.NDArray[np.float32]
    damaged: list[tuple[int, npt.NDArray[np.float32]]]
    """With the place of the member that is damaged; those of the first seed come first."""


def record(task: Task, seeds: int) -> Recorded:
    """Ask every member about every sample, with each of them damaged in turn, by each seed."""

    def asked(committee: she.SelfHealingEnsemble) -> npt.NDArray[np.float32]:
        rows = []
        for n in range(len(task.inputs)):
            answer = one(committee.infer(task.inputs[n : n + 1]))
            kept = committee.kept(answer.id)
            assert kept is not None
            rows.append(kept)
        return np.stack(rows)

    with task.opened(BLIND) as models:
        clean = asked(she.SelfHealingEnsemble(models))
    damaged = []
    for seed, (place, name) in itertools.product(range(seeds), enumerate(task.files)):
        with task.opened(BLIND) as models:
            damage(models[name], seed)
            damaged.append((place, asked(she.SelfHealingEnsemble(models))))
    return Recorded(clean, damaged)


def losses_of(answers: npt.NDArray[np.float32], labels: Labels) -> Reals:
    """Return the loss of each member: shape (samples, members); 1 where it gave no number."""
    c = 1.0 / (np.e - 1.0)
    told = np.take_along_axis(answers, labels[:, None, None], axis=2)[..., 0].astype(np.float64)
    found = np.clip(np.log((1.0 + c) / (told + c)), 0.0, 1.0)
    return np.where(np.isfinite(found), found, 1.0)


def follow(
    answers: npt.NDArray[np.float32], labels: Labels, *, owned: bool = False
) -> tuple[Reals, float]:
    """Let weights follow labels that may be false, as those of any source but the owner.

    Return the weights before each label, and what they have lost in all.
    """
    share = _core.FixedShare(answers.shape[1], rates=RATES)
    weights = np.empty(answers.shape[:2])
    lost = 0.0
    for n, losses in enumerate(losses_of(answers, labels)):
        weights[n] = share.weights
        lost -= float(np.log(weights[n] @ np.exp(-losses)))
        (share.update if owned else share.hear)(losses)
    return weights, lost


def accuracy_rows(task: Task, recorded: Recorded) -> list[Row]:
    """Return accuracies while one member is damaged, over all of them, with labels after each.

    The committee is the library's, once with labels and once without; of labels alone its core's
    weights are replayed.
    """
    found: dict[str, list[float]] = {}
    names = list(task.files)
    for k, damaged in recorded.damaged[: len(names)]:
        stream = Stream(task, k)
        order = stream.order[: len(task.labels)]
        answers, labels = np.nan_to_num(damaged[order]), task.labels[order]
        for way, labelled in (("committee", True), ("committee without labels", False)):
            with task.opened(BLIND) as models:
                damage(models[names[k]], 0)
                committee = she.SelfHealingEnsemble(models, seed=k)
                right_ones = list(live(task, committee, k, len(labels), labelled=labelled))[1:]
            found.setdefault(way, []).append(float(np.mean(right_ones)))
        named = answers.argmax(axis=2)
        votes = np.stack([np.eye(answers.shape[2])[named[:, i]] for i in range(named.shape[1])], 1)
        by_weight = {
            owned: (follow(damaged[order], labels, owned=owned)[0][:, :, None] * answers).sum(1)
            for owned in (False, True)
        }
        ways = {
            "labels alone": by_weight[False].argmax(axis=1),
            "labels of the owner alone": by_weight[True].argmax(axis=1),
            "equal weights": answers.mean(axis=1).argmax(axis=1),
            "majority vote": votes.sum(axis=1).argmax(axis=1),
        }
        for way, answered in ways.items():
            found.setdefault(way, []).append(float(np.mean(answered == labels)))
        right = np.mean(named == labels[:, None], axis=0)
        found.setdefault("best single member", []).append(float(right.max()))
        found.setdefault("damaged member", []).append(float(right[k]))
    best = float(np.mean(found["best single member"]))
    return [
        Row(
            f"{task.name}: accuracy with a damaged member, {way}",
            round(100 * float(np.mean(values)), 2),
            "%",
            round(100 * best, 2) if way == "committee" else None,
            higher_is_better=True,
        )
        for way, values in found.items()
    ]


def regret_rows(task: Task, recorded: Recorded, rounds: int) -> list[Row]:
    """Return regrets over streams in which the member that is damaged changes."""
    rows = []
    rng = np.random.default_rng(FAMILY + 2)
    members = len(task.files)
    for switches in (0, 3, 15):
        pieces: list[npt.NDArray[np.float32]] = []
        labels: list[Labels] = []
        for s in range(switches + 1):
            chosen = rng.integers(0, len(task.labels), rounds // (switches + 1))
            pieces.append(recorded.damaged[s % members][1][chosen])
            labels.append(task.labels[chosen])
        told = np.concatenate(pieces), np.concatenate(labels)
        losses = losses_of(*told)
        share = _core.FixedShare(members, rates=RATES, floor=0.0)
        for row in losses:
            share.update(row)
        ends = np.cumsum([0, *(len(piece) for piece in pieces)])
        path = sum(float(losses[a:b].sum(axis=0).min()) for a, b in itertools.pairwise(ends))
        static = float(losses.sum(axis=0).min())
        what = f"{task.name}: regret over {len(losses)} labels, {switches} changes,"
        bound = share.bound(len(losses), switches)
        rows += [
            Row(
                f"{what} against the best sequence",
                round(share.mixture_loss - path, 2),
                "nats",
                round(bound, 2),
                higher_is_better=False,
            ),
            Row(
                f"{what} against the best member",
                round(share.mixture_loss - static, 2),
                "nats",
                round(share.bound(len(losses), 0), 2),
                higher_is_better=False,
            ),
            Row(
                f"{what} against the best sequence, of labels that are not the owner's",
                round(follow(*told)[1] - path, 2),
                "nats",
                None,
                higher_is_better=False,
            ),
        ]
    return rows


def poison_rows(task: Task, rounds: int) -> list[Row]:
    """Return the most that a weight moves where a source flips a fifth of its labels."""
    classes = int(task.labels.max()) + 1
    rows = []
    for kind, owner, target in (
        ("at random", None, 10.0),
        ("where members part", None, 10.0),
        ("of labels where members part alone", None, 10.0),
        ("where members part, of the owner's", "labeller", None),
    ):
        policy = she.Policy(heal="observe", source_labels_per_hour=100_000, owner=owner)
        with task.opened(BLIND) as models:
            pair = [she.SelfHealingEnsemble(models, policy=policy, seed=0) for _ in range(2)]
            sources = [one_.feedback_source("labeller", KEY) for one_ in pair]
            stream, rng = Stream(task, 3), np.random.default_rng(FAMILY + 4)
            owed = 0.0
            gaps = [0.0]
            for _ in range(rounds):
                x, label = stream.next()
                answers = [one(committee.infer(x)) for committee in pair]
                if kind.endswith("alone") and not answers[0].parted:
                    continue
                owed += 0.2
                flips = rng.random() < 0.2
                said = int((label + rng.integers(1, classes)) % classes)
                if kind != "at random":
                    others = [
                        a.label for a in answers[0].answers if a is not None and a.label != label
                    ]
                    flips = owed >= 1.0 and bool(others)
                    said = int(others[0]) if others and others[0] is not None else said
                owed -= 1.0 if flips else 0.0
                for committee, source, answer, told in zip(
                    pair, sources, answers, (label, said if flips else label), strict=True
                ):
                    committee.feedback(told, id=answer.id, source=source)
                weights = [np.array(list(committee.weights.values())) for committee in pair]
                gaps.append(float(np.abs(weights[0] - weights[1]).max()))
            rows.append(
                Row(
                    f"{task.name}: most that a weight moves, 20 % flipped {kind}",
                    round(100 * max(gaps), 1),
                    "points",
                    target,
                    higher_is_better=False,
                )
            )
    return rows


class Timed:
    """A member's `infer` that adds up what it takes."""

    def __init__(self, infer: Callable[[Any], Any]) -> None:
        self.infer = infer
        self.seconds = 0.0

    def __call__(self, x: Any) -> Any:
        """Answer."""
        start = time.perf_counter()
        found = self.infer(x)
        self.seconds += time.perf_counter() - start
        return found


def overhead_rows(task: Task, rounds: int) -> list[Row]:
    """Return what combining takes beside its members' inferences, timed inside the same answers.

    What an answer takes less what its members' calls take, against the same of members that are
    asked alone: in the difference of two whole answers a member's own noise is larger than that.
    Each way follows each other as often: what the one before has left in the caches counts.
    """
    quiet = she.Policy(rebuild_after_seconds=None, known_answers_every=None)
    with task.opened(quiet) as models:
        asked = [Timed(model.infer) for model in models.values()]
        for model, timed in zip(models.values(), asked, strict=True):
            setattr(model, "infer", timed)  # noqa: B010 — a method, for this object alone
        committee = she.SelfHealingEnsemble(models)
        inputs = [np.ascontiguousarray(task.inputs[n : n + 1]) for n in range(100)]

        def alone(x: npt.NDArray[np.float32]) -> None:
            for infer in asked:
                infer(x)

        ways = [alone, committee.infer, committee.predict]
        beside = np.empty((len(ways), rounds, len(inputs)))
        members = np.empty((rounds, len(inputs)))
        clock = time.perf_counter
        for turn, (n, x) in itertools.product(range(rounds), enumerate(inputs)):
            for k in range(len(ways)):
                which = (turn + (k if turn % 2 else -k)) % len(ways)
                for timed in asked:
                    timed.seconds = 0.0
                start = clock()
                ways[which](x)
                took = clock() - start
                inside = sum(timed.seconds for timed in asked)
                beside[which, turn, n] = 1e6 * (took - inside)
                members[turn, n] = 1e6 * inside
        price = committee.health.inferences_per_answer
    best = np.median(beside.min(axis=1), axis=1)  # of each input, as other figures of time are
    usual = np.median(beside, axis=(1, 2))
    members_took = f"beside the members' {np.median(members):.0f} us"
    return [
        *(
            Row(
                f"{task.name}: combining by `{name}`, {members_took}, {what}",
                round(float(took[k] - took[0]), 2),
                "us",
                target,
                higher_is_better=False,
            )
            for k, name in ((1, "infer"), (2, "predict"))
            for what, took, target in (("best of each input", best, 2.0), ("median", usual, 2.0))
        ),
        Row(f"{task.name}: inferences an answer", price, "", None, higher_is_better=False),
    ]


def plot(task: Task, followed: Course, path: Path) -> None:
    """Draw the weights over time."""
    import matplotlib  # noqa: PLC0415 — for the plot alone

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for n, name in enumerate(task.files):
        axes.plot(100 * followed.weights[:, n], label=name, linewidth=2)
    for at, what in (
        (followed.damaged_at, "damaged, and seen:\nit sleeps"),
        (followed.healed_at, "healed, and proven:\nit wakes at the floor"),
    ):
        axes.axvline(at, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(what, (at + 1, 105), fontsize=9, color="0.25")
    axes.set(
        xlabel="labels", ylabel="weight (%)", ylim=(-2, 118), xlim=(0, len(followed.weights) - 1)
    )
    axes.set_title(f"A committee of {task.name}: weights through damage, sleep and heal")
    figure.legend(loc="outside right center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def rows_of(task: Task, arguments: argparse.Namespace) -> list[Row]:
    """Measure one task."""
    quick = arguments.quick
    seeds = 1 if quick else 4
    names = list(task.files)
    courses = [course(task, seed, names[seed % len(names)]) for seed in range(1 if quick else 6)]
    if arguments.plot is not None and task.name == "digits":
        plot(task, courses[0], arguments.plot)
    recorded = record(task, seeds)
    rows = [
        *damage_rows(task, recorded, seeds),
        Row(
            f"{task.name}: asleep before the next answer where integrity sees it",
            100.0 * float(np.mean([one_.at_once for one_ in courses])),
            "%",
            100.0,
            higher_is_better=True,
        ),
        Row(
            f"{task.name}: labels after a heal until 80 % of its share, the slowest",
            float(max(one_.back_after for one_ in courses)),
            "labels",
            20.0,
            higher_is_better=False,
        ),
        *accuracy_rows(task, recorded),
        *regret_rows(task, recorded, 400 if quick else 2400),
        *poison_rows(task, 60 if quick else 600),
    ]
    return rows


def main() -> None:
    """Run it."""
    options = parser(__doc__)
    options.add_argument("--plot", type=Path, metavar="PATH", help="draw weights over time here")
    options.add_argument(
        "--overhead", action="store_true", help="measure what combining takes, and nothing else"
    )
    arguments = options.parse_args()
    tasks = [task for task in (digits(), keywords()) if task is not None]
    if arguments.overhead:
        rounds = 5 if arguments.quick else 30
        rows = [row for task in tasks for row in overhead_rows(task, rounds)]
    else:
        rows = [row for task in tasks for row in rows_of(task, arguments)]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
