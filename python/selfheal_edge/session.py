"""One loaded model: its map, our copy of its bytes, and an instance that runs them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfheal_edge.tflite.flip_check import RegionFlips, check_coverage, never_better_than
from selfheal_edge.tflite.model_file import ModelFile
from selfheal_edge.tflite.protocol import Array, CoverageTable, Instance
from selfheal_edge.tflite.rewrite import copy_model
from selfheal_edge.tflite.select import Choice, KernelsArgument, RuntimeArgument, choose
from selfheal_edge.tflite.source_image import SourceImage

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
    ) -> None:
        self.model = ModelFile.from_path(path)
        self.copy = copy_model(self.model)
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
        self.stateful = any(tensor.is_variable for tensor in self.model.tensors)

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

    def rebuild(self, accept: Callable[[Instance], None] = lambda _: None) -> None:
        """Replace the instance by one built from the source's live bytes; all or nothing.

        The state of a recurrent model starts again at zero.

        Parameters
        ----------
        accept
            Called with the fresh instance, already in its place; if it raises, the old one is back
            and the fresh one closed. What watches the instance has to turn to it in here, last.
        """
        fresh = self.choice.build(self.source)
        old, self.instance = self.instance, fresh
        try:
            accept(fresh)
        except BaseException:
            self.instance = old
            fresh.close()
            raise
        old.close()

    def answers(self, questions: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Return the outputs for each list of inputs; a recurrent model's state stays untouched."""
        if not self.stateful:
            return [self.instance.run(inputs) for inputs in questions]
        answers = []
        fresh = self.choice.build(self.source)
        try:
            for inputs in questions:
                fresh.reset_variables()
                answers.append(fresh.run(inputs))
        finally:
            fresh.close()
        return answers

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        self.instance.close()
        self.source.close()
