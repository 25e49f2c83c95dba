"""Attacks on a running model: what it must survive."""

from selfheal_edge.redteam.inject import Injector, inject

__all__ = ["Injector", "inject"]
