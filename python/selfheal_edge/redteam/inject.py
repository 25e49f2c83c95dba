"""Faults put into a live model, for tests, demonstrations and doubters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.model import SelfHealingModel
from selfheal_edge.weights import guarded_weights

__all__ = ["Flip", "Injector", "inject"]


class Flip(NamedTuple):
    """One flipped bit."""

    image: str
    offset: int
    bit: int


class Injector:
    """A door to the live bytes of one model.

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
        weights = guarded_weights(self._model.weights)
        weights.check_open()
        images = weights.images
        if image not in images:
            raise ValueError(f"image: expected one of {sorted(images)}, got {image!r}")
        return np.frombuffer(images[image].live, np.uint8)

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
            Where; None for the image that executes: the packed one where weights are packed.
        kinds
            Kinds of regions: ``"weights"``, ``"bias"``, ``"other"``, ``"graph"``.
        seed
            None draws from the operating system.
        """
        images = self._model.weights.images
        if image is None:
            packs = "packed" in images and any(
                region.kind == "weights" for region in images["packed"].regions.values()
            )
            image = "packed" if packs else "source"
        memory = self.memory(image)
        regions = images[image].regions.values()
        offsets: list[Any] = [
            np.arange(r.offset, r.offset + r.nbytes) for r in regions if r.kind in kinds
        ]
        candidates = np.concatenate(offsets) if offsets else np.empty(0, np.int64)
        if not 1 <= count <= candidates.size * 8:
            raise ValueError(f"count: expected 1 to {candidates.size * 8} bits, got {count}")
        rng = np.random.default_rng(seed)
        chosen = rng.choice(candidates.size * 8, count, replace=False)
        flips = tuple(Flip(image, int(candidates[i // 8]), int(i % 8)) for i in chosen)
        for flip in flips:
            memory[flip.offset] ^= np.uint8(1 << flip.bit)
        return flips


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
