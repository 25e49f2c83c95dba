"""A second instance that serves while the first is being healed."""

from __future__ import annotations

from selfheal_edge.baseline import KnownAnswers
from selfheal_edge.errors import SelfHealError
from selfheal_edge.guarded_image import GuardedImage, GuardOptions, guard_instance
from selfheal_edge.session import Session
from selfheal_edge.tflite.protocol import Instance
from selfheal_edge.tflite.source_image import SourceImage

__all__ = ["Spare"]


class Spare:
    """An instance built from the bytes of the file, with memory of its own.

    Parameters
    ----------
    session
        The one that it stands in for.

    Notes
    -----
    Its bytes are sealed when it is built. `verify` holds them to that before they serve; a spare
    that fails is built anew.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._build()

    def _build(self) -> None:
        session = self._session
        self._source = SourceImage(session.copy.model.data)
        try:
            self.instance: Instance = session.choice.build(self._source)
        except BaseException:
            self._source.close()
            raise
        nothing = GuardOptions(snapshots=False, parity_blocks=0)
        self._images: dict[str, GuardedImage] = guard_instance(
            self._source.view, session.copy.model.regions, self.instance, nothing
        )

    @property
    def memory_bytes(self) -> int:
        """Bytes of its images and their checksums."""
        return sum(image.nbytes + image.memory_bytes for image in self._images.values())

    def verify(self, known: KnownAnswers) -> bool:
        """Return whether every byte holds and every known answer is exact, if need be anew."""
        if self._is_sound(known):
            return True
        self.close()
        try:
            self._build()
        except SelfHealError:
            return False
        return self._is_sound(known)

    def _is_sound(self, known: KnownAnswers) -> bool:
        if any(image.image.check(keyed=True) for image in self._images.values()):
            return False
        return known.matches([self.instance.run(inputs) for inputs in known.inputs])

    def close(self) -> None:
        """Release runtime and memory."""
        for image in self._images.values():
            image.close()
        self.instance.close()
        self._source.close()
