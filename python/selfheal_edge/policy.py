"""What the user decides: budgets, and which response follows which cause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from selfheal_edge.causes import Cause
from selfheal_edge.tflite.sandbox.policy import ProbePolicy

__all__ = ["Heal", "Policy", "Verify"]

Heal: TypeAlias = Literal["observe", "corruption", "all"]
Verify: TypeAlias = Literal["budget", "before", "around"]
UnderAttack: TypeAlias = Literal["mark", "vote", "abstain"]


_MOST_PARITY: Final = 16


def _responses() -> dict[Cause, tuple[str, ...]]:
    ladder = ("rollback_block", "rollback_module", "rollback_model", "rebuild")
    return {
        Cause.WEIGHT_CORRUPTION: (*ladder, "reload_golden", "mark_untrusted"),
        Cause.RUNTIME_FAULT: ("rebuild", "rollback_model", "reload_golden", "mark_untrusted"),
        Cause.SENSOR_FAULT: ("sensor_correction", "realign", "retrain_head", "mark_untrusted"),
        Cause.COVARIATE_DRIFT: ("realign", "retrain_head", "new_priors", "mark_untrusted"),
        Cause.LABEL_SHIFT: ("new_priors", "mark_untrusted"),
        Cause.CONCEPT_DRIFT: ("retrain_head", "mark_untrusted"),
        Cause.UNKNOWN: ("realign", "retrain_head", "mark_untrusted"),
    }


def _check_names(argument: str, names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{argument}: expected a tuple of names, got {names!r}")
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: expected names of strategies, got {names!r}")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a model guards itself. Immutable; the defaults suit most devices.

    The fields come in groups here: how often weights are checked, which thread heals, what repairs
    are made from, which repairs, and inputs, files and events.

    Parameters
    ----------
    integrity_budget
        *How often weights are checked.* What `predict` may take beyond the model alone, as a share
        of the model's time, 0 to 1: signals, charts and checking. It is timed when the model is
        opened, and what signals and charts leave is for checking: where all bytes that execute can
        be checked within it, every answer comes from verified bytes, else as large a slice is
        checked as fits. `health.detection_latency` says what it buys. What does not execute is
        swept as time goes by (`sweep_seconds`). 0: nothing is checked at predictions.
    scrub_bytes_per_predict
        A number instead of that share: bytes of each image that are checked before each prediction
        at least, however fast they come, so that a sweep takes at most image size / this many
        predictions. They gather until they make a row of 8 KiB. 0 leaves checking to
        `weights.scrub()` and `weights.idle()`. None: as `integrity_budget` says.
    sweep_seconds
        Seconds in which a sweep shall be complete when predictions come seldom, and of what does
        not execute: as many bytes as that takes are checked before each, at most an eighth of an
        image. None: no such pace.
    keyed_bytes_per_predict
        Bytes, as `scrub_bytes_per_predict`, of what stands behind the weights: parity, copies,
        their lists and the key of the hash.
    keyed_sweep_seconds
        Seconds, as `sweep_seconds`, for a sweep of these; at most a 64th of it before a prediction.
    verify
        Which bytes are checked at each prediction. ``"budget"``: a slice, as the four above say.
        ``"before"``: every byte of the weights that execute, before each inference, whatever it
        costs; a flip during the inference itself may act. ``"around"``: before and after it: an
        answer is given only if every byte was right on both sides and nothing was repaired between,
        else the model is asked again, a recurrent one from the state before; after eight findings
        in a row the answer is given and not `trusted`. `Prediction.verified` says what holds.
        "around" refuses recurrent models whose state lies in resource variables.
    known_answers_every
        Predictions between two times that the known answers are asked: they notice damage that no
        checksum sees, in the runtime's own memory. Costs as many inferences as there are known
        answers (4). None: only when damage is suspected.
    rebuild_after_predictions, rebuild_after_seconds
        Predictions and seconds, whichever comes first, after which the runtime is built anew from
        verified bytes: damage in its own memory lasts no longer. Costs 0.3 to 2 ms for small
        models. None for both: never. A recurrent model keeps its state.
    code_budget
        Share of one CPU's time in which a thread sweeps the read-only pages of the runtime's and
        our libraries, 0 to 1: `health.code`. 0: code is not checked.
    on_code_damage
        What to do where such a page is damaged; code is not put back in place. ``"report"``: the
        journal names a runtime fault, page and symbol, and answers are untrusted from then on.
        ``"exit"``: that, and the process ends with status 70 (EX_SOFTWARE), for a supervisor to
        start it anew.
    mode
        *Which thread heals.* ``"inline"``: the thread whose call found the damage, before it
        answers. ``"background"``: a worker, while predictions go on. The calling thread restores
        corrupt blocks there as well; until the worker has proven the repair, answers come from the
        hot spare or are marked untrusted.
    hot_spare
        Keep a second instance, built from golden, which serves within microseconds while the first
        is being healed. Costs the memory of another model (`memory_report`).
    standby
        Once a repair was learned, keep what does not serve now built as well: the repair, or what
        serves in normal operation. A switch between them exchanges pointers then. Costs the memory
        of another model from there on (`memory_report`); without it a switch builds an instance.
    snapshots
        *What repairs are made from.* Keep golden and later generations in memory: the size of what
        executes once, and a sixteenth of each image for generations. Without them only parity and
        the model's file repair, and there is no rollback.
    parity_blocks
        Parity blocks for every 16 blocks of 512 bytes, 0 to 16: costs that many sixteenths of the
        memory and repairs that many damaged blocks among each 16 where no copy verifies. 0: none.
    max_generations
        Saved states of the weights beside golden.
    responses
        *Which repairs.* Strategies for each cause, in the order in which they are tried until
        one is proven.
    default_response
        Strategies for causes that `responses` does not name.
    heal
        What the loop may change. ``"observe"``: nothing; the journal says what it would have done.
        ``"corruption"``: damaged weights and runtimes are restored. ``"all"``: it may learn as
        well, from drifted inputs and from feedback. `SelfHealingModel.heal` changes it while the
        model runs.
    owner
        A source of feedback whose labels confirm a repair without a second source. None: no single
        source does.
    repairs_per_hour, repair_seconds_per_hour
        How many repairs may be learned in an hour, and the seconds of CPU time that they may take;
        up to four hours' worth can be saved up. 0 for one of them: none is learned. Restoring
        damaged bytes is never refused.
    probation_restarts
        How often a repair on probation may go on with it after its process has ended, by whatever
        cause: it serves again where it did, untrusted, with the labels that it had. The next end
        takes it back. 0: the first one does. Needs a store.
    rediagnose_after
        Predictions after which a trouble that goes on is diagnosed again; doubles each time.
    nonfinite
        *Inputs, files and events.* NaN or infinity in a float input: ``"raise"`` ValueError, or
        ``"skip"``: serve it, mark the answer untrusted, and count it.
    probe
        What probing an unknown model file in a child process may cost, and which files need none.
    diagnosis_inferences_per_minute
        Extra inferences that diagnoses may ask of the model in a minute; one asks 40, and 80 more
        about an attack. With fewer, attacks are told from drift less often, and the cause is
        unknown.
    max_events
        Events kept in memory; older ones are dropped.
    store_bytes
        *What is written to disk*, where the model has a store. Bytes that the store's file and log
        may come to: at least 262144. A quarter is the journal's, whose oldest events go first.
    store_bytes_per_day
        Bytes that may be written a day, pages and log included; what has not come due waits in
        memory. What must be safe before it acts (a generation, a trial) is written all the same.
    keep_inputs
        Seconds that inputs may stay on disk. False: none is ever written there, whatever memory
        keeps for questions and repairs.
    pool_bytes, quarantine_bytes, questions_bytes
        *What is learned from people.* Bytes of memory for samples that may be learned from, for
        suspects, and for questions that wait for an answer; of each at most 256 are held, and none
        where not one fits. 0: none.
    under_attack
        What becomes of answers while an attack by crafted inputs lasts. ``"mark"``: they are given,
        and not trusted. ``"vote"``: each is the mean over copies of the input, moved by one step
        each way, within `diagnosis_inferences_per_minute`, half of which is kept for suspects; only
        where that costs calibration's accuracy a point at most: the journal says so.
        ``"abstain"``: suspects get no label. `predict` gives the same answers.
    abstain_value
        What each number of an answer is where the model abstains, in the answer's own units, or the
        nearest that it can hold; None, and NaN for integers: it stays what it was, and only
        `Prediction.label` says so.
    lesson_bytes
        Bytes of memory for the inputs that repairs in service were learned from: with them a
        repair can be learned again without what was revoked (`SelfHealingModel.revoke`), without
        them it is taken back. On disk they lie as `keep_inputs` says. 0: none.
    source_labels_per_hour
        Labels that one source with a key may give an hour, and at once.
    unauthenticated_labels_per_hour
        Labels that all others may give together.
    trial_predictions, trial_seconds
        Predictions and seconds, whichever comes first, that a new model file over an old one's
        store serves on trial (`SelfHealingModel.update`). It is confirmed if no trouble was named
        until then and the known answers are exact. None for one of them: it does not matter.
    require_signed
        Accept a model file only with a baseline that was signed, and loaded with its key: it knows
        the file's hash, and cannot be made without the key. A store needs a key then: after a
        rejected update the file in it serves.

    Raises
    ------
    TypeError, ValueError
        Naming the field, what was expected and what came.

    Examples
    --------
    A worker heals, and every byte is checked twice a second:

    >>> from selfheal_edge import Policy
    >>> Policy(mode="background", hot_spare=True, sweep_seconds=0.5).mode
    'background'
    """

    integrity_budget: float = 0.02
    scrub_bytes_per_predict: int | None = None
    sweep_seconds: float | None = 1.0
    keyed_bytes_per_predict: int = 0
    keyed_sweep_seconds: float | None = 10.0
    verify: Verify = "budget"
    code_budget: float = 0.001
    on_code_damage: Literal["report", "exit"] = "report"
    mode: Literal["inline", "background"] = "inline"
    hot_spare: bool = False
    standby: bool = True
    snapshots: bool = True
    parity_blocks: int = 1
    known_answers_every: int | None = 20_000
    rebuild_after_predictions: int | None = None
    rebuild_after_seconds: float | None = 3600.0
    nonfinite: Literal["raise", "skip"] = "raise"
    responses: Mapping[Cause, tuple[str, ...]] = field(default_factory=_responses)
    default_response: tuple[str, ...] = ("mark_untrusted",)
    heal: Heal = "all"
    owner: str | None = None
    repairs_per_hour: float = 4.0
    repair_seconds_per_hour: float = 60.0
    probation_restarts: int = 0
    diagnosis_inferences_per_minute: int = 128
    max_events: int = 1024
    max_generations: int = 8
    probe: ProbePolicy = field(default_factory=ProbePolicy)
    rediagnose_after: int = 256
    store_bytes: int = 16 << 20
    store_bytes_per_day: int = 20_000_000
    keep_inputs: float | Literal[False] = False
    pool_bytes: int = 256 << 10
    quarantine_bytes: int = 128 << 10
    questions_bytes: int = 128 << 10
    under_attack: UnderAttack = "mark"
    abstain_value: float | None = None
    lesson_bytes: int = 256 << 10
    source_labels_per_hour: int = 512
    unauthenticated_labels_per_hour: int = 16
    trial_predictions: int | None = 10_000
    trial_seconds: float | None = None
    require_signed: bool = False

    def __post_init__(self) -> None:  # noqa: PLR0912, PLR0915 — one check a field
        """Check every field."""
        for name, least in (
            ("keyed_bytes_per_predict", 0),
            ("parity_blocks", 0),
            ("probation_restarts", 0),
            ("diagnosis_inferences_per_minute", 0),
            ("pool_bytes", 0),
            ("quarantine_bytes", 0),
            ("questions_bytes", 0),
            ("lesson_bytes", 0),
            ("source_labels_per_hour", 0),
            ("unauthenticated_labels_per_hour", 0),
            ("max_events", 1),
            ("max_generations", 1),
            ("rediagnose_after", 1),
            ("store_bytes", 256 * 1024),
            ("store_bytes_per_day", 64 * 1024),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        for name in ("integrity_budget", "code_budget"):
            share = getattr(self, name)
            is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
            if not is_number or not 0 <= share <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, got {share!r}")
        if self.on_code_damage not in ("report", "exit"):
            raise ValueError(
                f"on_code_damage: expected 'report' or 'exit', got {self.on_code_damage!r}"
            )
        scrub = self.scrub_bytes_per_predict
        if scrub is not None and (
            isinstance(scrub, bool) or not isinstance(scrub, int) or scrub < 0
        ):
            raise ValueError(
                f"scrub_bytes_per_predict: expected an integer of at least 0 or None, got {scrub!r}"
            )
        for name in ("known_answers_every", "rebuild_after_predictions", "trial_predictions"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name}: expected an integer or None, got {value!r}")
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if self.trial_predictions is None and self.trial_seconds is None:
            raise ValueError("trial_predictions, trial_seconds: expected at least one, got None")
        for name in (
            "rebuild_after_seconds",
            "sweep_seconds",
            "keyed_sweep_seconds",
            "trial_seconds",
        ):
            seconds = getattr(self, name)
            if seconds is not None and (isinstance(seconds, bool) or not seconds > 0):
                raise ValueError(f"{name}: expected a number above 0 or None, got {seconds!r}")
        for name, words in (
            ("heal", get_args(Heal)),
            ("verify", get_args(Verify)),
            ("under_attack", get_args(UnderAttack)),
            ("mode", ("inline", "background")),
        ):
            if getattr(self, name) not in words:
                got = getattr(self, name)
                raise ValueError(f"{name}: expected one of {words}, got {got!r}")
        value = self.abstain_value
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"abstain_value: expected a number or None, got {value!r}")
        if self.owner is not None and (not isinstance(self.owner, str) or not self.owner):
            raise TypeError(f"owner: expected the name of a source or None, got {self.owner!r}")
        for name in ("repairs_per_hour", "repair_seconds_per_hour"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
        if self.keep_inputs is not False and (
            isinstance(self.keep_inputs, bool)
            or not isinstance(self.keep_inputs, (int, float))
            or not self.keep_inputs > 0
        ):
            raise ValueError(
                f"keep_inputs: expected seconds above 0 or False, got {self.keep_inputs!r}"
            )
        if not isinstance(self.require_signed, bool):
            raise TypeError(f"require_signed: expected a bool, got {self.require_signed!r}")
        for name in ("hot_spare", "standby"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}: expected a bool, got {getattr(self, name)!r}")
        if self.parity_blocks > _MOST_PARITY:
            raise ValueError(f"parity_blocks: expected 0 to 16, got {self.parity_blocks}")
        if not (self.snapshots or self.parity_blocks):
            raise ValueError(
                "snapshots, parity_blocks: expected at least one source of repair, got none"
            )
        if not isinstance(self.probe, ProbePolicy):
            raise TypeError(f"probe: expected a ProbePolicy, got {self.probe!r}")
        if self.nonfinite not in ("raise", "skip"):
            raise ValueError(f"nonfinite: expected 'raise' or 'skip', got {self.nonfinite!r}")
        for cause, strategies in self.responses.items():
            if not isinstance(cause, Cause):
                raise TypeError(f"responses: expected keys of type Cause, got {cause!r}")
            _check_names(f"responses[{cause}]", strategies)
        _check_names("default_response", self.default_response)

    def response(self, cause: Cause) -> tuple[str, ...]:
        """Return the strategies to try for a cause, in order."""
        return tuple(self.responses.get(cause, self.default_response))

    def strategies(self) -> frozenset[str]:
        """Return the names of all strategies that this policy may ask for."""
        return frozenset(self.default_response).union(*self.responses.values())
