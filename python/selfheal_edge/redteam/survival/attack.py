"""What is done to a device: an attack, the attacker who carries it out, and what he may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import KINDS, Domain, InputKind, Raw, Real
from selfheal_edge.redteam.survival.contestant import OWNER, Answers, Contestant
from selfheal_edge.redteam.survival.plain import ModelKind, PlainModel

__all__ = [
    "MODEL_KINDS",
    "NO_TECHNIQUE",
    "Attack",
    "Attacker",
    "Knowledge",
    "Setup",
    "Spent",
    "Technique",
    "Turn",
]

Knowledge: TypeAlias = Literal["black_box", "design", "adaptive"]
"""What an attacker knows: nothing but answers; how we are built, with the model's file; and all
that, reading every health report as well."""
MODEL_KINDS: Final[tuple[ModelKind, ...]] = ("classifier", "autoencoder", "regressor")


class Technique(NamedTuple):
    """One of MITRE ATLAS."""

    id: str
    """Such as ``"AML.T0020"``; empty for what no adversary does, as a drift."""
    name: str


NO_TECHNIQUE: Final = Technique("", "no adversary")


@dataclass(slots=True)
class Spent:
    """What an attack has cost the attacker."""

    queries: int = 0
    """Inputs asked of his own copy of the model, and inputs of the device's that he replaced."""
    flips: int = 0
    labels: int = 0
    restarts: int = 0
    writes: int = 0
    """Times that he changed a file, or the clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What an attacker begins with."""

    domain: Domain
    rng: np.random.Generator
    """Of one attacker; those against the other contestants have the same seed."""
    strength: float
    """1: as the attack is meant; the campaign may ask for more or less."""
    share: float
    """Of the device's inputs that are his to replace, 0 to 1."""
    pool: Raw
    """Samples of the kind that the device sees, shape (n, *sample): not those that judge."""
    pool_labels: npt.NDArray[np.int64]
    """Their classes; -1 for a model without."""
    ask: Callable[[Raw], Real]
    """A copy of the golden model, bought in a shop: raw inputs to probabilities, shape
    (n, classes), or to real outputs of a model without classes. Counted by `Turn.ask`."""
    classes: int
    """0 for a model without."""
    weights: npt.NDArray[np.int64]
    """Offsets of the bytes of the executing image that hold weights and biases."""
    home: Callable[[], PlainModel]
    """Opens that copy, on the runtime that the device has, to be damaged; the caller closes it."""
    share_right: Callable[[Raw, npt.NDArray[np.int64]], float]
    """Of changed copies of some rows of `pool`, which golden answers rightly, 0 to 1: how strong a
    change of the world has to be to matter. No attacker's knowledge."""


@dataclass(slots=True)
class Turn:
    """One hour of an attack on one contestant."""

    hour: int
    """Since the device's life began."""
    step: int
    """Of the attack: 0 to `steps` - 1."""
    steps: int
    setup: Setup
    target: Contestant
    """The device itself: its clock, its files, `restart`. Not for a black box, whose handles are
    the methods below; nor may any attacker read `told`, `run_aside` or `report`."""
    knowledge: Knowledge
    spent: Spent
    owned: npt.NDArray[np.int64]
    """Rows of this hour's inputs that are his to replace."""
    is_night: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    """What the attack wants the report to say, by name: plain data."""

    def ask(self, raw: Raw) -> Real:
        """Ask his own copy of the model; counted."""
        self.spent.queries += len(raw)
        return self.setup.ask(raw)

    def memory(self, image: str = "executing") -> npt.NDArray[np.uint8] | None:
        """Return a writable view of live bytes, as `Contestant.memory`; not for a black box."""
        self._require("design", "memory")
        return self.target.memory(image)

    def flip(self, offset: int, bit: int, image: str = "executing") -> bool:
        """Flip one bit; return whether there is such memory. Any attacker may: radiation does."""
        live = self.target.memory(image)
        if live is None:
            return False
        live[offset % len(live)] ^= np.uint8(1 << bit)
        self.spent.flips += 1
        return True

    def say(self, label: int, id: int, source: str = "stranger", *, key: bool = False) -> bool:
        """Give feedback in a name that is not the owner's; return whether it was taken in.

        Parameters
        ----------
        label, id
            The class that is said to be right, of an answer (`Answers.ids`).
        source
            Any name.
        key
            Whether the source is a known one with a key, which the attacker owns.
        """
        if source == OWNER:
            raise ValueError(f"source: expected another one than the honest {OWNER!r}")
        self.spent.labels += 1
        return self.target.feedback(label, id, source, authenticated=key)

    def report(self) -> dict[str, Any]:
        """Return what the device tells of itself; for the adaptive alone."""
        self._require("adaptive", "report")
        return self.target.report()

    def restart(self, *, clean: bool = True) -> None:
        """Restart the device, or take its power away."""
        self.spent.restarts += 1
        self.target.restart(clean=clean)

    def jump(self, seconds: float) -> None:
        """Set its clock forward, or back."""
        self.spent.writes += 1
        self.target.clock.jump(seconds)

    def _require(self, least: Knowledge, what: str) -> None:
        order = ("black_box", "design", "adaptive")
        if order.index(self.knowledge) < order.index(least):
            raise PermissionError(f"{what}: a {self.knowledge} attacker has no such access")


class Attacker:
    """Carries one attack out on one contestant; each method does nothing by default.

    Parameters
    ----------
    setup
        What it begins with.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Return inputs as the world itself has them meanwhile: a drift, a sensor that is broken.

        Parameters
        ----------
        raw
            Shape (n, *sample): the whole hour's, or the samples that judge.
        progress
            Of the attack, 0 to 1.
        """
        del progress
        return raw

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Return what the device sees instead of `raw`: rows `turn.owned` may be other ones.

        `labels` are the true classes, which an attacker with a target of his own may know.
        """
        del turn, labels
        return raw

    def shown(self, raw: Raw) -> Raw:
        """Return any inputs as the device saw those that are his in the latest hour.

        A repair is judged in the condition in which it was learned, or confirmed: of one who makes
        a drift and can end it, that is this one. What it costs afterwards is in the accuracy.
        """
        return raw

    def after(self, turn: Turn, answers: Answers) -> None:
        """Do what is to be done once the hour's answers were given."""

    def ends(self, turn: Turn) -> None:
        """Do what is done last; the device then lives on by itself."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of pressure.

    Parameters
    ----------
    name
        Unique, in words.
    knowledge
        What the attacker knows.
    technique
        Of MITRE ATLAS.
    aim
        What it does, in a line.
    make
        Makes the attacker.
    causes
        What is right to name; empty where nothing need be named.
    is_repairable
        Whether the damage is of the kind that a repair can take back: the loop is held to the
        undamaged model's accuracy then.
    kinds, models
        Inputs and models that it applies to.
    days
        It lasts so long at its default size.
    share
        Of the inputs that are the attacker's, by default.
    """

    name: str
    knowledge: Knowledge
    technique: Technique
    aim: str
    make: Callable[[Setup], Attacker]
    causes: frozenset[Cause] = frozenset()
    is_repairable: bool = True
    kinds: tuple[InputKind, ...] = KINDS
    models: tuple[ModelKind, ...] = MODEL_KINDS
    days: float = 1.0
    share: float = 1.0

    def fits(self, kind: InputKind, model: ModelKind) -> str:
        """Return why it does not apply to such inputs and such a model; empty where it does."""
        if model not in self.models:
            article = "an" if model == "autoencoder" else "a"
            return f"for a {' or '.join(self.models)}, and this is {article} {model}"
        if kind not in self.kinds:
            return f"for inputs of the kind {' or '.join(self.kinds)}, and these are {kind}s"
        return ""
