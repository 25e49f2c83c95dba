"""What a file names reaches no terminal, log or message as it is."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Array
from tests.tflite.builder import Builder

import selfheal_edge as she
from selfheal_edge.cli import main
from selfheal_edge.errors import BaselineFormatError, ModelFormatError
from selfheal_edge.store.journal import Event
from selfheal_edge.text import MESSAGE, NAME, quoted, shown
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u2066\r\n\x9b31m\x00\ue000<b>"
LONG = HOSTILE + "n" * 300_000
MOST = MESSAGE + 200


def is_clean(text: str) -> bool:
    """Whether a text is printable but for the newlines between lines that we print."""
    return all(line.isprintable() for line in text.split("\n")) and "owned\x07" not in text


def check(text: str, most: int = MOST) -> None:
    assert is_clean(text), ascii(text)[:400]
    assert len(text) <= most


@given(st.text(), st.integers(8, 200))
def test_any_text(text: str, limit: int) -> None:
    seen = shown(text, limit)
    assert seen.isprintable()
    assert len(seen) <= limit
    assert shown(seen, limit) == seen
    if text.isprintable() and len(text) <= limit:
        assert seen == text


def test_what_is_seen_of_a_text() -> None:
    assert shown("\x1b[31mred\x1b[0m") == "\\x1b[31mred\\x1b[0m"
    assert shown("a\nb\tc\r") == "a\\nb\\tc\\r"
    assert shown("\u202e\ud800\U000e0001") == "\\u202e\\ud800\\U000e0001"
    assert shown("größe/日本語") == "größe/日本語"
    assert shown("a" * 50 + "z" * 50, 21) == "a" * 9 + "..." + "z" * 9
    assert quoted("it") == "'it'"
    assert shown(17) == "17"
    assert len(shown(LONG)) <= NAME


def hostile_model(name: str) -> bytes:
    """Return ``relu(w x)`` of two inputs, every name in the file a hostile one."""
    builder = Builder()
    builder.tree["description"] = name
    graph = builder.graph()
    graph.tree["name"] = name
    rng = np.random.default_rng(0)
    left, right, total, scores = (
        graph.tensor([1, n], name=f"{name}{n}{i}") for i, n in enumerate((6, 6, 6, 3))
    )
    graph.operator("ADD", [left, right], [total], ("AddOptions", {}))
    values = rng.standard_normal((3, 6)).astype(np.float32)
    weights = graph.tensor([3, 6], data=values.tobytes(), name=f"{name}w")
    bias = graph.tensor([3], data=bytes(12), name=f"{name}b")
    graph.operator(
        "FULLY_CONNECTED", [total, weights, bias], [scores], ("FullyConnectedOptions", {})
    )
    graph.tree.update(inputs=[left, right], outputs=[scores, total])
    return builder.file()


@pytest.fixture(scope="module", params=[HOSTILE, LONG], ids=["short", "long"])
def hostile(request: pytest.FixtureRequest) -> bytes:
    return hostile_model(request.param)


def batch(specs: Any, count: int = 60, shift: float = 0.0) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {s.name: (rng.normal(shift, 1, (count, 1, 6))).astype(np.float32) for s in specs}


@pytest.fixture
def served(hostile: bytes, runtime: RuntimeName) -> Iterator[she.SelfHealingModel]:
    from selfheal_edge.tflite.session import Session

    session = Session(hostile, runtime)
    given = batch(session.instance.inputs, 400)
    session.close()
    baseline = she.calibrate(hostile, given, runtime=runtime, seed=0)
    with she.SelfHealingModel(hostile, baseline, runtime=runtime, seed=0) as model:
        yield model


def test_inspect(
    hostile: bytes, runtime: RuntimeName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model\x1b[2J.tflite"
    path.write_bytes(hostile)
    assert main(["inspect", str(path), "--runtime", runtime]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\\x1b[2J" in out
    for line in out.splitlines():
        check(line)
    assert len(out) < 20_000


def test_errors_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad\x1b[2J\n.tflite"
    bad.write_bytes(b"\x1b[2J" * 100)
    for path in (bad, tmp_path / "none\x1b]0;x\x07"):
        assert main(["inspect", str(path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        check(err.removesuffix("\n"))
        assert "\n" not in err[:-1]


def test_events_health_and_logs(
    served: she.SelfHealingModel, caplog: pytest.LogCaptureFixture
) -> None:
    moved = batch(served.inputs, 400, shift=5.0)
    with caplog.at_level(logging.DEBUG, "selfheal_edge"):
        for n in range(400):
            served.predict({name: rows[n] for name, rows in moved.items()})
        she.redteam.inject(served).flip_bits(3, seed=0)
        served.weights.scrub()
    events = served.events
    assert {"alarm", "diagnosis"} <= {event.kind for event in events}
    assert any("\\x1b" in str(event) for event in events)
    for event in events:
        check(str(event), 4 * MOST)
        for text in (*event.evidence, event.outcome, event.cause, event.strategy):
            check(text or "")
    check(str(served.health.coverage))
    check(str(served.health.protected_share))
    check(repr(served))
    check("\n".join(record.getMessage() for record in caplog.records), 20_000)
    rows = served.infer({name: rows[0] for name, rows in moved.items()})
    for alarm in rows.alarms:
        check(str(alarm))


def test_exceptions(served: she.SelfHealingModel, hostile: bytes, runtime: RuntimeName) -> None:
    x = {name: rows[0] for name, rows in batch(served.inputs).items()}
    name = next(iter(x))
    wrong: list[Any] = [
        next(iter(x.values())),
        {**x, name: x[name].astype(np.float64)},
        {**x, name: x[name][:, :3]},
        {**x, name: np.full_like(x[name], np.nan)},
        {name: x[name]},
        {**x, "more\x1b[2J": x[name]},
        {HOSTILE: x[name]},
    ]
    for inputs in wrong:
        with pytest.raises((TypeError, ValueError)) as caught:
            served.predict(inputs)
        check(str(caught.value))
    calls: list[Any] = [
        lambda: served.rollback(modules=[HOSTILE, LONG]),
        lambda: she.redteam.inject(served).memory(LONG),
        lambda: she.calibrate(hostile, batch(served.inputs), embedding=LONG, runtime=runtime),
        lambda: she.calibrate(hostile, batch(served.inputs), embedding=name, runtime=runtime),
        lambda: she.calibrate(hostile, batch(served.inputs), ignore=(LONG,), runtime=runtime),
        lambda: she.calibrate(hostile, batch(served.inputs), shapes={LONG: (1,)}, runtime=runtime),
        lambda: she.calibrate(hostile, batch(served.inputs), shapes={name: (1,)}, runtime=runtime),
        lambda: she.ProbePolicy(vouched=(LONG,)),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        check(str(caught.value))


def test_what_a_baseline_says(served: she.SelfHealingModel, digits_baseline: she.Baseline) -> None:
    with pytest.raises(she.errors.BaselineMismatchError) as caught:
        digits_baseline.check_model(LONG)
    check(str(caught.value))
    place = dataclasses.replace(digits_baseline.fingerprint, machine=LONG)

    check(str(place))
    with pytest.raises(BaselineFormatError) as caught_too:
        she.Baseline.from_bytes(b"\x1b[2J" * 40, what=LONG)
    check(str(caught_too.value))
    assert served.baseline.references


def test_our_errors_and_events_whatever_they_are_made_of() -> None:
    for error in (
        ModelFormatError(LONG),
        she.errors.StoreError(HOSTILE),
        BaselineFormatError(LONG),
    ):
        check(str(error))
    facts = (LONG, HOSTILE)
    event = Event(0, 0.0, 0.0, she.EventKind.ALARM, None, facts, LONG, LONG, 3)
    check(str(event), 5 * MOST)
    check(event.outcome or "")
    assert not re.search("\x1b", repr(event))
