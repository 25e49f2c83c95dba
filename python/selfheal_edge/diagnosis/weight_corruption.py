"""Bytes of the model are not what they were: the checksums say so, and are certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    Damage,
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
)

__all__ = ["weight_corruption"]

_RUN: Final = 4
_SEARCHED: Final = 3
_TOP: Final = 0xC0
"""Of an element's most significant byte: the sign and the bit below, which change it most."""


def weight_corruption(symptoms: Symptoms) -> Verdict:
    """Tell whether a block fails its checksum, and by what its bits differ from golden's."""
    if not symptoms.corrupt_blocks:
        return RuledOut(Cause.WEIGHT_CORRUPTION, "every byte of the weights has its checksum")
    where = ", ".join(symptoms.corrupt_regions[:3]) or "the graph"
    text = f"{symptoms.corrupt_blocks} block(s) fail their checksum, in {where}"
    facts = [Evidence("corrupt_blocks", symptoms.corrupt_blocks, text)]
    kind, told = _kind([damage for damage in symptoms.damage if damage.flips])
    if told is not None:
        facts.append(told)
    return Diagnosis(Cause.WEIGHT_CORRUPTION, 1.0, tuple(facts), kind)


def _kind(every: Sequence[Damage]) -> tuple[str, Evidence | None]:
    damage = [part for part in every if not part.is_earlier]
    bits = sum(part.wrong_bits for part in damage)
    if not bits:
        return "", None
    if any(part.again for part in damage):
        text = f"{bits} wrong bit(s), some where a byte was healed before: a failing cell"
        return "failing cell", Evidence("wrong_bits", bits, text)
    longest = max(_longest_run(part) for part in damage)
    if longest >= _RUN:
        text = f"{longest} bytes in a row are wrong: a stray write"
        return "run", Evidence("wrong_bytes", longest, text)
    flips = [(at, mask, part) for part in every for at, mask in part.flips]
    top = sum(_is_top(at, mask, part.element_bytes) for at, mask, part in flips)
    if len(flips) >= _SEARCHED and top == len(flips):
        text = (
            f"{len(flips)} weights have changed, each in its sign or the bit below alone: chance "
            f"gives that once in {4 ** len(flips):,}: a searched attack"
        )
        return "searched", Evidence("top_bits", top, text)
    if bits == 1:
        return "one bit", Evidence("wrong_bits", 1, "one bit has flipped: radiation, or chance")
    text = f"{bits} bits in {len(flips)} bytes that do not lie together have flipped: radiation"
    return "scattered", Evidence("wrong_bits", bits, text)


def _longest_run(damage: Damage) -> int:
    longest = run = 0
    last = -2
    for at, _ in damage.flips:
        run = run + 1 if at == last + 1 else 1
        longest, last = max(longest, run), at
    return longest


def _is_top(at: int, mask: int, element_bytes: int) -> bool:
    is_one_bit = mask & (mask - 1) == 0
    return is_one_bit and bool(mask & _TOP) and at % element_bytes == element_bytes - 1
