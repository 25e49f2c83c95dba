"""Committees of other kinds: another order of classes, regressors, repairs in the background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.made_members import DigitsParts, float_twin
from tests.support import SHARED

import selfheal_edge as she
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.tflite.file.model_file import ModelFile

Open = Callable[..., dict[str, she.SelfHealingModel]]


def other_order(data: bytes) -> bytes:
    """Return a classifier of ten classes with each class in the next one's place."""
    found = bytearray(data)
    for tensor in ModelFile.from_bytes(data).tensors:
        if tensor.nbytes and tensor.offset and tensor.shape in ((10, 32), (10,)):
            rows = np.frombuffer(data, np.float32, tensor.nbytes // 4, tensor.offset)
            rolled = np.roll(rows.reshape(10, -1), 1, axis=0).tobytes()
            found[tensor.offset : tensor.offset + tensor.nbytes] = rolled
    return bytes(found)


def test_another_order_of_classes_is_refused(
    opened: Open, files: dict[str, bytes], parts: DigitsParts
) -> None:
    file = other_order(files["mlp"])
    baseline = she.calibrate(file, parts.calibration[:60], seed=1)
    with (
        she.SelfHealingModel(file, baseline) as other,
        pytest.raises(ValueError, match=r"same order, got class \d of 'cnn' for class \d of 'o'"),
    ):
        she.SelfHealingEnsemble({**opened("cnn"), "o": other})


def test_a_member_heals_in_the_background(opened: Open, parts: DigitsParts) -> None:
    policy = she.Policy(mode="background", scrub_bytes_per_predict=65536)
    models = opened("cnn", "mlp", policy=policy)
    committee = she.SelfHealingEnsemble(models)
    for n in range(8):
        assert committee.infer(parts.heldout[n : n + 1]).trusted
    she.redteam.inject(models["cnn"]).flip_bits(50, seed=0)
    for n in range(8, 200):
        answer = committee.infer(parts.heldout[n : n + 1])
        assert isinstance(answer, she.EnsemblePrediction)
        cnn = answer.answers[0]
        # What says of itself that it is not to be trusted does not count, with no alarm in the way.
        if cnn is not None and not cnn.trusted and not models["cnn"].health.alarms:
            assert answer.weights[0] == 0.0 or models["cnn"].health.trouble is None
        if models["cnn"].health.repairs:
            break
    assert models["cnn"].wait_healed(60)
    assert committee.weights["cnn"] > 0.0
    assert committee.infer(parts.heldout[:1]).trusted


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
def test_regressors_are_averaged_and_follow_targets() -> None:
    file = (SHARED / "hello_world_int8.tflite").read_bytes()
    twin = float_twin(file)
    x = np.linspace(0, 6.2, 200, dtype=np.float32).reshape(-1, 1, 1)
    x = np.random.default_rng(0).permutation(x)
    with (
        she.SelfHealingModel(file, she.calibrate(file, x, np.sin(x), seed=1)) as one,
        she.SelfHealingModel(twin, she.calibrate(twin, x, np.sin(x), seed=1)) as other,
        she.SelfHealingEnsemble({"int8": one, "float": other}) as committee,
    ):
        answer = committee.infer(x[0])
        assert isinstance(answer, she.EnsemblePrediction)
        assert answer.label is None
        assert not answer.parted
        own = [np.asarray(a.output) for a in answer.answers if a is not None]
        assert answer.output == pytest.approx((own[0] + own[1]) / 2, abs=1e-6)
        source = committee.feedback_source("operator", b"k" * 16)
        for row in x[:30]:
            answer = committee.infer(row)
            assert isinstance(answer, she.EnsemblePrediction)
            told = answer.answers[1]
            assert told is not None
            committee.feedback(np.asarray(told.output), id=answer.id, source=source)
        assert committee.weights["float"] > 0.5
        with pytest.raises(TypeError, match="label: expected numbers"):
            committee.feedback("three")
        # That the mean is right, or wrong, says nothing of what a member answered.
        for is_right in (True, False):
            answer = committee.infer(x[31])
            assert isinstance(answer, she.EnsemblePrediction)
            committee.feedback(correct=is_right, id=answer.id, source=source)
            for model, own_answer in zip((one, other), answer.answers, strict=True):
                assert own_answer is not None
                same = model.feedback_source("operator", b"k" * 16)
                said = model.feedback(own_answer.output, id=own_answer.id, source=same)
                assert isinstance(said, FeedbackReceipt)
                assert said.outcome is Outcome.ACCEPTED  # and not repeated


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
def test_autoencoders_hear_which_inputs_are_normal() -> None:
    file = (SHARED / "ad_autoencoder_int8.tflite").read_bytes()
    twin = float_twin(file)
    clip = np.fromfile(SHARED.parent / "data" / "ad_normal_clip_float32_200x128.bin", np.float32)
    x = np.stack([clip[128 * n :][:640] for n in range(100)])
    with (
        she.SelfHealingModel(file, she.calibrate(file, x[:80], seed=1)) as one,
        she.SelfHealingModel(twin, she.calibrate(twin, x[:80], seed=1)) as other,
        she.SelfHealingEnsemble({"int8": one, "float": other}) as committee,
    ):
        source = committee.feedback_source("operator", b"k" * 16)
        answer = committee.infer(x[80:81])
        assert isinstance(answer, she.EnsemblePrediction)
        committee.feedback(correct=True, id=answer.id, source=source)
        assert [len(model.trusted_pool) for model in (one, other)] == [1, 1]
        answer = committee.infer(x[81:82])
        assert isinstance(answer, she.EnsemblePrediction)
        committee.feedback(x[81], id=answer.id, source=source)  # what it should answer
        assert [len(model.trusted_pool) for model in (one, other)] == [1, 1]
