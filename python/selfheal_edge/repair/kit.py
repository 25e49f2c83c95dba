"""The list of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from selfheal_edge.repair.mark_untrusted import MarkUntrusted
from selfheal_edge.repair.move import Move
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.protocol import LearningStrategy, Strategy
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.rebuild import Rebuild
from selfheal_edge.repair.refine import Refine
from selfheal_edge.repair.reload import ReloadGolden
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.repair.rollback import Rollback
from selfheal_edge.repair.sensor_correction import SensorCorrection

__all__ = ["ModelRepairKit"]


class ModelRepairKit:
    """Strategies by name; the user may add some, or replace ours.

    Parameters
    ----------
    extra
        More strategies, of either sort; one with a known name replaces ours.

    Examples
    --------
    >>> list(ModelRepairKit().strategies)[:3]
    ['rollback_block', 'rollback_module', 'rollback_model']
    """

    def __init__(self, *extra: Strategy | LearningStrategy) -> None:
        ours: tuple[Strategy, ...] = (
            Rollback("block"),
            Rollback("module"),
            Rollback("model"),
            Rebuild(),
            Move(),
            ReloadGolden(),
            MarkUntrusted(),
        )
        learned: tuple[LearningStrategy, ...] = (
            SensorCorrection(),
            Realign(),
            RetrainHead(),
            Refine(),
            NewPriors(),
        )
        self._strategies = {strategy.name: strategy for strategy in ours}
        self._learning = {strategy.name: strategy for strategy in learned}
        for strategy in extra:
            if isinstance(strategy, LearningStrategy):
                self._learning[strategy.name] = strategy
            else:
                self._strategies[strategy.name] = strategy

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        """All strategies that act by themselves, by name."""
        return MappingProxyType(self._strategies)

    @property
    def learning(self) -> Mapping[str, LearningStrategy]:
        """All strategies that propose a patch, by name."""
        return MappingProxyType(self._learning)

    def require(self, names: frozenset[str]) -> None:
        """Refuse a policy that asks for strategies that are not here.

        Raises
        ------
        ValueError
            Naming them.
        """
        known = {*self._strategies, *self._learning}
        unknown = sorted(names - known)
        if unknown:
            raise ValueError(f"policy: expected strategies among {sorted(known)}, got {unknown}")
