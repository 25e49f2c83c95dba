"""A process that takes labels in is killed at any moment: what was promised of them is there."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from tests import warm
from tests.store.serving import KEY

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.learning.sources import FeedbackSource

SOURCE_KEY = b"the operator's own key, 32 bytes"
POLICY = "she.Policy(keep_inputs=3600.0, source_labels_per_hour=400)"
SERVE = """
import json, sys
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.learning.sources import FeedbackSource
path, baseline = sys.argv[1:]
base = she.Baseline.load(baseline)
signer = FeedbackSource("operator", SOURCE_KEY, model=base.model_sha256)
model = she.SelfHealingModel(digits_model_path(), base, store=path, key=KEY, policy=POLICY)
model.feedback_source("operator", SOURCE_KEY)
x = load_digits().heldout_inputs
n = 0
while True:
    found = model.infer(x[n % 700 : n % 700 + 8])
    n += 8
    signed = [signer.sign(int(id), int(k)) for id, k in zip(found.ids, found.labels)]
    for one in signed:
        model.feedback(one)
    model.feedback((int(found.labels[0]) + 5) % 10, id=int(found.ids[0]), source="kiosk")
    model.wanted_labels(4)
    model._keeper.keep_labels()
    model._keeper.store.commit()
    print(json.dumps([signed[-1].to_dict(), len(model.trusted_pool)]), flush=True)
"""


def serve_until_killed(path: Path, baseline: Path, seconds: float) -> list[str]:
    """Return the lines that were promised before the kill."""
    text = SERVE.replace("SOURCE_KEY", repr(SOURCE_KEY)).replace("=KEY", f"={KEY!r}")
    text = text.replace("=POLICY", f"={POLICY}")
    with warm.start(text, path, baseline) as process:
        first = process.stdout.readline()
        assert first, process.errors()
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
    return [first, *rest.splitlines(keepends=True)]


@pytest.mark.slow
def test_what_was_committed_of_labels_survives_kills(
    tmp_path: Path, digits: DigitsData, digits_baseline: she.Baseline
) -> None:
    made = digits_baseline
    made.save(tmp_path / "baseline")
    rng = random.Random(0)
    taken = 0
    for _ in range(5):
        lines = serve_until_killed(tmp_path / "store", tmp_path / "baseline", 0.3 * rng.random())
        whole = [line for line in lines if line.endswith("\n")]
        last, pool = json.loads(whole[-1])
        policy = she.Policy(keep_inputs=3600.0, source_labels_per_hour=400)
        with she.SelfHealingModel(
            digits_model_path(), made, store=tmp_path / "store", key=KEY, policy=policy
        ) as model:
            told = [e.outcome or "" for e in model.events if e.kind == "store"]
            assert not any("begins anew" in outcome for outcome in told)
            model.feedback_source("operator", SOURCE_KEY)
            # What was used up is used up.
            again = model.feedback(type(_signer(made).sign(1, 1)).from_dict(last))
            assert isinstance(again, FeedbackReceipt)
            assert again.outcome is Outcome.REFUSED
            trusted, suspects = model.trusted_pool.list(), model.quarantine.list()
            assert min(pool, 1) <= len(trusted) <= model.trusted_pool.capacity
            digests = {one.digest for one in trusted}
            assert not digests & {one.sample.digest for one in suspects}
            for one in trusted:
                assert one.input is not None
                assert any(np.array_equal(one.input, x) for x in digits.heldout_inputs)
            taken += len(whole) * 8
    # And the quota was not filled up by any of the starts.
    with she.SelfHealingModel(
        digits_model_path(),
        made,
        store=tmp_path / "store",
        key=KEY,
        policy=she.Policy(keep_inputs=3600.0, source_labels_per_hour=400),
    ) as model:
        operator = model.feedback_source("operator", SOURCE_KEY)
        found = model.infer(digits.heldout_inputs[:250])
        assert isinstance(found, she.Predictions)
        receipts = model.feedback(correct=True, id=found.ids, source=operator)
        assert isinstance(receipts, tuple)
        left = sum(bool(one) for one in receipts)
        waited = 60  # seconds' worth of tokens that may have come meanwhile
        assert left <= max(0, 400 - taken) + 400 * waited // 3600 + 1


def _signer(baseline: she.Baseline) -> FeedbackSource:
    return FeedbackSource("operator", SOURCE_KEY, model=baseline.model_sha256)
