"""Which models can answer together, and how each one's output is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from selfheal_edge.errors import ModelClosedError
from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.text import quoted
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

__all__ = ["Member", "Models", "check_together", "make_member", "name_members"]

Models: TypeAlias = "Sequence[SelfHealingModel] | Mapping[str, SelfHealingModel]"
Scores = Literal["probabilities", "logits", "sigmoid", "values"]

_LEAST: Final = 2
_MOST: Final = 16
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One model of a committee, and how its output is read."""

    name: str
    model: SelfHealingModel
    input: tuple[TensorSpec, ...]
    output: TensorSpec
    scores: Scores
    classes: int | None
    """None for a model without classes."""
    temperature: float
    is_calibrated: bool
    """Whether the temperature was fitted."""
    sha256: str
    """Of the model file."""

    @property
    def width(self) -> int:
        """Numbers of an answer: classes, or values."""
        return self.classes or int(np.prod(self.output.shape, dtype=np.int64))


def name_members(models: Models) -> dict[str, SelfHealingModel]:
    """Return the models by name: those of a mapping, or ``"member 1"``, ``"member 2"``, and so on.

    Raises
    ------
    TypeError, ValueError
        For what are no models, or fewer than 2 or more than 16 of them; for one object twice, and
        for a name that is none.
    """
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence) and not isinstance(models, (str, bytes)):
        named = {f"member {n}": model for n, model in enumerate(models, 1)}
    else:
        raise TypeError(
            "models: expected a list of SelfHealingModel, or a dict of them by name, "
            f"got {type(models).__name__}"
        )
    if not _LEAST <= len(named) <= _MOST:
        got = "none" if not named else "one" if len(named) == 1 else str(len(named))
        raise ValueError(f"models: expected {_LEAST} to {_MOST} members, got {got}")
    seen: dict[int, str] = {}
    for name, model in named.items():
        check_name(name)
        check_model(name, model)
        if (other := seen.setdefault(id(model), name)) != name:
            raise ValueError(
                f"models: expected different objects, got one twice, as {quoted(other)} and "
                f"{quoted(name)}"
            )
    return named


def check_name(name: object) -> str:
    """Return a member's name, checked.

    Raises
    ------
    TypeError, ValueError
        Where it is no text of 1 to 64 printable characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {type(name).__name__}")
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ValueError(
            f"name: expected 1 to {_LONGEST_NAME} printable characters, got {quoted(name)}"
        )
    return name


def check_model(name: str, model: object) -> None:
    """Refuse what is no model, and one that was closed.

    Raises
    ------
    TypeError
        For another object.
    ModelClosedError
        For a closed model.
    """
    if not isinstance(model, SelfHealingModel):
        raise TypeError(
            f"models: expected a SelfHealingModel as {quoted(name)}, got {type(model).__name__}"
        )
    if parts_of(model).inference_lock.closed:
        raise ModelClosedError(f"models: expected open models, got {quoted(name)} closed")


def make_member(name: str, model: SelfHealingModel) -> Member:
    """Return a member, with how its output is read.

    Raises
    ------
    ValueError
        For a model whose output cannot be combined: several outputs, a detector, or numbers that
        are neither float32 nor of 8 or 16 bits.
    """
    outputs, baseline = model.outputs, model.baseline
    if len(outputs) != 1 or baseline.detections is not None:
        what = "a detector" if baseline.detections is not None else f"{len(outputs)} outputs"
        raise ValueError(
            f"models: expected a classifier's or a regressor's one output of {quoted(name)}, "
            f"got {what}"
        )
    output, kind = outputs[0], baseline.output_kind
    if output.dtype.name not in ("float32", "int8", "uint8", "int16"):
        raise ValueError(
            f"models: expected outputs of float32, int8, uint8 or int16, got {output.dtype.name} "
            f"of {quoted(name)}"
        )
    size = int(np.prod(output.shape, dtype=np.int64))
    temperature = baseline.temperature
    is_single = kind is not None and size == 1
    if is_single and kind == "logits":
        raise ValueError(
            f"models: expected probabilities or one logit a class, got the single logit of "
            f"{quoted(name)}"
        )
    scores: Scores = "values" if kind is None else "sigmoid" if is_single else kind
    return Member(
        name,
        model,
        model.inputs,
        output,
        scores,
        None if kind is None else max(2, size),
        1.0 if temperature is None else temperature,
        temperature is not None,
        baseline.model_sha256,
    )


def _shape(specs: tuple[TensorSpec, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(spec.shape for spec in specs)


def check_together(members: Sequence[Member]) -> bool:
    """Refuse members that cannot answer together.

    Returns
    -------
    bool
        Whether raw inputs mean the same to all of them; if not, real numbers have to come.

    Raises
    ------
    ValueError
        With the names of two members whose inputs or outputs differ in number or shape, or that
        have other classes.
    """
    first = members[0]
    is_alike = True
    for other in members[1:]:
        both = f"{quoted(first.name)} and {quoted(other.name)}"
        if _shape(first.input) != _shape(other.input):
            raise ValueError(
                f"models: expected inputs of equal shapes, got {_shape(first.input)} and "
                f"{_shape(other.input)} of {both}"
            )
        if first.classes != other.classes:
            what = [
                "values" if one.classes is None else f"{one.classes} classes"
                for one in (first, other)
            ]
            raise ValueError(
                f"models: expected the same classes, got {what[0]} and {what[1]} of {both}"
            )
        if first.output.shape != other.output.shape:
            raise ValueError(
                f"models: expected outputs of equal shapes, got {first.output.shape} and "
                f"{other.output.shape} of {both}"
            )
        for mine, its in zip(first.input, other.input, strict=True):
            if len(first.input) > 1 and mine.name != its.name:
                raise ValueError(
                    f"models: expected inputs of the same names, got {quoted(mine.name)} and "
                    f"{quoted(its.name)} of {both}"
                )
            is_alike = is_alike and (
                (mine.dtype, mine.scale, mine.zero_point) == (its.dtype, its.scale, its.zero_point)
            )
    return is_alike
