"""Kill a real process while it learns, again and again, and look at what is left.

As a program: `python -m tests.store.kill_learning --kills 300`. As `kill_loop`, with a device whose
inputs drift and come back, and a person who answers, truly or not: it is killed while a repair is
proposed, put on probation, adopted, confirmed, rejected and switched to. After each kill the store
verifies as a whole; the next start serves golden, or what was confirmed, bit for bit as golden or
as that generation was told to answer; and nothing that is limited has grown.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.store.kill_loop import kill_process, run
from tests.support import IMPORT_PATH, ROOT, digits_baseline

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.hashing import sha256
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database

KEY = b"a key of the test"
PERSON = b"a key of the operator: 32 bytes."
OWNER = "operator"
POLICY = she.Policy(owner=OWNER, store_bytes=2 << 20)
_DIGITS = load_digits()
_CLEAN = _DIGITS.heldout_inputs
_DIM = np.clip((_CLEAN.astype(int) + 128) * 0.45 - 68, -128, 127).astype(np.int8)
_TRUTH = _DIGITS.heldout_labels.astype(np.int64)
_MOST_LINES = 40
_STEP = 32


# -------------------------------------------------------------------- the process that is killed


def fingerprint(model: she.SelfHealingModel) -> str:
    """Return what the live bytes are."""
    images = parts_of(model).weights.images
    return sha256(b"".join(bytes(images[name].live) for name in ("source", "input"))).hex()


def limited(model: she.SelfHealingModel) -> tuple[float, float, float]:
    """Return what is left of repairs, of their seconds, and of the trials' allowance."""
    proposer, state = parts_of(model).proposer, parts_of(model).loop.state
    assert proposer is not None
    return (*proposer.budget.left, state.allowed)


def serve(path: str, baseline: she.Baseline, seed: int, say: Callable[..., None]) -> None:
    """Drift, learn and come back, until killed."""
    rng = np.random.default_rng(seed)
    began: list[str] = []
    model = she.SelfHealingModel(
        digits_model_path(),
        baseline,
        store=path,
        key=KEY,
        policy=POLICY,
        on_event=lambda event: began.append(str(event.kind)),
        clock=lambda: 0.0,  # nothing fills, so that what is bought shows
    )
    person = model.feedback_source(OWNER, PERSON)
    health = model.health
    assert health.store is not None
    state = parts_of(model).loop.state
    confirmed = [r.generation for r in state.learned if r.is_confirmed]
    unproven = len(state.learned) - len(confirmed)
    say("open", model.weights.active, fingerprint(model), *limited(model), unproven,
        health.store.refused, *confirmed)  # fmt: skip
    truth: dict[int, int] = {}
    is_liar = seed % 4 == 0
    # A start in the drift, or before it.
    x = _DIM if seed % 2 else _CLEAN
    for step in range(100_000):
        rows = rng.integers(0, len(x), _STEP)
        found = model.infer(x[rows])
        assert isinstance(found, she.Predictions)
        truth.update(zip(found.ids.tolist(), _TRUTH[rows].tolist(), strict=True))
        if x is _DIM and step % 2:
            for question in model.wanted_labels(16):
                if question.id in truth:
                    # A liar names what golden answers, and so has repairs rejected.
                    lie = question.answers[0] if question.answers else 0
                    label = lie if is_liar else truth[question.id]
                    model.feedback(label, id=question.id, source=person)
        if step % 12 == 11:
            x = _CLEAN if x is _DIM else _DIM
        serving = parts_of(model).loop.state.in_service
        is_confirmed = int(serving is None or serving.is_confirmed)
        say("serves", model.weights.active, fingerprint(model), is_confirmed, *limited(model),
            *began)  # fmt: skip
        began.clear()


def template(path: str, baseline_path: str) -> None:
    """Fork a child for each line of the standard input."""
    baseline = she.Baseline.load(baseline_path)
    for late in ("loop.keeper", "redteam", "repair.proposing"):  # loaded once it is asked for
        importlib.import_module(f"selfheal_edge.{late}")

    def say(*words: object) -> None:
        os.write(1, (" ".join(str(word).replace(" ", "_") for word in words) + "\n").encode())

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                serve(path, baseline, int(line), say)
            except BaseException as error:
                say("failed", repr(error))
                os._exit(1)
        say("pid", pid)
        say("gone", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


# -------------------------------------------------------------------- what kills, and judges


class KillLearning:
    """The killing, and what came of it.

    Parameters
    ----------
    folder
        Where the store is.
    seed
        Of what the process does, and when it is killed.
    fresh_every
        Kills after which another store begins: budgets do not last for ever.
    """

    def __init__(self, folder: Path, seed: int, fresh_every: int = 12) -> None:
        self._folder = folder
        self._rng = random.Random(seed)
        self._fresh_every = fresh_every
        baseline = digits_baseline()
        baseline.save(folder / "baseline")
        with she.SelfHealingModel(digits_model_path(), baseline, policy=POLICY) as model:
            self._golden = fingerprint(model)
        self.seen: Counter[str] = Counter()
        self._template: subprocess.Popen[str] | None = None
        self._pid: int | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Take another store."""
        self.close()
        self.seen["stores"] += 1
        self._path = self._folder / f"store {self.seen['stores']}"
        self._bytes = {0: self._golden}
        """What each generation is, as it was told."""
        self._confirmed: set[int] = set()
        self._left: tuple[float, ...] = (float("inf"),) * 3
        self._template = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.store.kill_learning",
                "--template",
                str(self._path),
                str(self._folder / "baseline"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        )

    def kill(self, times: int) -> None:
        """Start and kill so many times; raise where something does not hold."""
        for n in range(times):
            if n and n % self._fresh_every == 0:
                self._begin_anew()
            self._start_and_kill()
            if self._path.exists():
                with Database.read_copy(self._path, KEY) as database:
                    database.verify()
            self.seen["kills"] += 1
            if n % 50 == 49:
                print(f"{n + 1} kills: {dict(self.seen)}", flush=True)

    def close(self) -> None:
        """End the template."""
        if self._template is not None:
            if self._pid is not None:
                kill_process(self._pid)
            self._template.communicate()
            self._template = None

    def _start_and_kill(self) -> None:
        template = self._template
        assert template is not None
        assert template.stdin is not None
        assert template.stdout is not None
        template.stdin.write(f"{self._rng.randrange(1 << 30)}\n")
        lines = self._rng.randrange(_MOST_LINES)
        # Half of them when something was just learned, confirmed or switched to.
        awaited = self._rng.choice(("", "", "", "probation", "confirmed", "regime"))
        timer: threading.Timer | None = None
        heard, last = 0, "start"
        for line in template.stdout:
            word, *rest = line.split()
            if word == "gone":
                self._pid = None
                break
            if word == "pid":
                self._pid = pid = int(rest[0])
            else:
                heard, last = heard + 1, self._hear(word, rest) or last
            is_time = heard >= lines if not awaited else awaited == last or heard > _MOST_LINES
            if is_time and timer is None:
                delay = self._rng.uniform(0, 0.1)
                timer = threading.Timer(delay, kill_process, (pid,))
                timer.start()
        else:
            raise AssertionError("the template has ended")
        if timer is not None:
            timer.cancel()
        assert int(rest[0]) == -signal.SIGKILL, f"the process ended by itself: {rest}"
        self.seen[f"killed after: {last}"] += 1

    def _hear(self, word: str, rest: list[str]) -> str:
        match word:
            case "open":
                active, is_, *left, unproven, refused = rest[:7]
                self._opened(int(active), is_, tuple(map(float, left)), set(map(int, rest[7:])))
                assert (unproven, refused) == ("0", "None"), rest
                return "open"
            case "serves":
                active, is_, is_confirmed, *left = rest[:6]
                number = int(active)
                assert self._bytes.setdefault(number, is_) == is_, f"generation {number} changed"
                self._left = tuple(map(float, left))
                if number and is_confirmed == "1":
                    self._confirmed.add(number)
                for kind in rest[6:]:
                    self.seen[kind] += 1
                return rest[-1] if rest[6:] else ""
        raise AssertionError(f"the process failed: {rest}")

    def _opened(self, active: int, is_: str, left: tuple[float, ...], confirmed: set[int]) -> None:
        # What was adopted or confirmed after the last word may be so; its bytes are then new.
        assert active == 0 or active in confirmed, f"{active} serves, confirmed are {confirmed}"
        if active in self._bytes:
            assert is_ == self._bytes[active], f"generation {active} has other bytes"
        else:
            assert self._bytes.setdefault(active, is_) == is_
        for name, now, was in zip(
            ("repairs", "seconds", "allowance"), left, self._left, strict=True
        ):
            assert now <= was + 1e-9, f"a kill bought {name}: {was} and then {now}"
        self._left = left


if __name__ == "__main__":
    run(KillLearning, template, 300, __doc__)
