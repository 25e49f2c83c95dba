"""What docs/store.md tells operators, done: back up while it serves, and replace a device."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.store.serving import KEY, Open
from tests.support import Array, answers, infer_one, internals, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import main
from selfheal_edge.model import parts_of

DIGITS = load_digits()
X: Array = DIGITS.heldout_inputs[:20, np.newaxis]


@pytest.fixture
def opened(open_model: Open, digits_baseline: she.Baseline, hurried: None) -> Open:
    del hurried
    return partial(open_model, digits_model_path(), digits_baseline)


def copied(path: Path, to: Path, *, log: bool = True) -> Path:
    to.mkdir()
    for name in ("store", "store-wal") if log else ("store",):
        shutil.copyfile(path.with_name(name), to / name)
    (to / "key").write_bytes(KEY)
    return to / "store"


def verify(path: Path, told: str) -> int:
    key = path.with_name("key")
    return main(["journal", "verify", str(path), "--key", str(key), "--expect", told])


def test_a_replacement_goes_on_where_the_device_was_cut_off(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of file and log, taken while it serves, is what a cut of the power leaves."""
    path = tmp_path / "store"
    model = opened(store=path)
    model.predict(DIGITS.heldout_inputs)
    image = internals(model).images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    image.guard.write(region.offset, bytes(64))
    generation = parts_of(model).loop.repairs.adopt()
    expected, given = answers(model, X), infer_one(model, X[0]).id
    deadline = time.monotonic() + 120
    while (state := model.health.store) is None or state.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told = f"{state.seq}:{state.head}"
    whole, torn = copied(path, tmp_path / "whole"), copied(path, tmp_path / "torn", log=False)
    assert verify(whole, told) == 0
    assert verify(torn, told) == 1  # of before: nothing but what was told shows it
    assert "an older one" in capsys.readouterr().err
    model.close()

    replacement = opened(store=whole)
    assert replacement.weights.active == generation
    assert same(answers(replacement, X), expected)
    assert infer_one(replacement, X[0]).id > given
    (begun,) = (event for event in replacement.events if event.kind == "opened")
    assert "ended without close" in begun.evidence[0]


def test_a_wrong_key_is_made_good(opened: Open, tmp_path: Path) -> None:
    path = copied_from_a_kill(opened, tmp_path)
    other = opened(store=path, key=b"another key of it")
    assert other.weights.generations == (0,)
    other.close()
    aside = path.with_name("store.refused")
    log = path.with_name("store.refused-wal")
    aside.replace(path)
    if log.exists():
        log.replace(path.with_name("store-wal"))
    assert opened(store=path).weights.generations == (0, 1)


def copied_from_a_kill(opened: Open, folder: Path) -> Path:
    model = opened(store=folder / "store")
    model.snapshot()
    path = copied(folder / "store", folder / "copy")
    model.close()
    return path
