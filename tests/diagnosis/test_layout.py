"""What the axes of an input mean, and what is done to its fine structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

import selfheal_edge as she
from selfheal_edge.calibration.profile import learn_profile
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser, diagnose_with
from selfheal_edge.diagnosis.layout import (
    Floats,
    Layout,
    find_layout,
    fine_structure,
    with_mirrored,
    with_permuted,
)
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.diagnosis.window import STRANGE, Answers, Window, carried, strangeness


def smooth_inputs(shape: tuple[int, ...], axes: tuple[int, ...], seed: int = 0) -> Floats:
    """Return noise that is smoothed along some axes."""
    x = np.random.default_rng(seed).normal(size=(60, *shape))
    for axis in axes:
        for _ in range(6):
            x = (x + np.roll(x, 1, axis + 1)) / 2
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "axes", "smooth", "channel"),
    [
        ((1, 16, 16, 1), (1, 2), (0, 1), 1),  # an image of one colour: columns are sensors
        ((1, 16, 16, 3), (1, 2), (0, 1), 2),
        ((1, 40, 10, 1), (1,), (0,), 1),  # coefficients over time
        ((100, 6), (0,), (0,), 1),  # six sensors over time
        ((64,), (0,), (0,), None),  # one long curve
        ((32,), (), (), 0),  # features without an order
        ((1,), (), (), 0),
    ],
)
def test_found(
    shape: tuple[int, ...], axes: tuple[int, ...], smooth: tuple[int, ...], channel: int | None
) -> None:
    found = find_layout(smooth_inputs(shape, axes))
    assert found.smooth == smooth
    assert found.channel == channel
    assert (found.components is not None) == (not smooth)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 8, 8, 1), (1, 8, 9, 3), (20, 6), (24,)]),
)
@examples(30)
def test_controls_keep_the_size_of_fine_structure(seed: int, shape: tuple[int, ...]) -> None:
    """Mirrored or permuted, an input's fine structure has the same values, elsewhere."""
    x = smooth_inputs(shape, tuple(range(len(shape) - 1)) or (), seed)
    layout = find_layout(x)
    read = layout.read(x)
    smooth, fine = fine_structure(layout, read)
    assert np.allclose(smooth + fine, read, atol=1e-5)
    for changed in (with_mirrored(layout, smooth, fine), with_permuted(layout, smooth, fine)):
        moved = (changed - smooth).reshape(len(x), -1)
        assert np.allclose(
            np.sort(np.abs(moved), axis=1),
            np.sort(np.abs(fine.reshape(len(x), -1)), axis=1),
            atol=1e-4,
        )


@pytest.fixture(scope="module")
def profile(baseline: she.Baseline) -> Profile:
    return Profile.from_arrays(baseline.profile)


class TestCarried:
    """Calibration inputs are carried into another condition."""

    def condition(self, x: Floats, layout: Layout) -> Floats:
        by = layout.by_channel(x)
        rough = layout.roughness(x).mean(axis=0)
        rows = [by.mean(axis=(0, 1)), by.std(axis=(0, 1)), rough]
        return np.asarray(np.stack(rows), np.float32)

    def test_into_their_own(self, profile: Profile) -> None:
        x = profile.real(profile.inputs)
        moved = carried(profile, x) - x
        assert np.sqrt(np.mean(np.square(moved))) < 0.15 * x.std()

    @pytest.mark.parametrize(
        ("gain", "offset", "noise"), [(0.6, 0.0, 0.0), (1.0, 0.1, 0.0), (0.9, 0.05, 0.1)]
    )
    def test_into_another(self, profile: Profile, gain: float, offset: float, noise: float) -> None:
        rng = np.random.default_rng(0)
        x = profile.real(profile.inputs)
        low, high = profile.range
        other = np.clip(x * gain + offset + noise * rng.normal(size=x.shape), low, high)
        wanted = self.condition(other.astype(np.float32), profile.layout)
        got = self.condition(carried(profile, other.astype(np.float32)), profile.layout)
        scale = np.abs(wanted).mean(axis=1, keepdims=True)
        assert np.mean(np.abs(got - wanted) / scale) < 0.12


@pytest.mark.parametrize(
    ("mixed", "visible", "is_relabelled"),
    [(1.2, 0.0, True), (1.2, 0.2, False), (5.0, 0.2, True), (5.0, 0.4, False), (0.9, 0.0, False)],
)
def test_drift_by_which_a_few_inputs_change_class_is_no_label_shift(
    profile: Profile, mixed: float, visible: float, is_relabelled: bool
) -> None:
    """The mix has to move by more than inputs within their class."""
    window = Window(profile, profile.inputs, None, np.empty((0, 0)), None)
    limit = 1.2 * max(1.0, profile.bounds["mixed"])
    window.__dict__.update(mixed=mixed * limit, visible=visible, newcomers=0.0)
    assert window.is_relabelled is is_relabelled


def test_calibration_inputs_are_not_their_own_neighbours(profile: Profile) -> None:
    """Else limits would be drawn too narrow: what is new has no neighbour that is itself."""
    labels = np.eye(len(profile.priors), dtype=np.float32)[profile.neighbour_labels]
    themselves = Answers(labels, profile.neighbours)
    with_own = strangeness(profile, themselves).mean()
    without = strangeness(profile, themselves, np.arange(len(labels))).mean()
    assert without >= 1.2 * with_own > 0  # a fifth of five neighbours


def test_a_baseline_of_before_keeps_its_limit(profile: Profile) -> None:
    """It has the largest of some windows, and no mean of what is strange in calibration."""
    of_before = {name: value for name, value in profile.bounds.items() if name != STRANGE}
    answers = Answers(np.eye(10, dtype=np.float32)[:8], None)
    window = Window(profile, profile.inputs[:8], answers, np.empty((0, 0)))
    assert window.most_astray == pytest.approx(0.1)
    old = Window(
        replace(profile, bounds={**of_before, "astray": 0.1}), profile.inputs[:8], answers,
        np.empty((0, 0)),
    )  # fmt: skip
    assert old.most_astray == pytest.approx(1.4 * 0.13)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_values_that_were_lost_are_told_from_an_offset(share: float) -> None:
    """Many lost values move the quartiles as well; those of the values that are left stay."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (240, 12, 6)).astype(np.float32)
    scores, labels = np.zeros((160, 0)), np.full(160, -1)
    known = learn_profile(x[:160], None, scores, labels, (1.0, 0), None)
    lost = np.where(rng.random((80, 12, 6)) < share, x[:160].min(), x[160:])

    def named(inputs: Floats) -> Diagnosis:
        window = Window(known, inputs.astype(np.float32), None, np.zeros((80, 0)))
        return AttackDiagnoser().diagnose(Symptoms(window=window))

    found = named(lost)
    assert (found.cause, found.kind) == (Cause.SENSOR_FAULT, "dropped")
    assert named(np.maximum(x[160:] - 2, x[:160].min())).kind != "dropped"


def test_a_profile_is_kept(profile: Profile) -> None:
    again = Profile.from_arrays(profile.to_arrays())
    for name, array in profile.to_arrays().items():
        assert np.array_equal(again.to_arrays()[name], array), name
    with pytest.raises((ValueError, LookupError, TypeError)):
        Profile.from_arrays({k: v for k, v in profile.to_arrays().items() if k != "moments"})


def test_a_window_without_answers(profile: Profile) -> None:
    """A model without classes is told by its inputs alone."""
    window = Window(profile, profile.inputs, None, np.empty((0, 0)), None)
    assert window.harm == window.unexplained == window.astray == window.crafted == 0.0
    assert window.mixed == 0.0
    assert window.visible < 1.0


def test_numbers_that_are_none_are_no_trouble(profile: Profile) -> None:
    layout = replace(profile.layout)
    x = np.full((4, 8, 8), np.nan, np.float32)
    assert np.isfinite(layout.read(x)).all()


class TestHostileWindows:
    """Whatever inputs and answers hold, measures are numbers and a diagnosis is made."""

    @pytest.mark.slow
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(["noise", "constant", "one", "extremes", "tiny steps"]),
        st.sampled_from(["sure", "equal", "wild"]),
        st.integers(8, 130),
        st.tuples(st.booleans(), st.booleans()),
    )
    @examples(40)
    def test_any(
        self, profile: Profile, seed: int, inputs: str, answers: str, size: int,
        wide: tuple[bool, bool],
    ) -> None:  # fmt: skip
        """`wide`: embeddings of the stream, or of questions, are too wide to be kept."""
        rng = np.random.default_rng(seed)
        shape = (size, *profile.inputs.shape[1:])
        made: dict[str, Callable[[], npt.NDArray[Any]]] = {
            "noise": lambda: rng.integers(-128, 128, shape),
            "constant": lambda: np.full(shape, rng.integers(-128, 128)),
            "one": lambda: np.repeat(rng.integers(-128, 128, (1, *shape[1:])), size, axis=0),
            "extremes": lambda: rng.choice([-128, 127], shape),
            "tiny steps": lambda: np.cumsum(rng.integers(-1, 2, shape), axis=0).clip(-128, 127),
        }
        raw = made[inputs]()

        def answer(count: int, is_wide: bool) -> Answers:
            told: dict[str, Callable[[], npt.NDArray[Any]]] = {
                "sure": lambda: np.eye(10)[rng.integers(0, 10, count)],
                "equal": lambda: np.full((count, 10), 0.1),
                "wild": lambda: rng.dirichlet(np.full(10, 0.2), count),
            }
            outputs = told[answers]()
            inside = rng.normal(0, 1000, (count, profile.neighbours.shape[1])).astype(np.float32)
            return Answers(outputs.astype(np.float32), None if is_wide else inside)

        window = Window(
            profile,
            raw.astype(np.int8),
            answer(size, wide[0]),
            rng.normal(size=(size, profile.class_scores.shape[1])),
            lambda asked: answer(len(asked), wide[1]),
        )
        found = AttackDiagnoser().diagnose(Symptoms(window=window))
        assert 0.0 <= found.confidence <= 1.0
        assert found.explain()
        for name in (
            "visible", "alone", "affine", "sudden", "stopped", "still_cells", "lost", "repeated",
            "newcomers", "near", "harm", "mixed", "within_class", "unexplained", "astray",
            "crafted", "control", "extremes", "body", "roughened", "flat_inputs",
        ):  # fmt: skip
            assert np.isfinite(getattr(window, name)).all(), name


def test_near_inputs_with_other_answers_leave_an_attack_possible(profile: Profile) -> None:
    """However sure the answers are: an attacker asks among others' inputs."""
    natural = np.concatenate([profile.inputs] * 3)[:96]
    sure = np.eye(10, dtype=np.float32)[np.arange(96) % 10]
    inside = np.resize(profile.neighbours, (96, profile.neighbours.shape[1]))

    def window(pairs: int) -> Window:
        raw = natural.copy()
        for n in range(pairs):
            raw[40 + 2 * n + 1] = raw[40 + 2 * n]
            raw[40 + 2 * n + 1].flat[30] ^= 1
        answers = Answers(sure, np.asarray(inside, np.float32))
        scores = np.zeros((96, profile.class_scores.shape[1]))
        return Window(
            profile,
            raw,
            answers,
            scores,
            lambda asked: Answers(
                sure[np.arange(len(asked)) % 10], np.asarray(inside[: len(asked)], np.float32)
            ),
        )

    assert window(1).across < window(3).across
    before, after = window(0).crafted, window(3).crafted
    assert before < 0.75 <= after < 1


def test_answers_on_a_border_leave_an_attack_possible(profile: Profile) -> None:
    """Though inputs that were carried into the window's condition lose as much in the mean."""
    natural = np.concatenate([profile.inputs] * 3)[:96]
    inside = np.resize(profile.neighbours, (96, profile.neighbours.shape[1]))

    def answered(margins: Floats) -> Answers:
        rows = np.arange(len(margins))
        outputs = np.zeros((len(margins), 10), np.float32)
        outputs[rows, rows % 10] = (1 + margins) / 2
        outputs[rows, (rows + 1) % 10] = (1 - margins) / 2
        return Answers(outputs, np.asarray(inside[: len(margins)], np.float32))

    def window(on_border: int, profile: Profile = profile) -> Window:
        margins = np.ones(96, np.float32)
        margins[:on_border] = 0.1
        lost = np.full(96, margins.mean())
        scores = np.zeros((96, profile.class_scores.shape[1]))
        return Window(
            profile, natural, answered(margins), scores, lambda asked: answered(lost[: len(asked)])
        )

    limit = 96 * window(0).most_undecided
    few, many = window(int(limit)), window(int(limit) + 1)
    assert few.crafted < 0.75 <= many.crafted < 1
    assert abs(many.unexplained) < 0.75 * profile.bounds["unexplained"]
    found = AttackDiagnoser().diagnose(Symptoms(window=many))
    assert found.cause is Cause.UNKNOWN
    assert "border" in found.explain()
    # A baseline of an earlier release has no such limit.
    older = {name: bound for name, bound in profile.bounds.items() if name != "undecided"}
    assert window(int(limit) + 1, replace(profile, bounds=older)).crafted < 0.75


def test_a_window_that_cannot_be_looked_at(profile: Profile) -> None:
    """A fault of the questions costs their answer, not the prediction."""
    broken = Window(profile, np.empty((0, 3), np.int8), None, np.empty((0, 0)), None)
    symptoms = Symptoms(window=broken, known_answers_right=False)
    found = diagnose_with(AttackDiagnoser(), replace(symptoms, known_answers_right=None))
    assert found.cause is Cause.UNKNOWN
    assert diagnose_with(AttackDiagnoser(), symptoms).cause is Cause.RUNTIME_FAULT
