"""Bytes of the model are not what they were: the checksums say so, and are certain."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, Symptoms

__all__ = ["weight_corruption"]


def weight_corruption(symptoms: Symptoms) -> Diagnosis | None:
    """Tell whether a block fails its checksum."""
    if not symptoms.corrupt_blocks:
        return None
    where = ", ".join(symptoms.corrupt_regions[:3]) or "the graph"
    text = f"{symptoms.corrupt_blocks} block(s) fail their checksum, in {where}"
    fact = Evidence("corrupt_blocks", symptoms.corrupt_blocks, text)
    return Diagnosis(Cause.WEIGHT_CORRUPTION, 1.0, (fact,))
