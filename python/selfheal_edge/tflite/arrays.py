"""Check the user's arrays against a model's tensors, quantise them, and shape the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.text import LIST, quoted, shown
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = [
    "Batch",
    "Tensors",
    "check_out",
    "dequantize",
    "join_outputs",
    "quantize",
    "read_batch",
    "shape_outputs",
]

_AT_ONCE: Final = 1 << 15
"""Elements that are converted or looked at in one step."""

Tensors: TypeAlias = Array | Mapping[str, Array]
Form: TypeAlias = Literal["single", "leading", "first"]


class Batch(NamedTuple):
    """Inputs of n inferences, checked and in the model's own dtypes."""

    rows: list[Array]
    """One array per input, of shape (n, *input shape)."""
    form: Form
    """``single``: the input's shape; ``leading``: one more axis; ``first``: axis 0 is the batch."""
    real: bool
    """Whether real numbers came in for a quantised input, so that real numbers go out."""
    nonfinite: npt.NDArray[np.int64] | None
    """Values per inference that were NaN or infinite; None when all are finite."""

    @property
    def size(self) -> int:
        """Number of inferences."""
        return len(self.rows[0])


def quantize(values: Array, spec: TensorSpec) -> Array:
    """Round real values half to even onto the tensor's levels, saturating; NaN becomes zero.

    Takes the memory of the result, and of some hundred kilobytes of reals on the way.
    """
    info = np.iinfo(spec.dtype)
    levels: Array = np.empty(values.shape, spec.dtype)
    given, written = values.reshape(-1), levels.reshape(-1)
    for start in range(0, given.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        with np.errstate(over="ignore"):  # what overflows saturates
            steps = np.rint(np.nan_to_num(given[part], nan=0.0) / np.float32(spec.scale))
        written[part] = np.clip(steps + spec.zero_point, info.min, info.max)
    return levels


def dequantize(values: Array, spec: TensorSpec) -> Array:
    """Return the float32 numbers that the levels stand for."""
    if not spec.quantized:
        return values
    reals: Array = np.subtract(values, spec.zero_point, dtype=np.float32)
    reals *= np.float32(spec.scale)
    return reals


def _form(shape: tuple[int, ...], spec: TensorSpec) -> Form | None:
    if shape == spec.shape:
        return "single"
    if shape[1:] == spec.shape:
        return "leading"
    if spec.shape[:1] == (1,) and len(shape) == len(spec.shape) and shape[1:] == spec.shape[1:]:
        return "first"
    return None


def _dtypes(spec: TensorSpec) -> str:
    return f"{spec.dtype.name} or float32" if spec.quantized else spec.dtype.name


def _read_one(
    spec: TensorSpec, value: Any, argument: str, skip_nonfinite: bool
) -> tuple[Array, Form, bool, npt.NDArray[np.int64] | None]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{argument}: expected a NumPy array, got {type(value).__name__}")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{argument}: expected an array without a mask, got a masked one")
    if spec.dtype.kind in "SUO":
        raise TypeError(f"{argument}: expected a model that takes numbers, got one for strings")
    if not value.dtype.isnative:
        raise TypeError(f"{argument}: expected native byte order, got {value.dtype.str}")
    real = spec.quantized and value.dtype == np.float32
    if value.dtype != spec.dtype and not real:
        raise TypeError(f"{argument}: expected dtype {_dtypes(spec)}, got {value.dtype.name}")
    form = _form(value.shape, spec)
    if form is None:
        raise ValueError(
            f"{argument}: expected shape {spec.shape}, or a batch of it, got {value.shape}"
        )
    if value.shape[0:1] == (0,) and form != "single":
        raise ValueError(f"{argument}: expected a batch of at least one sample, got an empty one")
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{argument}: expected a C-contiguous array, got strides {value.strides} for shape "
            f"{value.shape}; numpy.ascontiguousarray makes one"
        )
    if not value.flags.aligned:
        raise ValueError(
            f"{argument}: expected an aligned array, got one whose address is no multiple of "
            f"{value.dtype.alignment}; its copy() is aligned"
        )
    count = 1 if form == "single" else len(value)
    rows = np.asarray(value).reshape(count, *spec.shape)
    nonfinite: npt.NDArray[np.int64] | None = None
    if value.dtype == np.float32 and not _all_finite(rows):
        nonfinite = np.array([np.count_nonzero(~np.isfinite(row)) for row in rows], np.int64)
        if not skip_nonfinite:
            raise ValueError(
                f"{argument}: expected finite values, got {nonfinite.sum()} that are NaN or "
                "infinite; Policy(nonfinite='skip') serves and counts them instead"
            )
    return (quantize(rows, spec) if real else rows), form, real, nonfinite


def _all_finite(values: Array) -> bool:
    flat = values.reshape(-1)
    return all(
        bool(np.isfinite(flat[start : start + _AT_ONCE]).all())
        for start in range(0, flat.size, _AT_ONCE)
    )


def read_batch(
    specs: Sequence[TensorSpec],
    value: Any,
    *,
    argument: str = "x",
    skip_nonfinite: bool = False,
) -> Batch:
    """Check what the user passed for the model's inputs.

    Parameters
    ----------
    specs
        The model's inputs.
    value
        An array for a model with one input, else a dict of arrays by tensor name. Shapes are
        exactly the input's, or with one more leading axis, or, where the input's first axis is 1,
        with that axis carrying the batch. Dtypes are the model's own, or float32 for a quantised
        input.
    argument
        The name that messages use.
    skip_nonfinite
        Let NaN and infinity through, counted; NaN becomes the level of 0.

    Raises
    ------
    TypeError
        On another type or dtype.
    ValueError
        On another shape, an empty batch, a non-contiguous array, NaN, or other names.
    """
    if not isinstance(value, Mapping):
        if len(specs) != 1:
            names = shown(", ".join(quoted(s.name) for s in specs), LIST)
            raise TypeError(
                f"{argument}: expected a dict of arrays by name ({names}), "
                f"got {type(value).__name__}"
            )
        rows, form, real, nonfinite = _read_one(specs[0], value, argument, skip_nonfinite)
        return Batch([rows], form, real, nonfinite)
    expected = [s.name for s in specs]
    if set(value) != set(expected):
        wanted, got = (
            shown(", ".join(map(quoted, names)), LIST)
            for names in (expected, sorted(value, key=str))
        )
        raise ValueError(f"{argument}: expected the names [{wanted}], got [{got}]")
    parts = [
        _read_one(s, value[s.name], f"{argument}[{quoted(s.name)}]", skip_nonfinite) for s in specs
    ]
    forms = {form for _, form, _, _ in parts}
    sizes = {len(rows) for rows, _, _, _ in parts}
    if len(sizes) != 1:
        raise ValueError(f"{argument}: expected batches of one size, got {sorted(sizes)}")
    if len(forms) != 1:
        raise ValueError(
            f"{argument}: expected one form for all inputs (the input's own shape, one more "
            f"leading axis, or the first axis as batch), got {sorted(forms)}"
        )
    counts = [count for _, _, _, count in parts if count is not None]
    return Batch(
        [rows for rows, _, _, _ in parts],
        forms.pop(),
        any(real for _, _, real, _ in parts),
        np.sum(counts, axis=0) if counts else None,
    )


def shape_outputs(
    specs: Sequence[TensorSpec], results: Sequence[Sequence[Array]], form: Form, real: bool
) -> Array | dict[str, Array]:
    """Join the outputs of n inferences into what the user gets.

    Parameters
    ----------
    specs
        The model's outputs.
    results
        For each inference, one array per output.
    form, real
        From the `Batch` that went in.
    """
    joined: dict[str, Array] = {}
    for i, spec in enumerate(specs):
        shapes = {r[i].shape for r in results}
        if len(shapes) > 1:
            raise ValueError(
                f"x: expected one sample, because the shape of the output {quoted(spec.name)} "
                f"depends on the sample, got a batch of {len(results)}"
            )
        if form == "single":
            array = results[0][i]
        elif form == "first" and spec.shape[:1] == (1,):
            array = np.concatenate([r[i] for r in results], axis=0)
        else:
            array = np.stack([r[i] for r in results])
        joined[spec.name] = dequantize(array, spec) if real else array
    return next(iter(joined.values())) if len(specs) == 1 else joined


def join_outputs(
    specs: Sequence[TensorSpec], results: Sequence[Array], form: Form, real: bool
) -> Array | dict[str, Array]:
    """Shape the outputs of n inferences, one array of shape (n, *output shape) per output.

    Parameters
    ----------
    specs, form, real
        As `shape_outputs`.
    results
        One array per output.
    """
    joined: dict[str, Array] = {}
    for spec, stacked in zip(specs, results, strict=True):
        array = stacked
        if form == "single":
            array = stacked[0, ...]
        elif form == "first" and spec.shape[:1] == (1,):
            array = stacked[:, 0]
        joined[spec.name] = dequantize(array, spec) if real else array
    return next(iter(joined.values())) if len(specs) == 1 else joined


def check_out(specs: Sequence[TensorSpec], batch: Batch, out: Any) -> None:
    """Refuse an `out` that the answer to `batch` does not fit, before anything has run.

    Raises
    ------
    TypeError
        For a model with several outputs, and for anything but an array without a mask.
    ValueError
        For another shape, dtype or byte order, and for an array that cannot be written in place.
    """
    if len(specs) != 1:
        raise TypeError(f"out: expected None for a model with {len(specs)} outputs, got an array")
    spec = specs[0]
    shape = {
        "single": spec.shape,
        "leading": (batch.size, *spec.shape),
        "first": (batch.size, *(spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape)),
    }[batch.form]
    dtype = np.dtype(np.float32) if batch.real and spec.quantized else spec.dtype
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array, got {type(out).__name__}")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out: expected an array without a mask, got a masked one")
    if not out.dtype.isnative:
        raise ValueError(f"out: expected native byte order, got {out.dtype.str}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out: expected {dtype.name} {shape}, got {out.dtype.name} {out.shape}")
    if not out.flags.writeable or not out.flags.c_contiguous:
        kind = "a read-only" if not out.flags.writeable else "a non-contiguous"
        raise ValueError(f"out: expected a writable C-contiguous array, got {kind} one")
