"""What a restart finds of labels: counters and quotas always, inputs only where they may lie."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import RUNTIMES, in_memory

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path, load_digits
from selfheal_edge.errors import FeedbackSourceError
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.learning.kept_rows import POOL
from selfheal_edge.learning.sources import FeedbackSource
from selfheal_edge.store import store as store_module
from selfheal_edge.store.database import Database

KEY = b"the operator's own key, 32 bytes"
STORE_KEY = b"a key of the store, 32 bytes...."
DIGITS = load_digits()


@pytest.fixture(scope="module")
def digits() -> DigitsData:
    return DIGITS


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="selfheal-labels-", dir=in_memory()) as made:
        yield Path(made)


def opened(folder: Path, baseline: she.Baseline, **policy: Any) -> she.SelfHealingModel:
    return she.SelfHealingModel(
        digits_model_path(),
        baseline,
        store=folder / "store",
        key=STORE_KEY,
        runtime=RUNTIMES[0],
        policy=she.Policy(**policy),
        seed=5,
    )


def tell(model: she.SelfHealingModel, *label: Any, **more: Any) -> FeedbackReceipt:
    told = model.feedback(*label, **more)
    assert isinstance(told, FeedbackReceipt)
    return told


def ids_of(model: she.SelfHealingModel, count: int) -> list[int]:
    found = model.infer(DIGITS.heldout_inputs[:count])
    assert isinstance(found, she.Predictions)
    ids: list[int] = found.ids.tolist()
    return ids


def test_a_restart_resets_no_quota_no_counter_and_no_name(
    folder: Path, baseline: she.Baseline
) -> None:
    policy = {"source_labels_per_hour": 6, "unauthenticated_labels_per_hour": 2}
    with opened(folder, baseline, **policy) as model:
        operator = model.feedback_source("operator", KEY)
        ids = ids_of(model, 20)
        signer = FeedbackSource("operator", KEY, model=baseline.model_sha256)
        signed = [signer.sign(id, correct=True) for id in ids[:8]]
        assert all(tell(model, one) for one in signed[:4])
        assert tell(model, correct=True, id=ids[9], source="kiosk")
    with opened(folder, baseline, **policy) as model:
        told = tell(model, signed[4])
        assert "was not given since the start" in told.text
        with pytest.raises(FeedbackSourceError, match="with another key"):
            model.feedback_source("operator", b"another key, also of 32 bytes...")
        operator = model.feedback_source("operator", KEY)
        assert tell(model, signed[2]).outcome is Outcome.REFUSED
        assert tell(model, signed[4]).outcome is Outcome.LATE
        ids = ids_of(model, 20)
        told_now = [tell(model, correct=True, id=id, source=operator) for id in ids[:4]]
        assert [bool(one) for one in told_now] == [True, True, False, False]
        bare = [bool(tell(model, correct=True, id=id, source="a")) for id in ids[4:7]]
        assert bare == [True, False, False]


def test_inputs_lie_in_a_store_only_where_the_policy_keeps_them(
    folder: Path, baseline: she.Baseline
) -> None:
    for keeps, name in ((3600.0, "kept"), (False, "none")):
        place = folder / name
        place.mkdir()
        with opened(place, baseline, keep_inputs=keeps) as model:
            operator = model.feedback_source("operator", KEY)
            ids = ids_of(model, 60)
            y = DIGITS.heldout_labels[:60].astype(np.int64)
            assert model.feedback(y[:30], id=ids[:30], source=operator)
            questions = model.wanted_labels(8)
            assert len(questions) == 8
            pool = {one.id: one for one in model.trusted_pool.list()}
            assert len(pool) == 30
        with opened(place, baseline, keep_inputs=keeps) as model:
            operator = model.feedback_source("operator", KEY)
            again = {one.id: one for one in model.trusted_pool.list()}
            if keeps:
                assert again.keys() == pool.keys()
                for id, sample in again.items():
                    np.testing.assert_array_equal(sample.input, pool[id].input)
                    np.testing.assert_array_equal(sample.embedding, pool[id].embedding)
                    assert (sample.label, sample.source) == (pool[id].label, "operator")
            else:
                assert not again
            # An answer may come after a restart, also where nothing is left of the input.
            waiting = {one.id: one for one in model.wanted_labels(8)}
            assert waiting.keys() == {one.id for one in questions}
            for one in questions:
                assert (waiting[one.id].input is None) is not bool(keeps)
                assert waiting[one.id].asked == one.asked
                told = tell(model, correct=True, id=one.id, source=operator)
                assert told
                assert told.kept == ("pool" if keeps else None)


def test_what_was_quarantined_stays_out_after_a_restart(
    folder: Path, baseline: she.Baseline
) -> None:
    with opened(folder, baseline, keep_inputs=3600.0) as model:
        ids = ids_of(model, 10)
        far = (DIGITS.heldout_labels[:10].astype(np.int64) + 5) % 10
        told = [tell(model, int(far[n]), id=ids[n], source="somebody") for n in range(10)]
        suspects = {one.id: one for one in told if one.kept == "quarantine"}
        assert len(suspects) >= 3
        first, second, *_ = suspects
        model.quarantine.confirm(first)
        operator = model.feedback_source("operator", KEY)
        assert "trusted pool" in model.quarantine.release(
            second, source=operator, label=int(DIGITS.heldout_labels[ids.index(second)])
        )
    with opened(folder, baseline, keep_inputs=3600.0) as model:
        listed = {one.id: one for one in model.quarantine.list()}
        assert listed.keys() == suspects.keys() - {second}
        assert listed[first].is_confirmed
        assert listed[first].reason == "label not believed"
        (trusted,) = (one for one in model.trusted_pool.list() if one.id == second)
        assert trusted.source == "operator"
        # The same input, met again and labelled right, is not learned from.
        operator = model.feedback_source("operator", KEY)
        again = ids_of(model, 10)
        row = ids.index(first)
        told_again = tell(model, int(DIGITS.heldout_labels[row]), id=again[row], source=operator)
        assert told_again
        assert told_again.kept == "quarantine"


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def slices(blob: bytes) -> list[bytes]:
    return [blob[at : at + 40] for at in range(len(blob) // 2, len(blob) - 40, 97)]


def on_disk(folder: Path, parts: list[bytes]) -> int:
    data = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    return sum(part in data for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["too old", "too old while off", "no longer kept", "forgotten"])
def test_an_input_that_goes_is_in_no_byte_of_the_store(
    folder: Path, baseline: she.Baseline, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """File and log: what was overwritten lies in a log until that is emptied."""
    for name in ("_BATCH_SECONDS", "_STATE_SECONDS"):
        monkeypatch.setattr(store_module, name, 0.02)
    keeps, now = 3600.0, [1000.0]

    def begun(keep_inputs: Any) -> she.SelfHealingModel:
        return she.SelfHealingModel(
            digits_model_path(),
            baseline,
            store=folder / "store",
            key=STORE_KEY,
            runtime=RUNTIMES[0],
            policy=she.Policy(keep_inputs=keep_inputs),
            clock=lambda: now[0],
            seed=5,
        )

    def kept() -> bytes:
        with Database.read_copy(folder / "store", STORE_KEY) as database:
            return database.get("state", POOL) or b""

    model = begun(keeps)
    operator = model.feedback_source("operator", KEY)
    ids = ids_of(model, 30)
    assert model.feedback(DIGITS.heldout_labels[:30].astype(np.int64), id=ids, source=operator)
    now[0] += 60.0
    wait_until(lambda: len(kept()) > 1000)
    parts = slices(kept())
    assert on_disk(folder, parts) > len(parts) / 2
    if how == "too old":
        now[0] += keeps + 1.0
    elif how == "forgotten":
        assert len(model.revoke("operator").samples) == 30
        now[0] += keeps / 10
    else:
        model.close()
        parts = slices(kept())
        assert on_disk(folder, parts) > len(parts) / 2
        wall = time.time() + (2 * keeps if how == "too old while off" else 0.0)
        monkeypatch.setattr(time, "time", lambda: wall)
        model = begun(keeps if how == "too old while off" else False)
    with model:
        wait_until(lambda: len(kept()) < 1000)
        wait_until(lambda: not on_disk(folder, parts))
