"""One loaded model: its map, our copy of its bytes, and an instance that runs them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from selfheal_edge.tflite.coverage.flip_check import RegionFlips, check_coverage, never_better_than
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import copy_model
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, CoverageTable, Instance
from selfheal_edge.tflite.runtimes.select import Choice, KernelsArgument, RuntimeArgument, choose

__all__ = ["Fingerprint", "Session"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides a model's exact outputs beside its bytes: runtime, kernels and machine."""

    runtime: str
    version: str
    kernels: str
    num_threads: int
    machine: str

    def __str__(self) -> str:
        return (
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
    path
        The model file.
    runtime, kernels, num_threads
        As in `calibrate`.
    taps
        Given the user's file, the tensors of subgraph 0 to read after every inference; it may
        raise, and nothing stays open then.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError, ValueError
        As `ModelFile.from_path` and `choose` say. Nothing stays open then.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        runtime: RuntimeArgument = "auto",
        kernels: KernelsArgument = "auto",
        num_threads: int = 1,
        taps: Callable[[ModelFile], Sequence[int]] = lambda _: (),
    ) -> None:
        self.model = ModelFile.from_path(path)
        self.copy = copy_model(self.model, taps(self.model))
        self.source = SourceImage(self.copy.model.data)
        self.choice: Choice
        self.instance: Instance
        try:
            self.choice, self.instance = choose(
                self.copy, self.source, runtime, kernels, num_threads
            )
        except BaseException:
            self.source.close()
            raise
        self._flips: tuple[RegionFlips, ...] = ()
        self.stateful = self.model.keeps_resources or any(
            tensor.is_variable for tensor in self.model.tensors
        )
        self.inference_lock: AbstractContextManager[None] = nullcontext()
        """To be held while the instance runs or is exchanged."""
        self.exchanged: Callable[[Instance], None] = lambda _: None
        """Called in that turn with the instance that runs from now on."""

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

    def cross_check(self, samples: Sequence[Sequence[Array]]) -> tuple[RegionFlips, ...]:
        """Flip every region of weights in instances of its own, and hold the table to the result.

        Parameters
        ----------
        samples
            Inputs to try first; full-range random ones follow.
        """
        self._flips = check_coverage(self.choice, samples)
        return self._flips

    def rebuild(
        self, accept: Callable[[Instance], None] = lambda _: None, *, keep_state: bool = False
    ) -> None:
        """Replace the instance by one built from the source's live bytes; all or nothing.

        Nobody has to wait for the building: the turn is taken for the exchange alone. The state of
        a recurrent model starts again at zero, unless it is to be kept.

        Parameters
        ----------
        accept
            Sees the fresh instance before it replaces the old one, which stays if this raises.
            What watches the instance has to turn to the new one in here, last.
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
        with self.inference_lock:
            old, self.instance = self.instance, fresh
            if keep_state and self.stateful:
                indices = [t.index for t in self.copy.model.tensors if t.is_variable]
                fresh.set_variables(indices, old.variables(indices))
            self.exchanged(fresh)
        old.close()

    def answers(self, questions: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Return the outputs for each list of inputs; a recurrent model's state stays untouched."""
        answers = []
        if not self.stateful:
            for inputs in questions:  # others may have their turn between two
                with self.inference_lock:
                    answers.append(self.instance.run(inputs))
            return answers
        fresh = self.choice.build(self.source)
        try:
            for inputs in questions:
                if answers and self.model.keeps_resources:  # only building starts those anew
                    fresh.close()
                    fresh = self.choice.build(self.source)
                fresh.reset_variables()
                answers.append(fresh.run(inputs))
        finally:
            fresh.close()
        return answers

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        self.instance.close()
        self.source.close()
