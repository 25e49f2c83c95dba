"""`decide` without any runtime: every order of what may happen, and what must hold after each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support import examples

import selfheal_edge as she
from selfheal_edge.inference.incident import Incident
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.decision import decide, is_trusted, wake_at
from selfheal_edge.loop.incidents import AnyIncident
from selfheal_edge.loop.remembered import Remembered
from selfheal_edge.loop.state import LoopState, Moment, Why
from selfheal_edge.store.failures import Failure, with_failure

INTEGRITY = (she.Cause.WEIGHT_CORRUPTION, she.Cause.RUNTIME_FAULT)
MOST_ACTIONS = 200


class InterruptionError(Exception):
    """An action that raises: a signal's handler, or a model that was closed meanwhile."""


def block(number: int, part: str = "live", source: str | None = None) -> CorruptBlock:
    return CorruptBlock("source", number, 512 * number, 512, ("w",), ("m",), part, source)


def alarm(signal: str, onset: int) -> she.Alarm:
    return she.Alarm(signal, 1, 2.0, onset, 9.0, 5.0)


class World:
    """What the loop acts upon: a model that may be damaged, and an executor for its actions."""

    def __init__(self, policy: she.Policy, *, has_spare: bool) -> None:
        learners = she.ModelRepairKit().learning
        self.state = LoopState.first(policy, has_spare=has_spare, learners=learners)
        self.corrupt: set[int] = set()
        self.answers_are_right = True
        self.resists = False
        self.is_spare_sound = True
        self.is_settled = False
        self.has_room = True
        self.on_spare = False
        self.active = 0
        self.prediction = 0
        self.second = 0.0
        self.interrupt_at: int | None = None
        self.records: list[do.Record] = []
        self.tried: list[str] = []
        self.raised = 0
        self.ended: list[bool] = []
        self.handle(heard.Started())

    @property
    def is_sound(self) -> bool:
        return not self.corrupt and self.answers_are_right

    @property
    def has_passed(self) -> bool:
        """Whether inputs have come to another condition that is known."""
        return False

    def decide(self, incident: AnyIncident) -> tuple[do.Action, ...]:
        before = self.state
        self.state, actions = decide(before, incident)
        again, same = decide(before, incident)
        assert again == self.state, "it depends on something else than what it is given"
        assert [type(a) for a in same] == [type(a) for a in actions]
        hash(tuple(type(a) for a in actions))
        return actions

    def handle(self, incident: AnyIncident) -> None:
        """Do as `LoopExecutor`."""
        now = Moment(
            self.prediction,
            self.second,
            self.prediction,
            self.on_spare,
            generation=self.active,
            has_passed=self.has_passed,
        )
        self.state = replace(self.state, now=now)
        try:
            self.follow(incident)
        except InterruptionError:
            self.interrupt_at = None
            self.follow(heard.Interrupted())
        finally:
            self.interrupt_at = None
            self.follow(heard.Ended())

    def follow(self, incident: AnyIncident) -> None:
        left = list(reversed(self.decide(incident)))
        for _ in range(MOST_ACTIONS):
            if not left:
                return
            result = self.act(left.pop())
            if result is not None:
                left += reversed(self.decide(result))
        pytest.fail("it does not end")

    def act(self, action: do.Action) -> AnyIncident | None:
        if self.interrupt_at is not None:
            self.interrupt_at -= 1
            if self.interrupt_at < 0:
                raise InterruptionError
        match action:
            case do.CheckWeights(why):
                return heard.WeightsChecked(why, tuple(map(block, sorted(self.corrupt))))
            case do.AskKnownAnswers(why):
                return heard.KnownAnswersAsked(why, self.is_sound)
            case do.NameCause(symptoms):
                return heard.CauseNamed(self.diagnose(symptoms))
            case do.TryStrategy(name, case):
                return self.try_strategy(name, case)
            case do.Propose(names):
                return heard.Proposed(names, None, "nothing helps")
            case do.RebuildRuntime():
                if not self.has_room:
                    return heard.RuntimeRebuilt(True, "MemoryError: no room")
                self.answers_are_right = self.answers_are_right or not self.corrupt
                return heard.RuntimeRebuilt(not self.corrupt)
            case do.RenewGolden(guards, is_needed):
                return heard.GoldenRenewed(guards, is_needed and self.has_room, (0,))
            case do.FailOver():
                assert self.state.has_spare
                assert not self.on_spare
                self.on_spare = self.is_spare_sound
                return heard.FailedOver(self.is_spare_sound)
            case do.FailBack():
                assert self.on_spare
                self.on_spare = False
            case do.ReadSignals():
                return heard.SignalsRead(self.is_settled)
            case do.ResetMonitor():
                return heard.MonitorReset(self.prediction)
            case do.Record():
                self.records.append(action)
            case do.EndTrial(has_held):
                self.ended.append(has_held)
            case do.RaiseError():
                self.raised += 1
            case do.Proceed(step):
                return heard.NextStep(step)
        return None

    def diagnose(self, symptoms: she.Symptoms) -> she.Diagnosis:
        found = she.AttackDiagnoser().diagnose(symptoms)
        moved = {a.signal for a in symptoms.alarms}
        if found.cause is she.Cause.UNKNOWN and "input_mean" in moved:
            return she.Diagnosis(she.Cause.COVARIATE_DRIFT, 1.0)
        return found

    def try_strategy(self, name: str, case: she.RepairCase) -> AnyIncident:
        self.tried.append(name)
        if name == "mark_untrusted":
            self.decide(heard.MarkedUntrusted())
            return heard.RepairAttempt(name, True, "marked", case)
        if not self.has_room and name in ("rebuild", "reload_golden"):
            return heard.RepairAttempt(name, False, "MemoryError: no room", case, failed=True)
        if name == "rollback_block" and not case.corrupt:
            return heard.RepairAttempt(name, False, "no block is corrupt", case)
        if not self.resists:
            if name.startswith(("rollback", "reload")):
                self.corrupt.clear()
            if name in ("rebuild", "reload_golden", "rollback_model") and not self.corrupt:
                self.answers_are_right = True
        return heard.RepairAttempt(name, True, "done", case, held=self.is_sound, proof="looked")

    def predict(self, count: int, *alarms: she.Alarm) -> None:
        """Serve inferences, and report those that the loop wants to hear of, as the core does."""
        for _ in range(count):
            self.prediction += 1
            self.second += 0.1
            wake = wake_at(self.state)
            due = wake.prediction is not None and self.prediction >= wake.prediction
            passes = wake.passages_from is not None and self.prediction >= wake.passages_from
            if (
                alarms
                or due
                or (passes and self.has_passed)
                or (wake.when_settled and self.is_settled)
                or self.second >= wake.second
            ):
                self.handle(Incident(self.prediction, alarms=alarms))


def policy(**changes: Any) -> she.Policy:
    return she.Policy(
        **{
            "known_answers_every": 50,
            "rebuild_after_seconds": 20.0,
            "rediagnose_after": 8,
            **changes,
        }
    )


NUMBERS = st.integers(0, 5)
SIGNALS = st.sampled_from(["input_mean", "confidence", "input_repeats", "input_nonfinite"])


class Loop(RuleBasedStateMachine):
    """Damage, alarms, time and the user, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(policy(), has_spare=True)

    @rule(number=NUMBERS)
    def a_bit_flips(self, number: int) -> None:
        self.world.corrupt.add(number)

    @rule(blocks=st.sets(NUMBERS, min_size=1), inside=st.booleans())
    def a_sweep_finds_damage(self, blocks: set[int], inside: bool) -> None:
        self.world.corrupt |= blocks
        found = tuple(map(block, sorted(blocks)))
        at = self.world.prediction
        self.world.handle(Incident(at, found) if inside else heard.DamageFound(found))

    @rule(number=NUMBERS)
    def the_core_heals_what_it_finds(self, number: int) -> None:
        found = block(number, source="snapshot")
        self.world.handle(Incident(self.world.prediction, (found,)))

    @rule(part=st.sampled_from(["table", "parity", "snapshot"]), healed=st.booleans())
    def a_guard_is_damaged(self, part: str, healed: bool) -> None:
        mended = self.world.state.count.guards_mended
        found = block(3, part, "snapshot" if healed else None)
        self.world.handle(heard.DamageFound((found,)))
        assert self.world.state.count.guards_mended - mended <= 1

    @rule(signals=st.sets(SIGNALS, min_size=1), ago=st.integers(0, 40))
    def alarms_are_raised(self, signals: set[str], ago: int) -> None:
        onset = max(0, self.world.prediction + 1 - ago)
        raised = tuple(alarm(signal, onset) for signal in sorted(signals))
        was_calm, heard_before = self.world.state.is_calm, self.world.state.recovered_at
        self.world.predict(1, *raised)
        if was_calm and onset >= heard_before and not self.world.state.is_calm:
            assert not is_trusted(self.world.state), "an alarm is a doubt at once"

    @rule()
    def the_runtime_breaks(self) -> None:
        self.world.answers_are_right = False

    @rule()
    def a_run_fails(self) -> None:
        raised, was_corrupt = self.world.raised, bool(self.world.corrupt)
        self.world.handle(Incident(self.world.prediction, error=RuntimeError("invoke")))
        assert self.world.raised - raised <= 1
        if not was_corrupt:
            assert self.world.raised == raised + 1, "no damage explains it: the caller hears it"

    @rule(resists=st.booleans(), room=st.booleans())
    def repairs_are_refused_or_not(self, resists: bool, room: bool) -> None:
        self.world.resists, self.world.has_room = resists, room

    @rule(sound=st.booleans())
    def the_spare_is_damaged_or_not(self, sound: bool) -> None:
        self.world.is_spare_sound = sound

    @rule(settled=st.booleans())
    def signals_move_or_settle(self, settled: bool) -> None:
        self.world.is_settled = settled

    @rule(count=st.integers(1, 70))
    def predictions_go_on(self, count: int) -> None:
        self.world.predict(count)

    @rule()
    def the_user_rolls_back(self) -> None:
        self.world.corrupt.clear()
        self.world.answers_are_right = True
        self.world.handle(heard.RolledBack())

    @rule()
    def a_rollback_fails(self) -> None:
        self.world.decide(heard.MarkedUntrusted())
        assert not is_trusted(self.world.state)

    @rule(live=st.booleans())
    def a_worker_looks_later(self, live: bool) -> None:
        reported = Incident(self.world.prediction, (block(1),) if live else ())
        if live:
            self.world.corrupt.add(1)
        before = is_trusted(self.world.state)
        assert self.world.decide(heard.Posted(reported)) == ()
        seen = self.world.state.trust.suspicions
        assert is_trusted(self.world.state) == (before and not live)
        self.world.handle(reported)
        assert not (live and is_trusted(self.world.state)), "not looked at to the end"
        self.world.decide(heard.Looked(seen))

    @rule(after=st.integers(0, 12))
    def something_interrupts(self, after: int) -> None:
        self.world.interrupt_at = after
        self.world.corrupt.add(2)
        self.world.handle(heard.DamageFound((block(2),)))
        self.world.interrupt_at = None

    @invariant()
    def no_repair_is_left_half_done(self) -> None:
        assert self.world.state.repair is None

    @invariant()
    def what_is_known_to_be_damaged_is_not_trusted(self) -> None:
        if self.world.state.is_damaged:
            assert not is_trusted(self.world.state)

    @invariant()
    def the_spare_serves_only_while_there_is_damage(self) -> None:
        assert not self.world.on_spare or self.world.state.is_damaged

    @invariant()
    def the_loop_will_look_again(self) -> None:
        wake, state = wake_at(self.world.state), self.world.state
        if state.is_damaged or state.pending:
            assert wake.prediction is not None
            # Never later than the longest pause.
            longest = 64 * state.policy.rediagnose_after + 64
            assert wake.prediction <= self.world.prediction + longest
        elif state.trouble is not None and not wake.when_settled:
            assert wake.prediction is not None
            assert wake.prediction <= self.world.prediction + 64  # they have, and may move again

    @invariant()
    def what_recovers_was_named(self) -> None:
        kinds = [r.kind.value for r in self.world.records if r.kind.value in ("diagnosis",)]
        ended = sum(r.kind is she.EventKind.RECOVERED for r in self.world.records)
        assert ended <= len(kinds)

    def teardown(self) -> None:
        """Whatever happened: where nothing is wrong and nothing refused, trust comes back."""
        world = self.world
        world.resists, world.has_room, world.is_settled = False, True, True
        world.handle(heard.DamageFound(tuple(map(block, sorted(world.corrupt)))))
        failed_by_user = world.state.is_calm and not is_trusted(world.state)
        world.predict(600)
        assert world.is_sound
        assert world.state.trouble is None
        assert not world.state.pending
        if not failed_by_user:
            assert is_trusted(world.state)
        world.handle(heard.RolledBack())
        assert is_trusted(world.state)
        assert not world.on_spare


Loop.TestCase.settings = examples(150, stateful_step_count=40)
TestLoop = Loop.TestCase


class TestOneByOne:
    def test_a_flip_is_healed_by_the_first_strategy(self) -> None:
        world = World(policy(), has_spare=False)
        world.corrupt = {4}
        world.handle(Incident(1, (block(4),)))
        assert world.tried == ["rollback_block"]
        assert [str(r.kind) for r in world.records] == ["diagnosis", "repair"]
        assert is_trusted(world.state)
        assert world.state.count.repairs == 1

    def test_damage_that_resists_goes_down_the_ladder_and_is_tried_again(self) -> None:
        world = World(policy(known_answers_every=None), has_spare=False)
        world.corrupt, world.resists = {4}, True
        world.handle(Incident(1, (block(4),)))
        ladder = list(she.Policy().responses[she.Cause.WEIGHT_CORRUPTION])
        assert world.tried == ladder
        assert not is_trusted(world.state)
        tries = []
        for _ in range(200):
            before = len(world.tried)
            world.predict(1)
            if len(world.tried) > before:
                tries.append(world.prediction)
        assert tries == [8, 24, 56, 120]
        world.resists = False
        world.predict(200)
        assert is_trusted(world.state)
        assert world.records[-1].kind is she.EventKind.RECOVERED

    def test_pauses_end_at_64_times_the_first(self) -> None:
        world = World(policy(), has_spare=False)
        world.corrupt, world.resists = {4}, True
        world.handle(Incident(1, (block(4),)))
        for _ in range(40):
            world.prediction = world.state.backoff.at
            world.predict(1)
        assert world.state.backoff.pause == 64 * 8

    def test_alarms_wait_for_the_shape_of_the_shift(self) -> None:
        world = World(policy(), has_spare=False)
        world.predict(100)
        world.predict(1, alarm("input_mean", 98))
        assert world.state.diagnose_at == 101 + 32 - 3
        assert world.state.trouble is None
        assert not is_trusted(world.state)
        world.predict(29)
        assert world.state.trouble is not None
        assert world.state.trouble.cause is she.Cause.COVARIATE_DRIFT
        world.is_settled = True
        world.predict(63)
        assert not is_trusted(world.state), "it was named while it paused, perhaps"
        world.predict(1)
        assert is_trusted(world.state)

    def test_a_drift_that_ends_long_after_it_was_named_is_over_once_signals_settle(self) -> None:
        world = drifting()
        world.predict(200)
        world.is_settled = True
        world.predict(1)
        assert is_trusted(world.state)

    def test_what_comes_in_waves_is_one_trouble(self) -> None:
        world = drifting()
        for wave in range(8):
            for world.is_settled, count in ((True, 40), (False, 64)):  # as after any alarm
                world.predict(count)
                assert world.state.trouble is not None, wave
                assert not is_trusted(world.state)
        assert kinds(world).count("diagnosis") == 1
        world.is_settled = True
        world.predict(640)
        assert is_trusted(world.state)
        assert kinds(world).count("recovered") == 1

    def test_signals_that_have_settled_are_read_before_an_alarm_is_forgotten(self) -> None:
        world = drifting()
        world.is_settled = True
        world.predict(1)
        for world.is_settled in (False, True) * 4:
            world.predict(64)
            wake = wake_at(world.state)
            assert wake.when_settled or (wake.prediction or 0) <= world.prediction + 64

    def test_another_trouble_does_not_wait_for_the_waves_of_the_one_before(self) -> None:
        world = drifting()
        for world.is_settled in (True, False, True):
            world.predict(60)
        world.predict(640)
        assert is_trusted(world.state)
        world.is_settled = False
        world.predict(1, alarm("input_mean", world.prediction))
        world.predict(200)
        world.is_settled = True
        world.predict(1)
        assert is_trusted(world.state)

    def test_corrupt_weights_explain_a_first_alarm(self) -> None:
        world = World(policy(), has_spare=False)
        world.corrupt = {1}
        world.predict(1, alarm("confidence", 1))
        assert is_trusted(world.state)
        assert world.state.is_calm
        assert world.state.recovered_at == 1

    def test_a_drift_survives_a_runtime_fault(self) -> None:
        world = World(policy(), has_spare=False)
        world.predict(1, alarm("input_mean", 1))
        world.predict(40)
        world.answers_are_right = False
        world.predict(60)
        assert world.is_sound
        assert world.state.trouble is not None
        assert world.state.trouble.cause is she.Cause.COVARIATE_DRIFT

    def test_a_rebuild_that_is_refused_is_no_fault(self) -> None:
        world = World(policy(), has_spare=False)
        world.has_room = False
        world.predict(300)
        assert is_trusted(world.state)
        assert "put off: MemoryError" in str(world.records[-1].outcome)

    def test_a_rebuild_that_fails_over_sound_bytes_is_written_down(self) -> None:
        state = LoopState.first(policy())
        state, (check,) = decide(state, heard.RuntimeRebuilt(False))
        assert check == do.CheckWeights(Why.REBUILD)
        _, (record,) = decide(state, heard.WeightsChecked(Why.REBUILD, ()))
        assert isinstance(record, do.Record)
        assert "put off" in str(record.outcome)

    def test_every_reason_says_what_follows(self) -> None:
        state = LoopState.first(policy())
        for why in Why:
            if why is Why.SWEEP:
                continue
            _, actions = decide(state, heard.WeightsChecked(why, (block(1),)))
            assert any(isinstance(a, do.NameCause) for a in actions), why

    def test_all_damage_is_looked_for_before_its_cause_is_named(self) -> None:
        first = LoopState.first(policy())
        healed = (block(1, source="snapshot"), block(2, source="snapshot"))
        state, (check,) = decide(first, heard.DamageFound(healed))
        assert check == do.CheckWeights(Why.SWEEP)
        corrupt_again, other = block(2), block(3)
        state, (name,) = decide(state, heard.WeightsChecked(Why.SWEEP, (corrupt_again, other)))
        assert isinstance(name, do.NameCause)
        assert name.symptoms.corrupt_blocks == 3
        named = heard.CauseNamed(she.Diagnosis(she.Cause.WEIGHT_CORRUPTION, 1.0))
        _, (_, tried) = decide(state, named)
        assert isinstance(tried, do.TryStrategy)
        assert tried.case.corrupt == (corrupt_again, other, healed[0])


# -------------------------------------------------------------------- what a store remembers


def kinds(world: World) -> list[str]:
    return [record.kind.value for record in world.records]


def drifting() -> World:
    """A drift that is named at prediction 33, and goes on."""
    world = World(policy(known_answers_every=None, rebuild_after_seconds=None), has_spare=False)
    world.predict(1, alarm("input_mean", 1))
    world.predict(32)
    assert world.state.trouble is not None
    return world


def drifted() -> World:
    """Return a world with a drift that goes on."""
    world = World(she.Policy(), has_spare=False)
    world.prediction = 500
    world.handle(Incident(500, alarms=(alarm("input_mean", 450),)))
    world.prediction = 550
    world.handle(Incident(550))
    assert world.state.trouble is not None
    return world


def test_a_trouble_outlives_the_process_and_ends_when_signals_settle() -> None:
    before = Remembered.from_bytes(Remembered.of(drifted().state, 550).to_bytes())
    world = World(she.Policy(), has_spare=False)
    world.handle(heard.Restarted(before, frozenset()))
    assert world.state.trouble == before.trouble
    assert not is_trusted(world.state)
    assert world.state.count.alarms == 1
    assert wake_at(world.state).when_settled
    world.prediction, world.is_settled = 70, True
    world.handle(Incident(70))
    assert world.state.trouble is None
    assert is_trusted(world.state)


def test_a_prediction_in_a_trouble_that_says_nothing_new_copies_nothing() -> None:
    """Each one of them is handled as long as the trouble lasts."""
    world = drifted()
    world.predict(3)
    before = world.state
    quiet: tuple[AnyIncident, ...] = (
        Incident(before.now.prediction),
        heard.NextStep(heard.Step.TROUBLE),
        heard.SignalsRead(False),
        heard.NextStep(heard.Step.SCHEDULE),
        heard.Ended(),
    )
    for incident in quiet:
        after, _ = decide(before, incident)
        assert after is before


def test_damage_does_not_outlive_the_process() -> None:
    world = World(she.Policy(), has_spare=False)
    world.corrupt, world.resists = {3}, True
    world.handle(heard.DamageFound((block(3),)))
    assert world.state.is_damaged
    failures = world.state.failures
    assert failures
    before = Remembered.of(world.state, 0)
    fresh = World(she.Policy(), has_spare=False)
    fresh.handle(heard.Restarted(before, frozenset()))
    assert fresh.state.trouble is None
    assert is_trusted(fresh.state)
    assert fresh.state.failures == failures
    assert kinds(fresh) == ["recovered"]
    assert fresh.state.backoff.pause == world.state.backoff.pause


def on_trial(**how: Any) -> World:
    world = World(she.Policy(trial_predictions=100, known_answers_every=None), has_spare=False)
    for name, value in how.items():
        setattr(world, name, value)
    world.handle(heard.TrialBegan("ab" * 32))
    return world


def test_a_file_on_trial_is_confirmed_by_its_function() -> None:
    world = on_trial()
    assert wake_at(world.state).prediction == 100
    world.prediction = 99
    world.handle(Incident(99))
    assert world.ended == []
    world.prediction = 100
    world.handle(Incident(100))
    assert world.ended == [True]
    assert kinds(world) == ["trial", "confirmed"]
    assert world.state.failures == ()
    world.prediction = 200
    world.handle(Incident(200))
    assert world.ended == [True]


def test_damage_that_is_healed_says_nothing_against_a_file_on_trial() -> None:
    world = on_trial(corrupt={2})
    world.handle(heard.DamageFound((block(2),)))
    assert world.is_sound
    assert world.ended == []
    world.prediction = 100
    world.handle(Incident(100))
    assert world.ended == [True]


@pytest.mark.parametrize("what", ["drift", "failed run", "wrong answers"])
def test_a_file_on_trial_is_rejected(what: str) -> None:
    world = on_trial()
    world.prediction = 50
    if what == "drift":
        world.handle(Incident(50, alarms=(alarm("input_mean", 10),)))
    elif what == "failed run":
        world.handle(Incident(50, error=RuntimeError("the runtime failed")))
        assert world.raised == 1
    else:
        world.answers_are_right, world.resists, world.prediction = False, True, 100
        world.handle(Incident(100))
    world.prediction = 101
    world.handle(Incident(101))
    assert world.ended == [False]
    assert [(f.what, f.name) for f in world.state.failures if f.what == "update"] == [
        ("update", "ab" * 32)
    ]
    assert "confirmed" not in kinds(world)
    assert "rejected" in kinds(world)


def test_failures_are_bounded_and_repairs_go_first() -> None:
    held = with_failure((), Failure("update", "ab" * 32, "it did not hold"))
    for n in range(100):
        held = with_failure(held, Failure("repair", f"strategy {n}", "no"))
    held = with_failure(held, Failure("repair", "strategy 99", "again"))
    assert len(held) == 32
    assert held[0].what == "update"
    assert held[-1] == Failure("repair", "strategy 99", "again", times=2)
