"""An instance of a generation that does not serve now, built and ready to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

import numpy as np

from selfheal_edge import _core
from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Instance
from selfheal_edge.tflite.session import Session

__all__ = ["Standby"]

_ASKED_EVERY: Final = 32


class Standby:
    """A generation's instance, with memory of its own: what a switch exchanges, all or nothing.

    Parameters
    ----------
    generation
        Which one it is.
    source, instance, correction
        As a session has them.
    images
        Their memory, by name.

    Notes
    -----
    While it does not serve, its bytes are compared with the saved ones of its generation, image by
    image, and it is asked known answers (`is_sound`); every byte is before it serves. Memory: the
    file's, and what the runtime makes of it.
    """

    def __init__(
        self,
        generation: int,
        source: SourceImage,
        instance: Instance,
        correction: _core.InputCorrection | None,
        images: Mapping[str, memoryview],
    ) -> None:
        self.generation = generation
        self.source = source
        self.instance = instance
        self.correction = correction
        self.images = dict(images)
        self._looks = 0

    @classmethod
    def built(cls, session: Session, generation: int, wanted: Mapping[str, bytes]) -> Standby:
        """Build one from a generation's bytes, beside what serves.

        Parameters
        ----------
        session
            Stays as it is.
        generation
            Its number.
        wanted
            The bytes of all images, by name.

        Raises
        ------
        IntegrityError
            When the runtime packs other weights than those.
        """
        with ExitStack() as undo:
            source = SourceImage(wanted["source"])
            undo.callback(source.close)
            instance: Instance = session.choice.build(source)
            undo.callback(instance.close)
            images = {"source": source.view, **instance.images}
            correction = None
            table = InputTable.of(session.instance.inputs)
            if "input" in wanted:
                assert table is not None, "there is a correction"
                data = wanted["input"]
                correction = _core.InputCorrection(table.dtype.name, table.shape, len(data))
                correction.memory[:] = np.frombuffer(data, np.uint8)
                images["input"] = correction.memory.data
            found = cls(generation, source, instance, correction, images)
            undo.callback(found._release)
            other = [n for n in images.keys() | wanted.keys() if not found.holds(n, wanted.get(n))]
            if other:
                raise IntegrityError(
                    f"generation {generation}: expected the runtime to build with the images that "
                    f"were saved, got others: {sorted(other)}"
                )
            undo.pop_all()
        return found

    def holds(self, name: str, saved: bytes | None) -> bool:
        """Whether every byte of an image is what its generation has saved."""
        view = self.images.get(name)
        return view is not None and view.tobytes() == saved  # `view ==` compares item by item

    def is_sound(self, saved: Callable[[str], bytes], known: KnownAnswers) -> bool:
        """Look at what is next in turn: an image or, every 32 times, a known answer.

        Parameters
        ----------
        saved
            Returns what its generation has saved of an image.
        known
            Its generation's.
        """
        self._looks += 1
        if self._looks % _ASKED_EVERY:
            name = tuple(self.images)[self._looks % len(self.images)]
            return self.holds(name, saved(name))
        at = self._looks // _ASKED_EVERY % len(known.inputs)
        inputs = known.inputs[at]
        if self.correction is not None and self.correction.is_on:
            inputs = (self.correction.corrected(inputs[0]),)
        with UsualFloats():
            self.instance.reset_variables()  # its state is given to it when it is to serve
            outputs = self.instance.run(inputs)
        return KnownAnswers((inputs,), (known.outputs[at],)).matches([outputs])

    @property
    def memory_bytes(self) -> int:
        """Bytes of its images."""
        return sum(view.nbytes for view in self.images.values())

    def _release(self) -> None:
        for view in self.images.values():
            with contextlib.suppress(BufferError):  # a user's array keeps the memory until it goes
                view.release()
        self.images = {}

    def close(self) -> None:
        """Release runtime and memory; calling it again does nothing."""
        self._release()
        self.instance.close()
        self.source.close()
