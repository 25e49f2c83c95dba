"""A model as it runs without a guard: what an unguarded device has, and what golden would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw, Real
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions
from selfheal_edge.tflite.runtimes.protocol import TensorSpec
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.session import ModelSource, Session, answers_numbers

__all__ = ["Classes", "ModelKind", "Output", "PlainModel", "Runtime", "model_kind"]

Classes: TypeAlias = npt.NDArray[np.int64]
ModelKind: TypeAlias = Literal["classifier", "autoencoder", "regressor"]


class Runtime(NamedTuple):
    """Which runtime runs all models of a comparison, and with which kernels."""

    runtime: RuntimeArgument = "auto"
    kernels: KernelsArgument = "auto"


class Output(NamedTuple):
    """How output 0 is read."""

    kind: ModelKind
    spec: TensorSpec
    is_logits: bool = False

    def real(self, raw: Raw) -> Real:
        """Return real values of raw outputs, float64, shape (n, elements)."""
        values = np.asarray(raw, np.float64).reshape(len(raw), -1)
        if self.spec.quantized:
            values = (values - self.spec.zero_point) * self.spec.scale
        return values

    def scores(self, raw: Raw) -> Real:
        """Return probabilities, shape (n, classes), of a classifier's raw outputs."""
        values = self.real(raw)
        if values.shape[1] == 1:  # one sigmoid for two classes
            one = 1 / (1 + np.exp(-values)) if self.is_logits else values
            return np.concatenate([1 - one, one], axis=1)
        if not self.is_logits:
            return values
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def labels(self, raw: Raw) -> Classes:
        """Return the likeliest classes; -1 of a model without classes, and of no numbers."""
        if self.kind != "classifier":
            return np.full(len(raw), -1, np.int64)
        scores = self.scores(raw)
        is_number = np.asarray(np.isfinite(scores).all(axis=1))
        likeliest = np.argmax(np.where(is_number[:, None], scores, 0.0), axis=1)
        return np.where(is_number, likeliest, -1)


def model_kind(session: Session, wanted: npt.ArrayLike | None = None) -> ModelKind:
    """Tell what a model is: one without classes whose answer is as large as its input rebuilds it.

    Parameters
    ----------
    session
        Of the model.
    wanted
        What it should answer, where that is known: as `calibrate` reads its labels.

    Raises
    ------
    ValueError
        For a model with several inputs.
    """
    instance = session.instance
    if len(instance.inputs) != 1:
        raise ValueError(f"model: expected one input, got {len(instance.inputs)}")
    if not answers_numbers(session, wanted):
        return "classifier"
    sizes = [int(np.prod(spec.shape)) for spec in (instance.inputs[0], instance.outputs[0])]
    return "autoencoder" if sizes[0] == sizes[1] > 1 else "regressor"


class PlainModel:
    """A session that nothing watches; `close` it.

    Parameters
    ----------
    model
        The file, or its bytes: with one input.
    runtime
        Runtime and kernels.
    taps
        As `Session`: inner tensors to read.
    made
        How our copy of the file differs.
    kind
        What the model is; None: as the file looks, and `wanted`.
    wanted
        What it should answer: see `model_kind`.
    """

    def __init__(
        self,
        model: ModelSource,
        runtime: Runtime = Runtime(),  # noqa: B008 — immutable
        taps: Callable[[ModelFile], Sequence[int]] = lambda _: (),
        made: CopyOptions = CopyOptions(),  # noqa: B008 — immutable
        *,
        kind: ModelKind | None = None,
        wanted: npt.ArrayLike | None = None,
    ) -> None:
        self.session = Session(model, *runtime, taps=taps, made=made)
        try:
            kind = model_kind(self.session, wanted) if kind is None else kind
        except ValueError:
            self.session.close()
            raise
        head = self.session.model.head
        self.input = self.session.instance.inputs[0]
        self.output = Output(
            kind, self.session.instance.outputs[0], head is not None and head.output == "logits"
        )

    def run(self, raw: Raw) -> Raw:
        """Return raw outputs 0, shape (n, *its shape); a recurrent state begins anew with each."""
        rows = np.ascontiguousarray(raw, self.input.dtype).reshape(len(raw), *self.input.shape)
        spec = self.output.spec
        outputs = np.empty((len(rows), *spec.shape), spec.dtype)
        session = self.session
        run = session.instance.run
        for n, row in enumerate(rows):
            if session.stateful:
                session.reset_state()
                run = session.instance.run
            outputs[n] = run([row])[0]
        return outputs

    def run_tapped(self, raw: Raw) -> tuple[Raw, Raw]:
        """Return raw outputs 0 and what the first tap holds, shape (n, elements), raw."""
        rows = np.ascontiguousarray(raw, self.input.dtype).reshape(len(raw), *self.input.shape)
        outputs, inside = [], []
        for row in rows:
            outputs.append(self.session.instance.run([row])[0])
            inside.append(self.session.instance.tapped()[0].reshape(-1))
        return np.stack(outputs), np.stack(inside)

    def memory(self, image: str = "executing") -> npt.NDArray[np.uint8] | None:
        """Return a writable view of live bytes; None for an image that there is not.

        Parameters
        ----------
        image
            ``"source"``, ``"packed"``, or ``"executing"`` for the one that runs.
        """
        images: Any = self.session.instance.images
        if image == "executing":
            image = "packed" if "packed" in images else "source"
        if image == "source":
            return np.frombuffer(self.session.source.view, np.uint8)
        return np.frombuffer(images[image], np.uint8) if image in images else None

    def weight_bytes(self) -> npt.NDArray[np.int64]:
        """Return offsets of the bytes of the executing image that hold weights and biases."""
        instance = self.session.instance
        regions = (
            instance.image_regions["packed"]
            if "packed" in instance.images
            else self.session.copy.model.regions
        )
        found = [
            np.arange(r.offset, r.offset + r.nbytes)
            for r in regions
            if r.kind in ("weights", "bias") and r.nbytes
        ]
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)

    def close(self) -> None:
        """Release the runtime's memory."""
        self.session.close()
