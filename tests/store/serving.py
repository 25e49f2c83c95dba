"""A process that serves with a store and tells what it has been told: for the tests that kill it.

Run as a program it starts one serving child after the other, kills each at a random moment, and
holds the next one to what the one before has told.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.hashing import sha256
from selfheal_edge.learning.head import Head, find_head, head_changes
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.model import parts_of
from selfheal_edge.store import store as store_module
from selfheal_edge.store.database import Database
from selfheal_edge.store.journal import Event, EventKind

KEY = b"a key of the test"
Open = Callable[..., she.SelfHealingModel]
INPUTS = load_digits().heldout_inputs
STEP = 40  # predictions between two things that are told


def hurry() -> None:
    """Have the store's thread write and collect many times a second."""
    for name, seconds in (("_BATCH_SECONDS", 0.01), ("_STATE_SECONDS", 0.03)):
        assert hasattr(store_module, name)
        setattr(store_module, name, seconds)


def patch_of(model: she.SelfHealingModel, seed: int = 0) -> Patch:
    """Change the last layer, with scales of its own, and correct the input."""
    session = parts_of(model).session
    head = find_head(session.copy.model)
    assert isinstance(head, Head)
    rng = np.random.default_rng(seed)
    weights = head.weights * rng.uniform(0.5, 1.5, head.weights.shape)
    gain = rng.uniform(0.7, 1.4, 1).astype(np.float32)
    return Patch(
        head_changes(head, weights, head.bias), InputMap(2, gain, np.full(1, 0.05, np.float32))
    )


def live_digest(model: she.SelfHealingModel) -> str:
    return sha256(parts_of(model).weights.images["source"].live).hex()


def serve(path: str, baseline: she.Baseline, told: int, seed: int) -> None:
    """Serve for ever: predict, change the weights on purpose, roll back, heal; tell all of it."""

    def tell(**fields: Any) -> None:
        os.write(told, json.dumps(fields).encode() + b"\n")

    rng = random.Random(seed)
    hurry()
    model = she.SelfHealingModel(
        digits_model_path(),
        baseline,
        store=path,
        key=KEY,
        on_event=lambda e: tell(event=[e.seq, e.hash]),
    )
    weights, repairs = parts_of(model).weights, parts_of(model).loop.repairs
    x = INPUTS[:1]
    first = model.infer(x)
    assert isinstance(first, she.Prediction)
    tell(
        opened=live_digest(model),
        active=model.weights.active,
        generations=list(model.weights.generations),
        predictions=model.health.predictions,
        id=first.id,
    )
    while True:
        model.predict(INPUTS[:STEP])
        last = model.infer(x)
        assert isinstance(last, she.Prediction)
        tell(id=last.id)
        action = rng.choice(["adopt", "rollback", "heal", "snapshot", "prune"])
        if action == "adopt":
            image = weights.images["source"]
            region = max(
                (r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset
            )
            if len(model.weights.generations) < 5:
                mask = rng.randbytes(64)
                old = bytes(image.live[region.offset : region.offset + 64])
                new = bytes(a ^ b for a, b in zip(old, mask, strict=True))
                source = bytearray(image.live)
                source[region.offset : region.offset + 64] = new
                tell(may=sha256(source).hex())
                image.guard.write(region.offset, new)
                repairs.adopt()
        elif action == "rollback":
            to = rng.choice(model.weights.generations)
            tell(may=sha256(weights.sound_bytes("source", to)).hex())
            model.rollback(to=to)
        elif action == "heal":
            she.redteam.inject(model).flip_bits(3)
            model.weights.scrub()
        elif action == "snapshot" and len(model.weights.generations) < 7:
            model.snapshot()
        elif action == "prune":
            for generation in model.weights.generations:
                if generation not in (0, model.weights.active):
                    model.weights.drop(generation)
        tell(is_=live_digest(model))


class Lines:
    """Lines of a pipe, as far as they have come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.is_over = False

    def read(self, seconds: float) -> list[dict[str, Any]]:
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        data = os.read(self._descriptor, 1 << 20)
        self.is_over = not data
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in whole]


class Watcher:
    """What must be true of the child that comes next."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.allowed: set[str] = set()
        self.ids: list[int] = []
        self.events: dict[int, set[str]] = {}
        self.opened = 0
        self.predictions = 0
        self.begun_anew = 0

    def hear(self, line: dict[str, Any]) -> None:
        if "event" in line:
            seq, chain = line["event"]
            self.events.setdefault(seq, set()).add(chain)
        if "id" in line:
            assert not self.ids or line["id"] > self.ids[-1], "an id was given twice"
            self.ids.append(line["id"])
        if "opened" in line:
            self.opened += 1
            assert not self.allowed or line["opened"] in self.allowed, (line, self.allowed)
            self.allowed = {line["opened"]}
            assert line["predictions"] >= self.predictions
            self.predictions = line["predictions"]
        if "may" in line:
            self.allowed.add(line["may"])
        if "is_" in line:
            assert line["is_"] in self.allowed
            self.allowed = {line["is_"]}

    def check_store(self) -> None:
        """Verify the chain, and that what was told of it is in it as far as it is kept."""
        if not os.path.exists(self._path):
            return
        with Database.read_copy(self._path, KEY) as database:
            database.verify()
            for record in database.records():
                event = Event.from_record(record.seq, record.hash, record.body)
                assert event.kind is not EventKind.STORE, event
                # What was told and never written was told again, with another hash.
                told = self.events.get(event.seq, {event.hash})
                assert event.hash in told, event


def main(path: str, baseline_path: str, kills: int, seed: int) -> None:
    baseline = she.Baseline.load(baseline_path)
    rng = random.Random(seed)
    watcher = Watcher(path)
    for n in range(kills):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                serve(path, baseline, writing, seed + n)
            finally:
                os._exit(9)
        os.close(writing)
        lines = Lines(reading)
        # One in five is killed while it starts, the others after they have served for a while.
        wait = rng.uniform(0.0, 0.15) if n % 5 == 4 else None
        end = None if wait is None else time.monotonic() + wait
        patience = time.monotonic() + 300
        while end is None or time.monotonic() < end:
            assert time.monotonic() < patience
            for line in lines.read(0.01 if end is not None else 1.0):
                watcher.hear(line)
                if "opened" in line and end is None:
                    end = time.monotonic() + rng.uniform(0.0, 0.4)
            assert not lines.is_over, "the child has ended by itself"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while not lines.is_over:
            for line in lines.read(5.0):
                watcher.hear(line)
        os.close(reading)
        watcher.check_store()
    leftovers = {name for name in os.listdir(os.path.dirname(path)) if "refused" in name}
    assert not leftovers, leftovers
    assert watcher.opened >= kills // 2
    print(
        f"{kills} kills, {watcher.opened} starts that served, {len(watcher.ids)} ids, "
        f"{len(watcher.events)} events, {watcher.predictions} predictions remembered"
    )


def stream(path: str, baseline_path: str) -> None:
    """Predict one sample after the other, always the same ones in the same order, for ever."""
    hurry()
    model = she.SelfHealingModel(
        digits_model_path(), she.Baseline.load(baseline_path), store=path, key=KEY
    )
    while True:
        at = parts_of(model).monitor.count % len(INPUTS)
        model.predict(INPUTS[at : at + 1])
        if at % 100 == 0:
            found = model.health.store
            assert found is not None
            print(found.commits, flush=True)


def run() -> None:
    """Do what the arguments of the program say."""
    if sys.argv[3] == "stream":
        stream(*sys.argv[1:3])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
