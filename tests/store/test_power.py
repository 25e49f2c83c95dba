"""Power cuts at every write and every synchronisation of every commit, and of the recovery."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.store import power
from tests.store.workload import KEY, MAX_BYTES, after, differences, steps

from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.store.database import Database

WORKLOAD = Path(__file__).with_name("workload.py")
Found: TypeAlias = "tuple[int, list[str]] | Exception"


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, so writes cannot be recorded")
    return power.build_recorder(tmp_path_factory.mktemp("recorder"))


def recorded(recorder: Path, folder: Path, commits: int) -> list[power.Entry]:
    folder.mkdir()
    record = folder.parent / f"{folder.name}.record"
    done = power.run(recorder, folder, record, str(WORKLOAD), str(folder), str(commits))
    assert done.returncode == 0, done.stderr
    return power.entries(record)


def put_back(contents: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def relative(contents: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    return {str(Path(name).relative_to(folder)): content for name, content in contents.items()}


def is_marker(entry: power.Entry, markers: set[int]) -> bool:
    if entry.kind == "O" and entry.data.endswith(b"/marker"):
        markers.add(entry.file)
    return entry.file in markers


class Verdicts:
    """What came of the cuts.

    Many cuts leave the same bytes (what is lost before a synchronisation is lost however much was
    written), and equal bytes open equally: each content is opened once, and judged at each cut.
    """

    def __init__(self, commits: int, folder: Path) -> None:
        self._models = [after(commits, n) for n in range(commits + 1)]
        self._folder = folder
        self._opened: dict[tuple[tuple[str, bytes], ...], Found] = {}
        self.seen: Counter[str] = Counter()

    def judge(self, contents: dict[str, bytes], safe: int, how: str, *, lying: bool) -> None:
        """Open what is left: the last commit that was safe or the one after it, or refused."""
        if "store" not in contents and safe:
            assert lying, f"{how}: the store is gone after {safe} commits"
        key = tuple(sorted((name, sha256(c).digest()) for name, c in contents.items()))
        if key not in self._opened:
            self._opened[key] = self._open(contents)
        found = self._opened[key]
        if isinstance(found, Exception):
            if not lying:
                raise AssertionError(f"{how}: after {safe} commits") from found
            self.seen["refused, golden serves"] += 1
            return
        commits, others = found
        assert others == [], f"{how}: after {safe} commits, {commits} found: {others}"
        if not lying:
            assert commits in (safe, safe + 1), f"{how}: {safe} were safe, {commits} found"
        self.seen["new" if commits > safe else "old" if commits == safe else "older"] += 1

    def _open(self, contents: dict[str, bytes]) -> Found:
        put_back(contents, self._folder)
        path = self._folder / "store"
        try:
            with Database.create_or_open(path, KEY, max_bytes=MAX_BYTES) as database:
                return database.commits, differences(database, self._models[database.commits])
        except (IntegrityError, StoreError) as error:
            return error


def cut_everywhere(
    recorder: Path, tmp_path: Path, commits: int, *, lying: bool, recovery_every: int
) -> Counter[str]:
    record_folder = tmp_path / "recorded"
    medium = power.Medium(lying=lying)
    verdicts = Verdicts(commits, tmp_path / "cut")
    rng = random.Random(11)
    safe = cuts = 0
    markers: set[int] = set()
    for entry in recorded(recorder, record_folder, commits):
        if is_marker(entry, markers):
            if entry.kind == "W":
                safe = int(entry.data)
            continue
        medium.take(entry)
        for how, named in medium.after_a_cut(rng):
            cuts += 1
            contents = relative(named, record_folder)
            if recovery_every and cuts % recovery_every == 0:
                cut_recovery(recorder, tmp_path, contents, safe, verdicts, lying=lying)
            where = f"entry {entry.kind} {entry.offset}, {how}"
            verdicts.judge(contents, safe, where, lying=lying)
    verdicts.seen["cut points with their variants"] = cuts
    return verdicts.seen


def cut_recovery(
    recorder: Path,
    tmp_path: Path,
    contents: dict[str, bytes],
    safe: int,
    verdicts: Verdicts,
    *,
    lying: bool,
) -> None:
    """Cut the power again at every write of the start that follows a cut."""
    start = tmp_path / "start"
    put_back(contents, start)
    medium = power.Medium(lying=lying)
    for path in start.iterdir():
        number = path.stat().st_ino
        medium.files[number] = bytearray(path.read_bytes())
        medium.names[str(path)] = medium.known[str(path)] = number
    record = tmp_path / "start.record"
    record.unlink(missing_ok=True)
    done = power.run(recorder, start, record, str(WORKLOAD), str(start), "0")
    if done.returncode != 0:
        assert lying, done.stderr
    if not record.exists():
        return
    rng = random.Random(12)
    markers: set[int] = set()
    for entry in power.entries(record):
        if is_marker(entry, markers):
            continue
        medium.take(entry)
        for how, left in medium.after_a_cut(rng):
            verdicts.seen["cuts in a recovery"] += 1
            place = f"recovery, {entry.kind} {entry.offset}, {how}"
            verdicts.judge(relative(left, start), safe, place, lying=lying)


@pytest.mark.slow
@pytest.mark.parametrize("lying", [False, True], ids=["honest", "lying"])
def test_cuts_of_a_short_life(recorder: Path, tmp_path: Path, lying: bool) -> None:
    seen = cut_everywhere(recorder, tmp_path, 5, lying=lying, recovery_every=300)
    print(dict(seen))
    assert seen["old"]
    assert seen["new"]
    assert seen["cuts in a recovery"]
    # Emptied only after a second synchronisation, the log outlives a lie about the first.
    assert not seen["refused, golden serves"]


@pytest.mark.long
@pytest.mark.parametrize("lying", [False, True], ids=["honest", "lying"])
def test_cuts_of_a_long_life(recorder: Path, tmp_path: Path, lying: bool) -> None:
    seen = cut_everywhere(recorder, tmp_path, 40, lying=lying, recovery_every=25)
    print(dict(seen))
    assert seen["cut points with their variants"] > 2000


def test_the_workload_ends_as_its_model(recorder: Path, tmp_path: Path) -> None:
    recorded(recorder, tmp_path / "whole", 12)
    with Database.create_or_open(tmp_path / "whole/store", KEY, max_bytes=MAX_BYTES) as database:
        assert database.commits == len(steps(12)) == 12
        assert differences(database, after(12, 12)) == []
