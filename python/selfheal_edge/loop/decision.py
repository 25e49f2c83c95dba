"""What a self-healing model does: this file, from top to bottom.

`decide` is told what happened and says what to do. It calls nothing that acts: it takes the state
of the loop and an incident, and returns the next state and a list of actions. The executor carries
the actions out, one after the other; what an action finds out is the next incident, decided before
the action that follows. What is heard of stands in `loop.incidents`, what can be done in
`loop.actions`. So everything that happens between an alarm and its proof is in here:

1.  An inference reports damage, an error, alarms, or that something is due (`_reported`).
2.  Corrupt weights are repaired at once: nothing else that they make the model do means anything.
3.  Alarms wait until the shape of a shift shows, and then their cause is named.
4.  The policy's strategies for that cause are tried in order until one is proven.
5.  A trouble of the weights or the runtime ends by proof, any other when the signals settle.
6.  Repairs that are learned serve on probation, for one condition (`loop.adaptation`).

Answers are flagged from the first suspicion to that end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any, Final, NamedTuple, TypeAlias

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Damage, Diagnosis, Symptoms
from selfheal_edge.inference.incident import Incident
from selfheal_edge.integrity.code_watch import CodeDamage
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import adaptation, passages, unlearning
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.actions import Action
from selfheal_edge.loop.calm import CALM, Calm
from selfheal_edge.loop.healed_bytes import HealedByte
from selfheal_edge.loop.incidents import AnyIncident, Step
from selfheal_edge.loop.state import (
    INTEGRITY,
    Learning,
    LoopState,
    ModelTrial,
    PeriodicTrigger,
    Repair,
    Why,
)
from selfheal_edge.monitoring.monitor import SENSOR_ALARMS, Alarm
from selfheal_edge.repair.protocol import RepairCase
from selfheal_edge.store.failures import Failure, with_failure
from selfheal_edge.store.journal import EventKind

__all__ = ["SIGNALS_EVERY", "Decision", "Wake", "decide", "is_trusted", "wake_at"]

Decision: TypeAlias = tuple[LoopState, tuple[Action, ...]]

_SAMPLES_FOR_DIAGNOSIS: Final = 32
"""The shape of a shift does not show in fewer."""
_SAMPLES_TO_JUDGE: Final = 64
"""Of what follows, whether it is what was accepted."""
_SAMPLES_TO_LEARN: Final = 256
"""Of an operating condition that was accepted."""
SIGNALS_EVERY: Final = 128
"""Predictions between two looks at a trouble that goes on, by which a regime may explain it."""
_LOOK_AGAIN: Final = 4
"""Predictions after a look at inputs before they may be found to have come elsewhere."""
_RETURNS: Final = 8
_HEALED: Final = 64
_SWEEP: Final = 4096
"""Predictions within which flips that a sweep finds may belong together."""


def decide(state: LoopState, incident: AnyIncident) -> Decision:  # noqa: PLR0911, PLR0912 — a case each
    """Return what the loop knows after an incident, and what it does about it.

    Parameters
    ----------
    state
        What it knew before, with `LoopState.now` at this moment.
    incident
        What happened: reported by an inference, asked for by the user, or found by an action.
    """
    match incident:
        # From outside: inferences, sweeps and the user.
        case heard.Started():
            return _started(state), ()
        case heard.Restarted():
            return _restarted(state, incident)
        case heard.TrialBegan(sha256):
            return _trial_began(state, sha256)
        case heard.Posted(reported):
            return _suspect(state, reported), ()
        case Incident():
            return _reported(state, incident)
        case heard.DamageFound(blocks):
            return _damaged(state, blocks)
        case heard.RolledBack():
            return _rolled_back(state)
        case heard.Accepted():
            return _accepted(state)
        case heard.CodeDamaged(pages):
            return _code_damaged(state, pages)
        case heard.MarkedUntrusted():
            return replace(state, trust=replace(state.trust, is_marked=True)), ()
        case heard.FeedbackDue():
            return state, (do.AskFeedback(),) if state.is_calm else ()
        case heard.FeedbackNamed(diagnosis):
            return _cause_named(replace(state, repair=Repair(Why.DIAGNOSIS)), diagnosis)
        case heard.WeightsRejected():
            return _weights_rejected(state, incident)
        # From our own actions.
        case heard.WeightsChecked(why, corrupt):
            return _weights_checked(state, why, corrupt)
        case heard.KnownAnswersAsked(why, are_right):
            return _known_answers_asked(state, why, are_right)
        case heard.CauseNamed(diagnosis):
            return _cause_named(state, diagnosis)
        case heard.RepairAttempt():
            return _strategy_tried(state, incident)
        case heard.SignalsRead(settled):
            return _signals_read(state, settled)
        case heard.RegimeKnown(name):
            return _regime_known(state, name)
        case heard.RegimeUnclear(alarms, wait):
            later = state.now.prediction + wait
            return replace(state, repair=None, pending=alarms, diagnose_at=later), ()
        case heard.FoundHarmless(since, text):
            record = _regime(f"harmless: {text}")
            return state, (record, do.LearnRegime(since))
        case heard.RegimeLearned(name, is_other):
            return _not_learned(state) if is_other else _regime_learned(state, name)
        # Repairs that are learned.
        case heard.HealSet(heal):
            state = replace(state, heal=heal)
            may_restore = heal != "observe" and state.is_damaged  # nothing was tried before
            return state, (do.CheckWeights(Why.RETRY),) if may_restore else ()
        case heard.FeedbackCame(records):
            return adaptation.labels_came(state, records)
        case heard.ConditionKnown(name):
            return passages.condition_known(state, name)
        case heard.Certified():
            return adaptation.certified(state, incident)
        case heard.Proposed():
            return _proposed(state, incident)
        case heard.Adopted():
            return _adopted(state, incident)
        case heard.Switched():
            return passages.switched(state, incident)
        case heard.Revoked():
            return unlearning.revoked(state, incident)
        case heard.LearnedAgain():
            return unlearning.learned_again(state, incident)
        case heard.Forgotten(generation):
            return passages.forgotten(state, generation), ()
        case heard.MonitorReset(sample):
            return replace(state, recovered_at=sample), ()
        case heard.RuntimeRebuilt():
            return _runtime_rebuilt(state, incident)
        case heard.GoldenRenewed():
            return _guards_mended(state, incident)
        case heard.FailedOver(is_sound):
            return _failed_over(state, is_sound)
        case heard.NextStep(step):
            return _next_step(state, step)
        case heard.Looked(suspicions):
            cleared = max(state.trust.cleared, suspicions)
            return replace(state, trust=replace(state.trust, cleared=cleared)), ()
        case heard.Interrupted():
            return _interrupted(state), ()
        case heard.Ended():
            return _ended(state)


class Wake(NamedTuple):
    """Which inference the loop wants to hear of, if nothing else comes up."""

    prediction: int | None
    second: float
    when_settled: bool
    """Also at the first inference after which the signals look as always."""
    passages_from: int | None
    """From this inference on, also where inputs have come to another condition that is known."""


def wake_at(state: LoopState) -> Wake:
    """Return when the loop has to look again: at the first thing that is due, or on calm."""
    triggers = [state.known_answers, state.rebuild]
    if state.trial is not None and state.is_calm:
        triggers.append(state.trial.until)
    due = [t.next_prediction for t in triggers if t.next_prediction is not None]
    if state.pending:
        due.append(state.diagnose_at)
    if state.learning is not None:
        due.append(state.learning.until)
    if state.learned:
        due.append(_next_look(state))
    if state.learned and (refine_at := adaptation.refines_at(state)) is not None:
        due.append(refine_at)
    waits_for_signals = state.trouble is not None and not state.is_damaged
    if state.trouble is not None and not waits_for_signals:
        due.append(state.backoff.at)
    if waits_for_signals:
        due.append(_signals_read_at(state))
    if state.now.on_spare:
        due.append(state.verify_spare_at)
    if state.leaving:
        due.append(max(state.now.prediction, state.looked_at))
    second = min(t.next_second for t in triggers)
    when_settled = waits_for_signals and state.calm.since is None
    passages_from = state.looked_at + _LOOK_AGAIN if _may_pass(state) else None
    return Wake(min(due, default=None), second, when_settled, passages_from)


def _signals_read_at(state: LoopState) -> int:
    """Return the next prediction at which signals are read beside the first that they settle at.

    So seldom that the 99th percentile of an answer's time is that of normal operation, however long
    the trouble lasts; where a wait ends before that, then. While they are settled, so often that no
    alarm is missed, though one look gives way to learning: the monitor tells of the latest 64.
    """
    number, cause = state.now.prediction, state.trouble and state.trouble.cause
    if state.calm.since is not None:
        ends_at = max(number, state.calm.ends_at)
        return min(ends_at, number + CALM // 2 - state.now.sample % (CALM // 2))
    later = number + SIGNALS_EVERY - state.now.sample % SIGNALS_EVERY
    ends = (p.until for p in state.put_off if p.cause is cause and p.until > number)
    return min((later, *ends))


def is_trusted(state: LoopState) -> bool:
    """Whether the model's own answers may be relied on: nothing is wrong, suspected or mended."""
    trust = state.trust
    is_suspected = trust.cleared != trust.suspicions
    is_doubted = trust.is_marked or is_suspected or trust.is_code_damaged
    return not is_doubted and state.repair is None


# ---- 1. What is reported


def _counted(state: LoopState, **more: int) -> LoopState:
    if not any(more.values()):
        return state
    raised = {name: getattr(state.count, name) + n for name, n in more.items()}
    return replace(state, count=replace(state.count, **raised))


def _started(state: LoopState) -> LoopState:
    at = (state.now.prediction, state.now.second)
    return replace(
        state,
        allowed_at=state.now.second,
        known_answers=state.known_answers.restarted(*at),
        rebuild=state.rebuild.restarted(*at),
    )


def _restarted(state: LoopState, found: heard.Restarted) -> Decision:
    """Go on with what the process before knew, but for its damage: these bytes are proven."""
    number, before = state.now.prediction, found.before
    state = replace(
        state,
        count=before.count,
        failures=before.failures,
        before=before.predictions,
        returns=before.returns,
        healed=tuple(HealedByte(image, at) for image, at in before.healed),
        recovered_at=before.recovered_at,
        pause=before.pause or state.pause,
        backoff=replace(state.backoff, pause=before.backoff or state.backoff.pause),
    )
    state = replace(
        state,
        learned=before.learned,
        put_off=before.put_off,
        allowance=min(state.allowance, before.allowance),
        named=before.named,
        leaving=(*before.leaving, *((gone, None) for gone in before.unknown(found.generations))),
        home=before.home,
    )
    state = passages.generation_seen(state)
    trouble = before.trouble
    if trouble is not None and trouble.cause in INTEGRITY:
        record = do.Record(
            EventKind.RECOVERED, trouble.cause, outcome="started anew, from sound bytes"
        )
        state, actions = adaptation.restarted(state, found)
        return state, (record, *actions)
    goes_on = trouble is not None or bool(before.pending)
    state = replace(
        state,
        trouble=trouble,
        pending=before.pending,
        diagnose_at=number + _SAMPLES_FOR_DIAGNOSIS,
        trust=replace(state.trust, is_marked=state.trust.is_marked or goes_on),
    )
    return adaptation.restarted(state, found)


def _suspect(state: LoopState, reported: Incident) -> LoopState:
    """Mark answers untrusted until the worker has looked, unless it knows of this already."""
    is_live = any(block.part == "live" for block in reported.damage)
    if is_live or reported.error is not None or (reported.alarms and state.is_calm):
        suspicions = state.trust.suspicions + 1
        return replace(state, trust=replace(state.trust, suspicions=suspicions))
    return state


def _reported(state: LoopState, reported: Incident) -> Decision:
    """Decide on what an inference reports: damage before it, a failed run, or alarms."""
    actions: tuple[Action, ...] = ()
    if state.learned or state.now.generation != state.home:
        state = passages.generation_seen(state)
    if state.leaving and state.now.prediction >= state.looked_at:  # something came between
        actions = passages.leave(state)
    if state.now.on_spare and state.now.prediction >= state.verify_spare_at:
        actions = (*actions, do.FailBack(), do.FailOver())  # nothing sweeps a spare that serves
    if reported.damage:
        state, more = _damaged(state, reported.damage)
        return state, (*actions, *more)
    if reported.error is not None:
        return state, (*actions, do.CheckWeights(Why.FAILED_RUN))
    state = _counted(state, alarms=len(reported.alarms))
    # Alarms of before a recovery had waited for it: what was wrong then is known, and healed.
    alarms = tuple(a for a in reported.alarms if a.onset >= state.recovered_at)
    if state.learning is not None:  # its level is not known yet
        if alarms:
            state = replace(state, learning=_doubted(state.learning))
        alarms = tuple(a for a in alarms if a.signal in SENSOR_ALARMS)
    if alarms:
        state, more = _alarmed(state, alarms)
        actions = (*actions, *more)
    return state, (*actions, do.Proceed(Step.TROUBLE), do.Proceed(Step.SCHEDULE))


def _code_damaged(state: LoopState, pages: tuple[CodeDamage, ...]) -> Decision:
    """Trust no answer any more: what is damaged runs repairs and proofs as well."""
    state = replace(state, trust=replace(state.trust, is_code_damaged=True))
    record = do.Record(
        EventKind.DIAGNOSIS,
        Cause.RUNTIME_FAULT,
        evidence=tuple(str(page) for page in pages),
        outcome="code is damaged: answers are untrusted until the process is started anew",
    )
    # The spare runs the same code, and is trusted where it serves.
    return state, (record, *((do.FailBack(),) if state.now.on_spare else ()))


def _alarmed(state: LoopState, alarms: tuple[Alarm, ...]) -> Decision:
    """Suspect the answers, check the weights at once, and collect samples of the shift."""
    actions: tuple[Action, ...] = ()
    if state.is_calm:
        onset = min(a.onset for a in alarms)
        seen = state.now.sample - onset
        wait = max(0, _SAMPLES_FOR_DIAGNOSIS - seen)
        if state.learned:  # inputs may have come to a condition that is known: that shows sooner
            wait = 0
        state = replace(
            state,
            diagnose_at=state.now.prediction + wait,
            trust=replace(state.trust, is_marked=not state.now.is_familiar),
        )
        evidence = tuple(f"alarm: {a}" for a in alarms)
        actions = (do.Record(EventKind.ALARM, evidence=evidence), do.CheckWeights(Why.ALARM))
    known = {a.signal for a in state.pending}
    news = {a.signal: a for a in reversed(alarms) if a.signal not in known}
    state = replace(state, pending=(*state.pending, *reversed(news.values())))
    is_known = state.trouble is not None and state.trouble.cause is Cause.SENSOR_FAULT
    if not is_known and any(a.signal in SENSOR_ALARMS for a in state.pending):
        state = replace(state, diagnose_at=state.now.prediction)  # such an alarm says it all
    return state, actions


def _next_step(state: LoopState, step: Step) -> Decision:  # noqa: PLR0911, PLR0912 — a case each
    number, second = state.now.prediction, state.now.second
    match step:
        case Step.TROUBLE:
            if state.pending and number >= state.diagnose_at:
                return state, (do.CheckWeights(Why.DIAGNOSIS),)
            if state.is_damaged:
                return state, (do.CheckWeights(Why.RETRY),) if number >= state.backoff.at else ()
            state, actions = adaptation.learn_more(state)
            if actions or state.trouble is None:
                return state, actions
            return state, (do.ReadSignals(),)
        case Step.HEALED_FIRST:
            if state.is_damaged:  # what a damaged model is heard to do says nothing else
                return replace(state, pending=()), ()
            return _ask_for_a_cause(state)
        case Step.SCHEDULE if _looks_at_inputs(state):
            return replace(state, looked_at=number), (do.LookAtInputs(),)
        case Step.SCHEDULE if state.learning is not None and number >= state.learning.until:
            learning, state = state.learning, replace(state, learning=None)
            learn = do.LearnRegime(learning.since, learning.name, learning.adds)
            # Nothing is learned under suspicion.
            return state, (learn,) if state.is_calm else ()
        case Step.SCHEDULE if _trial_is_due(state):
            return state, (do.AskKnownAnswers(Why.TRIAL),)
        case Step.SCHEDULE:
            ask = state.known_answers.is_due(number, second)
            rebuild = state.rebuild.is_due(number, second)
            if ask:
                again = state.known_answers.restarted(number, second)
                state = replace(state, known_answers=again)
            if rebuild:
                state = replace(state, rebuild=state.rebuild.restarted(number, second))
            if state.is_damaged:  # its repair is tried again by itself
                return state, ()
            if rebuild:
                return state, (do.RebuildRuntime(),)
            return state, (do.AskKnownAnswers(Why.SCHEDULE),) if ask else ()


def _may_pass(state: LoopState) -> bool:
    """Whether another condition may be served without an alarm, where inputs come from one."""
    return bool(state.learned) and not state.is_damaged and not state.pending


def _looks_at_inputs(state: LoopState) -> bool:
    """Whether inputs have come to another condition, or it is time to look at what is kept."""
    if not _may_pass(state):
        return False
    due = state.looked_at + _LOOK_AGAIN if state.now.has_passed else _next_look(state)
    return state.now.prediction >= due


def _next_look(state: LoopState) -> int:
    """Return the prediction at which what is kept is looked at next: the one of the signals."""
    since = state.looked_at - (state.now.prediction - state.now.sample)
    return state.looked_at + SIGNALS_EVERY - since % SIGNALS_EVERY


# ---- 2. Weights and runtime are looked at


def _damaged(state: LoopState, found: tuple[CorruptBlock, ...]) -> Decision:
    """Decide on what a sweep found, some of which the core has healed already."""
    live = tuple(block for block in found if block.part == "live")
    guards = tuple(block for block in found if block.part != "live")
    actions: tuple[Action, ...] = ()
    if guards:
        is_lost = any(b.part == "snapshot" and not b.healed for b in guards)
        actions = (do.RenewGolden(guards, is_lost),)
    if live and not _resists(state, live):
        # One seldom comes alone, and what kind of damage it is shows in all of it.
        state = replace(state, repair=Repair(Why.SWEEP, live))
        actions = (*actions, do.CheckWeights(Why.SWEEP))
    return state, actions


def _weights_checked(state: LoopState, why: Why, corrupt: tuple[CorruptBlock, ...]) -> Decision:  # noqa: PLR0911
    """Go on after a full check; corruption, if there is any, is repaired first."""
    match why:
        case Why.SWEEP:
            assert state.repair is not None
            now = {(b.image, b.block) for b in corrupt}
            healed = (b for b in state.repair.corrupt if (b.image, b.block) not in now)
            corrupt = (*corrupt, *healed)
        case Why.DIAGNOSIS:
            if not corrupt:
                return _ask_for_a_cause(state)
            actions: tuple[Action, ...] = ()
            if not _resists(state, corrupt):
                state, actions = _repair_corruption(state, corrupt, why)
            return state, (*actions, do.Proceed(Step.HEALED_FIRST))
        case Why.RUNTIME_FAULT if not corrupt:
            return state, (do.NameCause(Symptoms(known_answers_right=False)),)
        case Why.RETRY if not corrupt:
            return state, (do.AskKnownAnswers(why),)
        case Why.REBUILD if not corrupt:  # a runtime may say "damaged" where it had no room
            outcome = "put off: every byte is sound, but no runtime like the one before was built"
            return state, (do.Record(EventKind.REPAIR, strategy="rebuild", outcome=outcome),)
        case Why.FAILED_RUN if not corrupt:
            state, actions = _trial_ended(state, "the runtime failed")
            return state, (*actions, do.RaiseError())
        case Why.ALARM if corrupt:
            state = replace(state, pending=())  # a damaged model was heard
    return _repair_corruption(state, corrupt, why) if corrupt else (state, ())


def _resists(state: LoopState, corrupt: tuple[CorruptBlock, ...]) -> bool:
    """Whether all of these blocks are known to resist, and it is too early to try again."""
    known = state.backoff.resisting
    return state.now.prediction < state.backoff.at and known.issuperset(
        (b.image, b.block) for b in corrupt
    )


def _known_answers_asked(state: LoopState, why: Why, are_right: bool) -> Decision:
    if why is Why.DIAGNOSIS:
        alarms = state.pending
        state = replace(state, pending=(), repair=Repair(why, alarms=alarms))
        returns = _returns(state, alarms)
        symptoms = Symptoms(alarms, known_answers_right=are_right, returns=returns)
        return state, (do.NameCause(symptoms),)
    if not are_right:  # either the weights are corrupt after all, or the runtime is at fault
        state = replace(state, repair=Repair(Why.RUNTIME_FAULT))
        return state, (*_fail_over(state), do.CheckWeights(Why.RUNTIME_FAULT))
    if why is Why.TRIAL and state.trial is not None:
        return _trial_ended(state)
    return _restored(state) if why is Why.RETRY else (state, ())


def _runtime_rebuilt(state: LoopState, rebuilt: heard.RuntimeRebuilt) -> Decision:
    if rebuilt.refused:  # there is no room to build anything now, and nothing is known to be wrong
        outcome = f"put off: {rebuilt.refused}"
        return state, (do.Record(EventKind.REPAIR, strategy="rebuild", outcome=outcome),)
    if not rebuilt.is_sound:  # damage that the sweep has not reached
        return state, (do.CheckWeights(Why.REBUILD),)
    return state, (do.AskKnownAnswers(Why.SCHEDULE),)


def _guards_mended(state: LoopState, mended: heard.GoldenRenewed) -> Decision:
    """Count damage to what guards the weights; write down once what could not be mended."""
    lost = set(state.lost if mended.generations == state.lost_of else ())
    actions: list[Action] = []
    for block in mended.guards:
        name = (block.image, block.part, block.block)
        # If the copy was not golden's, the next sweep finds it again.
        is_mended = block.healed or (mended.renewed and block.part == "snapshot")
        if is_mended:
            state = _counted(state, guards_mended=1)
            lost.discard(name)
        elif name in lost:
            continue
        else:
            lost.add(name)
        outcome = (
            f"{'healed' if is_mended else 'not healed'}: damage to the {block.part} that guards "
            f"block {block.block} of the {block.image} image"
        )
        actions.append(
            do.Record(
                EventKind.REPAIR, Cause.WEIGHT_CORRUPTION, strategy="mend_guard", outcome=outcome
            )
        )
    return replace(state, lost=frozenset(lost), lost_of=mended.generations), tuple(actions)


# ---- 3. The cause is named


def _repair_corruption(state: LoopState, corrupt: tuple[CorruptBlock, ...], why: Why) -> Decision:
    """Begin the repair of corrupt weights; answers are flagged, or the spare's, until its end."""
    state = _counted(state, corrupt_blocks=len(corrupt))
    state = replace(state, repair=Repair(why, corrupt))
    regions = tuple(dict.fromkeys(name for block in corrupt for name in block.regions))
    symptoms = Symptoms(
        corrupt_blocks=len(corrupt),
        corrupt_regions=regions,
        damage=_damage_of(corrupt, state.healed, state.now.prediction),
    )
    state = replace(state, healed=_with_healed(state.healed, corrupt, state.now.prediction))
    return state, (*_fail_over(state), do.NameCause(symptoms))


def _damage_of(
    corrupt: Sequence[CorruptBlock], healed: Sequence[HealedByte], prediction: int
) -> tuple[Damage, ...]:
    """Return what is wrong in blocks, after what was healed within about a sweep.

    Parameters
    ----------
    corrupt
        The blocks.
    healed
        The latest bytes that were wrong: a byte among them that is wrong again is a failing cell.
    prediction
        Predictions so far.
    """
    earlier = [
        Damage(one.image, ((one.offset, one.mask),), one.mask.bit_count(), is_earlier=True)
        for one in healed
        if one.mask and one.prediction > prediction - _SWEEP
    ]
    known = {(one.image, one.offset) for one in healed}
    now = [
        Damage(
            block.image,
            block.flips,
            block.wrong_bits,
            any((block.image, at) in known for at, _ in block.flips),
        )
        for block in corrupt
    ]
    return (*earlier, *now)


def _with_healed(
    healed: Sequence[HealedByte], corrupt: Sequence[CorruptBlock], prediction: int
) -> tuple[HealedByte, ...]:
    """Return the latest bytes that were wrong, those of these blocks among them."""
    found = [HealedByte(b.image, at, mask, prediction) for b in corrupt for at, mask in b.flips]
    return (*healed, *found)[-_HEALED:]


def _returns(state: LoopState, alarms: tuple[Alarm, ...]) -> tuple[int, ...]:
    """Return how soon the latest troubles came back, with the one that is being named.

    One comes back where a trouble has ended since the last was named. That inputs pass from one
    condition to another that is known is none, nor is what ends the service of a repair there.
    """
    if state.ended_at is None or state.condition or not alarms:
        return state.returns
    gap = max(0, min(alarm.onset for alarm in alarms) - state.ended_at)
    return (*state.returns, gap)[-_RETURNS:]


def _ask_for_a_cause(state: LoopState) -> Decision:
    """Begin the diagnosis of what is pending, if there is still something."""
    return state, (do.AskKnownAnswers(Why.DIAGNOSIS),) if state.pending else ()


def _as_stored(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a store gives back: an event is the same before and after."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


def _cause_named(state: LoopState, diagnosis: Diagnosis) -> Decision:
    """Choose the strategies for a cause, unless it is that of the trouble that goes on."""
    repair = state.repair
    assert repair is not None
    if repair.why is Why.DIAGNOSIS and not repair.corrupt:
        if diagnosis.more_samples:  # the shape of the shift does not show yet
            later = state.now.prediction + diagnosis.more_samples
            told = {alarm.signal for alarm in repair.alarms}
            news = tuple(alarm for alarm in state.pending if alarm.signal not in told)
            pending = (*repair.alarms, *news)
            return replace(state, repair=None, pending=pending, diagnose_at=later), ()
        returns = _returns(state, repair.alarms)
        if returns is not state.returns:
            state = replace(state, returns=returns, ended_at=None)
        # What is known is not forgotten for want of evidence.
        is_known = state.trouble is not None and (
            diagnosis.cause in (state.trouble.cause, Cause.UNKNOWN)
        )
        pause = 2 * state.pause if is_known else state.policy.rediagnose_after
        state = replace(state, pause=pause, diagnose_at=state.now.prediction + pause)
        if is_known:
            return _learn_again(replace(state, repair=None), diagnosis)
    sure = f"confidence {diagnosis.confidence:.2f}"
    record = do.Record(
        EventKind.DIAGNOSIS,
        diagnosis.cause,
        tuple(fact.text for fact in diagnosis.evidence),
        outcome=f"{diagnosis.kind}, {sure}" if diagnosis.kind else sure,
        details=_as_stored(asdict(diagnosis)),
    )
    records: tuple[Action, ...] = (record,)
    if diagnosis.cause is Cause.RESOURCE_ATTACK:
        outcome = f"{adaptation.FROZEN}; damage is restored, and signals are watched, as before"
        records = (record, do.Record(EventKind.REPAIR, diagnosis.cause, outcome=outcome))
    if state.condition and diagnosis.cause not in INTEGRITY and not repair.corrupt:
        # No known condition explains it: the charts of normal operation shall say what it is.
        state = replace(state, repair=None, pending=())
        state, actions = adaptation.left(state, str(diagnosis))
        return state, (*records, *actions)
    case = RepairCase(repair.corrupt)
    ladder = state.policy.response(diagnosis.cause)
    if diagnosis.kind == "failing cell" and "rebuild" in ladder:  # healing it lasts no time
        ladder = ("move", *ladder)
    repair = replace(repair, diagnosis=diagnosis, ladder=ladder, case=case, first_case=case)
    state, actions = _try_next(replace(state, repair=repair))
    return state, (*records, *actions)


# ---- 4. Strategies are tried until one is proven


def _try_next(state: LoopState) -> Decision:
    repair = state.repair
    assert repair is not None
    if not repair.ladder:
        return _repair_ended(state, is_restored=False)
    name, *later = repair.ladder
    if name in state.learners:
        return _learn(state, repair)
    state = replace(state, repair=replace(repair, ladder=tuple(later)))
    if state.heal == "observe" and name != "mark_untrusted":
        assert repair.diagnosis is not None
        record = do.Record(
            EventKind.REPAIR,
            repair.diagnosis.cause,
            strategy=name,
            outcome="would have been tried (heal='observe')",
        )
        state, actions = _try_next(state)
        return state, (record, *actions)
    return state, (do.TryStrategy(name, repair.case),)


def _learn(state: LoopState, repair: Repair) -> Decision:
    """Have the learning strategies that come next propose together, or pass them over."""
    assert repair.diagnosis is not None
    names = tuple(takewhile(state.learners.__contains__, repair.ladder))
    state = replace(state, repair=replace(repair, ladder=repair.ladder[len(names) :]))
    reason = adaptation.may_learn(state, repair.diagnosis.cause)
    if not reason:
        return state, (adaptation.propose(state, names, repair.diagnosis),)
    record = do.Record(
        EventKind.REPAIR,
        repair.diagnosis.cause,
        strategy="+".join(names),
        outcome=f"not applied: {reason}",
    )
    state, actions = _try_next(state)
    return state, (record, *actions)


def _learn_again(state: LoopState, diagnosis: Diagnosis) -> Decision:
    """Have strategies learn for a trouble that goes on, where that was put off."""
    trouble = state.trouble
    if trouble is None or diagnosis.cause is not trouble.cause:
        return state, ()
    ladder = state.policy.response(trouble.cause)
    names = tuple(name for name in ladder if name in state.learners)
    if not names or adaptation.may_learn(state, trouble.cause):
        return state, ()
    state = replace(state, repair=Repair(Why.LABELS, diagnosis=trouble))
    return state, (adaptation.propose(state, names, trouble),)


def _proposed(state: LoopState, found: heard.Proposed) -> Decision:
    """Adopt what was learned, or go on with the strategies that are left."""
    state, actions = adaptation.proposed(state, found)
    if state.repair is None or any(isinstance(a, do.Adopt) for a in actions):
        return state, actions
    state, more = _try_next(state)
    return state, (*actions, *more)


def _adopted(state: LoopState, found: heard.Adopted) -> Decision:
    """Go on with the strategies that are left, where what was learned could not serve."""
    state, actions = adaptation.adopted(state, found)
    if state.repair is None:
        return state, actions
    state, more = _try_next(state)
    return state, (*actions, *more)


def _strategy_tried(state: LoopState, tried: heard.RepairAttempt) -> Decision:
    repair = state.repair
    assert repair is not None
    assert repair.diagnosis is not None
    state = replace(state, repair=replace(repair, case=tried.case))
    if tried.failed:  # one that breaks down is one that did not help
        outcome, state = f"failed: {tried.text}", _counted(state, failed=1)
    elif not tried.applied:
        outcome = f"not applied: {tried.text}"
    elif tried.held is None:
        outcome = tried.text
    elif tried.held:
        outcome, state = f"healed: {tried.text}; {tried.proof}", _counted(state, repairs=1)
        if tried.name == "move":  # what was healed there says nothing of the new place
            state = replace(state, healed=())
    else:
        outcome, state = f"not proven: {tried.proof}", _counted(state, failed=1)
    state = _counted(state, repeated=tried.repeats)
    if tried.failed or tried.held is False:
        name = f"{tried.name} for {repair.diagnosis.cause.value}"
        number = state.before + state.now.prediction
        failed = Failure("repair", name, outcome, prediction=number)
        state = replace(state, failures=with_failure(state.failures, failed))
    record = do.Record(
        EventKind.REPAIR, repair.diagnosis.cause, strategy=tried.name, outcome=outcome
    )
    is_last_word = tried.applied and not tried.failed and tried.held is not False
    if is_last_word:
        state, actions = _repair_ended(state, is_restored=bool(tried.held))
    else:
        state, actions = _try_next(state)
    return state, (record, *actions)


def _weights_rejected(state: LoopState, tried: heard.WeightsRejected) -> Decision:
    """Remember weights that did not hold."""
    number = state.before + state.now.prediction
    failed = Failure(tried.what, tried.digest, tried.reason, prediction=number)
    state = replace(state, failures=with_failure(state.failures, failed))
    outcome = f"{tried.what} {tried.digest[:16]}: {tried.reason}"
    return state, (do.Record(EventKind.REJECTED, outcome=outcome),)


# ---- 5. A trouble begins or ends


def _repair_ended(state: LoopState, *, is_restored: bool) -> Decision:
    repair = state.repair
    assert repair is not None
    assert repair.diagnosis is not None
    state = replace(state, repair=None)
    actions: tuple[Action, ...] = ()
    if not is_restored:
        state, actions = _trial_ended(state, str(repair.diagnosis))
        more = 0 if state.trouble is None else state.calm.more
        calm = Calm(state.now.prediction + CALM, more=more)
        state = replace(state, trouble=repair.diagnosis, calm=calm)
        if repair.corrupt or repair.why is not Why.DIAGNOSIS or state.is_damaged:
            # Whatever the policy did: nothing may rely on a damaged model.
            resisting = repair.first_case.corrupt if repair.corrupt else None
            backoff = state.backoff.put_off(state.now.prediction, resisting)
            state = replace(state, trust=replace(state.trust, is_marked=True), backoff=backoff)
    elif repair.corrupt:
        state, actions = _restored(state)
    elif repair.why is Why.DIAGNOSIS:
        state, actions = _recovered(replace(state, trouble=repair.diagnosis))
    else:  # a drift that goes on is one still
        state, actions = _restored(replace(state, trouble=state.trouble or repair.diagnosis))
    if repair.why is Why.FAILED_RUN and not is_restored:
        return state, (*actions, do.RaiseError())
    if repair.why is Why.ALARM and is_restored:
        return state, (*actions, do.AnswerAgain())
    if repair.why is Why.REBUILD and is_restored:
        return state, (*actions, do.AskKnownAnswers(Why.SCHEDULE))
    return state, actions


def _restored(state: LoopState) -> Decision:
    """Take note that weights and runtime are proven to be what they were."""
    actions: tuple[Action, ...] = ()
    if state.trouble is None or state.is_damaged:
        state, actions = _recovered(state)
    return replace(
        state, backoff=replace(state.backoff, resisting=frozenset(), pause=state.backoff.first)
    ), actions


def _rolled_back(state: LoopState) -> Decision:
    """Take note of what the user has put there, proven."""
    state, forget = adaptation.rolled_back(state) if state.learned else (state, ())
    state = passages.generation_seen(state)
    state, actions = _restored(state)
    return state, (*forget, *actions)


def _signals_read(state: LoopState, settled: bool) -> Decision:
    """End the trouble once signals have settled for long enough."""
    calm, number = state.calm, state.now.prediction
    if not settled:
        return (state if calm.since is None else replace(state, calm=calm.broken)), ()
    if calm.since is None:
        calm = replace(calm, since=number)
    return _recovered(state) if number >= calm.ends_at else (replace(state, calm=calm), ())


def _recovered(state: LoopState) -> Decision:
    """End the trouble and restart the charts; if something else is wrong, they alarm again."""
    trouble = state.trouble
    state = replace(
        state,
        trouble=None,
        pending=(),
        pause=state.policy.rediagnose_after,
        trust=replace(state.trust, is_marked=_is_unproven(state)),
    )
    if trouble is None:
        return state, (do.ResetMonitor(),)
    state = replace(state, ended_at=state.now.sample)
    return state, (do.ResetMonitor(), do.Record(EventKind.RECOVERED, trouble.cause))


def _is_unproven(state: LoopState) -> bool:
    """Whether what serves was learned and is on probation."""
    if state.leaving and state.now.generation in dict(state.leaving):
        return True
    return bool(state.condition) and state.probation is not None


def _regime(outcome: str, evidence: tuple[str, ...] = ()) -> do.Record:
    return do.Record(EventKind.REGIME, evidence=evidence, outcome=outcome)


def _regime_known(state: LoopState, name: str) -> Decision:
    """Go on as if nothing had happened: the second night is no news."""
    if state.is_damaged:
        return replace(state, repair=None), ()
    evidence = tuple(f"alarm: {a}" for a in state.pending)
    state, actions = _normal_again(replace(state, repair=None))
    return state, (_regime(f"known: {name}", evidence), *actions)


def _regime_learned(state: LoopState, name: str | None) -> Decision:
    """Go on in what was accepted, or was found harmless while a drift went on."""
    if name is None:
        return state, ()
    record = _regime(f"learned: {name}")
    if name == state.condition and state.is_calm:  # whose level had moved
        state = replace(state, trust=replace(state.trust, is_marked=_is_unproven(state)))
    if state.trouble is None or state.is_damaged:
        return state, (record,)
    state, actions = _normal_again(state)
    return state, (record, *actions)


def _doubted(learning: Learning) -> Learning:
    """Return when to learn what was accepted once it alarms: as soon as that can be judged."""
    if learning.name is not None or learning.is_doubted:
        return learning
    sooner = learning.until - _SAMPLES_TO_LEARN + _SAMPLES_TO_JUDGE
    return replace(learning, until=sooner, is_doubted=True)


def _not_learned(state: LoopState) -> Decision:
    """Hear everything anew: what followed is not what the user has seen, and accepted."""
    outcome = "not learned: what followed is another condition than the one that was accepted"
    return state, (_regime(outcome), do.ResetMonitor())


def _accepted(state: LoopState) -> Decision:
    """Take what there is for normal, and learn it from what follows."""
    if state.is_damaged:
        return state, ()
    learning = Learning(state.now.sample, state.now.prediction + _SAMPLES_TO_LEARN)
    state, actions = _normal_again(replace(state, learning=learning))
    outcome = f"accepted; to be learned from the next {_SAMPLES_TO_LEARN} predictions"
    return state, (_regime(outcome), *actions)


def _normal_again(state: LoopState) -> Decision:
    """End what goes on, whose signals are normal by now; the charts have been told."""
    trouble = state.trouble
    state = replace(
        state,
        trouble=None,
        pending=(),
        pause=state.policy.rediagnose_after,
        recovered_at=state.now.sample,
        trust=replace(state.trust, is_marked=_is_unproven(state)),
    )
    if trouble is None:
        return state, ()
    state = replace(state, ended_at=state.now.sample)
    return state, (do.Record(EventKind.RECOVERED, trouble.cause),)


def _interrupted(state: LoopState) -> LoopState:
    """Drop a repair that an exception has ended: the next check finds its damage again."""
    repair, state = state.repair, replace(state, repair=None)
    if repair is not None and repair.why is Why.ALARM and state.is_calm:
        return replace(state, trust=replace(state.trust, is_marked=_is_unproven(state)))
    return state


# ---- A new model file on trial


def _trial_began(state: LoopState, sha256: str) -> Decision:
    policy = state.policy
    until = PeriodicTrigger(policy.trial_predictions, policy.trial_seconds)
    until = until.restarted(state.now.prediction, state.now.second)
    record = do.Record(EventKind.TRIAL, outcome=f"model file {sha256[:16]}")
    return replace(state, trial=ModelTrial(sha256, until)), (record,)


def _trial_is_due(state: LoopState) -> bool:
    if state.trial is None or not state.is_calm:
        return False
    return state.trial.until.is_due(state.now.prediction, state.now.second)


def _trial_ended(state: LoopState, reason: str = "") -> Decision:
    """End the trial, if there is one: it has held, unless there is a reason against it."""
    trial = state.trial
    if trial is None:
        return state, ()
    state = replace(state, trial=None)
    name = f"model file {trial.sha256[:16]}"
    if not reason:
        return state, (do.EndTrial(True), do.Record(EventKind.CONFIRMED, outcome=name))
    number = state.before + state.now.prediction
    failed = Failure("update", trial.sha256, reason, prediction=number)
    state = replace(state, failures=with_failure(state.failures, failed))
    outcome = f"{name}: {reason}; the one before is to serve again"
    return state, (do.EndTrial(False), do.Record(EventKind.REJECTED, outcome=outcome))


# ---- The spare


def _fail_over(state: LoopState) -> tuple[Action, ...]:
    return (do.FailOver(),) if state.has_spare and not state.now.on_spare else ()


def _failed_over(state: LoopState, is_sound: bool) -> Decision:
    state = replace(state, now=replace(state.now, on_spare=is_sound))
    later = state.now.prediction + state.policy.rediagnose_after
    return replace(state, verify_spare_at=later) if is_sound else state, ()


def _ended(state: LoopState) -> Decision:
    if not state.now.on_spare or state.is_damaged:
        return state, ()
    return replace(state, now=replace(state.now, on_spare=False)), (do.FailBack(),)
