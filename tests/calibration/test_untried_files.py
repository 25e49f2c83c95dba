"""Which baselines may have a model file skip the probe in a child process."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import BaselineFormatError
from selfheal_edge.tflite.sandbox import probe as probing
from selfheal_edge.tflite.sandbox.known import known_hashes

KEY = bytes(range(32))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """This process has tried nothing yet."""
    before = set(known_hashes)
    known_hashes.clear()
    yield
    known_hashes.clear()
    known_hashes.update(before)


@pytest.fixture
def on_another_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Move to another device, as far as its secret goes."""
    return lambda: monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the files that are tried from now on, by kernels."""
    tried: list[str] = []
    prober = probing.Prober

    def counted(*arguments: Any, **options: Any) -> Any:
        tried.append(options["kernels"])
        return prober(*arguments, **options)

    monkeypatch.setattr(probing, "Prober", counted)
    return tried


def forge(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Change the fields of an unsigned baseline, as anyone can."""
    magic, version, length = struct.unpack_from("<8sII", data)
    header = json.loads(data[16 : 16 + length])
    change(header["fields"])
    encoded = json.dumps(header).encode()
    body = struct.pack("<8sII", magic, version, len(encoded)) + encoded + data[16 + length : -32]
    return body + hashlib.sha256(body).digest()


def opened(baseline: she.Baseline) -> None:
    she.SelfHealingModel(digits_model_path(), baseline).close()


@pytest.mark.usefixtures("forgotten")
def test_an_unsigned_one_from_elsewhere_spares_nothing(
    digits_baseline: she.Baseline,
    on_another_device: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert digits_baseline.tried_kernels
    data = digits_baseline.to_bytes()
    on_another_device()
    loaded = she.Baseline.from_bytes(data)
    loaded.skip_probe()
    assert loaded.tried_kernels == ()
    assert not known_hashes
    tried = trials(monkeypatch)
    opened(loaded)
    assert tried
    # Signed afterwards, it still says no more than what this device knows.
    assert she.Baseline.from_bytes(loaded.to_bytes(KEY), KEY).tried_kernels == ()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("key", [None, KEY])
def test_this_devices_own_and_signed_ones_do(
    digits_baseline: she.Baseline,
    on_another_device: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    key: bytes | None,
) -> None:
    data = digits_baseline.to_bytes(key)
    if key is not None:
        on_another_device()
    tried = trials(monkeypatch)
    opened(she.Baseline.from_bytes(data, key))
    assert tried == []


@pytest.mark.usefixtures("forgotten")
def test_a_mark_stands_for_one_file_alone(digits_baseline: she.Baseline) -> None:
    def another_file(fields: dict[str, Any]) -> None:
        fields["built_sha256"] = "0" * 64

    def another_runtime(fields: dict[str, Any]) -> None:
        fields["fingerprint"]["version"] = "99"

    def no_mark(fields: dict[str, Any]) -> None:
        del fields["made_here"]

    def nonsense(fields: dict[str, Any]) -> None:
        fields["made_here"] = "ä"

    data = digits_baseline.to_bytes()
    assert she.Baseline.from_bytes(data).tried_kernels == digits_baseline.tried_kernels
    for change in (another_file, another_runtime, no_mark, nonsense):
        assert she.Baseline.from_bytes(forge(data, change)).tried_kernels == ()


def secret() -> Path:
    return Path(os.environ["XDG_STATE_HOME"]) / "selfheal-edge" / "device-secret"


def test_a_secret_that_others_may_have_seen_is_none(
    digits_baseline: she.Baseline, on_another_device: Callable[[], None]
) -> None:
    on_another_device()
    data = digits_baseline.to_bytes()
    assert secret().stat().st_mode & 0o777 == 0o600
    assert she.Baseline.from_bytes(data).tried_kernels
    secret().chmod(0o644)
    assert she.Baseline.from_bytes(data).tried_kernels == ()
    secret().chmod(0o600)
    secret().rename(secret().with_name("elsewhere"))
    secret().symlink_to("elsewhere")
    assert she.Baseline.from_bytes(data).tried_kernels == ()


def test_nowhere_to_keep_a_secret(
    digits_baseline: she.Baseline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    data = digits_baseline.to_bytes()
    assert she.Baseline.from_bytes(data).tried_kernels == ()
    assert she.Baseline.from_bytes(digits_baseline.to_bytes(KEY), KEY).tried_kernels


def test_one_of_a_release_before_asks_for_a_calibration(digits_baseline: she.Baseline) -> None:
    """Its references lie where new samples do not, and it has no limits: alarms would be false."""

    def older(fields: dict[str, Any]) -> None:
        for name in ("state", "ignore", "shapes", "made_here"):
            del fields[name]

    data = forge(digits_baseline.to_bytes(), older)
    data = data[:8] + struct.pack("<I", 2) + data[12:-32]
    with pytest.raises(BaselineFormatError, match=r"expected version 4, got 2.*calibrate again"):
        she.Baseline.from_bytes(data + hashlib.sha256(data).digest())


@pytest.mark.usefixtures("forgotten")
@pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed")
def test_the_user_has_a_file_skip_the_probe(
    digits_baseline: she.Baseline, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = she.ProbePolicy(vouched=(digits_baseline.model_sha256,))
    tried = trials(monkeypatch)
    baseline = she.calibrate(digits_model_path(), digits.calibration_inputs[:60], probe=probe)
    assert tried == []
    # Compared in this process, perhaps; tried in a child, not.
    assert set(baseline.tried_kernels) <= {"compared"}
    policy = she.Policy(probe=probe)
    she.SelfHealingModel(digits_model_path(), baseline, policy=policy).close()
    assert tried == []
    opened(baseline)
    assert tried
