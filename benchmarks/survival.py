"""What the loop survives: the numbers of attack campaigns beside their targets.

    python benchmarks/survival.py --json docs/benchmarks/survival.json

Digits, and keyword spotting where its data is. `--parts` runs some of these:

- ``campaign``: every attack alone and the combined campaign, as `selfheal-edge redteam` runs them;
- ``owned``: an attacker owns all inputs for a simulated day, or half of them, and then one real
  drift in the rest and one real corruption come as well;
- ``tails``: an attacker owns all inputs for an hour, at a prediction a second: what single calls of
  `predict` take of their thread's CPU time;
- ``quiet``: thirty device-days with known days and nights, and nothing else; with ``--long`` also
  2.6 million predictions;
- ``drifts``: drifts of many kinds, in the same configuration, two days each.

Adaptive attackers are printed before those that adapt to nothing. With `--records FOLDER` each
attack of the campaign is kept there as it is over, and the same command goes on where it ended.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness import SHARED, Row, parser, report
from selfheal_edge import SelfHealingModel
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.health import Prediction, Predictions
from selfheal_edge.model import parts_of
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup
from selfheal_edge.redteam.survival.attacks.random_flips import RANDOM_FLIPS
from selfheal_edge.redteam.survival.attacks.real_drift import REAL_DRIFT
from selfheal_edge.redteam.survival.attacks.registry import attacks_for
from selfheal_edge.redteam.survival.campaign import Campaign, campaign_of
from selfheal_edge.redteam.survival.conditions import changed_enough
from selfheal_edge.redteam.survival.contestant import NAMES, Answers
from selfheal_edge.redteam.survival.contestants.defended import Defended
from selfheal_edge.redteam.survival.life import Course, Lived, live, setup_of
from selfheal_edge.redteam.survival.plan import Phase, Plan
from selfheal_edge.redteam.survival.record import COMBINED, Record
from selfheal_edge.redteam.survival.run import Arena, hushed, read_lines, run_campaign, summary_of
from selfheal_edge.redteam.survival.world import HOURS, Life, World

PARTS: Final = ("campaign", "owned", "tails", "quiet", "drifts")
TASKS: Final = ("digits", "KWS")
OURS: Final = NAMES[0]
LONG: Final = 86_400
"""Predictions a day of the long quiet life and of `tails`: one a second."""
CAP: Final = 20_000_000
WATCHED: Final = 12
"""Hours at the end of a drift in which what came back is counted."""


def worlds(life: Life) -> Iterator[tuple[str, World]]:
    """Yield the tasks; each is closed before the next is made."""
    digits = load_digits()
    x = np.concatenate([digits.calibration_inputs, digits.heldout_inputs])
    y = np.concatenate([digits.calibration_labels, digits.heldout_labels])
    world = World(digits_model_path(), x, y, life)
    yield "digits", world
    world.close()
    data = SHARED / "data" / "speech_commands_mfcc_int8.npz"
    if data.is_file():
        with np.load(data, allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
        world = World(SHARED / "models" / "kws_dscnn_int8.tflite", x, y, life)
        yield "KWS", world
        world.close()


class Timed(Defended):
    """The guarded model, served by `predict`, with the CPU seconds of its thread for each."""

    def _open(self) -> SelfHealingModel:
        model: Any = super()._open()
        loop = parts_of(model).loop
        first, serving = loop.labels._first, loop.serving  # noqa: SLF001 — as a red team may
        predict = model.predict
        self.seconds: list[float] = getattr(self, "seconds", [])

        def timed(x: Raw) -> Prediction:
            began = time.thread_time()
            output = predict(x)
            self.seconds.append(time.thread_time() - began)
            number, trusted = first + serving.hot.number, bool(serving.trusted.value)
            return Prediction(number, output, None, None, trusted, None, False, ())

        model.infer = timed
        opened: SelfHealingModel = model
        return opened


class Batched(Defended):
    """The guarded model, served an hour's inputs at a time."""

    def serve(self, raw: Raw) -> Answers:
        """Answer n inputs, one after the other, in one call."""
        rows = raw.reshape(len(raw), *self.world.golden.input.shape[1:])
        found = self.model.infer(rows)
        assert isinstance(found, Predictions)
        self.clock.seconds += len(raw) * self.world.life.seconds_per_prediction
        self.predictions += len(raw)
        self._keep_regularly()
        outputs = np.asarray(found.output).reshape(len(raw), *self._output.spec.shape)
        return Answers(outputs, self._output.labels(outputs), found.trusted, found.ids)


def lived(arena: Arena, plan: Plan) -> tuple[Lived, Timed]:
    """Have the guarded model alone live a plan."""
    with tempfile.TemporaryDirectory() as folder:
        device = Timed(arena.world, arena.baseline, Path(folder))
        try:
            return live(arena.world, plan, [device]), device
        finally:
            device.close()


def course_of(found: Lived) -> Course:
    """Return what the guarded model went through."""
    return found.courses[OURS]


# ---- The campaign


def kept_records(
    arena: Arena, campaign: Campaign, jobs: int, kept: Path | None
) -> Iterator[Record]:
    """Yield the record of each attack: what the file has, then the others, each kept there."""
    if kept is None:
        with hushed():
            yield from run_campaign(arena, campaign, jobs=jobs)
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()
    done = read_lines(str(kept), arena.identity)
    yield from done
    with hushed(), kept.open("a", encoding="utf-8") as file:
        for record in run_campaign(arena, campaign, done=done, jobs=jobs):
            print(f"\n{json.dumps(record)}", file=file, flush=True)  # the last line may be cut off
            yield record


def campaign_rows(
    name: str, arena: Arena, *, quick: bool, jobs: int = 2, kept: Path | None = None
) -> list[Row]:
    """Return the figures of every attack and of the combined campaign."""
    world = arena.world
    what = "random bit flips" if quick else "standard"
    campaign = campaign_of(what, world.domain.kind, world.kind)
    records = list(kept_records(arena, campaign, 1 if quick else jobs, kept))
    summary = summary_of(records, campaign, arena.limits, arena.identity)["summary"]
    order = ("adaptive", "design", "black_box")
    records.sort(key=lambda r: (order.index(r["knowledge"]), r["attack"]))
    rows = []
    for record in records:
        if record["attack"] == COMBINED:
            rows += combined_rows(name, record)
    for record in records:
        rows.append(attack_row(name, record))
    confirmed = sum(r["heals"][OURS]["confirmed"] for r in records)
    rows += [
        Row(f"{name}: attacks that leave it worse for good", sum(
            "still lost" in text and r["verdict"] == "broken" for r in records for text in r["why"]
        ), "attacks", 0.0, False),
        Row(f"{name}: attacks that break it", len(summary["verdicts"]["broken"]), "attacks", 0.0,
            False),
        Row(f"{name}: confirmed repairs", confirmed, "repairs", None, True),
        Row(f"{name}: of these harmful by more than a point",
            100 * summary["harmful"] / max(confirmed, 1), "%", 1.0, False),
        Row(f"{name}: area under accuracy, of the undamaged model's", 100 * summary["score"], "%",
            None, True),
    ]  # fmt: skip
    for what, found in summary["times"].items():
        for unit in ("predictions", "labels", "seconds"):
            if unit in found:
                rows += [
                    Row(f"{name}: from onset to {what}, median", found[unit]["median"], unit,
                        found[unit]["limit"], False),
                    Row(f"{name}: from onset to {what}, p95", found[unit]["p95"], unit,
                        4 * found[unit]["limit"], False),
                ]  # fmt: skip
    return rows


def attack_row(name: str, record: Record) -> Row:
    """Return what one attack takes from the guarded model while it lasts."""
    loss = record["loss"]["undamaged" if record["repairable"] else "same_inputs"]["points"]
    than = "" if record["repairable"] else ", against golden on the same inputs"
    attacker = record["knowledge"].replace("_", " ")
    return Row(f"{name}, {attacker}: {record['attack']}, {record['verdict']}: lost{than}",
               0.0 if loss is None else loss, "points", 2.0, False)  # fmt: skip


def combined_rows(name: str, record: Record) -> list[Row]:
    """Return the combined campaign's figures."""
    accuracy = record["repairable_accuracy"]
    lost = 100 * (accuracy["undamaged"] - accuracy[OURS])
    rows = [Row(f"{name}, combined: lost where damage is repairable", lost, "points", 2.0, False)]
    mean = {n: _area(record, n) for n in NAMES}
    for other in NAMES[1:]:
        rows.append(Row(f"{name}, combined: above the {other} contestant, mean",
                        100 * (mean[OURS] - mean[other]), "points", 0.0, True))  # fmt: skip
    below = 0
    for phase in record["phases"]:
        ends = round((phase["first_day"] - phase["window_day"] + phase["days"]) * HOURS)
        last = {n: np.mean(phase["over_time"][n][max(0, ends - 6) : ends]) for n in NAMES}
        best = max(last[n] for n in NAMES[1:])
        below += bool(last[OURS] < best - 0.005)
    rows.append(Row(f"{name}, combined: phases at whose end another is above it", below, "phases",
                    0.0, False))  # fmt: skip
    return rows


def _area(record: Record, name: str) -> float:
    return float(np.mean([v or 0.0 for v in record["over_time"][name]]))


# ---- Who owns the inputs


def senders(world: World) -> list[Attack]:
    """Return the attacks that send inputs."""
    return [
        attack
        for attack in attacks_for(world.domain.kind, world.kind)
        if type(attack.make(setup_of(world))).inputs is not Attacker.inputs
    ]


def tail_rows(name: str, arena: Arena, *, quick: bool) -> list[Row]:
    """Return how much longer calls of `predict` take in an hour of which an attacker owns all."""
    rows = []
    hour = 1.0 / HOURS
    for attack in senders(arena.world)[: 1 if quick else None]:
        plan = Plan(attack.name, 2 * hour, (Phase(attack, hour, hour, share=1.0),))
        found, device = lived(arena, plan)
        before, under = device.seconds[: found.per_hour], device.seconds[found.per_hour :]
        if not under:
            continue
        knowledge = attack.knowledge.replace("_", " ")
        title = f"{name}, an hour of {attack.name}, {knowledge}"
        for quantile in (0.9, 0.99):
            was, now = np.quantile(before, quantile), np.quantile(under, quantile)
            what = f"{title}: p{100 * quantile:.0f} of a prediction"
            rows.append(Row(what, 100 * (now / was - 1), "% more", 10.0, False))
    return rows


def owned_rows(name: str, arena: Arena, *, quick: bool) -> list[Row]:
    """Return what a day costs in which an attacker owns all inputs, or half of them."""
    world = arena.world
    attacks = senders(world)[: 1 if quick else None]
    rows = []
    shares, flash, slower = [], [], []
    drifts = corruptions = 0
    for attack in attacks:
        whole = Plan(attack.name, 2.0, (Phase(attack, 1.0, 1.0, share=1.0),))
        found, device = lived(arena, whole)
        costs = course_of(found).costs
        quiet = costs[HOURS - 1].cpu_seconds
        busy = costs[2 * HOURS - 1].cpu_seconds - quiet
        shares.append(100 * max(0.0, busy - quiet) / 86_400)
        flash.append(costs[2 * HOURS - 1].flash_bytes - costs[HOURS - 1].flash_bytes)
        day = HOURS * found.per_hour
        before, under = device.seconds[:day], device.seconds[day : 2 * day]
        if under:
            slower.append(100 * (np.quantile(under, 0.99) / np.quantile(before, 0.99) - 1))
        half = Plan(attack.name, 2.5, (
            Phase(attack, 0.5, 2.0, share=0.5),
            Phase(REAL_DRIFT, 1.0, 1.5),
            Phase(RANDOM_FLIPS, 1.75, 1 / HOURS),
        ))  # fmt: skip
        found, _ = lived(arena, half)
        told = course_of(found).told
        drifts += any(h >= HOURS and t.kind in ("probation", "confirmed") for h, t in told)
        corruptions += any(
            t.cause == Cause.WEIGHT_CORRUPTION.value and (t.outcome or "").startswith("healed")
            for _, t in told
        )
    count = len(attacks)
    rows += [
        Row(f"{name}, all inputs owned: attacks that send inputs", count, "attacks", None, True),
        Row(f"{name}, all inputs owned: CPU of healing, worst attack", max(shares), "% of a day",
            5.0, False),
        Row(f"{name}, all inputs owned: written to flash, worst attack", max(flash), "bytes", CAP,
            False),
        Row(f"{name}, all inputs owned: p99 of predict, median attack",
            float(np.median(slower)), "% more", 10.0, False),
        Row(f"{name}, all inputs owned: p99 of predict, worst attack", max(slower), "% more",
            10.0, False),
        Row(f"{name}, half of the inputs owned: the real drift gets a repair", 100 * drifts / count,
            "% of attacks", 100.0, True),
        Row(f"{name}, half of the inputs owned: the corruption heals", 100 * corruptions / count,
            "% of attacks", 100.0, True),
    ]  # fmt: skip
    return rows


# ---- Nothing happens, and something does


def quiet_rows(name: str, life: Life, days: float) -> list[Row]:
    """Return needless heals of a life in which nothing happens but day and night."""
    rows = []
    for each, world in worlds(life):
        if each != name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # A prediction a second is asked by the hour: millions of calls take their time.
            kind = Batched if life.predictions_per_day == LONG else Timed
            device = kind(world, world.calibrate(), Path(folder))
            try:
                found = live(world, Plan("quiet", days, ()), [device])
            finally:
                device.close()
        told = course_of(found).told
        needless = sum(
            t.kind in ("probation", "confirmed")
            or (t.kind == "repair" and (t.outcome or "").startswith("healed"))
            for _, t in told
        )
        named = sum(t.kind == "diagnosis" for _, t in told)
        trusted = sum(course_of(found).trusted) / device.predictions
        what = f"{name}, {days:g} quiet days, {device.predictions:,} predictions"
        rows += [
            Row(f"{what}: needless heals", needless, "heals", 1.0, False),
            Row(f"{what}: troubles named", named, "troubles", None, False),
            Row(f"{what}: answers trusted", 100 * trusted, "%", None, True),
        ]  # fmt: skip
    return rows


def drift_rows(name: str, arena: Arena, *, quick: bool) -> list[Row]:
    """Return how many drifts are healed, of every kind that there is."""
    world = arena.world
    names = [
        s.name
        for s in SCENARIOS
        if s.cause is Cause.COVARIATE_DRIFT and s.part == "measured" and s.pace == "sudden"
        and s.fits(world.domain)
    ]  # fmt: skip
    names = names[:1] if quick else names
    healed = served = lost = back = harmful = confirmed = 0.0
    for kind in names:
        attack = dataclasses.replace(REAL_DRIFT, name=kind, make=_drift(kind))
        plan = Plan(kind, 3.5, (Phase(attack, 0.5, 2.0),))
        found, _ = lived(arena, plan)
        course = course_of(found)
        last = slice(round(2.5 * HOURS) - WATCHED, round(2.5 * HOURS))
        gone = sum(found.undamaged[last]) - sum(course.golden_right[last])
        gained = sum(course.right[last]) - sum(course.golden_right[last])
        lost, back = lost + gone, back + gained
        healed += gained >= gone / 2
        served += any(t.kind in ("probation", "confirmed") for _, t in course.told)
        final = [j for j in course.judged if j.kind == "confirmed"]
        confirmed += len(final)
        harmful += sum(j.points < -1 for j in final)
    what = f"{name}, {len(names)} kinds of drift of two days"
    return [
        Row(f"{what}: healed, half of the loss is back", 100 * healed / len(names), "%", 95.0,
            True),
        Row(f"{what}: a repair serves", 100 * served / len(names), "%", None, True),
        Row(f"{what}: of the loss, back in the last 12 hours", 100 * back / max(lost, 1), "%", None,
            True),
        Row(f"{what}: confirmed repairs that cost more than a point", 100 * harmful /
            max(confirmed, 1), "%", 1.0, False),
    ]  # fmt: skip


def _drift(kind: str) -> Any:
    class Drift(Attacker):
        def __init__(self, setup: Setup) -> None:
            super().__init__(setup)
            self._change = changed_enough(setup, (kind,))

        def condition(self, raw: Raw, progress: float) -> Raw:
            return self._change(raw, min(1.0, progress / 0.125))

    return Drift


def main() -> None:
    """Print the figures."""
    options = parser(__doc__)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    options.add_argument("--long", action="store_true", help="2.6 million quiet predictions, too")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2, help="attacks that run at a time")
    options.add_argument("--records", type=Path, metavar="FOLDER", help="keep attacks, and go on")
    arguments = options.parse_args()
    parts: Sequence[str] = arguments.parts
    quick: bool = arguments.quick
    life = Life(480 if quick else 2016, seed=arguments.seed)
    rows: list[Row] = []
    for name, world in worlds(life):
        if name not in arguments.tasks:
            continue
        arena = Arena(world, world.calibrate())
        if "campaign" in parts:
            folder: Path | None = arguments.records
            kept = None if folder is None else folder / f"{name}.jsonl"
            rows += campaign_rows(name, arena, quick=quick, jobs=arguments.jobs, kept=kept)
        if "owned" in parts:
            rows += owned_rows(name, arena, quick=quick)
        if "drifts" in parts:
            rows += drift_rows(name, arena, quick=quick)
        if quick:
            break
    if "tails" in parts:
        for name, world in worlds(dataclasses.replace(life, predictions_per_day=LONG)):
            if name in arguments.tasks[: 1 if quick else None]:
                rows += tail_rows(name, Arena(world, world.calibrate()), quick=quick)
    if "quiet" in parts:
        for name in TASKS[:1] if quick else arguments.tasks:
            rows += quiet_rows(name, life, 1.0 if quick else 30.0)
            if arguments.long:
                rows += quiet_rows(name, dataclasses.replace(life, predictions_per_day=LONG), 30.0)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
