"""A new model file over an old one's store: on trial, and the old one until it has held."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.serving import KEY, Open
from tests.support import IMPORT_PATH, Array, answers, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.hashing import sha256
from selfheal_edge.loop.learned_repair import LearnedRepair
from selfheal_edge.loop.remembered import Remembered
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database
from selfheal_edge.store.journal import Event, EventKind
from selfheal_edge.tflite.session import Session

DIGITS = load_digits()
X: Array = DIGITS.heldout_inputs[:20, np.newaxis]
OLD = Path(digits_model_path()).read_bytes()
POLICY = she.Policy(trial_predictions=600)


@pytest.fixture(scope="module")
def old() -> she.Baseline:
    return she.calibrate(OLD, DIGITS.calibration_inputs)


def changed_file(old: she.Baseline, mask: int) -> bytes:
    """Return the digits' model with other weights in its last layer."""
    with she.SelfHealingModel(OLD, old) as model:
        regions = parts_of(model).weights.images["source"].regions.values()
        region = max((r for r in regions if r.kind == "weights"), key=lambda r: r.offset)
    data = np.frombuffer(OLD, np.uint8).copy()
    data[region.offset : region.offset + 32] ^= np.uint8(mask)
    return bytes(data.tobytes())


@pytest.fixture(scope="module")
def new(old: she.Baseline) -> tuple[bytes, she.Baseline]:
    """A model file that is as good, with its baseline."""
    data = changed_file(old, 1)
    return data, she.calibrate(data, DIGITS.calibration_inputs)


@pytest.fixture(scope="module")
def bad(old: she.Baseline) -> tuple[bytes, she.Baseline]:
    """A model file whose baseline is of another world: what comes is a drift to it."""
    data = changed_file(old, 2)
    rng = np.random.default_rng(1)
    noise = rng.integers(-128, 128, DIGITS.calibration_inputs.shape).astype(np.int8)
    return data, she.calibrate(data, noise)


@pytest.fixture
def opened(open_model: Open) -> Open:
    return partial(open_model, policy=POLICY)


def serves(model: she.SelfHealingModel) -> str:
    return parts_of(model).session.model.sha256


def kinds(model: she.SelfHealingModel) -> list[EventKind]:
    return [event.kind for event in model.events]


def run(model: she.SelfHealingModel, predictions: int) -> None:
    inputs = DIGITS.heldout_inputs
    while predictions > 0:
        model.predict(inputs[: min(predictions, len(inputs))])
        predictions -= len(inputs)


def golden_answers(opened: Open, old: she.Baseline) -> list[Array]:
    """Have a store of the old file; return what it answers."""
    with opened(OLD, old) as model:
        return answers(model, X)


@contextlib.contextmanager
def cannot_open(file: bytes, why: Exception) -> Iterator[None]:
    """Let a model file not be opened meanwhile."""
    real = Session.__init__

    def refusing(self: Session, model: Any, *rest: Any, **named: Any) -> None:
        real(self, model, *rest, **named)
        if self.model.sha256 == sha256(file).hex():
            self.close()
            raise why

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "__init__", refusing)
        yield


def until_rejected(model: she.SelfHealingModel) -> int:
    """Serve until the file on trial is rejected, and the one before serves; return how many."""
    latest = time.monotonic() + 120  # the worker's turn comes late where others need the machine
    for n in itertools.takewhile(lambda _: time.monotonic() < latest, itertools.count(1)):
        model.predict(DIGITS.heldout_inputs[n % 500][np.newaxis])
        if EventKind.REJECTED in kinds(model) and model.wait_healed(60):
            return n
    raise AssertionError("it was not rejected")


@pytest.mark.slow
def test_a_new_file_that_holds_takes_the_place(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline], tmp_path: Path
) -> None:
    model = opened(OLD, old)
    run(model, 500)
    before = model.health.predictions
    model.snapshot()
    model.close()
    trial = opened(*new)
    assert serves(trial) == sha256(new[0]).hex()
    assert EventKind.TRIAL in kinds(trial)
    expected = answers(trial, X)
    run(trial, 700)
    assert EventKind.CONFIRMED in kinds(trial)
    trial.close()
    confirmed = opened(*new)
    assert EventKind.TRIAL not in kinds(confirmed)
    assert same(answers(confirmed, X), expected)
    assert confirmed.health.predictions > before + 700
    assert parts_of(confirmed).monitor.count > 600
    assert confirmed.weights.generations == (0,)
    confirmed.close()
    with Database.read_copy(tmp_path / "store", KEY) as database:
        database.verify()
        events = [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]
    assert [e.seq for e in events] == list(range(len(events)))
    assert {EventKind.SNAPSHOT, EventKind.TRIAL, EventKind.CONFIRMED} <= {e.kind for e in events}
    # The old file is the new one now, and has to prove itself again.
    assert EventKind.TRIAL in kinds(opened(OLD, old))


def test_update_stores_the_file_and_the_next_start_tries_it(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline]
) -> None:
    model = opened(OLD, old)
    golden = answers(model, X)
    model.update(*new)
    assert same(answers(model, X), golden)
    model.close()
    trial = opened(OLD, old)  # whatever file is given
    assert serves(trial) == sha256(new[0]).hex()
    run(trial, 300)
    trial.close()  # well: its trial goes on
    rest = opened(*new)
    assert serves(rest) == sha256(new[0]).hex()
    run(rest, 700)
    assert EventKind.CONFIRMED in kinds(rest)


@pytest.mark.slow
def test_a_file_that_does_not_hold_is_not_tried_again(
    opened: Open, old: she.Baseline, bad: tuple[bytes, she.Baseline]
) -> None:
    model = opened(OLD, old)
    golden = answers(model, X)
    run(model, 500)
    model.close()
    count = parts_of(model).monitor.count
    trial = opened(*bad)
    assert serves(trial) == sha256(bad[0]).hex()
    until_rejected(trial)
    assert EventKind.CONFIRMED not in kinds(trial)
    failures = trial.health.failures
    assert [(f.what, f.name) for f in failures] == [("update", sha256(bad[0]).hex())]
    trial.close()
    for _ in range(2):
        back = opened(*bad)
        assert serves(back) == sha256(OLD).hex()
        assert same(answers(back, X), golden)
        assert back.health.state == "healthy"
        assert back.health.failures == failures
        assert any("did not hold" in str(e.outcome) for e in back.events)
        assert parts_of(back).monitor.count >= count
        with pytest.raises(IntegrityError, match="rejected here"):
            back.update(*bad)
        back.close()
    assert serves(opened(OLD, old)) == sha256(OLD).hex()


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_the_old_file_serves_at_once_where_the_new_one_is_rejected(
    open_model: Open, old: she.Baseline, bad: tuple[bytes, she.Baseline], mode: Any
) -> None:
    open_ = partial(open_model, policy=replace(POLICY, mode=mode))
    model = open_(OLD, old)
    golden = answers(model, X)
    run(model, 500)
    kept = model.snapshot()
    model.close()
    count, before = parts_of(model).monitor.count, model.health.predictions
    model = open_(*bad)
    weights, first = model.weights, model.infer(X[0])
    assert isinstance(first, she.Prediction)
    served = until_rejected(model) + 1
    assert EventKind.REVERTED in kinds(model)
    assert serves(model) == sha256(OLD).hex() == model.baseline.model_sha256
    assert model.health.state == "healthy"
    assert model.health.predictions == before + served
    assert same(answers(model, X), golden)
    answer = model.infer(X[0])
    assert isinstance(answer, she.Prediction)
    assert answer.trusted
    assert answer.id > first.id
    assert parts_of(model).monitor.count >= count  # the charts of before go on
    assert weights is model.weights
    assert weights.generations == (0, kept)
    assert not weights.scrub()
    assert [(f.what, f.name) for f in model.health.failures] == [("update", sha256(bad[0]).hex())]
    with pytest.raises(IntegrityError, match="rejected here"):
        model.update(*bad)
    generation = model.snapshot()
    run(model, 700)  # what serves now is on no trial
    assert EventKind.CONFIRMED not in kinds(model)
    model.close()
    again = open_(OLD, old)
    assert again.weights.generations == (0, kept, generation)
    assert again.health.state == "healthy"
    assert [f.name for f in again.health.failures] == [sha256(bad[0]).hex()]


def test_threads_that_predict_while_the_old_file_comes_back(
    opened: Open, old: she.Baseline, bad: tuple[bytes, she.Baseline]
) -> None:
    golden = golden_answers(opened, old)
    model = opened(*bad)
    stop = threading.Event()
    failed: list[BaseException] = []

    def serve(inputs: Array) -> None:
        try:
            while not stop.is_set():
                model.predict(inputs)
                model.infer(inputs)
        except BaseException as error:  # told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=serve, args=(x,)) for x in (X, X[0], X.astype("f4"))]
    for thread in threads:
        thread.start()
    try:
        until_rejected(model)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert serves(model) == sha256(OLD).hex()
    assert same(answers(model, X), golden)


def test_where_the_old_file_cannot_be_built_it_is_said(
    opened: Open, old: she.Baseline, bad: tuple[bytes, she.Baseline]
) -> None:
    golden = golden_answers(opened, old)
    model = opened(*bad)
    with cannot_open(OLD, MemoryError("no room for a second model")):
        until_rejected(model)
    assert serves(model) == sha256(bad[0]).hex()
    assert model.health.state == "untrusted"
    told = next(str(e.outcome) for e in model.events if "cannot serve now" in str(e.outcome))
    assert "no room for a second model" in told
    assert "from the next start on" in told
    run(model, 100)
    model.close()
    back = opened(*bad)
    assert same(answers(back, X), golden)
    assert back.health.state == "healthy"


def test_what_the_old_file_has_learned_outlives_a_trial(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline], tmp_path: Path
) -> None:
    model = opened(OLD, old)
    generation = model.snapshot()
    diagnosis = Diagnosis(she.Cause.COVARIATE_DRIFT, 0.9)
    repair = LearnedRepair("repaired 1", diagnosis, (generation,), 0.01, confirmed=generation)
    real = Remembered.of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Remembered, "of", lambda *given: replace(real(*given), learned=(repair,)))
        model.close()
    trial = opened(*new)
    assert EventKind.TRIAL in kinds(trial)
    trial.close()
    with Database.read_copy(tmp_path / "store", KEY) as database:
        row = database.get("state", "loop")
    assert row is not None
    known = Remembered.from_bytes(row)
    assert known.learned == (repair,)
    assert not known.leaving


def test_a_file_that_does_not_even_open_is_taken_back_at_once(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline]
) -> None:
    golden = golden_answers(opened, old)
    with cannot_open(new[0], RuntimeError("the runtime has no such operator")):
        back = opened(*new)
    assert serves(back) == sha256(OLD).hex()
    assert same(answers(back, X), golden)
    assert [(f.what, f.name) for f in back.health.failures] == [("update", sha256(new[0]).hex())]
    assert "no such operator" in back.health.failures[0].reason
    back.close()
    assert serves(opened(*new)) == sha256(OLD).hex()


KILLED = """
import os, signal, sys
import selfheal_edge as she
model = she.SelfHealingModel(open(sys.argv[2], "rb").read(), she.Baseline.load(sys.argv[3]),
                             store=sys.argv[1], key=b"a key of the test")
assert any(event.kind == "trial" for event in model.events), model.events
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_after_a_kill_in_the_trial_the_old_file_serves(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline], tmp_path: Path
) -> None:
    model = opened(OLD, old)
    golden = answers(model, X)
    generation = model.snapshot()
    model.close()
    (tmp_path / "new").write_bytes(new[0])
    new[1].save(tmp_path / "baseline")
    paths = [str(tmp_path / name) for name in ("store", "new", "baseline")]
    for times in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *paths],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": IMPORT_PATH},
            timeout=300,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        back = opened(*new)
        assert serves(back) == sha256(OLD).hex()
        assert same(answers(back, X), golden)
        assert back.weights.generations == (0, generation)
        found = [(f.what, f.name, f.times) for f in back.health.failures]
        assert found == [("update", sha256(new[0]).hex(), times)]
        back.close()
    assert serves(opened(*new)) == sha256(OLD).hex()  # no third trial


def test_what_update_refuses(
    opened: Open, old: she.Baseline, new: tuple[bytes, she.Baseline], tmp_path: Path
) -> None:
    with she.SelfHealingModel(OLD, old) as alone, pytest.raises(StoreError, match="store"):
        alone.update(*new)
    old.save(tmp_path / "old", KEY)
    signed = she.Baseline.load(tmp_path / "old", KEY)
    policy = she.Policy(require_signed=True)
    with pytest.raises(IntegrityError, match="signed"):
        opened(OLD, old, policy=policy)
    with pytest.raises(ValueError, match="key: expected one for the store"):
        she.SelfHealingModel(OLD, signed, policy=policy, store=tmp_path / "anyone's")
    assert not (tmp_path / "anyone's").exists()
    model = opened(OLD, signed, policy=policy)
    with pytest.raises(IntegrityError, match="signed"):
        model.update(*new)
    with pytest.raises(she.errors.BaselineMismatchError):
        model.update(new[0], signed)
    model.close()
    wrong = opened(OLD, old)
    rows = new[1].known_answers.outputs
    other = tuple((row[0] ^ np.int8(1),) for row in rows)
    lie = new[1].with_known_answers(
        type(new[1].known_answers)(new[1].known_answers.inputs, other), new[1].fingerprint
    )
    with pytest.raises(IntegrityError, match="answers of its calibration"):
        wrong.update(new[0], lie)
    assert [(f.what, f.times) for f in wrong.health.failures] == [("update", 1)]
    assert serves(wrong) == sha256(OLD).hex()
