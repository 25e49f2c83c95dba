"""Choose known answers so that they notice as much damage as they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Session

__all__ = ["Reservoir", "choose_inputs", "choose_questions"]

_CANDIDATES = 32
_MOST_RUNS = 2048


def choose_questions(
    candidates: Sequence[Sequence[Array]],
    answer: Callable[[Sequence[Array]], Sequence[Array]],
    live: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    count: int,
    most_runs: int,
    rng: np.random.Generator,
) -> list[int]:
    """Choose questions whose answers together notice most flips of weight bits.

    Parameters
    ----------
    candidates
        Inputs to choose from; at most 32 of them are tried.
    answer
        Runs the model on one of them.
    live
        The image that executes, writable; it is as before afterwards.
    offsets
        Bytes of weights in it. None: nothing can be tried, and the choice is random.
    count
        How many to choose.
    most_runs
        Inferences to spend, at most 2048.
    rng
        Draws candidates and flips.

    Returns
    -------
    list of int
        Indices into `candidates`: greedily, each next one notices most of what none before it did.
    """
    tried = rng.permutation(len(candidates))[:_CANDIDATES]
    count = min(count, len(tried))
    flips = min(most_runs, _MOST_RUNS) // len(tried) - 1
    if flips < 1 or offsets.size == 0:
        return [int(i) for i in tried[:count]]
    sound = [_bytes(answer(candidates[i])) for i in tried]
    notices = np.zeros((len(tried), flips), bool)
    for n in range(flips):
        offset = int(rng.choice(offsets))
        mask = np.uint8(1 << int(rng.integers(8)))
        live[offset] ^= mask
        try:
            for k, i in enumerate(tried):
                notices[k, n] = _bytes(answer(candidates[i])) != sound[k]
        finally:
            live[offset] ^= mask
    chosen: list[int] = []
    missed = np.ones(flips, bool)
    for _ in range(count):
        gain = (notices & missed).sum(axis=1)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        missed &= ~notices[best]
    return [int(tried[k]) for k in chosen]


class Reservoir:
    """A uniform random sample of a stream's inputs, held as copies.

    Parameters
    ----------
    rng
        Draws them.
    most
        How many to hold.
    """

    def __init__(self, rng: np.random.Generator, most: int = _CANDIDATES) -> None:
        self.rng = rng
        self._most = most
        self.seen = 0
        """Inputs that came by."""
        self.held: list[list[Array]] = []
        """Those that are in the sample."""
        self.numbers: list[int] = []
        """Which inputs of the stream they are, from 0."""

    def offer(self, inputs: Sequence[Array]) -> None:
        """Take the next input of the stream: keep it or not."""
        self.seen += 1
        place = len(self.held)
        if place == self._most:
            place = int(self.rng.integers(self.seen))
            if place >= self._most:
                return
        self.held[place : place + 1] = [[array.copy() for array in inputs]]
        self.numbers[place : place + 1] = [self.seen - 1]


def choose_inputs(
    session: Session, sample: Reservoir, count: int, rng: np.random.Generator
) -> list[int]:
    """Choose of a sample of the calibration, spending two inferences for each input at most.

    A recurrent model's are drawn at random, as are those of a model without weights that execute
    from where they can be seen.
    """
    packed = session.instance.images.get("packed")
    if session.stateful:
        regions = []
    elif packed is not None:
        regions = [r for r in session.instance.image_regions["packed"] if r.kind == "weights"]
    else:
        rows = session.coverage.weights
        regions = [row.region for row in rows if row.coverage is Coverage.EXECUTING]
    places = [np.arange(r.offset, r.offset + r.nbytes) for r in regions]
    return choose_questions(
        sample.held,
        session.instance.run,
        np.frombuffer(session.source.view if packed is None else packed, np.uint8),
        np.concatenate(places) if places else np.empty(0, np.int64),
        count,
        2 * sample.seen,
        rng,
    )


def _bytes(arrays: Sequence[Array]) -> bytes:
    return b"".join(a.tobytes() for a in arrays)
