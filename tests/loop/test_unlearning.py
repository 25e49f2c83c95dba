"""What a source has taught is taken back: the model is as if it had never been heard."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support import RUNTIMES, Array, digits_baseline, infer_one, internals, kinds

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.revocation import Revocation
from selfheal_edge.loop import actions as do
from selfheal_edge.loop.decision import decide
from selfheal_edge.loop.incidents import Revoked
from selfheal_edge.loop.learned_repair import LearnedRepair
from selfheal_edge.loop.state import LoopState
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database
from selfheal_edge.store.store import Store
from selfheal_edge.trial.betting import Evidence, Tally

DIGITS = load_digits()
CLEAN: Array = DIGITS.heldout_inputs
TRUTH: npt.NDArray[np.int64] = DIGITS.heldout_labels.astype(np.int64)
_WIDE = CLEAN.astype(int)
_BESIDE = [np.roll(_WIDE, step, axis) for step in (1, -1) for axis in (1, 2)]
BLURRED: Array = ((_WIDE + sum(_BESIDE)) // 5).astype(np.int8)
"""Out of focus."""
KEYS = {name: f"{name}'s key, 32 bytes and more".encode() for name in ("operator", "mallory")}
STORE_KEY = b"a key of the test"


class Device:
    """A model that sees digits out of focus, an honest operator, and another one."""

    def __init__(self, store: Path | None = None, **rules: Any) -> None:
        self.model = she.SelfHealingModel(
            digits_model_path(),
            digits_baseline(),
            policy=she.Policy(**{"owner": "operator", "keep_inputs": 3600.0, **rules}),
            runtime=RUNTIMES[0],
            store=store,
            key=None if store is None else STORE_KEY,
            clock=lambda: 0.0,
            seed=1,
        )
        self.sources = {name: self.model.feedback_source(name, key) for name, key in KEYS.items()}
        self.order = np.random.default_rng(0).permutation(len(CLEAN))
        self.next = 0
        self.truth: dict[int, int] = {}

    def run(self, inputs: Array, count: int) -> float:
        right = 0
        for at in self.order.take(range(self.next, self.next + count), mode="wrap"):
            found = infer_one(self.model, inputs[at][None])
            assert found.id is not None
            self.truth[found.id] = int(TRUTH[at])
            right += found.label == TRUTH[at]
        self.next += count  # no input twice in 500: two labels of one are contested, and both go
        return right / count

    def say(self, name: str, ids: list[int], turned: int = 0) -> list[she.FeedbackReceipt]:
        source = self.sources[name]
        found = []
        for id in ids:
            receipt = self.model.feedback((self.truth[id] + turned) % 10, id=id, source=source)
            assert not isinstance(receipt, tuple)
            found.append(receipt)
        return found

    def answer(self, limit: int = 16) -> None:
        asked = [q.id for q in self.model.wanted_labels(limit) if q.id in self.truth]
        self.say("operator", asked)

    def learned_from_both(self, *, is_told: bool = True) -> None:
        """Have a repair serve that was learned from 48 honest labels, and 12 of another source.

        It is learned when enough inputs have come, whatever number of labels there is.
        """
        self.run(CLEAN, 100)
        self.run(BLURRED, 100)
        for _ in range(20):
            if self.state.probation is not None:
                break
            self.run(BLURRED, 32)
        assert self.state.probation is not None
        latest = list(self.truth)[-60:]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("selfheal_edge.loop.adaptation.ENOUGH_LABELS", 1 << 20)
            self.say("operator", latest[:48])
            if is_told:
                self.say("mallory", latest[48:], turned=1)
            first = self.state.probation.generation
            for _ in range(40):
                if self.generation != first:
                    break
                self.run(BLURRED, 16)
            assert self.generation != first

    def confirmed(self) -> None:
        for _ in range(20):
            if self.state.in_service is not None and self.state.in_service.is_confirmed:
                break
            self.answer()
            self.run(BLURRED, 32)
        assert self.state.in_service is not None
        assert self.state.in_service.is_confirmed

    @property
    def state(self) -> LoopState:
        return parts_of(self.model).loop.state

    @property
    def generation(self) -> int:
        return self.model.weights.active

    @property
    def lessons(self) -> dict[int, Lesson | None]:
        return parts_of(self.model).loop.repairs.lessons

    @property
    def words(self) -> dict[str, list[int]]:
        """Whose labels the pool holds."""
        found: dict[str, list[int]] = {}
        for sample in self.model.trusted_pool.list():
            found.setdefault(sample.source, []).append(sample.id)
        return found

    def bytes_of(self, generation: int) -> dict[str, bytes]:
        weights = internals(self.model)
        return {name: weights.sound_bytes(name, generation) for name in ("source", "input")}


@contextlib.contextmanager
def device(store: Path | None = None, **rules: Any) -> Iterator[Device]:
    found = Device(store, **rules)
    with found.model:
        yield found


@pytest.mark.slow
def test_what_is_revoked_was_never_there_bit_for_bit() -> None:
    """The same device that has never heard him is compared with."""
    with device() as never:
        never.learned_from_both(is_told=False)
        expected = never.bytes_of(never.generation)
        pool = never.words
    with device() as field:
        field.learned_from_both()
        served, words = field.generation, field.words
        assert words["mallory"]
        lesson = field.lessons[served]
        assert lesson is not None
        assert lesson.holds("mallory", ())
        poisoned = field.bytes_of(served)
        assert poisoned != expected
        found = field.model.revoke("mallory")
        assert found
        assert set(found.samples) == set(words["mallory"])
        assert found.taken_back == (served,)
        assert found.learned_again == (field.generation,)
        assert field.bytes_of(field.generation) == expected
        assert field.words == pool
        assert served not in field.model.weights.generations
        # It is unproven: flagged, and asked about.
        probation = field.state.probation
        assert probation is not None
        assert not probation.evidence.tallies
        assert not infer_one(field.model, BLURRED[:1]).trusted
        told = [e for e in field.model.events if e.kind in ("revoked", "reverted", "probation")]
        assert [e.kind for e in told[-3:]] == ["revoked", "reverted", "probation"]
        assert told[-3].details is not None
        assert told[-3].details["taken_back"] == [served]


@pytest.mark.slow
def test_predictions_are_revoked_alike() -> None:
    with device() as field:
        field.learned_from_both()
        served = field.lessons[field.generation]
        assert served is not None
        by_source = field.words["mallory"]
        found = field.model.revoke(id=by_source)
        assert set(found.samples) == set(by_source)
        lesson = field.lessons[field.generation]
        assert lesson is not None
        assert not np.isin(by_source, lesson.ids).any()
        assert not np.isin(by_source, lesson.window).any(), "their inputs are no material either"
        again = field.say("operator", by_source[:1])[0]
        assert not again
        assert "revoked" in again.text


def learned_again_without_restart() -> Any:
    """Return the bytes of what is learned once mallory's word is taken out."""
    with device() as field:
        field.learned_from_both()
        field.confirmed()
        field.run(CLEAN, 150)
        field.model.revoke("mallory")
        (repair,) = field.state.learned
        assert field.generation == 0, "normal operation goes on"
        return field.bytes_of(repair.generation)


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [True, False], ids=["inputs on disk", "no input on disk"])
def test_after_a_restart(tmp_path: Path, *, keeps: bool) -> None:
    """With inputs on disk a confirmed repair is learned again, to the same bits; else it goes."""
    rules: dict[str, Any] = {"keep_inputs": 3600.0 if keeps else False}
    expected = learned_again_without_restart() if keeps else None
    with device(tmp_path / "store", **rules) as field:
        field.learned_from_both()
        field.confirmed()
        field.run(CLEAN, 150)
        (repair,) = field.state.learned
    with device(tmp_path / "store", **rules) as field:
        assert field.state.learned == (repair,)
        found = field.model.revoke("mallory")
        assert found.taken_back == (repair.generation,)
        assert repair.generation not in field.model.weights.generations
        assert field.generation == 0
        if not keeps:
            assert not field.state.learned
            assert not parts_of(field.model).loop.conditions.names
            assert "inputs that it was learned from are not held" in str(
                field.model.events[-1].outcome
            )
            return
        (again,) = field.state.learned
        assert found.learned_again == (again.generation,)
        assert field.bytes_of(again.generation) == expected
        assert not again.is_confirmed
        assert field.model.health.state is she.HealthState.HEALTHY
        field.run(CLEAN, 50)
        field.run(BLURRED, 100)
        assert field.generation == again.generation, "the second night"
        assert not infer_one(field.model, BLURRED[:1]).trusted


def test_what_cannot_be_revoked_is_said(tmp_path: Path) -> None:
    with device(tmp_path / "store") as field:
        field.run(CLEAN, 300)
        first = min(field.truth)
        assert "no source 'nemo' is known" in str(field.model.revoke("nemo"))
        assert not field.model.revoke("nemo")
        long_ago = field.model.revoke(id=first)
        assert not long_ago
        assert "nothing that is held was learned from it" in long_ago.text
        assert "no prediction of this model has" in field.model.revoke(id=(1 << 63) - 1).text
        assert field.say("mallory", list(field.truth)[-3:])[0]
        assert len(field.model.revoke(field.sources["mallory"]).samples) == 3
        again = field.model.revoke("mallory")
        assert not again
        assert "was revoked before" in again.text
        for arguments in ((), ("mallory", 1)):
            with pytest.raises(TypeError, match="source, id: expected exactly one"):
                field.model.revoke(*arguments)
        with pytest.raises(TypeError, match="id: expected a prediction's id, got str"):
            field.model.revoke(id="mallory")
        with pytest.raises(ValueError, match=r"id: expected 1 to 1024 at once, got 0"):
            field.model.revoke(id=[])
    with device(tmp_path / "store") as field:
        field.run(CLEAN, 8)
        refused = field.say("mallory", list(field.truth)[-1:])[0]
        assert not refused, "also after a restart"
        assert "mallory was revoked" in refused.text
        # Another key is another source.
        KEYS_ANEW = b"another key of the same name, 32 bytes"
        field.sources["mallory"] = field.model.feedback_source("mallory", KEYS_ANEW)
        assert field.say("mallory", list(field.truth)[-1:])[0]


@pytest.mark.slow
def test_saved_states_of_it_go_as_well() -> None:
    """A snapshot of a repair, and what the user rolled back to, is the same weights."""
    with device() as field:
        field.learned_from_both()
        served = field.generation
        saved = field.model.snapshot()
        found = field.model.revoke("mallory")
        assert set(found.taken_back) == {served, saved}
        assert saved not in field.model.weights.generations
    with device() as field:
        field.learned_from_both()
        saved = field.model.snapshot()
        field.model.rollback(saved)
        assert field.state.home == saved
        field.model.revoke("mallory")
        assert field.state.home == 0
        assert field.generation == 0
        assert saved not in field.model.weights.generations


def test_a_trial_is_without_them() -> None:
    """A repair that was not learned from the source, and was confirmed by its word."""
    told = Evidence()
    for source in ("operator", "mallory", "mallory"):
        for _ in range(20):
            told = told.with_label(source, new_right=True, old_right=False)
    error = 0.005
    assert told.verdict(error) == "confirm"
    repair = LearnedRepair(
        "repaired 1", Diagnosis(Cause.COVARIATE_DRIFT, 1.0), (1,), error, told, confirmed=1
    )
    state = replace(LoopState.first(she.Policy()), learned=(repair,), condition="repaired 1")
    after, actions = decide(state, Revoked("mallory", "mallory", is_authenticated=True, tainted={}))
    (judged,) = after.learned
    assert dict(judged.evidence.tallies) == {"operator": Tally(20)}
    assert not judged.is_confirmed, "one source alone confirms nothing"
    assert after.trust.is_marked
    assert [a.kind.value for a in actions if isinstance(a, do.Record)] == ["revoked", "probation"]
    owned = replace(state, policy=she.Policy(owner="operator"))
    after, _ = decide(owned, Revoked("mallory", "mallory", is_authenticated=True, tainted={}))
    assert after.learned[0].is_confirmed


def test_a_diagnosis_and_a_trial_forget_a_source_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trials count all that have none as one; a diagnosis remembers longer than labels are kept."""
    with device() as field:
        loop = parts_of(field.model).loop
        field.model.feedback_source("kiosk")
        said = Feedback("kiosk", 3, 4, False, None)
        loop.labels.named_by = (said, replace(said, source="operator"))
        told: list[Any] = []
        monkeypatch.setattr(loop, "handle", told.append)
        field.model.revoke("kiosk")
        field.model.revoke("mallory")
        assert [one.is_authenticated for one in told] == [False, True]
        assert [one.source for one in loop.labels.named_by] == ["operator"]


def test_what_is_made_of_the_same_lessons_again_and_again_can_be_stored() -> None:
    ids = np.arange(256)
    one = Lesson(
        ("a",), Cause.COVARIATE_DRIFT, "", False, 1, ids, ids, ("x",) * 256, np.full(256, 0.5)
    )
    other = replace(one, ids=ids + 200, sources=("y",) * 256)
    both = one
    for _ in range(20):
        both = both.joined(other).joined(one)
    assert (len(both.ids), len(both.sources), len(both.ages)) == (512, 512, 512)
    assert both.window.tolist() == list(range(256))
    found = Lesson.from_plain(both.to_plain())
    assert [found.holds(source, ()) for source in "xyz"] == [True, True, False]
    assert found.without("x", ()).sources == ("y",) * 256


@pytest.mark.slow
def test_cut_off_at_any_commit_it_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each write of a revocation the power goes: copies of the store are opened."""
    copies: list[Path] = []
    path = tmp_path / "store"

    def copied() -> None:
        there = tmp_path / f"copy {len(copies)}"
        with Database.read_copy(path, STORE_KEY) as copy:
            for suffix in ("", "-wal"):
                if Path(f"{copy.path}{suffix}").exists():
                    shutil.copyfile(f"{copy.path}{suffix}", f"{there}{suffix}")
        copies.append(there)

    commit = Store.commit

    def seen(self: Store, *arguments: Any) -> None:
        commit(self, *arguments)
        copied()

    with device(path) as field:
        field.learned_from_both()
        field.confirmed()
        field.run(CLEAN, 150)
        (repair,) = field.state.learned
        parts_of(field.model).loop._keep_now()  # noqa: SLF001 — all of before is on the medium
        copied()
        monkeypatch.setattr(Store, "commit", seen)
        found = field.model.revoke("mallory")
        monkeypatch.setattr(Store, "commit", commit)
        assert found.learned_again
    assert len(copies) > 3
    states = set()
    for copy in copies:
        with device(copy) as field:
            is_held = repair.generation in field.model.weights.generations
            has_words = "mallory" in field.words
            assert is_held == has_words
            assert is_held == (field.state.learned == (repair,))
            assert field.generation == 0
            states.add(is_held)
    assert states == {True, False}


@pytest.mark.slow
def test_a_revocation_that_was_cut_short_ends_at_the_next_start(tmp_path: Path) -> None:
    """The pool was written, what the loop knows was not."""
    with device(tmp_path / "store") as field:
        field.learned_from_both()
        field.confirmed()
        field.run(CLEAN, 150)
        (repair,) = field.state.learned
        parts_of(field.model).loop.labels.revoke("mallory", ())
    with device(tmp_path / "store") as field:
        assert repair.generation not in field.model.weights.generations
        assert "revoked" in kinds(field.model)
        (again,) = field.state.learned
        lesson = field.lessons[again.generation]
        assert lesson is not None
        assert not lesson.holds("mallory", ())


@pytest.mark.slow
def test_what_an_older_release_has_learned_is_taken_back(tmp_path: Path) -> None:
    """It did not write down from whom."""
    with device(tmp_path / "store") as field:
        field.learned_from_both()
        field.confirmed()
        (repair,) = field.state.learned
        kept = parts_of(field.model).loop.repairs._kept  # noqa: SLF001
        assert kept is not None
        rows = kept._rows  # noqa: SLF001
        row = rows.find(repair.generation)
        assert row is not None
        rows.mark(row.number, {k: v for k, v in row.fields.items() if k != "lesson"})
    with device(tmp_path / "store") as field:
        assert field.lessons == {repair.generation: None}
        found: Revocation = field.model.revoke("operator")
        assert found.taken_back == (repair.generation,)
        assert not field.state.learned
        assert any("is not known" in str(e.outcome) for e in field.model.events)


def test_a_saved_state_whose_lesson_a_later_release_wrote_is_taken_back(tmp_path: Path) -> None:
    """That it was not learned from what is revoked cannot be said."""
    with device(tmp_path / "store") as field:
        image = internals(field.model).images["source"]
        region = next(r for r in image.regions.values() if r.kind == "weights")
        old = np.frombuffer(image.live, np.uint8)[region.offset : region.offset + 4].copy()
        image.guard.write(region.offset, bytes(old ^ np.uint8(1)))
        repairs = parts_of(field.model).loop.repairs
        saved = repairs.adopt()
        kept = repairs._kept  # noqa: SLF001
        assert kept is not None
        rows = kept._rows  # noqa: SLF001
        row = rows.find(saved)
        assert row is not None
        rows.mark(saved, {**row.fields, "lesson": {"version": 2}})
    with device(tmp_path / "store") as field:
        assert field.lessons == {saved: None}
        assert field.generation == saved
        assert field.model.revoke("operator").taken_back == (saved,)
        assert field.generation == 0
        assert saved not in field.model.weights.generations
