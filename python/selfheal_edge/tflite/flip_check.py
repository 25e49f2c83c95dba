"""Cross-check the coverage table against the runtime itself, by flipping weights.

A rule can be wrong for a kernel that it was not made for, so at commissioning every region of
weights is changed and the answers are watched. An answer that stays the same proves nothing unless
the input could have shown the change; that it could is proven first, on an instance that was built
from the changed bytes. Then the same change is made under a running instance, in the image that
the table says is running: the answers must become those of the rebuilt instance, and come back when
the bytes do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from selfheal_edge.tflite.coverage.table import Coverage, CoverageTable
from selfheal_edge.tflite.format.records import Region
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.protocol import Array, Instance
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.runtimes.select import Choice

__all__ = ["Finding", "FlipEffort", "RegionFlips", "check_coverage", "never_better_than"]

Progress: TypeAlias = Callable[[int, int], object]
Answer: TypeAlias = "list[Array] | None"
_FIRST_INPUTS: Final = 4
_PATTERNS: Final = 3


class Finding(Enum):
    """What the flips say about a region."""

    EXECUTING = "executing"
    """The change under the running instance gave the answers of a rebuilt one."""
    PARTLY = "partly"
    """It gave other answers: something that depends on these bytes is computed when building."""
    BUILT = "built"
    """It changed nothing: what runs is a copy made when building."""
    UNPROVEN = "unproven"
    """No input was found that shows a change of these bytes, not even after a rebuild."""
    UNTRIED = "untried"
    """There was no time left for it."""


@dataclass(frozen=True, slots=True)
class RegionFlips:
    """What was found about one region of weights."""

    region: Region
    table: Coverage
    finding: Finding
    restored: bool
    """Whether the answers came back with the bytes."""
    inputs: int
    """Inputs that were shown to be sensitive."""

    @property
    def contradicts(self) -> bool:
        """Whether the table is better than the flips."""
        claimed = self.table is Coverage.EXECUTING
        return not self.restored or (claimed and self.finding is Finding.BUILT)


class FlipEffort(NamedTuple):
    """What a cross-check may cost, and a callback for its progress."""

    seconds: float = 60.0
    """The largest regions come first; those that it does not get to are untried."""
    progress: Progress = lambda _done, _total: None
    """Called after every region with the number of those that are done, and of all."""


def check_coverage(
    choice: Choice,
    samples: Sequence[Sequence[Array]] = (),
    effort: FlipEffort = FlipEffort(math.inf),  # noqa: B008 — immutable
    *,
    seed: int | None = None,
    max_inputs: int = 256,
) -> tuple[RegionFlips, ...]:
    """Flip every region of weights and report what the running instance reads.

    Parameters
    ----------
    choice
        What runs the model. Bytes and instances of the check are its own: a model that is serving
        is not touched.
    samples
        Inputs to try first, such as calibration data; each a list with one array per input.
        Full-range random ones follow.
    effort
        How long it may take, and who is told how far it is.
    seed
        For tests; None draws from the operating system.
    max_inputs
        How many inputs to try before a region counts as unproven.

    Returns
    -------
    tuple of RegionFlips
        One for each region of kind weights or bias, in the order of the file.

    Notes
    -----
    One to three builds for each region, and a few inferences: 0.1 s for a small model, some
    seconds for a large one on slow kernels. A model with a state in resource variables gives no
    answer twice: all its regions are unproven.
    """
    check = _Check(choice, samples, np.random.default_rng(seed), max_inputs, effort.seconds)
    try:
        rows = check.live.coverage.weights
        if choice.copy.model.keeps_resources:
            return tuple(
                RegionFlips(row.region, row.coverage, Finding.UNPROVEN, True, 0) for row in rows
            )
        largest_first = sorted(range(len(rows)), key=lambda i: -rows[i].region.nbytes)
        found: dict[int, RegionFlips] = {}
        for done, index in enumerate(largest_first, 1):
            row = rows[index]
            found[index] = check.region(row.region, row.coverage)
            effort.progress(done, len(rows))
        return tuple(found[index] for index in range(len(rows)))
    finally:
        check.close()


def never_better_than(table: CoverageTable, flips: Sequence[RegionFlips]) -> CoverageTable:
    """Return the table with every contradicted row lowered to `derived`."""
    found = {f.region.name: f for f in flips if f.contradicts}
    if not found:
        return table
    rows = []
    for row in table.rows:
        if row.region.name in found and row.coverage is Coverage.EXECUTING:
            reason = f"flips contradict: {row.reason}"
            row = replace(row, coverage=Coverage.DERIVED, reason=reason, image="source")  # noqa: PLW2901
        rows.append(row)
    return CoverageTable(tuple(rows))


class _Check:
    def __init__(
        self,
        choice: Choice,
        samples: Sequence[Sequence[Array]],
        rng: np.random.Generator,
        max_inputs: int,
        seconds: float,
    ) -> None:
        self._end = time.monotonic() + seconds
        self._choice = choice
        self._rng = rng
        self._max_inputs = max_inputs
        self._source = SourceImage(choice.copy.model.data)
        self._bytes = np.frombuffer(self._source.view, np.uint8)
        self._inputs: list[list[Array]] = [list(sample) for sample in samples][:max_inputs]
        self._golden: list[Answer] = []
        self.live: Instance = choice.build(self._source)
        self._grow(_FIRST_INPUTS)

    def close(self) -> None:
        self.live.close()
        del self._bytes
        self._source.close()

    def _grow(self, count: int) -> None:
        while len(self._inputs) < count:
            self._inputs.append([full_range_input(spec, self._rng) for spec in self.live.inputs])
        for inputs in self._inputs[len(self._golden) :]:
            self._golden.append(_answer(self.live, inputs))

    @property
    def _is_late(self) -> bool:
        return time.monotonic() >= self._end

    def region(self, region: Region, claimed: Coverage) -> RegionFlips:
        span = self._bytes[region.offset : region.offset + region.nbytes]
        before = span.copy()
        count = min(len(self._inputs), _FIRST_INPUTS)
        worst = RegionFlips(region, claimed, Finding.UNPROVEN, True, 0)
        while True:
            for pattern in range(_PATTERNS):
                if self._is_late:
                    untried = worst.finding is Finding.UNPROVEN
                    return replace(worst, finding=Finding.UNTRIED) if untried else worst
                span[:] = self._pattern(region, before, pattern)
                rebuilt = self._choice.build(self._source)
                try:
                    changed = [_answer(rebuilt, inputs) for inputs in self._inputs[:count]]
                    span[:] = before
                    sensitive = [i for i in range(count) if self._shows(changed, i)]
                    if sensitive:
                        finding, restored = self._compare(
                            region, pattern, before, rebuilt, sensitive, changed
                        )
                        worst = RegionFlips(region, claimed, finding, restored, len(sensitive))
                        # An input may show what is computed when building and not what runs:
                        # only many of them are reason to contradict the table.
                        if not worst.contradicts or not restored:
                            return worst
                finally:
                    span[:] = before
                    rebuilt.close()
            if count >= self._max_inputs:
                return worst
            count = min(4 * count, self._max_inputs)
            self._grow(count)

    def _shows(self, changed: Sequence[Answer], index: int) -> bool:
        """Whether an input that the sound model answers is answered otherwise."""
        golden = self._golden[index]
        return golden is not None and not _same(changed[index], golden)

    def _compare(
        self,
        region: Region,
        pattern: int,
        before: Array,
        rebuilt: Instance,
        sensitive: Sequence[int],
        changed: Sequence[Answer],
    ) -> tuple[Finding, bool]:
        live = [self._bytes[region.offset : region.offset + region.nbytes]]
        ours = [self._pattern(region, before, pattern)]
        for name, view in self.live.images.items():
            live.append(np.frombuffer(view, np.uint8))
            ours.append(np.frombuffer(rebuilt.images[name], np.uint8).copy())
        golden = [image.copy() for image in live]
        try:
            for image, flipped in zip(live, ours, strict=True):
                image[:] = flipped
            answers = [_answer(self.live, self._inputs[i]) for i in sensitive]
        finally:
            for image, old in zip(live, golden, strict=True):
                image[:] = old
        restored = all(
            _same(_answer(self.live, self._inputs[i]), self._golden[i]) for i in sensitive
        )
        if all(_same(a, changed[i]) for a, i in zip(answers, sensitive, strict=True)):
            return Finding.EXECUTING, restored
        if all(_same(a, self._golden[i]) for a, i in zip(answers, sensitive, strict=True)):
            return Finding.BUILT, restored
        return Finding.PARTLY, restored

    def _pattern(self, region: Region, before: Array, pattern: int) -> Array:
        """Return changed bytes that stay finite numbers of a similar size."""
        use = region.uses[0]
        dtype = self._choice.copy.model.tensor(use.tensor, use.subgraph).dtype
        flip = _PATTERN_OF.get(dtype, _flip_bytes)
        return flip(before.copy(), pattern)


def _flip_bytes(values: Array, pattern: int) -> Array:
    values[:: 1 + 6 * (pattern == 2)] ^= (0x55, 0xAA, 0x80)[pattern]
    return values


def _flip_floats(values: Array, pattern: int) -> Array:
    # Sign, then the two upper bits of the mantissa: never an exponent, so never infinite.
    values[3 - (pattern > 0) :: 4] ^= (0x80, 0x60, 0x20)[pattern]
    return values


def _flip_words(values: Array, pattern: int) -> Array:
    # The low bytes of a 32-bit bias: the high ones would drown every input.
    values[0::4] ^= 0x55
    values[1::4] ^= (0x05, 0x15, 0x00)[pattern]
    return values


_PATTERN_OF: Final[dict[str, Callable[[Array, int], Array]]] = {
    "float32": _flip_floats,
    "int32": _flip_words,
}


def _answer(instance: Instance, inputs: Sequence[Array]) -> Answer:
    """Return outputs and taps; None where the runtime fails, as on a division by zero."""
    instance.reset_variables()
    try:
        return instance.run(inputs) + instance.tapped()
    except (RuntimeError, ValueError):
        return None


def _same(left: Answer, right: Answer) -> bool:
    """Whether all bits agree, so that NaN equals itself, or both have failed."""
    if left is None or right is None:
        return left is right
    return all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True))
