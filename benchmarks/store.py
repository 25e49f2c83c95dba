"""What a store costs a guarded model: at the start, on the flash, and beside predictions.

- Start: `SelfHealingModel(...)` with the store of a simulated year, or of an hour, against the
  same without one, in the same process, which opened the model once before; SQLite is loaded by
  the start with the store. The median over processes, which take turns in what comes first.
- Bytes: an hour of predictions at 20 a second, compressed into what it takes to compute them. The
  writer's steps, one every 58 seconds, are made by hand on a clock of the benchmark; each commits
  and synchronises on a real disk. What is counted is `/proc/self/io`: all that was given to the
  system (`wchar`), and whole pages of files that it made of them (`write_bytes`); and what the
  block device gets, the file system's own journal included, by all programs that write to it: so
  `--folder` names one on a device on which nothing else writes. Six seconds follow each commit, in
  which the file system writes what it had put off. The log has its full length at the beginning, as
  it has but in the first hours after a start. A day is 24 times that hour.
- p99: two models in one process, blocks of predictions by turns; the store of one gathers all
  states and commits within each of its blocks, twice as often as at 20 predictions a second.
- A year: a commit an hour with events and a changed state, a generation a week; then the size,
  and the time to verify all of it, and what a start takes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

import harness
import selfheal_edge as she
from harness import Row
from selfheal_edge.assets import digits_model_path
from selfheal_edge.store.changes import Changes
from selfheal_edge.store.changes import Row as Kept
from selfheal_edge.store.database import Database
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.journal import Event, EventKind
from selfheal_edge.store.store import Store

KEY: Final = bytes(range(32))
A_SECOND: Final = 20
EVERY_SECONDS: Final = 58  # how often the writer gathers all states
DAY_SECONDS: Final = 86_400
START_MS: Final = 20.0
DAY_MB: Final = 20.0
P99: Final = 1.05
YEAR_HOURS: Final = 365 * 24
_EVENTS_AN_HOUR: Final = 4


@dataclass
class Subject:
    """The model that is measured, and its inputs."""

    path: Path
    inputs: np.ndarray[Any, Any]
    baseline: she.Baseline
    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Subject:
        """KWS where it is, else the digits that the package brings."""
        path = harness.SHARED / "models" / "kws_dscnn_int8.tflite"
        if not path.exists():
            path = digits_model_path()
        with contextlib.closing(_opened(path, _calibrated(path, 64), None)) as model:
            shape = model.inputs[0].shape
        rng = np.random.default_rng(0)
        inputs = rng.integers(-128, 128, (1024, *shape), np.int8)
        baseline = she.calibrate(path, inputs, false_alarm_interval=1e9, seed=0)
        baseline.save(folder / "baseline")
        return cls(path, inputs, baseline, folder)

    def open(self, store: Path | None) -> she.SelfHealingModel:
        """Open it, with a store or without."""
        return _opened(self.path, self.baseline, store)


def _calibrated(path: Path, count: int) -> she.Baseline:
    """Calibrate on anything, to learn the input's shape."""
    from selfheal_edge.tflite.session import Session  # noqa: PLC0415

    session = Session(path, "auto", "auto", 1)
    shape = session.instance.inputs[0].shape
    session.close()
    rows = np.random.default_rng(1).integers(-128, 128, (count, *shape), np.int8)
    return she.calibrate(path, rows, seed=0)


def _opened(path: Path, baseline: she.Baseline, store: Path | None) -> she.SelfHealingModel:
    key = None if store is None else KEY
    return she.SelfHealingModel(path, baseline, store=store, key=key)


def _store_of(model: she.SelfHealingModel) -> Store:
    keeper = model._keeper  # noqa: SLF001
    assert keeper is not None
    return keeper.store


# -------------------------------------------------------------------- bytes a day


@dataclass
class Clock:
    """Seconds, as the benchmark says."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


@contextlib.contextmanager
def by_hand(clock: Clock) -> Iterator[None]:
    """Let stores that are opened meanwhile have no thread, and this clock."""
    start, init = Store.start, Store.__init__

    def started(store: Store, *_: object) -> None:
        store._do_jobs()  # noqa: SLF001 — what the thread does first

    def made(store: Store, *given: Any, **named: Any) -> None:
        init(store, *given, **{**named, "clock": clock})

    with contextlib.ExitStack() as undo:
        undo.callback(setattr, Store, "start", start)
        undo.callback(setattr, Store, "__init__", init)
        Store.start, Store.__init__ = started, made  # type: ignore[method-assign, assignment]
        yield


def _written() -> tuple[int, int]:
    """Return the bytes that this process gave to the system, and of pages to block devices."""
    found = {}
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        found[name] = int(value)
    return found["wchar"], found["write_bytes"]


def _at_device(path: Path) -> int | None:
    """Return the bytes that the block device below a folder was given; None: it has none."""
    number = os.stat(path).st_dev
    statistics_of = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    if not statistics_of.exists():
        return None
    return 512 * int(statistics_of.read_text(encoding="ascii").split()[6])


def _fill_log(store: Store) -> None:
    """Have the log as long as it gets, as it is after the first hours."""
    database = store._database  # noqa: SLF001
    assert database is not None
    filler, before = bytes(16_000), 0
    while database.log_nbytes >= before:
        before = database.log_nbytes
        database.commit(Changes([Kept("filler", "0", filler)]), keep_journal_bytes=1 << 20)
    database.commit(Changes([Kept("filler", "0", b"")]), keep_journal_bytes=1 << 20)


def _write_back(store: Store) -> None:
    """Have the log's pages written back, so that an interval has its part of that, and no more."""
    database = store._database  # noqa: SLF001
    assert database is not None
    before = database.bytes_written
    database.write_back(keeps_length=True)
    store._account(database, database.bytes_written - before)  # noqa: SLF001


def bytes_a_day(subject: Subject, seconds: int, pause: float) -> Iterator[Row]:
    """Serve for so many seconds of 20 predictions, and count what goes to the disk.

    After each commit it waits for `pause` seconds.
    """
    clock = Clock()
    path = subject.folder / "day"
    with by_hand(clock):
        model = subject.open(path)
    store = _store_of(model)
    cycle = itertools.cycle(np.array_split(subject.inputs, 16))
    steps = 600 // EVERY_SECONDS + seconds // EVERY_SECONDS
    before, device = _written(), None
    own, begun = 0, 0.0
    for n in range(steps):
        if n == 600 // EVERY_SECONDS:  # the first ten minutes are not like the rest
            _fill_log(store)
            _write_back(store)
            before, own, begun = _written(), store.state.bytes_written, clock.now
            device = _at_device(subject.folder)
        left = EVERY_SECONDS * A_SECOND
        while left > 0:
            batch = next(cycle)[:left]
            model.predict(batch)
            left -= len(batch)
        clock.now += EVERY_SECONDS
        store.do_each_minute()
        store._write_what_is_due()  # noqa: SLF001
        if begun:
            time.sleep(pause)
    _write_back(store)
    after, device_after = _written(), _at_device(subject.folder)
    state = store.state
    assert state.status == "ok", state
    factor = DAY_SECONDS / (clock.now - begun) / 1e6
    told = (after[0] - before[0]) * factor
    pages = (after[1] - before[1]) * factor
    model.close()
    yield Row("a day: bytes given to the system", told, "MB", DAY_MB, False)
    if pages:
        yield Row("a day: pages of files", pages, "MB", DAY_MB, False)
    else:
        print("the folder is on no block device: pages are not counted")
    if device is not None and device_after is not None:
        got = (device_after - device) * factor
        yield Row("a day: bytes at the block device", got, "MB", DAY_MB, False)
    counted = (state.bytes_written - own) * factor
    yield Row("a day: bytes as health.store counts them", counted, "MB", DAY_MB, False)
    yield Row("a day: commits", steps * DAY_SECONDS / clock.now, "", None, False)


# -------------------------------------------------------------------- beside predictions


@dataclass
class Latencies:
    """Seconds of single calls."""

    model: she.SelfHealingModel
    seconds: list[float] = field(default_factory=list)

    def serve(self, inputs: np.ndarray[Any, Any]) -> None:
        """Time each prediction."""
        predict, clock = self.model.predict, time.perf_counter
        for x in inputs:
            before = clock()
            predict(x)
            self.seconds.append(clock() - before)

    def quantile(self, q: float) -> float:
        """Return a quantile."""
        return float(np.quantile(self.seconds, q))


def _a_minute(store: Store) -> None:
    """Do what the store's thread does once a minute."""
    store.do_each_minute()
    store._write_what_is_due()  # noqa: SLF001


def beside_predictions(subject: Subject, blocks: int) -> Iterator[Row]:
    """Compare single calls with a store and without."""
    path = subject.folder / "p99"
    block = EVERY_SECONDS * A_SECOND // 2
    inputs = np.resize(subject.inputs, (block, *subject.inputs.shape[1:]))
    with subject.open(path) as with_store, subject.open(None) as without:
        store = _store_of(with_store)
        timed = Latencies(with_store), Latencies(without)
        for one in timed:
            one.serve(inputs)
            one.seconds.clear()
        for n in range(blocks):
            for one in timed if n % 2 else timed[::-1]:
                writer = threading.Thread(target=_a_minute, args=(store,))
                if one.model is with_store:
                    writer.start()
                one.serve(inputs)
                if one.model is with_store:
                    writer.join()
        commits = store.state.commits
    a, b = timed
    print(f"{len(a.seconds)} predictions each, {commits} commits meanwhile")
    yield Row("predict, p99: with a store", a.quantile(0.99) * 1e6, "us", None, False)
    yield Row("predict, p99: without", b.quantile(0.99) * 1e6, "us", None, False)
    yield Row("predict, p99: ratio", a.quantile(0.99) / b.quantile(0.99), "", P99, False)
    yield Row("predict, median: ratio", a.quantile(0.5) / b.quantile(0.5), "", None, False)


# -------------------------------------------------------------------- a year


def a_year(subject: Subject, hours: int) -> Iterator[Row]:
    """Fill a store with a year of events, states and generations; then measure it."""
    path = subject.folder / "year"
    with subject.open(path) as model:
        model.predict(subject.inputs)
    clock = Clock()
    store = Store(path, KEY, clock=clock)
    generations = StoredGenerations(store)
    rng = np.random.default_rng(2)
    file = bytearray(subject.path.read_bytes())
    weekly = max(1, hours // 52)
    largest = 0
    for hour in range(hours):
        clock.now = hour * 3600.0
        for n in range(_EVENTS_AN_HOUR):
            event = Event(
                0,
                clock.now,
                1.8e9 + clock.now,
                EventKind.ALARM,
                evidence=(f"confidence has moved by {n}.25 sd over 128 inputs " * 2,),
                prediction=hour * 72_000,
            )
            store.append(event.to_record())
        row = Kept("state", "monitor", rng.bytes(8 * 1016))
        if hour % weekly == 0:
            at = int(rng.integers(len(file)))
            file[at] ^= 1
            number = 1 + hour // weekly
            generations.save(number, bytes(file), {"state": "held", "wall": clock.now}, [row])
            if number > 8:
                generations.drop(number - 8)
        else:
            store.commit(Changes([row]))
        largest = max(largest, store.state.nbytes)
    records, most = store.state.seq, store.state.max_bytes
    generations.drop(*(row.number for row in generations.all() if row.number))
    store.close()
    size = path.stat().st_size
    kept = 0
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        with Database.read_copy(path, KEY) as database:
            database.verify()
            kept = database.journal.next - database.journal.first
        seconds.append(time.perf_counter() - begun)
    label = f"a year, {records} events"
    yield Row(f"{label}: file and log at most", largest / 1e6, "MB", most / 1e6, False)
    yield Row(f"{label}: file after it", size / 1e6, "MB", most / 1e6, False)
    yield Row(f"{label}: events kept", kept, "", None, True)
    yield Row(f"{label}: to copy and verify all", statistics.median(seconds), "s", None, False)


# -------------------------------------------------------------------- the start

_START: Final = """
import json, sys, time
import selfheal_edge as she
model, baseline, store, turn = sys.argv[1:]
baseline = she.Baseline.load(baseline)
def start(how):
    begun, used = time.perf_counter(), time.process_time()
    opened = she.SelfHealingModel(model, baseline, **how)
    seconds = time.perf_counter() - begun, time.process_time() - used
    opened.close()
    return seconds
start({})
with_store = {"store": store, "key": bytes(range(32))}
first, second = ({}, with_store) if turn == "0" else (with_store, {})
times = [start(first), start(second)]
print(json.dumps(times if turn == "0" else times[::-1]))
"""


def starts(subject: Subject, processes: int) -> Iterator[Row]:
    """Compare starts with the store of a year, of a day, and without."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONPYCACHEPREFIX": str(subject.folder / "bytecode"),  # as installers compile it
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in ("day", "year"):
        differences, cpu, without = [], [], []
        for n in range(-1, processes):
            given = [subject.path, subject.folder / "baseline", subject.folder / name, n % 2]
            done = subprocess.run(
                [sys.executable, "-c", _START, *map(str, given)],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            )
            if n < 0:  # this one has compiled
                continue
            plain, stored = json.loads(done.stdout)
            differences.append((stored[0] - plain[0]) * 1e3)
            cpu.append((stored[1] - plain[1]) * 1e3)
            without.append(plain[0] * 1e3)
        label = f"start, store of a {name}"
        if name == "day":
            yield Row("start, no store", statistics.median(without), "ms", None, False)
        yield Row(f"{label}: more", statistics.median(differences), "ms", START_MS, False)
        yield Row(f"{label}: more CPU", statistics.median(cpu), "ms", None, False)


def main() -> None:
    parser = harness.parser(__doc__)
    # Not in memory: pages of a file there go to no device.
    parser.add_argument("--folder", default="/var/tmp", help="where the stores lie meanwhile")
    arguments = parser.parse_args()
    quick = arguments.quick
    with tempfile.TemporaryDirectory(prefix="selfheal-store-", dir=arguments.folder) as folder:
        subject = Subject.made(Path(folder))
        rows = [
            *bytes_a_day(subject, 120 if quick else 3600, 0.0 if quick else 6.0),
            *a_year(subject, 200 if quick else YEAR_HOURS),
            *beside_predictions(subject, 4 if quick else 60),
            *starts(subject, 2 if quick else 15),
        ]
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
