"""Campaigns against the loop: what a self-healing model survives, beside three that have no loop.

`world` is a device's life, `contestant` what lives it, `attack` what is done to them, `attacks` has
a file for each, `run` plays them and `verdict` judges.
"""

from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.attacks.registry import ATTACKS, attacks_for

__all__ = ["ATTACKS", "Attack", "Attacker", "Setup", "Technique", "Turn", "attacks_for"]
