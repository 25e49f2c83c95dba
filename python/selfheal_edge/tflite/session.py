"""One loaded model: its map, our copy of its bytes, and an instance that runs them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.text import shown
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions, ModelCopy, copy_model
from selfheal_edge.tflite.flip_check import (
    FlipEffort,
    RegionFlips,
    check_coverage,
    never_better_than,
)
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, Instance, TensorSpec
from selfheal_edge.tflite.runtimes.select import Choice, KernelsArgument, RuntimeArgument, choose
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.sandbox.sharing import sharing_helpers
from selfheal_edge.tflite.signatures import SignatureNames

__all__ = ["Fingerprint", "ModelSource", "Session", "answers_numbers"]

ModelSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"
"""A model file's path, or its bytes."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides a model's exact outputs beside its bytes: runtime, kernels and machine."""

    runtime: str
    version: str
    kernels: str
    num_threads: int
    machine: str

    def __str__(self) -> str:
        return shown(
            f"{self.runtime} {self.version}, {self.kernels} kernels, "
            f"{self.num_threads} thread(s), {self.machine}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return asdict(self)


class Session:
    """A model file in sealed memory, and an instance built from it; `close` when done.

    Parameters
    ----------
    model
        The model file: its path, its bytes, or read already.
    runtime, kernels, num_threads
        As in `calibrate`.
    taps
        Given the user's file, the tensors of subgraph 0 to read after every inference; it may
        raise, and nothing stays open then.
    made
        How our copy of it differs.
    probe
        What probing an unknown file in a child process may cost.
    correct
        Given the inputs, returns what they go through before they run; None: they never do.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError, ValueError
        As `ModelFile.from_path` and `choose` say. Nothing stays open then.
    """

    def __init__(
        self,
        model: ModelSource | ModelFile,
        runtime: RuntimeArgument = "auto",
        kernels: KernelsArgument = "auto",
        num_threads: int = 1,
        taps: Callable[[ModelFile], Sequence[int]] = lambda _: (),
        made: CopyOptions = CopyOptions(),  # noqa: B008 — immutable
        probe: ProbePolicy = ProbePolicy(),  # noqa: B008 — immutable
        *,
        inference_lock: AbstractContextManager[None] | None = None,
        correct: Callable[[Sequence[TensorSpec]], _core.InputCorrection | None] = lambda _: None,
    ) -> None:
        self.model = model if isinstance(model, ModelFile) else ModelFile.of(model)
        wanted = taps(self.model)
        self.copy: ModelCopy
        self.source: SourceImage
        self.choice: Choice
        self.instance: Instance
        where = (runtime, kernels, num_threads, probe)
        try:
            self._open(copy_model(self.model, wanted, made), *where)
        except ModelFormatError:
            if not self.copy.assumed:
                raise
            # What was folded was not what the runtime finds: then it has to compute it itself.
            self._open(copy_model(self.model, wanted, made._replace(folds=False)), *where)
        self._flips: tuple[RegionFlips, ...] = ()
        self.stateful = self.model.keeps_resources or self.model.keeps_variables
        self.names = SignatureNames(self.model, self.instance.inputs, self.instance.outputs)
        """Of inputs and outputs, in SignatureDefs."""
        self._inference_lock = nullcontext() if inference_lock is None else inference_lock
        try:
            self.correction = correct(self.instance.inputs)
            """What inputs go through before they run, where it is on; None: they never do."""
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        copy: ModelCopy,
        runtime: RuntimeArgument,
        kernels: KernelsArgument,
        num_threads: int,
        probe: ProbePolicy,
    ) -> None:
        self.copy = copy
        self.source = SourceImage(copy.model.data)
        try:
            with UsualFloats(), sharing_helpers():
                self.choice, self.instance = choose(
                    copy, self.source, runtime, kernels, num_threads, probe
                )
        except BaseException:
            self.source.close()
            raise

    @property
    def fingerprint(self) -> Fingerprint:
        """Runtime, kernels and machine that run this session."""
        return Fingerprint(
            self.choice.runtime.name,
            self.choice.runtime.version,
            self.choice.kernels,
            self.choice.num_threads,
            platform.machine(),
        )

    @property
    def coverage(self) -> CoverageTable:
        """Coverage of the running instance, never better than flips have shown."""
        return never_better_than(self.instance.coverage, self._flips)

    def cross_check(
        self,
        samples: Sequence[Sequence[Array]],
        effort: FlipEffort = FlipEffort(),  # noqa: B008
    ) -> tuple[RegionFlips, ...]:
        """Flip every region of weights in instances of its own, and hold the table to the result.

        Parameters
        ----------
        samples
            Inputs to try first; full-range random ones follow.
        effort
            How long it may take, and who is told how far it is.
        """
        self._flips = check_coverage(self.choice, samples, effort)
        return self._flips

    def rebuild(
        self,
        accept: Callable[[Instance], None] = lambda _: None,
        *,
        exchange: Callable[[Instance], None] = lambda _: None,
        keep_state: bool = False,
    ) -> None:
        """Replace the instance by one built from the source's live bytes; all or nothing.

        The building holds up no inference: the lock is taken for the exchange alone. The state of a
        recurrent model starts again at zero, unless it is to be kept.

        Parameters
        ----------
        accept
            Sees the fresh instance before it replaces the old one, which stays if this raises.
            What watches the instance has to turn to the new one in here, last.
        exchange
            Called under the lock with the instance that runs from now on.
        keep_state
            Whether a recurrent model goes on where it is: right where nothing was damaged, wrong
            where damage may have gone into the state. A state in resource variables cannot be
            carried over: then nothing is replaced.
        """
        if keep_state and self.model.keeps_resources:
            return
        fresh = self.choice.build(self.source)
        try:
            accept(fresh)
        except BaseException:
            fresh.close()
            raise
        with self._inference_lock:
            old, self.instance = self.instance, fresh
            if keep_state and self.stateful:
                indices = [t.index for t in self.copy.model.tensors if t.is_variable]
                fresh.set_variables(indices, old.variables(indices))
            exchange(fresh)
        old.close()

    def exchange(
        self,
        source: SourceImage,
        instance: Instance,
        correction: _core.InputCorrection | None,
    ) -> tuple[SourceImage, Instance, _core.InputCorrection | None]:
        """Run another instance, with its bytes, from now on; return those that ran before.

        The calling thread holds the inference lock. The state of a recurrent model goes on, but for
        one in resource variables.
        """
        old = self.source, self.instance, self.correction
        if self.stateful and not self.model.keeps_resources:
            indices = [t.index for t in self.copy.model.tensors if t.is_variable]
            instance.set_variables(indices, self.instance.variables(indices))
        self.source, self.instance, self.correction = source, instance, correction
        return old

    def reset_state(self, exchange: Callable[[Instance], None] = lambda _: None) -> None:
        """Start the state of a recurrent model anew; a model without one stays as it is.

        Resource variables start anew with a fresh instance alone, which is built from the source's
        live bytes: 0.3 to 2 ms for a small model, and nothing changes if that fails.
        """
        if self.model.keeps_resources:
            self.rebuild(exchange=exchange)
            return
        with self._inference_lock:
            self.instance.reset_variables()

    def answers(self, questions: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Return the outputs for each list of inputs; a recurrent model's state stays untouched.

        Inputs are corrected as they are when the model serves. Computed in the usual floating-point
        environment, whatever the calling thread has set.
        """
        answers = []
        is_corrected = self.correction is not None and self.correction.is_on
        correct = self.corrected if is_corrected else tuple
        with UsualFloats():
            if not self.stateful:
                for inputs in questions:  # other threads may have the lock between two
                    with self._inference_lock:
                        answers.append(self.instance.run(correct(inputs)))
                return answers
            fresh = self.choice.build(self.source)
            try:
                for inputs in questions:
                    if answers and self.model.keeps_resources:  # only building starts those anew
                        fresh.close()
                        fresh = self.choice.build(self.source)
                    fresh.reset_variables()
                    answers.append(fresh.run(correct(inputs)))
            finally:
                fresh.close()
        return answers

    def corrected(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Return what runs when these inputs come, as they are corrected now."""
        if self.correction is None or not self.correction.is_on:
            return inputs
        return [self.correction.corrected(inputs[0])]

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        self.instance.close()
        self.source.close()


def answers_numbers(session: Session, wanted: npt.ArrayLike | None) -> bool:
    """Whether a model has no classes: by its file, or by what it should answer.

    A regression with several outputs looks like logits to a file's reader; several real numbers for
    each input, shape (n, ...), are no classes.
    """
    head = session.model.head
    if head is None:
        return True
    given = np.asarray(wanted)
    return head.output == "logits" and given.dtype.kind == "f" and given.ndim > 1
