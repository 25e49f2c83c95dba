"""Golden and candidates are asked beside the stream, and answer as they would serve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.operator_models import sequence_model
from tests.support import MODELS, SHARED, Array, random_batch, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.patch import InputMap, Patch, patched
from selfheal_edge.monitoring.embedding import find_embedding
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.session import Session

ONE = np.ones(1, np.float32)


@contextmanager
def session_of(path: Path, runtime: Any, **how: Any) -> Iterator[Session]:
    def taps(file: Any) -> list[int]:
        found = find_embedding(file, None)
        return [] if found is None else [found]

    session = Session(path, runtime, taps=taps, **how)
    try:
        yield session
    finally:
        session.close()


@contextmanager
def bench_of(session: Session) -> Iterator[Bench]:
    head = session.model.head
    bench = Bench(session, None if head is None else head.output)
    try:
        yield bench
    finally:
        bench.close()


def head_patch(session: Session, seed: int = 0, text: str = "") -> Patch:
    """Change some weights of the last layer, and the bias of the first class."""
    head = session.model.head
    assert head is not None
    tensors = session.copy.model.subgraphs[0].tensors
    weights = tensors[head.weights]
    assert weights.offset is not None
    assert weights.nbytes is not None
    golden = session.copy.model.data[weights.offset : weights.offset + weights.nbytes]
    values = np.frombuffer(golden, weights.dtype).copy()
    rng = np.random.default_rng(seed)
    values[:] = rng.permutation(values)
    return Patch(((weights.offset, values.tobytes()),), text=text)


def test_golden_and_a_patch_answer_as_they_would_serve(runtime: Any, samples: Array) -> None:
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        x = samples[:40]
        golden = bench.answers(x)
        assert [o.tobytes() for o in golden.outputs] == [
            session.answers([[row]])[0][0].tobytes() for row in x
        ]
        spec = session.instance.outputs[0]
        values = golden.outputs.reshape(len(x), -1)
        assert (golden.labels == values.argmax(axis=1)).all()
        assert golden.scores.shape == values.shape
        assert np.abs(golden.scores.sum(axis=1) - 1).max() < 0.05
        if session.model.head is not None and session.model.head.output == "probabilities":
            reals = (values.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
            assert np.abs(golden.scores - reals).max() < 1e-6
        assert golden.embeddings is not None
        session.instance.run([x[-1]])
        tap = session.instance.taps[0]
        last = (session.instance.tapped()[0].astype(np.float32) - tap.zero_point) * tap.scale
        assert np.allclose(golden.embeddings[-1], last.reshape(-1))

        patch = head_patch(session)
        changed = bench.answers(x, patch)
        assert not same([changed.outputs], [golden.outputs])
        assert same([changed.embeddings], [golden.embeddings])  # type: ignore[list-item]
        with session_of(digits_model_path(), runtime) as other:
            other.source.view[:] = patched(other.copy, patch.changes)
            other.rebuild()
            served = np.stack([other.instance.run([row])[0] for row in x])
        assert same([changed.outputs], [served])
        assert same([bench.answers(x).outputs], [golden.outputs])
        assert bench.asked == 3 * len(x)


def test_an_input_is_corrected_before_it_runs(runtime: Any, samples: Array) -> None:
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        table = InputTable(session.instance.inputs[0])
        axis = 1
        width = table.features(axis)
        rng = np.random.default_rng(1)
        gain, offset = rng.uniform(0.5, 2, width), rng.normal(0, 0.1, width)
        correction = InputMap(axis, gain.astype(np.float32), offset.astype(np.float32))
        x = samples[:20]
        levels = table.levels(axis, correction.gain, correction.offset)
        direct = bench.answers(table.apply(x, axis, levels))
        assert same([bench.answers(x, Patch(inputs=correction)).outputs], [direct.outputs])
        assert not same([bench.answers(x).outputs], [direct.outputs])


def test_damage_to_what_serves_does_not_come_here(runtime: Any, samples: Array) -> None:
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        before = bench.answers(samples[:5])
        bench.answers(samples[:5], head_patch(session, 1))
        bench.answers(samples[:5], head_patch(session, 2))  # golden is built anew after this
        for image in (session.source.view, *session.instance.images.values()):
            head = session.model.head
            assert head is not None
            live = np.frombuffer(image, np.uint8)
            live[len(live) // 3 : len(live) // 3 + 400] ^= 0x40
        assert same([bench.answers(samples[:5]).outputs], [before.outputs])


def test_two_instances_are_kept_and_memory_is_bounded(runtime: Any, samples: Array) -> None:
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        assert bench.memory_bytes == 0
        bench.answers(samples[:1])
        one = bench.memory_bytes
        assert one >= session.source.nbytes
        for seed in range(5):
            bench.answers(samples[:1], head_patch(session, seed))
            assert bench.memory_bytes == 2 * one
        bench.close()
        assert bench.memory_bytes == 0
        with pytest.raises(she.errors.ModelClosedError):
            bench.answers(samples[:1])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_asked_or_refused(name: str, runtime: Any) -> None:
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{name} is not here")
    with session_of(path, runtime) as session:
        if len(session.instance.inputs) != 1 or session.model.keeps_resources:
            with pytest.raises(ValueError, match="bench: expected"):
                Bench(session, None)
            return
        with bench_of(session) as bench:
            (rows,) = random_batch(session.instance.inputs, 3, 0)
            found = bench.answers(rows)
            expected = [answer[0] for answer in session.answers([[row] for row in rows])]
            assert same(list(found.outputs), expected)
            if session.model.head is not None:
                assert found.scores.shape == (3, session.model.head.classes)
                top = found.scores.max(axis=1)  # levels of rare classes round to zero
                assert (
                    np.take_along_axis(found.scores, found.labels[:, None], 1)[:, 0] == top
                ).all()


def test_what_is_no_patch_of_weights_is_refused(runtime: Any, samples: Array) -> None:
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        size = session.source.nbytes
        graph = next(r for r in session.copy.model.regions if r.kind == "graph")
        with pytest.raises(ValueError, match="changes: expected bytes inside"):
            bench.answers(samples[:1], Patch(((size - 1, b"ab"),)))
        with pytest.raises(ValueError, match="changes: expected those of weights"):
            bench.answers(samples[:1], Patch(((graph.offset, b"\xff" * 8),)))
        scale = session.copy.model.outputs[0].scales_offset
        assert scale is not None
        with pytest.raises(ValueError, match="another graph"):
            bench.answers(samples[:1], Patch(((scale, np.float32(1).tobytes()),)))
        with pytest.raises(ValueError, match="axis: expected 0 to"):
            bench.answers(samples[:1], Patch(inputs=InputMap(7, ONE, ONE)))
        with pytest.raises(ValueError, match="gain, offset: expected"):
            bench.answers(samples[:1], Patch(inputs=InputMap(0, ONE, ONE)))
        with pytest.raises(TypeError, match="inputs: expected an array of int8"):
            bench.answers(samples[:1].astype(np.float32))
        with pytest.raises(ValueError, match="inputs: expected shape"):
            bench.answers(samples[:1, :, :3])


def test_it_runs_beside_the_stream(runtime: Any, samples: Array) -> None:
    """Two threads, one that serves and one that asks: all answers are as alone."""
    with session_of(digits_model_path(), runtime) as session, bench_of(session) as bench:
        alone = bench.answers(samples[:60])
        found: list[Array] = []
        thread = threading.Thread(
            target=lambda: found.extend(bench.answers(samples[:60]).outputs for _ in range(5))
        )
        thread.start()
        served = [session.instance.run([row])[0] for _ in range(5) for row in samples[:60]]
        thread.join()
        assert same(found, [alone.outputs] * 5)
        assert same(served, list(alone.outputs) * 5)


def test_a_streams_state_goes_on_and_others_begin_anew(tmp_path: Path, runtime: Any) -> None:
    path = tmp_path / "lstm.tflite"
    path.write_bytes(sequence_model("float32"))
    x = np.random.default_rng(2).normal(0.0, 1.0, (12, 1, 4, 6)).astype(np.float32)
    with session_of(path, runtime) as session, bench_of(session) as bench:
        served = [session.instance.run([row])[0].copy() for row in x]
        for _ in range(2):  # the second one begins at zero as well
            together = bench.answers(x, is_stream=True).outputs
            assert together.tobytes() == np.stack(served).tobytes()
        apart = bench.answers(x).outputs
        assert apart[0].tobytes() == served[0].tobytes()
        assert apart[1:].tobytes() != np.stack(served)[1:].tobytes()
