"""Faults put into a live model, for tests, demonstrations and doubters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.text import quoted
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.format.records import Region
from selfheal_edge.tflite.runtimes.protocol import Array, Instance

__all__ = ["Flip", "Injector", "inject"]


class Flip(NamedTuple):
    """One flipped bit."""

    image: str
    offset: int
    bit: int


class _ReplacedRun:
    """An instance whose runs are done by another function; all else is as it was."""

    engine = None

    def __init__(self, instance: Instance, run: Callable[[Sequence[Array]], list[Array]]) -> None:
        self.replaced = instance
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.replaced, name)


class Injector:
    """A door to the live bytes of one model, and to its runtime.

    Parameters
    ----------
    model
        An open model in this process.
    """

    def __init__(self, model: SelfHealingModel) -> None:
        self._model = model

    def memory(self, image: str = "source") -> npt.NDArray[np.uint8]:
        """Return a writable view of the bytes that the runtime reads; writing is the attack.

        Drop the view before the model is closed: it keeps the memory mapped.

        Raises
        ------
        ValueError
            When the model has no such image.
        ModelClosedError
            When the model is closed.
        """
        weights = parts_of(self._model).weights
        weights.check_open()
        images = weights.images
        if image not in images:
            raise ValueError(f"image: expected one of {sorted(images)}, got {quoted(image)}")
        return np.frombuffer(images[image].live, np.uint8)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the instance that serves, without the guard: what an unguarded caller would get.

        Parameters
        ----------
        inputs
            Arrays of exactly the model's inputs' shapes and dtypes.

        Returns
        -------
        list of numpy.ndarray
            Copies of its outputs.

        Notes
        -----
        Takes no lock: not while another thread predicts.
        """
        return parts_of(self._model).session.instance.run(inputs)

    def replace_run(self, run: Callable[[Sequence[Array]], list[Array]]) -> None:
        """Have every inference done by `run` until the runtime is rebuilt: a runtime fault.

        No checksum sees it; known answers do. `run` takes and returns what `Injector.run` does.
        """
        parts = parts_of(self._model)
        replaced = cast(Instance, _ReplacedRun(parts.session.instance, run))
        parts.session.instance = replaced
        parts.loop.serving.attach(replaced)

    def flip_bits(
        self,
        count: int,
        *,
        image: str | None = None,
        kinds: tuple[str, ...] = ("weights", "bias"),
        seed: int | None = None,
    ) -> tuple[Flip, ...]:
        """Flip distinct random bits in live regions of the given kinds.

        Parameters
        ----------
        count
            Bits to flip.
        image
            Where; None for every byte that executes, in whichever image it lies: packed weights,
            and operands that the kernels read from the source. Of a model of which nothing is
            known to execute, the source.
        kinds
            Kinds of regions: ``"weights"``, ``"bias"``, ``"other"``, ``"graph"``.
        seed
            None draws from the operating system.

        Raises
        ------
        ValueError
            When the model has no such bytes, or fewer bits than `count`.
        """
        places = self._executing(kinds) if image is None else self._regions(image, kinds)
        if not places:
            where = "" if image is None else f" in the image {quoted(image)}"
            raise ValueError(
                f"kinds: expected kinds of bytes that the model has{where}, got {kinds}: "
                "there are none of them"
            )
        ends = np.cumsum([8 * region.nbytes for _, region in places])
        if not 1 <= count <= ends[-1]:
            raise ValueError(f"count: expected 1 to {ends[-1]} bits, got {count}")
        chosen = np.random.default_rng(seed).choice(int(ends[-1]), count, replace=False)
        flips = []
        for bit, place in zip(chosen, np.searchsorted(ends, chosen, side="right"), strict=True):
            name, region = places[place]
            within = int(bit - ends[place]) + 8 * region.nbytes
            flips.append(Flip(name, region.offset + within // 8, within % 8))
        memory = {name: self.memory(name) for name in {flip.image for flip in flips}}
        for flip in flips:
            memory[flip.image][flip.offset] ^= np.uint8(1 << flip.bit)
        return tuple(flips)

    def _regions(self, image: str, kinds: tuple[str, ...]) -> list[tuple[str, Region]]:
        self.memory(image)  # says which images there are
        regions = self._model.weights.images[image].regions.values()
        return [(image, r) for r in regions if r.kind in kinds and r.nbytes]

    def _executing(self, kinds: tuple[str, ...]) -> list[tuple[str, Region]]:
        packed = "packed" in self._model.weights.images
        places = self._regions("packed", kinds) if packed else []
        places += [
            ("source", row.region)
            for row in self._model.weights.coverage.rows
            if row.image == "source"
            and row.coverage is Coverage.EXECUTING
            and row.region.kind in kinds
            and row.region.nbytes
        ]
        return places or self._regions("source", kinds)


def inject(model: SelfHealingModel) -> Injector:
    """Open the door to a model's live bytes.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> from selfheal_edge.assets import digits_model_path, load_digits
    >>> baseline = she.calibrate(digits_model_path(), load_digits().calibration_inputs)
    >>> with she.SelfHealingModel(digits_model_path(), baseline) as model:
    ...     flips = she.redteam.inject(model).flip_bits(3, seed=1)
    ...     found = model.weights.scrub()
    ...     len(found) > 0, model.weights.scrub()
    (True, ())
    """
    return Injector(model)
