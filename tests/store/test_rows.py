"""Every row that a life leaves: the same after a restart, and noticed where it is another."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from tests.store.serving import KEY, Open
from tests.store.test_update import changed_file
from tests.support import Array

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.hashing import sha256
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database

DIGITS = load_digits()
CLEAN = DIGITS.heldout_inputs
TRUTH = DIGITS.heldout_labels.astype(np.int64)
DIM = np.clip((CLEAN.astype(int) + 128) * 0.45 - 68, -128, 127).astype(np.int8)
RULES: dict[str, Any] = {"owner": "operator", "keep_inputs": 3600.0, "probation_restarts": 9}

Items: TypeAlias = dict[tuple[str, str], tuple[bytes, bytes]]


KEPT = [
    ("state", name)
    for name in (
        "labels.pool",
        "labels.quarantine",
        "labels.questions",
        "labels.facts",
        "labels.confirmed",
        "regimes",
        "conditions",
        "repair budget",
        "loop",
        "monitor.base",
    )
] + [("baseline", "serves"), ("model", "latest"), ("ids", "next"), ("generation", "0")]

TRIAL = {("candidate", "is")} | {
    ("state", f"trial.monitor{part}") for part in ("", ".base", ".origin")
}


def items(path: Path) -> Items:
    """Return value and tag of each row of a store that is closed."""
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT area, name, value, tag FROM item").fetchall()
    return {(area, name): (value, tag) for area, name, value, tag in found}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, digits_baseline: she.Baseline) -> Path:
    """Return a store after labels, suspects, a repair on probation; beside it the one of before."""
    path = tmp_path_factory.mktemp("lived") / "store"
    rng = np.random.default_rng(0)

    def open_one() -> she.SelfHealingModel:
        policy = she.Policy(**RULES)
        return she.SelfHealingModel(
            digits_model_path(), digits_baseline, store=path, key=KEY, policy=policy, seed=1
        )

    def run(model: she.SelfHealingModel, inputs: Array, count: int) -> None:
        for at in rng.integers(0, len(inputs), count):
            model.infer(inputs[at][None])

    with open_one() as model:
        operator = model.feedback_source("operator", KEY)
        found = model.infer(CLEAN[:40])
        assert isinstance(found, she.Predictions)
        model.feedback(TRUTH[:20], id=found.ids[:20], source=operator)
        for n in range(20, 40):
            model.feedback(int(TRUTH[n] + 5) % 10, id=int(found.ids[n]), source="somebody")
        model.quarantine.confirm(model.quarantine.list()[0].id)
        run(model, CLEAN, 100)
        model.wanted_labels(8)
    shutil.copyfile(path, path.with_name("before"))
    with open_one() as model:
        run(model, CLEAN, 100)
        for _ in range(4):
            run(model, DIM, 100)
            model.wanted_labels(8)
        assert model.health.on_probation
        assert model.quarantine.list()
        assert model.trusted_pool.list()
    return path


@pytest.fixture(scope="module")
def on_trial(
    tmp_path_factory: pytest.TempPathFactory,
    digits_baseline: she.Baseline,
    plain_calibration: None,  # noqa: ARG001
) -> Path:
    """Return a store whose model has another file on trial; beside it the one before the trial."""
    path = tmp_path_factory.mktemp("on trial") / "store"
    data = changed_file(digits_baseline, 1)
    baseline = she.calibrate(data, DIGITS.calibration_inputs)
    baseline.save(path.with_name("baseline"))
    path.with_name("model").write_bytes(data)
    policy = she.Policy(**RULES)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, store=path, key=KEY, policy=policy
    ) as model:
        model.infer(CLEAN[:200])
        model.snapshot()
    shutil.copyfile(path, path.with_name("before"))
    for name, first in (("earlier", 0), ("store", 100)):
        with she.SelfHealingModel(data, baseline, store=path, key=KEY, policy=policy) as model:
            source = model.feedback_source("operator", KEY)
            found = model.infer(CLEAN[first : first + 100])
            assert isinstance(found, she.Predictions)
            model.feedback(TRUTH[first : first + 20], id=found.ids[:20], source=source)
        if name != "store":
            shutil.copyfile(path, path.with_name(name))
    return path


def test_a_trial_leaves_the_rows_of_the_file_that_may_come_back(on_trial: Path) -> None:
    before, now = items(on_trial.with_name("before")), items(on_trial)
    assert now.keys() - before.keys() == TRIAL
    assert not before.keys() - now.keys()
    changed = {place for place in before if before[place] != now[place]}
    assert changed <= {("ids", "next"), ("store", "budget"), ("state", "loop")}


def test_a_restart_leaves_the_rows_of_a_trial(
    on_trial: Path, tmp_path: Path, open_model: Open
) -> None:
    path = tmp_path / "store"
    shutil.copyfile(on_trial, path)
    before = items(path)
    data, baseline = on_trial.with_name("model"), she.Baseline.load(on_trial.with_name("baseline"))
    model = open_model(data, baseline, policy=she.Policy(**RULES))
    assert parts_of(model).session.model.sha256 == sha256(data.read_bytes()).hex()
    assert parts_of(model).monitor.count == 200
    model.close()
    after = items(path)
    assert after.keys() == before.keys()
    changed = {place for place in before if before[place] != after[place]}
    assert changed <= {("ids", "next"), ("store", "budget")}


@pytest.mark.slow
def test_a_life_leaves_them(lived: Path) -> None:
    places = items(lived).keys()
    assert set(KEPT) <= places
    assert any(area == "generation" and name != "0" for area, name in places)


def test_a_restart_changes_none_but_what_counts_it(
    lived: Path, tmp_path: Path, open_model: Open, digits_baseline: she.Baseline
) -> None:
    path = tmp_path / "store"
    shutil.copyfile(lived, path)
    before = items(path)
    open_model(digits_model_path(), digits_baseline, policy=she.Policy(**RULES), seed=1).close()
    after = items(path)
    assert after.keys() == before.keys()
    changed = {place for place in before if before[place] != after[place]}
    assert changed <= {("ids", "next"), ("store", "budget"), ("state", "loop")}
    knew, knows = (json.loads(rows["state", "loop"][0]) for rows in (before, after))
    assert [repair.pop("restarts") for repair in knew["learned"]] == [0]
    assert [repair.pop("restarts") for repair in knows["learned"]] == [1]
    # It grows with the seconds that the model was open.
    assert knows.pop("allowance") == pytest.approx(knew.pop("allowance"), rel=1e-3)
    assert knew == knows


@pytest.mark.parametrize("how", ["changed", "deleted", "replayed", "moved"])
@pytest.mark.parametrize(("life", "replayed"), [("lived", "before"), ("on_trial", "earlier")])
def test_each_row_is_noticed(
    request: pytest.FixtureRequest, tmp_path: Path, life: str, replayed: str, how: str
) -> None:
    """Under the right key, where it was changed, deleted, replaced by an older one, or renamed."""
    lived: Path = request.getfixturevalue(life)
    older, now, path = items(lived.with_name(replayed)), items(lived), tmp_path / "store"
    told = set()
    for place, (value, tag) in now.items():
        if how == "replayed" and older.get(place, (value, tag)) == (value, tag):
            continue
        shutil.copyfile(lived, path)
        given: tuple[bytes | str, ...]
        with closing(sqlite3.connect(path)) as file:
            match how:
                case "changed":
                    changed = bytes([value[0] ^ 1]) + value[1:]
                    what, given = "UPDATE item SET value = ?", (changed,)
                case "deleted":
                    what, given = "DELETE FROM item", ()
                case "replayed":
                    what, given = "UPDATE item SET value = ?, tag = ?", older[place]
                case _:
                    what, given = "UPDATE item SET name = name || ?", ("2",)
            where = f"{what} WHERE area = ? AND name = ?"
            assert file.execute(where, (*given, *place)).rowcount == 1
            file.commit()
        with pytest.raises((IntegrityError, StoreError)):
            Database.create_or_open(path, KEY, max_bytes=1 << 24).close()
        told.add(place)
    if how != "replayed":
        assert told == now.keys()
    elif life == "lived":
        assert len(told) >= 8
    else:
        assert ("state", "trial.monitor.base") in told


@pytest.mark.parametrize("name", ["labels.quarantine", "repair budget", "labels.pool"])
def test_a_store_without_a_row_is_put_aside_and_golden_serves(
    lived: Path, tmp_path: Path, open_model: Open, digits_baseline: she.Baseline, name: str
) -> None:
    path = tmp_path / "store"
    shutil.copyfile(lived, path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("DELETE FROM item WHERE name = ?", (name,)).rowcount == 1
        file.commit()
    model = open_model(digits_model_path(), digits_baseline, policy=she.Policy(**RULES), seed=1)
    store = model.health.store
    assert store is not None
    assert store.refused is not None
    assert model.health.generation == 0
    assert any("put aside" in str(e.outcome) for e in model.events)
