"""The whole loop on what no public model at hand has: int16 activations, several subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_models import accumulating, branching_classifier, int16_classifier
from tests.support import Array, Raw, answers, internals, kinds, same

import selfheal_edge as she
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.runtimes.select import KernelsArgument

pytestmark = pytest.mark.usefixtures("plain_calibration")

MADE: dict[str, Callable[[], bytes]] = {
    "int16x8": int16_classifier,
    "branching": branching_classifier,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models as files."""
    folder = tmp_path_factory.mktemp("made")
    for name, make in MADE.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.fixture(params=["auto", "default", "builtin"])
def kernels(request: pytest.FixtureRequest) -> KernelsArgument:
    """Each kind of kernels."""
    chosen: KernelsArgument = request.param
    return chosen


@pytest.fixture(params=MADE)
def guarded(
    request: pytest.FixtureRequest, folder: Path, runtime: RuntimeName, kernels: KernelsArgument
) -> Iterator[tuple[Path, she.SelfHealingModel]]:
    """A calibrated model and its file."""
    path = folder / request.param
    inputs = random_inputs(path, 200, seed=1)
    baseline = she.calibrate(path, inputs, runtime=runtime, kernels=kernels, seed=1)
    with she.SelfHealingModel(
        path, baseline, runtime=runtime, kernels=kernels, policy=she.Policy(), seed=1
    ) as model:
        yield path, model


def random_inputs(path: Path, count: int, seed: int) -> Array:
    if path.name == "branching":
        return np.random.default_rng(seed).standard_normal((count, 1, 16)).astype(np.float32)
    rng = np.random.default_rng(seed)
    return rng.normal(0, 8000, (count, 1, 8, 8, 1)).astype(np.int16)


def running_image(model: she.SelfHealingModel) -> str:
    """Return where the largest weights run from: LiteRT packs none that have int16 inputs."""
    return max(model.weights.coverage.weights, key=lambda row: row.region.nbytes).image


def check_serves(path: Path, model: she.SelfHealingModel, count: int = 40) -> list[Array]:
    place = model.health.fingerprint
    raw = Raw(path, place.runtime, place.kernels)  # type: ignore[arg-type]
    inputs = random_inputs(path, count, seed=2)
    results = [answers(model, x) for x in inputs]
    for x, y in zip(inputs, results, strict=True):
        assert same(y, raw.run([x]))
    return [np.concatenate([y[0] for y in results])]


def test_every_damaged_region_is_healed_bit_for_bit(
    guarded: tuple[Path, she.SelfHealingModel],
) -> None:
    path, model = guarded
    golden = check_serves(path, model)
    assert len(np.unique(golden[0].argmax(axis=1))) > 1
    bytes_before = {name: bytes(image.live) for name, image in internals(model).images.items()}
    assert len(bytes_before["source"]) >= path.stat().st_size  # ours, with the taps
    for name, image in internals(model).images.items():
        for region in image.regions.values():
            if not region.nbytes:
                continue
            memory = she.redteam.inject(model).memory(name)
            memory[region.offset + region.nbytes // 2] ^= np.uint8(0x10)
            (block,) = model.weights.scrub()
            assert region.name in block.regions
            assert set(region.modules) <= set(block.modules)
            assert model.weights.scrub(repair=False) == ()
        assert bytes(image.live) == bytes_before[name]
    she.redteam.inject(model).flip_bits(200, seed=3)
    she.redteam.inject(model).flip_bits(200, image="source", seed=4)
    assert model.weights.scrub()
    assert {n: bytes(i.live) for n, i in internals(model).images.items()} == bytes_before
    assert model.health.state == "healthy"
    assert same(check_serves(path, model), golden)


def test_damage_while_serving_is_found_and_healed(
    guarded: tuple[Path, she.SelfHealingModel],
) -> None:
    """No call but `predict`: the sweep finds it, and what follows is right."""
    path, model = guarded
    golden = check_serves(path, model)
    image = running_image(model)
    region = max(
        (r for r in model.weights.images[image].regions.values() if r.modules),
        key=lambda r: r.nbytes,
    )
    she.redteam.inject(model).memory(image)[region.offset] ^= np.uint8(0x40)
    for x in random_inputs(path, 300, seed=4):
        model.predict(x)
        if model.health.corrupt_blocks:
            break
    assert model.health.corrupt_blocks == 1
    assert {"diagnosis", "repair"} <= set(kinds(model))
    assert model.weights.scrub(repair=False) == ()
    assert same(check_serves(path, model), golden)


def test_each_module_can_be_rolled_back(guarded: tuple[Path, she.SelfHealingModel]) -> None:
    """Those of inner subgraphs too, in both images."""
    path, model = guarded
    golden = check_serves(path, model)
    graphs = {name.split("/")[0] for name in model.weights.modules}
    assert graphs >= ({"0", "1", "2", "4"} if path.name == "branching" else {"0"})
    for module in model.weights.modules:
        model.rollback(modules=[module])
    for name, image in internals(model).images.items():
        if name == running_image(model) == "packed":
            named = {m for region in image.regions.values() for m in region.modules}
            assert all(r.modules for r in image.regions.values() if r.kind == "weights")
            assert {m.split("/")[0] for m in named} == graphs - {"3"}  # the loop's condition
    assert same(check_serves(path, model), golden)


def test_commissioning_contradicts_nothing(guarded: tuple[Path, she.SelfHealingModel]) -> None:
    path, model = guarded
    before = model.health.coverage.weight_bytes
    model.commission()
    assert "0 contradicted the table" in str([e for e in model.events if e.kind == "commissioned"])
    assert model.health.coverage.weight_bytes == before
    place = model.health.fingerprint
    if "packed" in model.weights.images:
        # All but the four bytes that LESS compares with.
        assert before[Coverage.EXECUTING] >= sum(before.values()) - 4
    elif path.name == "branching" and place.kernels == "default":
        assert model.health.coverage.worst is Coverage.SOURCE
    check_serves(path, model)


def test_a_state_in_resource_variables_is_left_alone(
    tmp_path: Path, runtime: RuntimeName, kernels: KernelsArgument
) -> None:
    """Nothing that looks after the model is heard in its answers, and damage starts it anew."""
    path = tmp_path / "model"
    path.write_bytes(accumulating())
    x = np.random.default_rng(0).standard_normal((200, 1, 8)).astype(np.float32)
    baseline = she.calibrate(path, x, runtime=runtime, kernels=kernels, seed=1)
    policy = she.Policy(known_answers_every=5, rebuild_after_predictions=7)
    with she.SelfHealingModel(
        path, baseline, runtime=runtime, kernels=kernels, policy=policy, seed=1
    ) as model:
        assert model.health.coverage.worst is not Coverage.SOURCE or kernels == "default"
        model.commission()
        chosen: Any = model.health.fingerprint.kernels
        raw = Raw(path, runtime, chosen)
        for row in x[:40]:
            assert model.weights.scrub() == ()
            assert same(answers(model, row), raw.run([row]))
        assert model.health.repairs == model.health.failed_repairs == 0
        weights = next(r for r in model.weights.coverage.rows if r.region.kind == "weights")
        she.redteam.inject(model).memory("source")[weights.region.offset] ^= np.uint8(1)
        assert len(model.weights.scrub()) == 1
        fresh = Raw(path, runtime, chosen)
        assert same(answers(model, x[0]), fresh.run([x[0]]))
