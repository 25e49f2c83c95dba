"""A second instance that serves while the first is being healed."""

from __future__ import annotations

from contextlib import ExitStack

from selfheal_edge.integrity.guarded_image import GuardedImage, GuardOptions, guard_instance
from selfheal_edge.log import logger
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, Instance
from selfheal_edge.tflite.session import Session

__all__ = ["Spare"]


class Spare:
    """An instance built from the bytes of the file, with memory of its own.

    Parameters
    ----------
    session
        The one that it stands in for.

    Raises
    ------
    ValueError
        For a recurrent model: the state that it has come to is in the damaged instance alone.

    Notes
    -----
    Its bytes are sealed when it is built. `verify` holds them to that before they serve; a spare
    that fails is built anew.
    """

    def __init__(self, session: Session) -> None:
        if session.stateful:
            raise ValueError(
                "policy.hot_spare: expected False for a recurrent model, whose state a spare has "
                "not come to, got True"
            )
        self._session = session
        self._build()

    def _build(self) -> None:
        session = self._session
        with ExitStack() as undo:
            source = SourceImage(session.copy.model.data)
            undo.callback(source.close)
            instance: Instance = session.choice.build(source)
            undo.callback(instance.close)
            nothing = GuardOptions(snapshots=False, parity_blocks=0)
            images = guard_instance(source.view, session.copy.model.regions, instance, nothing)
            for image in images.values():
                undo.callback(image.close)
            self._built: tuple[Instance, dict[str, GuardedImage]] | None = (instance, images)
            self._release = undo.pop_all()

    @property
    def instance(self) -> Instance:
        """What serves, once verified."""
        assert self._built is not None, "verify() comes first"
        return self._built[0]

    @property
    def memory_bytes(self) -> int:
        """Bytes of its images and their checksums."""
        images = {} if self._built is None else self._built[1]
        return sum(image.nbytes + image.memory_bytes for image in images.values())

    def verify(self, known: KnownAnswers) -> bool:
        """Return whether every byte holds and every known answer is exact, if need be anew."""
        if self._is_sound(known):
            return True
        self.close()
        try:
            self._build()
        except RUNTIME_FAILURES:  # then there is none until the next time
            logger().warning("the hot spare could not be built anew", exc_info=True)
        return self._is_sound(known)

    def _is_sound(self, known: KnownAnswers) -> bool:
        if self._built is None:
            return False
        instance, images = self._built
        if any(image.image.check() for image in images.values()):
            return False
        try:
            with UsualFloats():
                return known.matches([instance.run(inputs) for inputs in known.inputs])
        except RUNTIME_FAILURES:
            return False

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        self._built = None
        self._release.close()
