"""The list of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from selfheal_edge.repair.mark_untrusted import MarkUntrusted
from selfheal_edge.repair.protocol import Strategy
from selfheal_edge.repair.rebuild import Rebuild
from selfheal_edge.repair.reload import ReloadGolden
from selfheal_edge.repair.rollback import Rollback

__all__ = ["ModelRepairKit"]


class ModelRepairKit:
    """Strategies by name; the user may add some, or replace ours.

    Parameters
    ----------
    extra
        More strategies; one with a known name replaces ours.

    Examples
    --------
    >>> list(ModelRepairKit().strategies)[:3]
    ['rollback_block', 'rollback_module', 'rollback_model']
    """

    def __init__(self, *extra: Strategy) -> None:
        ours: tuple[Strategy, ...] = (
            Rollback("block"),
            Rollback("module"),
            Rollback("model"),
            Rebuild(),
            ReloadGolden(),
            MarkUntrusted(),
        )
        self._strategies = {strategy.name: strategy for strategy in (*ours, *extra)}

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        """All strategies, by name."""
        return MappingProxyType(self._strategies)

    def require(self, names: frozenset[str]) -> None:
        """Refuse a policy that asks for strategies that are not here.

        Raises
        ------
        ValueError
            Naming them.
        """
        unknown = sorted(names - set(self._strategies))
        if unknown:
            raise ValueError(
                f"policy: expected strategies among {sorted(self._strategies)}, got {unknown}"
            )
