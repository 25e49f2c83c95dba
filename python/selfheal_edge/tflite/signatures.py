"""The names that a model's SignatureDefs give its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["SignatureNames", "renamed"]


class _Entry(NamedTuple):
    inputs: Mapping[str, str]
    """Tensor name by the signature's name."""
    outputs: Mapping[str, str]
    """The signature's name by tensor name."""


class SignatureNames:
    """Translates between the names of tensors and those of SignatureDefs.

    Parameters
    ----------
    model
        The user's file.
    inputs, outputs
        Its tensors under the names that `predict` uses, in the file's order.

    Notes
    -----
    Only signatures of the first subgraph that name each of its inputs. A dict whose keys are the
    tensors' own names is taken as such, also where a signature uses the same names otherwise.
    """

    def __init__(
        self, model: ModelFile, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._own = frozenset(spec.name for spec in inputs)
        given = {t.index: s.name for t, s in zip(model.inputs, inputs, strict=True)}
        told = {t.index: s.name for t, s in zip(model.outputs, outputs, strict=True)}
        entries = []
        for signature in model.signatures:
            if signature.subgraph != 0 or set(signature.inputs.values()) != set(given):
                continue
            named = {told[i]: name for name, i in signature.outputs.items() if i in told}
            if len(signature.inputs) == len(given):
                entries.append(_Entry({n: given[i] for n, i in signature.inputs.items()}, named))
        self._entries = tuple(entries)

    def inward(self, x: Any) -> tuple[Any, Mapping[str, str]]:
        """Return `x` by tensor name, and how its answer's names are to be translated."""
        if isinstance(x, Mapping) and set(x) != self._own:
            for entry in self._entries:
                if set(x) == set(entry.inputs):
                    return {entry.inputs[name]: value for name, value in x.items()}, entry.outputs
        return x, {}


def renamed(answer: Array | dict[str, Array], names: Mapping[str, str]) -> Array | dict[str, Array]:
    """Return an answer under the names that `SignatureNames.inward` gave for it."""
    if not names or not isinstance(answer, dict):
        return answer
    return {names.get(name, name): array for name, array in answer.items()}
