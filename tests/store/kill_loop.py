"""Kill a real serving process at random moments, again and again, and look at what is left.

As a program: `python -m tests.store.kill_loop --kills 1000`. A template process has loaded all that
is to be loaded, and forks a child for each start, which opens the model with the store and serves:
it predicts, heals flipped bits, adopts other weights, rolls back, drops generations and commits,
until it is killed. It says in a pipe what it begins and what has been promised. After each kill the
store must verify as a whole and hold all that was promised; the next start serves exactly the
generation that was confirmed last, or the one whose change was under way, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from tests.store.serving import KEY
from tests.support import IMPORT_PATH, ROOT, digits_baseline, in_memory

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.hashing import sha256
from selfheal_edge.model import parts_of
from selfheal_edge.store.database import Database

POLICY = she.Policy(store_bytes=1 << 20)
CONTENTS = (0, 1, 2, 3)
"""0 is golden; the others are weights with so many bytes set to this number."""
_GENERATIONS_KEPT = 3
_MOST_LINES = 16
_INPUTS = load_digits().heldout_inputs[:16]


# -------------------------------------------------------------------- the process that is killed


def answers_of(model: she.SelfHealingModel) -> str:
    y = model.predict(_INPUTS)
    assert isinstance(y, np.ndarray)
    return sha256(y.tobytes()).hex()


def adopt(model: she.SelfHealingModel, content: int) -> int:
    """Give the model other weights through the guard, as a generation of its own."""
    image = parts_of(model).weights.images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    image.guard.write(region.offset, bytes([content]) * 64)
    return parts_of(model).loop.repairs.adopt()


def serve(path: str, baseline: she.Baseline, seed: int, say: Callable[..., None]) -> None:
    """Serve until killed."""
    rng = random.Random(seed)
    model = she.SelfHealingModel(digits_model_path(), baseline, store=path, key=KEY, policy=POLICY)
    health = model.health
    assert health.store is not None
    say("open", model.weights.active, answers_of(model), health.predictions, health.store.refused)
    keeper = model._keeper  # noqa: SLF001 — commits at moments of our own
    assert keeper is not None
    store = keeper.store
    while True:
        if len(model.weights.generations) > _GENERATIONS_KEPT:
            model.weights.drop(min(set(model.weights.generations) - {0, model.weights.active}))
        what = rng.randrange(7)
        if what < 2:
            found = model.infer(_INPUTS[:3])
            assert isinstance(found, she.Predictions)
            say("ids", *found.ids)
        elif what == 2:
            she.redteam.inject(model).flip_bits(3)
            model.weights.scrub()
        elif what == 3:
            content = rng.choice(CONTENTS[1:])
            number = parts_of(model).loop.repairs.next_number
            say("begin", number, content)
            say("end", adopt(model, content), number)
        elif what == 4:
            to = rng.choice(model.weights.generations)
            say("begin", to, "as it is")
            model.rollback(to=to)
            say("end", to, to)
        elif what == 5:
            say("answered", model.weights.active, answers_of(model))
        else:
            predictions = model.health.predictions
            store.do_each_minute()
            store.commit()
            state = model.health.store
            assert state is not None
            say("safe", predictions, state.seq - 1, model.events[-1].hash, model.events[-1].seq)


def template(path: str, baseline_path: str) -> None:
    """Fork a child for each line of the standard input."""
    baseline = she.Baseline.load(baseline_path)
    for late in ("loop.keeper", "redteam"):  # what is loaded once it is asked for
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


# -------------------------------------------------------------------- who kills, and judges


@dataclass
class Promised:
    """What a store must hold from now on."""

    contents: dict[int, int | str] = field(default_factory=lambda: {0: 0})
    """What each generation has, by number."""
    active: tuple[int, ...] = (0,)
    """The generation that serves; while a change is under way the old one, and the new one."""
    predictions: int = 0
    seq: int = -1
    hashes: dict[int, str] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)


class KillLoop:
    """The killing, and what came of it.

    Parameters
    ----------
    folder
        Where the store is.
    seed
        Of what the process does, and when it is killed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._path = folder / "store"
        self._rng = random.Random(seed)
        baseline = digits_baseline()
        baseline.save(folder / "baseline")
        self._answers = self._learn_answers(baseline)
        self._promised = Promised()
        self.seen: Counter[str] = Counter()
        self._heard: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "ids": self._ids,
            "begin": self._begun,
            "end": self._ended,
            "answered": self._answered,
            "safe": self._safe,
            "failed": self._failed,
        }
        self._template = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.store.kill_loop",
                "--template",
                self._path,
                folder / "baseline",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        )

    @staticmethod
    def _learn_answers(baseline: she.Baseline) -> dict[int | str, str]:
        """Return what each content answers, from a model that has no store."""
        found: dict[int | str, str] = {}
        with she.SelfHealingModel(digits_model_path(), baseline, policy=POLICY) as model:
            found[0] = answers_of(model)
            for content in CONTENTS[1:]:
                adopt(model, content)
                found[content] = answers_of(model)
        assert len(set(found.values())) == len(CONTENTS)
        return found

    def kill(self, times: int) -> None:
        """Start and kill so many times; raise where something does not hold."""
        for n in range(times):
            self._start_and_kill()
            self._look_at_store()
            self.seen["kills"] += 1
            if n % 100 == 99:
                print(f"{n + 1} kills: {dict(self.seen)}", flush=True)

    def close(self) -> None:
        """End the template."""
        self._template.communicate()

    def _start_and_kill(self) -> None:
        assert self._template.stdin is not None
        assert self._template.stdout is not None
        self._template.stdin.write(f"{self._rng.randrange(1 << 30)}\n")
        # Killed so many lines after the first, and a moment; 0: in the start.
        lines = self._rng.randrange(_MOST_LINES)
        timer: threading.Timer | None = None
        heard, last = 0, "start"
        for line in self._template.stdout:
            word, *rest = line.split()
            if word == "gone":
                break
            if word == "pid":
                pid = int(rest[0])
            else:
                heard, last = heard + 1, word
                self._heard[word](*rest)
            if heard == lines and timer is None:
                delay = self._rng.uniform(0, 0.02 if lines else 0.15)
                timer = threading.Timer(delay, kill_process, (pid,))
                timer.start()
        else:
            raise AssertionError("the template has ended")
        if timer is not None:
            timer.cancel()
        assert int(rest[0]) == -signal.SIGKILL, f"the process ended by itself: {rest}"
        self.seen[f"killed after: {last}"] += 1

    def _look_at_store(self) -> None:
        """Verify all of it, and find what was promised."""
        if not self._path.exists():
            assert self._promised.seq < 0
            return
        with Database.read_copy(self._path, KEY) as database:
            database.verify()
            hashes = {record.seq: record.hash.hex() for record in database.records()}
            state = database.journal
        assert state.next > self._promised.seq, "records that were safe are gone"
        for seq, expected in self._promised.hashes.items():
            assert hashes.get(seq, expected) == expected, f"record {seq} is another one"
        self._promised.hashes = {
            seq: h for seq, h in self._promised.hashes.items() if seq >= state.first
        }
        self.seen["records"] = state.next

    # ------------------------------------------------------------ what the process says

    def _opened(self, active: str, answers: str, predictions: str, refused: str) -> None:
        promised = self._promised
        assert refused == "None", refused
        assert int(active) in promised.active, f"{active} serves, expected {promised.active}"
        expected = self._answers[promised.contents[int(active)]]
        assert answers == expected, f"generation {active} gives other answers"
        if len(promised.active) > 1:
            is_new = int(active) == promised.active[1]
            self.seen[f"changes cut short: {'new' if is_new else 'old'} serves"] += 1
        promised.active = (int(active),)
        assert int(predictions) >= promised.predictions, "a counter went back"

    def _ids(self, *ids: str) -> None:
        found = set(map(int, ids))
        assert len(found) == len(ids)
        assert self._promised.ids.isdisjoint(found), "an id was given twice"
        self._promised.ids |= found

    def _begun(self, number: str, content: str) -> None:
        promised = self._promised
        if content != "as_it_is":
            promised.contents[int(number)] = int(content)
        if int(number) != promised.active[0]:
            promised.active = (promised.active[0], int(number))
        self.seen["changes of generation"] += 1

    def _ended(self, number: str, expected: str) -> None:
        assert number == expected
        self._promised.active = (int(number),)

    def _answered(self, active: str, answers: str) -> None:
        content = self._promised.contents[int(active)]
        assert answers == self._answers[content], f"generation {active} gives other answers"

    def _safe(self, predictions: str, seq: str, head: str, at: str) -> None:
        self._promised.predictions = int(predictions)
        self._promised.seq = int(seq)
        if at == seq:
            self._promised.hashes[int(seq)] = head
        self.seen["commits that were promised"] += 1

    def _failed(self, error: str) -> None:
        raise AssertionError(f"the process failed: {error}")


def kill_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has failed, and says so
        os.kill(pid, signal.SIGKILL)


class Killing(Protocol):
    """Kills a process again and again; `seen` counts what it found."""

    seen: Counter[str]

    def kill(self, kills: int) -> None: ...
    def close(self) -> None: ...


def run(
    make: Callable[[Path, int], Killing],
    template: Callable[[str, str], None],
    kills: int,
    description: str | None,
) -> None:
    """Be a program that kills so often by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--template", nargs=2)
    arguments = parser.parse_args()
    if arguments.template:
        template(*arguments.template)
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        loop = make(Path(folder), arguments.seed)
        try:
            loop.kill(arguments.kills)
        finally:
            loop.close()
    print(dict(loop.seen))
    print(f"{loop.seen['kills']} kills in {time.monotonic() - begun:.0f} s, and all held")


if __name__ == "__main__":
    run(KillLoop, template, 1000, __doc__)
