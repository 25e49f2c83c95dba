"""What must hold for one operator: its arity, options and constant operands.

Kernels check much of this themselves, some of it only in debug builds, some of it not at all.
Only what every honest file satisfies is asked for; declared shapes of results are not trusted,
because the runtime works them out again.
"""

from __future__ import annotations

from typing import Final

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.records import OperatorInfo, TensorInfo

__all__ = ["check_operator"]


def check_operator(place: str, operator: OperatorInfo, tensors: tuple[TensorInfo, ...]) -> None:
    """Check one operator whose indices were checked.

    Raises
    ------
    ModelFormatError
        With the operator's place, what was expected and what was found.
    """
