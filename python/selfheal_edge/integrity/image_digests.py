"""What a model's images were when it was opened, and golden copies made anew from that."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from selfheal_edge.errors import IntegrityError
from selfheal_edge.hashing import sha256
from selfheal_edge.integrity.weights import GOLDEN, Weights
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.session import Session

__all__ = ["ImageDigests"]


class ImageDigests:
    """Digests of all images as they were built from a file whose hash is known.

    Parameters
    ----------
    images
        By name.
    """

    def __init__(self, images: Mapping[str, memoryview]) -> None:
        self._digests = {name: sha256(live) for name, live in images.items()}

    def require(self, images: Mapping[str, memoryview]) -> None:
        """Refuse images that are not what the model was opened with.

        Raises
        ------
        IntegrityError
            Naming the first that differs.
        """
        unknown = sorted(images.keys() - self._digests.keys())
        if unknown:
            raise IntegrityError(
                f"weights: expected the images {sorted(self._digests)} that the model was opened "
                f"with, got {unknown}"
            )
        for name, live in images.items():
            if sha256(live) != self._digests[name]:
                raise IntegrityError(
                    f"weights: expected the {name} image that the model was opened with, got "
                    "another: damage came while it was made"
                )

    def require_all(self, images: Mapping[str, memoryview]) -> None:
        """As `require`, and none of the images may be missing."""
        if images.keys() != self._digests.keys():
            raise IntegrityError(
                f"weights: expected the images {sorted(self._digests)} that the model was opened "
                f"with, got {sorted(images)}"
            )
        self.require(images)

    def renew_golden(self, session: Session, weights: Weights) -> int:
        """Write golden's damaged copies anew from the bytes of the file.

        For where neither the live bytes nor anything else in memory is golden's any more.

        Returns
        -------
        int
            Blocks that were written.

        Raises
        ------
        IntegrityError
            When the file's bytes in memory, or what the runtime packs from them, are not what the
            model was opened with.
        """
        pools = {name: image.pool for name, image in weights.images.items()}
        damaged = {n: pool for n, pool in pools.items() if pool and pool.verify(GOLDEN)}
        if not damaged:
            return 0
        with ExitStack() as undo:
            source = SourceImage(session.copy.model.data)
            undo.callback(source.close)
            fresh = {"source": source.view}
            if session.correction is not None:  # golden corrects nothing
                fresh["input"] = memoryview(bytes(session.correction.memory.nbytes))
            self.require(fresh)
            if not damaged.keys() <= fresh.keys():
                instance = session.choice.build(source)
                undo.callback(instance.close)
                fresh.update(instance.images)
                self.require_all(fresh)
            return sum(pool.renew_golden(fresh[name]) for name, pool in damaged.items())
