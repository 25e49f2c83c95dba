"""What a committee's store keeps, through restarts and kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.made_members import DigitsParts
from tests.support import IMPORT_PATH

import selfheal_edge as she
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.store.journal import EventKind

Open = Callable[..., dict[str, she.SelfHealingModel]]
KEY = b"k" * 16


def teach(committee: she.SelfHealingEnsemble, parts: DigitsParts, wanted: int) -> int:
    """Tell labels until members have parted so often; return the last answer's id."""
    source = committee.feedback_source("operator", KEY)
    seen = 0
    for n in range(500):
        answer = committee.infer(parts.heldout[n : n + 1])
        assert isinstance(answer, she.EnsemblePrediction)
        if answer.parted:
            committee.feedback(int(parts.heldout_labels[n]), id=answer.id, source=source)
            seen += 1
        if seen == wanted:
            return answer.id
    raise AssertionError("members never part")


def test_weights_go_on_after_a_restart(opened: Open, parts: DigitsParts, tmp_path: Path) -> None:
    models = opened("cnn", "mlp")
    path = tmp_path / "committee.store"
    with she.SelfHealingEnsemble(models, store=path, key=KEY) as committee:
        last = teach(committee, parts, 4)
        weights = committee.weights
        assert weights["cnn"] != pytest.approx(0.5)
    with she.SelfHealingEnsemble(models, store=path, key=KEY) as committee:
        assert committee.weights == weights
        assert committee.health.labels == 4
        receipt = committee.feedback(3, id=last)
        assert isinstance(receipt, FeedbackReceipt)
        assert receipt.outcome is Outcome.LATE
        answer = committee.infer(parts.heldout[:1])
        assert isinstance(answer, she.EnsemblePrediction)
        assert answer.id > last
        with pytest.raises(she.errors.FeedbackSourceError):
            committee.feedback_source("operator", b"another key, 16+")


@pytest.mark.parametrize("how", ["deleted", "replayed"])
def test_rows_of_weights_are_noticed(
    opened: Open, parts: DigitsParts, tmp_path: Path, how: str
) -> None:
    models = opened("cnn", "mlp")
    path, rows = tmp_path / "committee.store", []
    for wanted in (2, 4):
        with she.SelfHealingEnsemble(models, store=path, key=KEY) as committee:
            teach(committee, parts, wanted)
        with closing(sqlite3.connect(path)) as file:
            rows.append(file.execute("SELECT id, value, tag FROM item").fetchall())
    older, newer = rows
    changed = [one for one in older if one not in newer]
    assert len(changed) >= 2
    with closing(sqlite3.connect(path)) as file:
        for number, value, tag in changed:
            if how == "deleted":
                file.execute("DELETE FROM item WHERE id = ?", (number,))
            else:
                file.execute(
                    "UPDATE item SET value = ?, tag = ? WHERE id = ?", (value, tag, number)
                )
        file.commit()
    with she.SelfHealingEnsemble(models, store=path, key=KEY) as committee:
        assert committee.weights == {"cnn": 0.5, "mlp": 0.5}
        told = [event.outcome for event in committee.events if event.kind is EventKind.STORE]
        assert any("put aside" in str(text) for text in told)


def test_another_file_in_a_members_place_is_on_trial(
    opened: Open, parts: DigitsParts, tmp_path: Path
) -> None:
    models = opened()
    path = tmp_path / "committee.store"
    with she.SelfHealingEnsemble({"a": models["cnn"], "b": models["mlp"]}, store=path) as committee:
        teach(committee, parts, 4)
        before = committee.weights["b"]
    changed = {"a": models["cnn"], "b": models["twin"]}
    with she.SelfHealingEnsemble(changed, store=path) as committee:
        assert committee.weights["b"] <= before + 1e-9
        assert committee.health.members["b"].most == pytest.approx(before)
    others = {"a": models["cnn"], "c": models["twin"]}
    with she.SelfHealingEnsemble(others, store=path) as committee:
        assert committee.weights == {"a": 0.5, "c": 0.5}
        told = [event.outcome for event in committee.events if event.kind is EventKind.STORE]
        assert any("c is new" in str(text) for text in told)
        assert any("are gone: 'b'" in str(text) for text in told)


def test_a_member_whose_file_is_on_trial_weighs_no_more_than_before(
    opened: Open,
    files: dict[str, bytes],
    baselines: dict[str, she.Baseline],
    parts: DigitsParts,
    tmp_path: Path,
) -> None:
    path = tmp_path / "member.store"
    she.SelfHealingModel(files["mlp"], baselines["mlp"], store=path).close()
    policy = she.Policy(trial_predictions=60)
    with she.SelfHealingModel(files["cnn"], baselines["cnn"], store=path, policy=policy) as new:
        committee = she.SelfHealingEnsemble({"new": new, **opened("mlp")})
        source = committee.feedback_source("operator", KEY)
        assert committee.health.members["new"].reason == "a repair or file is on trial"
        for n in range(120):
            answer = committee.infer(parts.heldout[n : n + 1])
            assert isinstance(answer, she.EnsemblePrediction)
            committee.feedback(int(parts.heldout_labels[n]), id=answer.id, source=source)
            if n < 50:
                assert answer.weights[0] <= 0.5 + 1e-9
        assert committee.health.members["new"].most == 1.0
        assert committee.weights["new"] > 0.5


def test_a_damaged_store_is_put_aside(opened: Open, tmp_path: Path) -> None:
    models = opened("cnn", "mlp")
    path = tmp_path / "committee.store"
    path.write_bytes(b"this is no store" * 100)
    with she.SelfHealingEnsemble(models, store=path) as committee:
        assert sum(committee.weights.values()) == pytest.approx(1.0)
        assert any(event.kind is EventKind.STORE for event in committee.events)


KILLED = """
import sys
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

path = sys.argv[1]
digits = load_digits()
baseline = she.Baseline.load(sys.argv[2])
one = she.SelfHealingModel(digits_model_path(), baseline, kernels="builtin")
other = she.SelfHealingModel(digits_model_path(), baseline)
committee = she.SelfHealingEnsemble({"one": one, "other": other}, store=path)
she.redteam.inject(other).flip_bits(400, seed=0)
other.heal = "observe"
other.weights.scrub()
committee.infer(digits.heldout_inputs[:1])
assert committee.weights["other"] == 0.0
committee._kept.store.commit()
print("asleep", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_kept(
    tmp_path: Path, files: dict[str, bytes], baselines: dict[str, she.Baseline], parts: DigitsParts
) -> None:
    path, saved = tmp_path / "committee.store", tmp_path / "cnn.baseline"
    baselines["cnn"].save(saved)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(saved)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "asleep\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with (
        she.SelfHealingModel(files["cnn"], baselines["cnn"], kernels="builtin") as one,
        she.SelfHealingModel(files["cnn"], baselines["cnn"]) as other,
        she.SelfHealingEnsemble({"one": one, "other": other}, store=path) as committee,
    ):
        # The member is sound again: it wakes at the floor, as the process before would have had it.
        assert committee.weights["other"] == pytest.approx(0.01)
        kinds = [event.kind for event in committee.events]
        assert EventKind.AWAKE in kinds
        assert np.isfinite(committee.predict(parts.heldout[:1])).all()


def test_members_that_change_order_come_and_go_keep_what_they_have(
    opened: Open, parts: DigitsParts, tmp_path: Path
) -> None:
    models, store = opened("cnn", "twin", "mlp"), tmp_path / "committee.store"

    def begin(*names: str) -> she.SelfHealingEnsemble:
        return she.SelfHealingEnsemble({name: models[name] for name in names}, store=store, key=KEY)

    with begin("cnn", "twin") as committee:
        lab = committee.feedback_source("lab", KEY)
        answers = committee.infer(parts.heldout[:30])
        assert isinstance(answers, she.EnsemblePredictions)
        ids = answers.ids
        committee.feedback(parts.heldout_labels[:30], id=ids, source=lab)
        before = committee.weights
        digest = lab.model
    assert before["cnn"] != before["twin"]
    with begin("twin", "cnn") as committee:
        assert committee.weights == pytest.approx(before)
    with begin("mlp", "cnn", "twin") as committee:
        found = committee.weights
        assert found["mlp"] == pytest.approx(1 / 3)
        assert found["cnn"] / found["twin"] == pytest.approx(before["cnn"] / before["twin"])
        assert committee.feedback_source("lab", KEY).model == digest  # its signatures still hold
        assert any("mlp is new" in str(event.outcome) for event in committee.events)
    with begin("twin", "mlp") as committee:
        assert set(committee.weights) == {"twin", "mlp"}
        assert any("are gone: 'cnn'" in str(event.outcome) for event in committee.events)
