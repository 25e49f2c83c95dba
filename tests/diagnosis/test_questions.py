"""Questions that need no model: damaged bits, labels that contradict, troubles that return."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfheal_edge as she
from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.diagnosis.symptoms import (
    Damage,
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)

SOURCES = ("door", "operator", "night shift", "import")


def kind_of(*damage: Damage) -> str:
    found = AttackDiagnoser().diagnose(Symptoms(corrupt_blocks=len(damage), damage=damage))
    assert found.cause is Cause.WEIGHT_CORRUPTION
    assert found.confidence == 1.0
    return found.kind


class TestKindsOfDamage:
    def test_one_bit(self) -> None:
        assert kind_of(Damage("source", ((100, 0x10),), 1)) == "one bit"

    def test_a_run(self) -> None:
        flips = tuple((100 + n, 0xA5 - n) for n in range(8))
        assert kind_of(Damage("source", flips, 30)) == "run"

    def test_searched(self) -> None:
        parts = [Damage("packed", ((at, 0x80),), 1) for at in (10, 700, 1400, 4000)]
        assert kind_of(*parts) == "searched"

    def test_scattered(self) -> None:
        flips = ((10, 0x80), (44, 0x02), (90, 0x10))
        assert kind_of(Damage("packed", flips, 3)) == "scattered"

    def test_the_same_place_again(self) -> None:
        assert kind_of(Damage("source", ((100, 0x10),), 1, again=True)) == "failing cell"

    def test_the_top_of_wider_elements(self) -> None:
        floats = [Damage("source", ((at, 0x40),), 1, element_bytes=4) for at in (3, 403, 803)]
        assert kind_of(*floats) == "searched"
        low = [Damage("source", ((at, 0x40),), 1, element_bytes=4) for at in (0, 400, 800)]
        assert kind_of(*low) == "scattered"

    @given(st.integers(0, 2**32 - 1), st.integers(2, 12))
    def test_radiation_is_seldom_searched(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        places = np.sort(rng.choice(100_000, count, replace=False) * 8)
        masks = 1 << rng.integers(0, 8, count)
        flips = zip(places.tolist(), masks.tolist(), strict=True)
        parts = [Damage("packed", (flip,), 1) for flip in flips]
        top = bool(np.all(masks >= 0x40))
        assert kind_of(*parts) == ("searched" if top and count >= 3 else "scattered")

    def test_what_could_not_be_compared(self) -> None:
        assert kind_of(Damage("source", (), 0)) == ""


def labels(rates: dict[str, float], each: int = 32, seed: int = 0) -> tuple[Feedback, ...]:
    """Return labels of ten classes, of which each source contradicts its own share."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(each * len(rates)):
        source = list(rates)[n % len(rates)]
        predicted = int(rng.integers(10))
        place = rng.normal(predicted, 0.3, 4).astype(np.float32)
        label = predicted
        if rng.random() < rates[source]:
            label = (predicted + int(rng.integers(1, 10))) % 10
        found.append(Feedback.of_label(source, predicted, label, place))
    return tuple(found)


class TestFeedback:
    def named(self, feedback: tuple[Feedback, ...]) -> Diagnosis:
        return AttackDiagnoser().diagnose(Symptoms(feedback=feedback))

    @pytest.mark.slow
    def test_over_many_draws(self) -> None:
        """Four sources, 128 labels: honest, one poisons, the world has changed."""
        right = {"honest": 0, "poison": 0, "concept": 0}
        draws = 100
        for seed in range(draws):
            honest = labels(dict.fromkeys(SOURCES, 0.05), seed=seed)
            found = self.named(honest)
            right["honest"] += found.cause not in (Cause.POISONING, Cause.CONCEPT_DRIFT)
            poison = labels({**dict.fromkeys(SOURCES, 0.05), "import": 0.7}, seed=seed)
            right["poison"] += self.named(poison).cause is Cause.POISONING
            concept = labels(dict.fromkeys(SOURCES, 0.3), seed=seed)
            right["concept"] += self.named(concept).cause is Cause.CONCEPT_DRIFT
        assert min(right.values()) >= 0.9 * draws, right

    def test_it_names_the_source(self) -> None:
        found = self.named(labels({**dict.fromkeys(SOURCES, 0.03), "import": 0.8}))
        assert found.cause is Cause.POISONING
        assert "import" in found.evidence[0].text

    def test_one_of_many_sources_stands_out_by_chance(self) -> None:
        """Five of nine contradictions, from an eighth of the labels: in one of 60 such records."""
        found = self.named(
            tuple(
                Feedback(f"door {name}", 0, None, n >= wrong)
                for name, wrong in enumerate([5, 1, 1, 1, 1, 0, 0, 0])
                for n in range(16)
            )
        )
        assert found.cause is Cause.UNKNOWN
        assert any(one.cause is Cause.POISONING for one in found.alternatives)

    @pytest.mark.long
    @pytest.mark.parametrize("sources", [1, 2, 4, 8])
    def test_honest_labels_are_not_named(self, sources: int) -> None:
        """As many contradict as errors and slips explain at most: one name in 10,000 labels."""
        rng = np.random.default_rng(sources)
        told = [
            Feedback(f"door {rng.integers(sources)}", 0, None, bool(rng.random() >= 0.1225))
            for _ in range(60_000)
        ]
        names, since = 0, 0
        for end in range(16, len(told) + 1, 16):
            found = self.named(tuple(told[max(since, end - 256) : end]))
            if found.cause in (Cause.POISONING, Cause.CONCEPT_DRIFT):
                names, since = names + 1, end
        assert names <= 6

    def test_errors_alone_decide_nothing(self) -> None:
        found = self.named(labels(dict.fromkeys(SOURCES, 1.0)))
        assert found.cause is Cause.UNKNOWN
        assert any(one.cause is Cause.CONCEPT_DRIFT for one in found.alternatives)

    def test_one_source_decides_nothing(self) -> None:
        found = self.named(labels({"operator": 0.5}, each=64))
        assert found.cause is Cause.UNKNOWN
        assert "another source" in found.wanted

    def test_few_labels_say_nothing(self) -> None:
        found = self.named(labels(dict.fromkeys(SOURCES, 0.9), each=4))
        assert found.cause is Cause.UNKNOWN
        assert not found.alternatives or found.alternatives[-1].cause is not Cause.POISONING

    def test_odd_inputs_do_not_count(self) -> None:
        """Where inputs look odd, the model may be wrong for another reason."""
        feedback = tuple(
            Feedback.of_label(SOURCES[n % 4], 1, 2, is_ordinary=False) for n in range(128)
        )
        assert self.named(feedback).cause is Cause.UNKNOWN


class TestReturns:
    def test_troubles_that_come_back_at_once(self) -> None:
        found = AttackDiagnoser().diagnose(Symptoms(returns=(40, 90, 10, 30, 200, 64)))
        assert found.cause is Cause.RESOURCE_ATTACK

    @pytest.mark.parametrize("returns", [(40, 90), (5000, 20, 9000, 7000, 30, 8000)])
    def test_a_changing_world(self, returns: tuple[int, ...]) -> None:
        found = AttackDiagnoser().diagnose(Symptoms(returns=returns))
        assert found.cause is not Cause.RESOURCE_ATTACK


class TestDiagnoser:
    def test_a_doubt_is_unknown_and_says_what_would_tell(self) -> None:
        def doubt(_: Symptoms) -> Verdict:
            fact = Evidence("hunch", 1.0, "a hunch")
            return Diagnosis(Cause.ADVERSARIAL_INPUT, 0.5, (fact,), wanted="ten labels")

        found = AttackDiagnoser(questions=(doubt,)).diagnose(Symptoms())
        assert found.cause is Cause.UNKNOWN
        assert found.wanted == "ten labels"
        assert found.alternatives[-1].cause is Cause.ADVERSARIAL_INPUT

    def test_a_cause_of_the_users(self) -> None:
        def fan(symptoms: Symptoms) -> Verdict:
            if not len(symptoms.context.get("fan", ())):
                return RuledOut(Cause.SENSOR_FAULT, "no fan")
            return Diagnosis(Cause.SENSOR_FAULT, 0.9, (), "fan")

        diagnoser = AttackDiagnoser(questions=(fan,))
        assert diagnoser.diagnose(Symptoms(context={"fan": np.ones(3)})).kind == "fan"
        assert diagnoser.diagnose(Symptoms()).alternatives[-1].reason == "no fan"

    @given(st.floats(0.0, 50.0))
    def test_sureness(self, ratio: float) -> None:
        assert 0.0 <= sureness(ratio) <= 1.0
        assert sureness(ratio) <= sureness(ratio + 0.1)
        assert sureness(1.0) == 0.5


def test_explained_and_read_back() -> None:
    found = AttackDiagnoser().diagnose(
        Symptoms(corrupt_blocks=1, damage=(Damage("source", ((3, 1),), 1),))
    )
    again = she.Diagnosis.from_dict(found.to_dict())
    assert again == found
    text = found.explain()
    assert "weight_corruption, one bit" in text
    assert "100% sure" in text
    older = {k: found.to_dict()[k] for k in ("cause", "confidence", "evidence")}
    assert she.Diagnosis.from_dict(older).cause is Cause.WEIGHT_CORRUPTION


def test_what_is_explained_fits_80_columns() -> None:
    facts = tuple(Evidence("name", 1.0, "inputs have moved, " * n) for n in range(1, 12))
    text = Diagnosis(Cause.UNKNOWN, 0.5, facts, wanted="a hundred more inputs, " * 7).explain()
    assert max(map(len, text.splitlines())) <= 80
    assert text.replace("\n", " ").split().count("moved,") == 66


def test_text_from_files_is_escaped() -> None:
    fact = Evidence("name", 1.0, "tensor \x1b[31m of a file")
    assert "\x1b" not in Diagnosis(Cause.UNKNOWN, 0.5, (fact,)).explain()


def test_a_sweep_finds_the_flips_of_one_attack_one_after_the_other() -> None:
    """Each alone is one bit; the third in a sign bit, within a sweep, is no chance."""
    earlier = [Damage("packed", ((at, 0x80),), 1, is_earlier=True) for at in (10, 700)]
    now = Damage("packed", ((4000, 0x80),), 1)
    assert kind_of(now) == "one bit"
    assert kind_of(earlier[0], now) == "one bit"
    assert kind_of(*earlier, now) == "searched"
