"""A new model file over an old one's store: on trial, with the old one kept until it has held.

Rows of the model that was confirmed last are never touched by a trial: the charts of a model on
trial have rows of their own, and its generations are in memory alone. So after a crash the old one
is there as it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from selfheal_edge.errors import (
    BaselineFormatError,
    IntegrityError,
    ModelFormatError,
    StoreError,
)
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.failures import Failure, with_failure
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.store import Store
from selfheal_edge.tflite.file.model_file import ModelFile

__all__ = ["CLOSED", "CUT_SHORT", "Chosen", "Updates"]

CUT_SHORT: Final = "the process ended during its trial"
CLOSED: Final = ("model", "closed")
"""The row that says whether the latest process has closed its model."""
_MODEL: Final = ("model", "serves")
_BASELINE: Final = ("baseline", "serves")
_CANDIDATE: Final = ("candidate", "is")
_CANDIDATE_FILE: Final = ("candidate", "file")
_CANDIDATE_BASELINE: Final = ("candidate", "baseline")
_ACTIVE: Final = ("model", "active")
_TRIES: Final = 2


class Chosen:
    """What is to serve.

    Parameters
    ----------
    model, baseline
        The file and its baseline.
    on_trial, goes_on
        Whether it is on trial; whether that was under way before, and its process was closed.
    begins_anew
        Whether the store's own model is lost, so that there is none to go back to.
    told
        For the journal: what was decided, and why.
    failures
        What did not hold on this device, with what the end of the process before has added.
    """

    def __init__(
        self,
        model: ModelFile,
        baseline: Baseline,
        *,
        on_trial: bool = False,
        begins_anew: bool = False,
        goes_on: bool = False,
        told: Sequence[str] = (),
        failures: tuple[Failure, ...] = (),
    ) -> None:
        self.model, self.baseline = model, baseline
        self.on_trial, self.begins_anew, self.goes_on = on_trial, begins_anew, goes_on
        self.told, self.failures = tuple(told), failures


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        found = {} if data is None else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"store: expected a readable row: {error!r}") from None
    if not isinstance(found, dict) or (found and not isinstance(found.get("sha256"), str)):
        raise IntegrityError(f"store: expected a row that tells a model, got {found!r:.80}")
    return found


class Updates:
    """What the store knows of model files: the one that was confirmed last, and one on trial.

    Parameters
    ----------
    store
        Where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def held(self) -> dict[str, Any]:
        """What tells the model that was confirmed last; empty in a new store."""
        return _json(self._store.get(*_MODEL))

    @property
    def on_trial(self) -> str:
        """SHA-256 of the file whose trial has begun and not ended; empty for none."""
        candidate = _json(self._store.get(*_CANDIDATE))
        return str(candidate["sha256"]) if candidate.get("state") == "trial" else ""

    # ---------------------------------------------------------------- the start

    def choose(  # noqa: PLR0911 — a case each
        self,
        model: ModelFile,
        baseline: Baseline,
        failures: tuple[Failure, ...],
        predictions: int,
        *,
        was_cut_short: bool,
    ) -> Chosen:
        """Return which model is to serve: the user's file, or another where that did not hold.

        Parameters
        ----------
        model, baseline
            The user's.
        failures, predictions
            What did not hold on this device; predictions so far.
        was_cut_short
            Whether the process before ended without close: a trial that was under way has failed.

        Raises
        ------
        IntegrityError, StoreError
            When what the store says of models cannot be read.
        """
        held, candidate = self.held, _json(self._store.get(*_CANDIDATE))
        if not held:
            return Chosen(model, baseline, failures=failures)
        told: list[str] = []
        if candidate.get("state") == "trial" and was_cut_short:
            sha = str(candidate["sha256"])
            told.append(f"the model file {sha[:16]} is taken back: {CUT_SHORT}")
            failed = Failure("update", sha, CUT_SHORT, prediction=predictions)
            failures = with_failure(failures, failed)
            self._forget_candidate()
            if model.sha256 == sha:
                return self._old_or(model, baseline, held, told, failures)
            candidate = {}
        if model.sha256 == held["sha256"]:
            if candidate.get("state") == "staged":
                return self._staged(candidate, told, failures)
            if candidate:
                told.append("the trial of another model file is over: this one is back")
                self._forget_candidate()
            return Chosen(model, baseline, told=told, failures=failures)
        if reason := self.rejected(model.sha256, failures):
            told.append(f"the model file {model.sha256[:16]} did not hold on this device: {reason}")
            return self._old_or(model, baseline, held, told, failures)
        goes_on = candidate.get("sha256") == model.sha256 and candidate.get("state") == "trial"
        goes_on = goes_on and candidate.get("baseline") == baseline.digest
        old = self._old_or(model, baseline, held, told, failures)
        if old.begins_anew:
            return old
        try:
            self._begin(model.sha256, baseline)
        except StoreError as error:
            told.append(f"the model file {model.sha256[:16]} cannot be tried now: {error}")
            return Chosen(old.model, old.baseline, told=told, failures=failures)
        return Chosen(
            model,
            baseline,
            on_trial=True,
            goes_on=goes_on,
            told=told,
            failures=failures,
        )

    @staticmethod
    def rejected(sha256: str, failures: tuple[Failure, ...]) -> str:
        """Return why a model file is not tried again, or nothing.

        One that held until the power was cut gets a second trial, and no third.
        """
        for failed in failures:
            if failed.what == "update" and failed.name == sha256:
                is_over = failed.reason != CUT_SHORT or failed.times >= _TRIES
                return failed.reason if is_over else ""
        return ""

    def _old_or(
        self,
        model: ModelFile,
        baseline: Baseline,
        held: dict[str, Any],
        told: list[str],
        failures: tuple[Failure, ...],
    ) -> Chosen:
        """Return the model that was confirmed last; the user's where the store has lost it."""
        try:
            return self._old(held, told, failures)
        except StoreError as error:
            told.append(f"the model file {model.sha256[:16]} serves: {error}")
            return Chosen(model, baseline, begins_anew=True, told=told, failures=failures)

    def _old(self, held: dict[str, Any], told: list[str], failures: tuple[Failure, ...]) -> Chosen:
        told = [*told, f"the model file {held['sha256'][:16]} serves, as before"]
        try:
            data = StoredGenerations(self._store).load(0)
            row = self._store.get(*_BASELINE)
            if row is None:
                raise IntegrityError("store: expected a baseline")
            model = ModelFile.from_bytes(data, source="the store's model file")
            if model.sha256 != held["sha256"]:
                raise IntegrityError("store: expected the file that it is of")
            baseline = Baseline.from_bytes(row, what="the store's baseline")
        except (ValueError, IntegrityError) as error:
            raise StoreError(
                f"store: expected it to hold the model {held['sha256'][:16]}, which served before "
                f"and would have to come back: {error}"
            ) from error
        return Chosen(model, baseline, told=told, failures=failures)

    def _staged(
        self, candidate: dict[str, Any], told: list[str], failures: tuple[Failure, ...]
    ) -> Chosen:
        data, row = self._store.get(*_CANDIDATE_FILE), self._store.get(*_CANDIDATE_BASELINE)
        if data is None or row is None:
            raise IntegrityError("store: expected the file of an update")
        try:
            model = ModelFile.from_bytes(data, source="the update in the store")
        except ModelFormatError as error:
            raise IntegrityError(str(error)) from None
        try:
            baseline = Baseline.from_bytes(row, what="the update's baseline")
        except BaselineFormatError as error:
            raise IntegrityError(str(error)) from None
        if model.sha256 != candidate.get("sha256"):
            raise IntegrityError("store: expected the file that the update is of")
        self._begin(model.sha256, baseline)
        return Chosen(model, baseline, on_trial=True, told=told, failures=failures)

    def _begin(self, sha256: str, baseline: Baseline) -> None:
        """Take note of a trial, before it acts."""
        self._commit(self._candidate("trial", sha256, baseline), Row(*CLOSED, b"0"))

    def before_trial(self, failures: tuple[Failure, ...]) -> Chosen:
        """Return the model that was confirmed last.

        Raises
        ------
        StoreError
            When the store has lost it.
        IntegrityError
            When the row that tells it cannot be read.
        """
        held = self.held
        if not held:
            raise StoreError("store: expected it to know the model that was confirmed last")
        found = self._old(held, [], failures)
        return Chosen(found.model, found.baseline, failures=failures)

    @staticmethod
    def _candidate(state: str, sha256: str, baseline: Baseline) -> Row:
        told = {"state": state, "sha256": sha256, "baseline": baseline.digest}
        return Row(*_CANDIDATE, json.dumps(told).encode())

    def _forget_candidate(self) -> None:
        for place in (_CANDIDATE, _CANDIDATE_FILE, _CANDIDATE_BASELINE):
            if self._store.get(*place) is not None:
                self._store.put(*place, None)

    def _commit(self, *rows: Row) -> None:
        self._store.commit(Changes(rows=list(rows)))

    # ---------------------------------------------------------------- while it serves

    def stage(self, model: ModelFile, baseline: Baseline) -> None:
        """Keep a new model file, to be tried from the next start on.

        Raises
        ------
        StoreError
            When it cannot be stored.
        """
        self._commit(
            self._candidate("staged", model.sha256, baseline),
            Row(*_CANDIDATE_FILE, model.data),
            Row(*_CANDIDATE_BASELINE, baseline.to_bytes()),
        )

    def confirm(
        self, model: ModelFile, baseline: Baseline, told: dict[str, str], also: list[Row]
    ) -> None:
        """Make the model on trial the one that the store is of, in one commit.

        The generations of the old one go with it: they are other files.

        Raises
        ------
        StoreError
            When it cannot be written: the old one serves at the next start then.
        """
        rows = [
            Row(*_MODEL, json.dumps(told, sort_keys=True).encode()),
            Row(*_BASELINE, baseline.to_bytes()),
            Row(*_ACTIVE, b"0"),
            *(Row(*place, None) for place in (_CANDIDATE, _CANDIDATE_FILE, _CANDIDATE_BASELINE)),
            *also,
        ]
        StoredGenerations(self._store).begin_anew(model.data, {"state": "held"}, rows)

    def reject(self) -> None:
        """Forget the model on trial; `Failure` remembers why."""
        self._forget_candidate()
