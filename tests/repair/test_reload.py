"""Building from the file's bytes anew: whatever comes in between, what runs is what is watched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.support import Array, answers, bytes_of, executing, internals, pristine, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.guarded_image import guard_instance
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName


@pytest.fixture
def quiet(digits_baseline: she.Baseline, runtime: RuntimeName) -> Iterator[she.SelfHealingModel]:
    """A guarded model that checks only when asked."""
    policy = she.Policy(scrub_bytes_per_predict=0)
    with she.SelfHealingModel(
        digits_model_path(), digits_baseline, runtime=runtime, policy=policy
    ) as model:
        yield model


def live_bytes(model: she.SelfHealingModel) -> Array:
    """Return the bytes of the running instance, guarded or not."""
    name = executing(model)
    if name == "packed":
        return np.frombuffer(parts_of(model).session.instance.images["packed"], np.uint8)
    return np.frombuffer(parts_of(model).session.source.view, np.uint8)


def place(memory: Any) -> int:
    return int(np.frombuffer(memory, np.uint8).__array_interface__["data"][0])


def check_watched(model: she.SelfHealingModel, x: Array, expected: list[Array]) -> None:
    """What runs is guarded: a flip there is found, and healed bit for bit."""
    watched = internals(model).images
    for name, live in parts_of(model).session.instance.images.items():
        assert place(watched[name].live) == place(live)
    assert model.weights.scrub(repair=False) == ()
    golden = pristine(digits_model_path(), model)
    assert bytes_of(model) == golden
    live_bytes(model)[len(golden) // 2] ^= np.uint8(4)
    assert len(model.weights.scrub()) == 1
    assert live_bytes(model).tobytes() == golden
    assert same(answers(model, x), expected)
    assert model.health.state == "healthy"


def test_a_reload_guards_the_new_instance(quiet: she.SelfHealingModel, samples: Array) -> None:
    expected = answers(quiet, samples[:20])
    instance = parts_of(quiet).session.instance
    parts_of(quiet).loop.repairs.reload()
    assert parts_of(quiet).session.instance is not instance
    check_watched(quiet, samples[:20], expected)


@pytest.mark.parametrize("when", ["before", "after", "no memory"])
def test_a_failed_reload_leaves_the_old_instance_watched(
    quiet: she.SelfHealingModel, samples: Array, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A fault hits the new instance while its guard is made: before it is sealed, or after."""
    expected = answers(quiet, samples[:20])
    repairs, instance = parts_of(quiet).loop.repairs, parts_of(quiet).session.instance
    if when != "no memory" and executing(quiet) == "source":
        pytest.skip("nothing but the source runs here, and that is written anew")
    make = guard_instance

    def hit(source: memoryview, regions: Any, fresh: Any, options: Any, *others: Any) -> Any:
        if when == "no memory":
            raise MemoryError
        live = np.frombuffer(fresh.images.get("packed", source), np.uint8)
        if when == "before":
            live[1000] ^= np.uint8(1)
            return make(source, regions, fresh, options, *others)
        guarded = make(source, regions, fresh, options, *others)
        live[1000] ^= np.uint8(1)
        return guarded

    monkeypatch.setattr("selfheal_edge.loop.assembly.guard_instance", hit)
    with pytest.raises(MemoryError if when == "no memory" else IntegrityError):
        repairs.reload()
    assert parts_of(quiet).session.instance is instance
    check_watched(quiet, samples[:20], expected)
    monkeypatch.undo()
    repairs.reload()
    assert parts_of(quiet).session.instance is not instance
    check_watched(quiet, samples[:20], expected)


def test_a_reload_does_not_settle_for_less(
    quiet: she.SelfHealingModel, samples: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance whose packed weights are not mapped does not replace one that is watched."""
    if executing(quiet) != "packed":
        pytest.skip("nothing is packed here")
    expected = answers(quiet, samples[:20])
    instance = parts_of(quiet).session.instance
    runtime = parts_of(quiet).session.choice.runtime
    monkeypatch.setattr(runtime, "version", "9.9.9")
    monkeypatch.setattr(runtime, "_refusals", {})
    with pytest.raises(IntegrityError, match=r"expected the images \['input', 'packed'"):
        parts_of(quiet).loop.repairs.reload()
    monkeypatch.undo()
    assert parts_of(quiet).session.instance is instance
    check_watched(quiet, samples[:20], expected)
