"""A baseline survives the disk, or is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import ROOT, Array, answers, examples, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import BaselineFormatError

KEY = bytes(range(32))


def equal(left: she.Baseline, right: she.Baseline) -> bool:
    """Whether two baselines are the same, down to every reference's state."""
    return left.to_bytes() == right.to_bytes()


@pytest.mark.parametrize("key", [None, KEY, b"x" * 16])
def test_round_trip(digits_baseline: she.Baseline, tmp_path: Path, key: bytes | None) -> None:
    path = tmp_path / "digits.baseline"
    digits_baseline.save(path, key)
    loaded = she.Baseline.load(path, key=key)
    assert equal(loaded, digits_baseline)
    for field in dataclasses.fields(digits_baseline):
        if field.name not in (
            "references",
            "label_mix",
            "known_answers",
            "embedding",
            "correctness",
            "profile",
            "regimes",
            "signed",
        ):
            assert getattr(loaded, field.name) == getattr(digits_baseline, field.name)
    assert loaded.signed is (key is not None)
    assert loaded.embedding is not None
    assert digits_baseline.embedding is not None
    assert loaded.embedding.tensor == digits_baseline.embedding.tensor
    assert loaded.embedding.classes.tolist() == list(range(10))
    assert np.array_equal(loaded.embedding.centroids, digits_baseline.embedding.centroids)
    assert np.array_equal(loaded.embedding.precision, digits_baseline.embedding.precision)
    assert loaded.regimes is not None
    assert digits_baseline.regimes is not None
    assert loaded.regimes.to_bytes() == digits_baseline.regimes.to_bytes()
    assert loaded.label_mix is not None
    assert digits_baseline.label_mix is not None
    assert loaded.label_mix.state() == digits_baseline.label_mix.state()
    assert loaded.correctness is not None
    assert digits_baseline.correctness is not None
    for name, array in digits_baseline.correctness.to_arrays().items():
        assert np.array_equal(loaded.correctness.to_arrays()[name], array)
    assert loaded.profile.keys() == digits_baseline.profile.keys() != set()
    for name, array in digits_baseline.profile.items():
        assert np.array_equal(loaded.profile[name], array)
    rng = np.random.default_rng(0)
    for name, reference in digits_baseline.references.items():
        for x in rng.uniform(reference.lowest - 1, reference.highest + 1, 50):
            assert loaded.references[name].score(x) == reference.score(x)
    assert [p.name for p in tmp_path.iterdir()] == ["digits.baseline"]


def test_a_loaded_baseline_serves(
    digits_baseline: she.Baseline, samples: Array, model: she.SelfHealingModel
) -> None:
    loaded = she.Baseline.from_bytes(digits_baseline.to_bytes())
    with she.SelfHealingModel(digits_model_path(), loaded) as other:
        assert same(answers(other, samples), answers(model, samples))
        assert other.events == ()


@pytest.fixture(scope="module")
def plain(digits_baseline: she.Baseline) -> bytes:
    return digits_baseline.to_bytes()


@pytest.fixture(scope="module")
def keyed(digits_baseline: she.Baseline) -> bytes:
    return digits_baseline.to_bytes(KEY)


class TestRefused:
    @given(data=st.data(), mask=st.integers(1, 255))
    @examples(200)
    def test_any_byte_changed(self, plain: bytes, data: st.DataObject, mask: int) -> None:
        place = data.draw(st.integers(0, len(plain) - 1))
        changed = bytearray(plain)
        changed[place] ^= mask
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(bytes(changed))

    @given(data=st.data())
    @examples(100)
    def test_any_truncation(self, plain: bytes, data: st.DataObject) -> None:
        length = data.draw(st.integers(0, len(plain) - 1))
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(plain[:length])

    @given(tail=st.binary(min_size=1, max_size=100))
    @examples(30)
    def test_any_tail(self, plain: bytes, tail: bytes) -> None:
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(plain + tail)

    @given(junk=st.binary(max_size=200))
    @examples(100)
    def test_junk(self, junk: bytes) -> None:
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(junk)

    def test_keys(self, plain: bytes, keyed: bytes) -> None:
        for data, key in ((keyed, None), (plain, KEY), (keyed, KEY[::-1]), (keyed, KEY[:-1])):
            with pytest.raises(BaselineFormatError, match="signed with another key or with none"):
                she.Baseline.from_bytes(data, key)
        she.Baseline.from_bytes(keyed, KEY)

    @pytest.mark.parametrize("place", [0, 8, 12, 40, -40, -1])
    def test_a_keyed_file_changed_and_tagged_anew(self, keyed: bytes, place: int) -> None:
        """Who has no key can compute a SHA-256, and it helps them nothing."""
        changed = bytearray(keyed)
        changed[place] ^= 1
        forged = bytes(changed[:-32]) + hashlib.sha256(changed[:-32]).digest()
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(forged, KEY)

    def test_foreign_and_newer(self, plain: bytes, tmp_path: Path) -> None:
        path = tmp_path / "b"
        path.write_bytes(b"PK\3\4" + bytes(100))
        with pytest.raises(BaselineFormatError, match=rf"{path}: expected it to begin with b'SHE-"):
            she.Baseline.load(path)
        path.write_bytes(plain[:8] + struct.pack("<I", 5) + plain[12:])
        with pytest.raises(
            BaselineFormatError, match=r"expected version 4 or older, got 5, which a"
        ):
            she.Baseline.load(path)
        older = plain[:8] + struct.pack("<I", 1) + plain[12:-32]
        path.write_bytes(older + hashlib.sha256(older).digest())
        with pytest.raises(
            BaselineFormatError, match=r"expected version 4, got 1, .*: calibrate again"
        ):
            she.Baseline.load(path)

    def test_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            she.Baseline.load(tmp_path / "none")
        with pytest.raises(IsADirectoryError):
            she.Baseline.load(tmp_path)

    @pytest.mark.parametrize(
        ("key", "error", "message"),
        [
            (b"short", ValueError, "key: expected at least 16 bytes, got 5"),
            ("x" * 32, TypeError, "key: expected bytes or None, got str"),
        ],
    )
    def test_bad_keys(
        self, digits_baseline: she.Baseline, tmp_path: Path, key: Any, error: type, message: str
    ) -> None:
        with pytest.raises(error, match=message):
            digits_baseline.save(tmp_path / "b", key)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(error, match=message):
            she.Baseline.from_bytes(digits_baseline.to_bytes(), key)

    FIELDS: tuple[tuple[str, Any], ...] = (
        ("samples", 0),
        ("samples", -5),
        ("samples", "many"),
        ("samples", float("inf")),
        ("false_alarm_interval", 0),
        ("false_alarm_interval", float("nan")),
        ("limits", {"max_repeats": -1, "max_frozen": 0, "least_spread": {}}),
        ("limits", {"max_repeats": 9, "max_frozen": 0, "least_spread": {"input_std": -1.0}}),
        ("limits", {"max_repeats": 9, "max_frozen": 0, "least_spread": 3}),
        ("limits", {"max_repeats": 9}),
        ("limits", None),
        ("left_out", 3),
        ("output_kind", "music"),
        ("output_kind", []),
        ("signals", ["nothing"]),
        ("signals", None),
        ("fingerprint", {"runtime": "litert"}),
        ("fingerprint", None),
        ("known", [99]),
        ("known", "x"),
        ("tried_kernels", 5),
    )

    @pytest.mark.parametrize(("name", "value"), FIELDS)
    def test_a_sound_tag_over_nonsense(self, plain: bytes, name: str, value: Any) -> None:
        magic, version, length = struct.unpack_from("<8sII", plain)
        header = json.loads(plain[16 : 16 + length])
        header["fields"][name] = value
        encoded = json.dumps(header).encode()
        body = (
            struct.pack("<8sII", magic, version, len(encoded)) + encoded + plain[16 + length : -32]
        )
        with pytest.raises(BaselineFormatError, match="expected a complete baseline, got"):
            she.Baseline.from_bytes(body + hashlib.sha256(body).digest())

    @pytest.mark.slow
    @given(
        header=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["fields", "arrays", "keyed", "dtype", "shape", "offset", "a"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=12,
        )
    )
    @examples(200)
    def test_any_header(self, header: Any) -> None:
        encoded = json.dumps(header).encode()
        body = struct.pack("<8sII", b"SHE-BASE", 1, len(encoded)) + encoded + bytes(64)
        with pytest.raises(BaselineFormatError):
            she.Baseline.from_bytes(body + hashlib.sha256(body).digest())


class TestDisk:
    """What goes wrong while writing leaves the old file whole."""

    def other(self, baseline: she.Baseline) -> she.Baseline:
        return dataclasses.replace(baseline, false_alarm_interval=12345.0)

    def test_replaced(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        path = tmp_path / "b"
        digits_baseline.save(path)
        self.other(digits_baseline).save(path)
        assert she.Baseline.load(path).false_alarm_interval == 12345.0

    def test_the_bytes_reach_the_disk_before_the_name(
        self, digits_baseline: she.Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a power cut leaves a whole name over an empty file."""
        calls: list[str] = []
        for name in ("fsync", "replace"):
            real = getattr(os, name)

            def noted(*args: Any, name: str = name, real: Any = real) -> Any:
                calls.append(name)
                return real(*args)

            monkeypatch.setattr(os, name, noted)
        digits_baseline.save(tmp_path / "b")
        assert calls == ["fsync", "replace", "fsync"]  # the file, its name, its folder

    def test_no_folder(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            digits_baseline.save(tmp_path / "none" / "b")

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    def test_disk_full(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        path = tmp_path / "b"
        digits_baseline.save(path)
        code = (
            "import resource, signal, sys, dataclasses\n"
            "import selfheal_edge as she\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "baseline = dataclasses.replace(she.Baseline.load(sys.argv[1]), samples=7)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n    baseline.save(sys.argv[1])\n"
            "except OSError as error:\n    print('OSError', error.errno)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.startswith("OSError"), done
        assert equal(she.Baseline.load(path), digits_baseline)
        assert [p.name for p in tmp_path.iterdir()] == ["b"]

    @pytest.mark.slow
    def test_killed_while_saving(self, digits_baseline: she.Baseline, tmp_path: Path) -> None:
        """Old or new, never a mixture."""
        path = tmp_path / "b"
        digits_baseline.save(path)
        code = (
            "import dataclasses, itertools, sys\n"
            "import selfheal_edge as she\n"
            "baseline = she.Baseline.load(sys.argv[1])\n"
            "for n in itertools.count(int(sys.argv[2])):\n"
            "    new = dataclasses.replace(baseline, samples=n, false_alarm_interval=n)\n"
            "    new.save(sys.argv[1])\n"
            "    print('saved', flush=True)\n"
        )
        rng = np.random.default_rng(0)
        for first in range(10**6, 7 * 10**6, 10**6):
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(path), str(first)], stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            assert child.stdout.readline() == b"saved\n"
            time.sleep(float(rng.uniform(0, 0.1)))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()
            loaded = she.Baseline.load(path)
            assert loaded.samples == loaded.false_alarm_interval
            assert first <= loaded.samples < first + 10**6

    def test_what_a_killed_writer_left_goes_with_the_next_save(
        self, digits_baseline: she.Baseline, tmp_path: Path
    ) -> None:
        path = tmp_path / "b"
        digits_baseline.save(path)
        # Another process stops in the middle of a save, its temporary file written and locked.
        code = (
            "import os, signal, sys\n"
            "import selfheal_edge as she\n"
            "baseline = she.Baseline.load(sys.argv[1])\n"
            "def stop(*_):\n"
            "    print('stopped', flush=True)\n"
            "    signal.pause()\n"
            "os.replace = stop\n"
            "baseline.save(sys.argv[1])\n"
        )
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"stopped\n"
        others = [tmp_path / ".b.notes", tmp_path / ".c.x.unfinished", tmp_path / ".b.y"]
        for other in others:
            other.write_bytes(b"not ours")

        def left() -> set[str]:
            return {p.name for p in tmp_path.iterdir()} - {"b"} - {o.name for o in others}

        assert len(left()) == 1
        digits_baseline.save(path)
        assert len(left()) == 1  # its writer lives
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        digits_baseline.save(path)
        assert left() == set()
        assert all(other.read_bytes() == b"not ours" for other in others)
        assert equal(she.Baseline.load(path), digits_baseline)


def test_paths_are_not_in_files(digits_baseline: she.Baseline) -> None:
    assert str(ROOT).encode() not in digits_baseline.to_bytes()


def test_what_was_tried_elsewhere_is_not_taken_over(digits_baseline: she.Baseline) -> None:
    """A file that was tried on the PC that calibrated was not tried on the device."""
    far = dataclasses.replace(
        digits_baseline, built_sha256="0" * 64, tried_kernels=("default", "compiled")
    )
    here = far.with_known_answers(far.known_answers, far.fingerprint)
    assert here.tried_kernels == ()
