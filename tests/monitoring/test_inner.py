"""Further inner tensors beside the embedding: mean and active share of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Array, examples, stream

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.embedding import find_embedding, find_inner
from selfheal_edge.tflite.file.model_file import ModelFile


@given(
    dtype=st.sampled_from(["int8", "uint8", "int16", "float32"]),
    size=st.integers(1, 300),
    zero=st.integers(-200, 200),
    backend=st.sampled_from(_core.signal_backends()),
    seed=st.integers(0, 2**32 - 1),
)
@examples(200)
def test_signals_against_numpy(dtype: str, size: int, zero: int, backend: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, zero = (1.0, 0) if dtype == "float32" else (0.25, zero)
    if dtype == "float32":
        x: Array = rng.normal(0.2, 1.0, size).astype(np.float32)
    else:
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, size, endpoint=True).astype(dtype)
    layout = _core.TensorLayout(dtype, size, scale=scale, zero_point=zero)
    measured = _core.SignalPass([], [], inner=[layout, layout], backend=backend)
    assert measured.names == [
        (role, n) for n in range(2) for role in ("inner_mean", "inner_active")
    ]
    row = np.empty(4)
    measured.measure([], [], None, row, [x, None])
    real = scale * (x.astype(np.float64) - zero)
    assert row[0] == pytest.approx(real.mean(), rel=1e-6, abs=1e-6)
    assert row[1] == pytest.approx((real > 0).mean())
    assert np.isnan(row[2:]).all()
    if dtype == "float32":
        x[0] = np.nan
        measured.measure([], [], None, row, [x, x])
        assert np.isnan(row).all()


@pytest.fixture(scope="module")
def watched() -> she.Baseline:
    digits = load_digits()
    return she.calibrate(digits_model_path(), digits.calibration_inputs, inner="stages", seed=1)


@pytest.mark.slow
def test_a_tensor_a_stage_is_measured_and_changes_no_answer(
    watched: she.Baseline, digits_baseline: she.Baseline, samples: Array
) -> None:
    assert len(watched.inner) >= 2
    names = [name for name in watched.references if name.startswith("inner")]
    assert names == [
        f"{role}[{n}]" for n in range(len(watched.inner)) for role in ("inner_mean", "inner_active")
    ]
    again = she.Baseline.from_bytes(watched.to_bytes())
    assert (again.inner, again.digest) == (watched.inner, watched.digest)
    x = stream(samples, 150, seed=3)
    rows = []
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as plain:
        expected = np.asarray(plain.predict(x))
        coverage = plain.health.coverage.weight_bytes
    with she.SelfHealingModel(digits_model_path(), again, seed=1) as model:
        assert np.array_equal(np.asarray(model.predict(x)), expected)
        assert model.health.coverage.weight_bytes == coverage
        assert not [event for event in model.events if event.kind == "alarm"]
        parts = parts_of(model)
        instance, extractor = parts.session.instance, parts.extractor
        for one in x[:5]:
            outputs = instance.run([one])
            tapped = instance.tapped()
            rows.append(extractor.measure([one], outputs, tapped).values)
            for n, spec in enumerate(instance.taps[1:]):
                real = spec.scale * (tapped[n + 1].astype(np.float64) - spec.zero_point)
                got = dict(zip(extractor.names, rows[-1], strict=True))
                assert got[f"inner_mean[{n}]"] == pytest.approx(real.mean(), rel=1e-5)
                assert got[f"inner_active[{n}]"] == pytest.approx((real > 0).mean())
        scores = parts.monitor.window
        assert np.isfinite(scores[:, [extractor.names.index(name) for name in names]]).all()


def test_names_are_found_or_refused() -> None:
    file = ModelFile.of(digits_model_path())
    embedding = find_embedding(file, None)
    assert embedding is not None
    tensors = file.subgraphs[0].tensors
    stages = find_inner(file, "stages", embedding)
    chosen = tuple(tensors[i].name for i in stages)
    assert find_inner(file, chosen, embedding) == stages
    assert find_inner(file, (), None) == find_inner(file, "stages", None) == ()
    bad: list[tuple[Any, type[Exception], str]] = [
        ("layers", TypeError, "inner: expected 'stages' or a tuple of names, got 'layers'"),
        (5, TypeError, "inner: expected 'stages' or a tuple of names, got 5"),
        ((5,), TypeError, "inner: expected names of tensors, got int"),
        (("no such",), ValueError, "expected the name of one tensor of the model"),
        (chosen[:1] * 2, ValueError, "inner: expected different tensors beside the embedding"),
        ((tensors[embedding].name,), ValueError, "inner: expected different tensors beside"),
        (("a", "b", "c", "d"), ValueError, "inner: expected at most 3 names, got 4"),
    ]
    for names, error, message in bad:
        with pytest.raises(error, match=message):
            find_inner(file, names, embedding)
    with pytest.raises(ValueError, match="inner: expected none without an embedding, got some"):
        find_inner(file, chosen, None)
