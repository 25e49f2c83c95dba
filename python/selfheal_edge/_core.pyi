"""The C++ core of selfheal-edge.

Objects belong to one thread at a time. Nothing allocates after construction but results. Arrays are
never converted: a wrong dtype raises TypeError, a wrong shape or layout ValueError, each naming the
argument, what was expected and what came. NaN and infinities are skipped and counted by whatever
accumulates.
"""

from collections.abc import Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer, Never

_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_Tensor = (
    npt.NDArray[np.int8] | npt.NDArray[np.uint8] | npt.NDArray[np.int16] | npt.NDArray[np.float32]
)
_Buffer = Buffer | npt.NDArray[Any]  # NumPy declares itself a Buffer from Python 3.12 on
_Sides = Literal["both", "upper", "lower"]

__version__: str

class _Pybind11Type(type): ...

class StateError(ValueError):
    """A state blob was refused; the subclass says why."""

class StateTruncatedError(StateError):
    """The blob is shorter or longer than it says."""

class StateCorruptError(StateError):
    """Not a state blob, a wrong checksum, or content that no object can have."""

class StateTypeError(StateError):
    """The state of another class."""

class StateVersionError(StateError):
    """Written by a newer version of this library."""

class RingBuffer(metaclass=_Pybind11Type):
    """Keep a fixed window over the last samples or rows.

    Parameters
    ----------
    capacity : int
        Rows that fit, at least 1; with `width` at most 2**28 numbers.
    width : int, optional
        Numbers a row, at least 1. None (default): a buffer of numbers, without a row axis.
    dtype : {"float64", "float32"}
        What is stored. Arrays pushed must have it.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Holds ``capacity * width * itemsize`` bytes. NaN is kept as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import RingBuffer
    >>> window = RingBuffer(3)
    >>> window.push_many(np.arange(5.0))
    >>> window.to_array().tolist()
    [2.0, 3.0, 4.0]
    """

    def __init__(
        self,
        capacity: SupportsIndex,
        width: SupportsIndex | None = None,
        dtype: Literal["float64", "float32"] = "float64",
    ) -> None: ...
    def push(self, x: SupportsFloat | _Floats) -> None:
        """Append one number, or one 1-D row of the buffer's dtype and width."""

    def push_many(self, rows: _Floats) -> None:
        """Append a 1-D array of numbers, or a 2-D one of rows, the oldest first.

        Of more than `capacity` the last ones stay, and all are counted in `total`.
        """

    @property
    def spans(self) -> tuple[_Floats, _Floats]:
        """Zero-copy read-only views (older, newer), oldest first; newer is empty until it wraps.

        They keep the buffer alive and show later pushes.
        """

    def to_array(self) -> _Floats:
        """Copy what is held, oldest first."""

    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Rows that fit."""

    @property
    def width(self) -> int | None:
        """Numbers a row; None for a buffer of numbers."""

    @property
    def dtype(self) -> str:
        """'float32' or 'float64'."""

    @property
    def total(self) -> int:
        """Rows ever pushed since construction or `clear`."""

    def clear(self) -> None:
        """Forget everything."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> RingBuffer:
        """Restore a buffer; raise StateError if the blob is refused."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class Moments(metaclass=_Pybind11Type):
    """Compute mean and variance, of all samples or of the last `window` ones.

    Parameters
    ----------
    window : int, optional
        Samples, 1 to 2**26. None (default): all since the start (Welford 1962).

    Raises
    ------
    ValueError
        If `window` is out of range.

    Notes
    -----
    NaN, infinities and values beyond +-1e150 are skipped and counted, and take no place in the
    window. In the windowed form nothing is subtracted, so what has left it leaves no rounding
    error behind; it holds 24 bytes a sample. An update costs O(1) on average.

    Examples
    --------
    >>> from selfheal_edge._core import Moments
    >>> m = Moments(window=2)
    >>> for x in (100.0, 1.0, 3.0):
    ...     m.update(x)
    >>> m.mean, m.variance
    (2.0, 2.0)
    """

    def __init__(self, window: SupportsIndex | None = None) -> None: ...
    def update(self, x: SupportsFloat) -> None:
        """Take one sample."""

    def update_many(self, samples: _Floats) -> None:
        """Take the samples of a 1-D float32 or float64 array in order, without the GIL."""

    @property
    def window(self) -> int | None:
        """Samples that the window holds, or None for all."""

    @property
    def count(self) -> int:
        """Samples that the moments are over."""

    @property
    def skipped(self) -> int:
        """Samples that were not usable, since construction or `reset`."""

    @property
    def mean(self) -> float:
        """Mean; NaN without a sample."""

    @property
    def variance(self) -> float:
        """Sample variance, divided by count - 1; NaN with fewer than two samples."""

    @property
    def std(self) -> float:
        """Square root of the variance."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> Moments:
        """Restore; raise StateError if the blob is refused."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

def average_run_length(
    h: SupportsFloat,
    k: SupportsFloat,
    shift: SupportsFloat = 0.0,
    sides: _Sides = "both",
    method: Literal["integral", "siegmund"] = "integral",
) -> float:
    """Compute the mean number of samples until a CUSUM raises the alarm.

    Parameters
    ----------
    h, k : float
        Decision interval and reference value, in standard deviations, at least 0.
    shift : float
        Mean of the samples, in standard deviations; 0 gives the time between false alarms.
    sides : {"both", "upper", "lower"}
        Which shifts the chart watches for.
    method : {"integral", "siegmund"}
        Gauss-Legendre solution of Page's integral equation, or Siegmund's closed form.

    Returns
    -------
    float
        Samples up to and including the alarm, on independent normal samples, from zero.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Page, Biometrika 41 (1954). Siegmund, Sequential Analysis (1985), eq. 2.57.

    Examples
    --------
    >>> from selfheal_edge._core import average_run_length
    >>> round(average_run_length(5, 0.5), 1)
    465.4
    """

def cusum_threshold(arl0: SupportsFloat, k: SupportsFloat, sides: _Sides = "both") -> float:
    """Solve for the h that gives a wanted mean number of samples between false alarms.

    Parameters
    ----------
    arl0 : float
        Samples, 10 to 1e12, and at least what a chart with h = 0 gives.
    k : float
        Reference value, in standard deviations, at least 0.
    sides : {"both", "upper", "lower"}
        Which shifts the chart watches for.

    Returns
    -------
    float
        h, in standard deviations.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Takes 1 to 100 ms.

    Examples
    --------
    >>> from selfheal_edge._core import cusum_threshold
    >>> round(cusum_threshold(10_000, 0.5), 5)
    8.05305
    """

class Cusum(metaclass=_Pybind11Type):
    """Detect a shift with the tabular CUSUM against a fixed reference (Page 1954).

    Parameters
    ----------
    mean, std : float
        Reference, in units of the samples; std > 0. They never move.
    k : float
        Reference value, in standard deviations, at least 0: half the shift to be found fastest.
    h : float, optional
        Decision interval, in standard deviations, > 0.
    arl0 : float, optional
        Wanted mean number of samples between false alarms, 10 to 1e12, for independent normal
        samples. Exactly one of `h` and `arl0` is given.
    sides : {"both", "upper", "lower"}
        Which shifts to watch for.

    Raises
    ------
    ValueError
        If an argument is out of range, or not exactly one of `h` and `arl0` is given.

    Notes
    -----
    With ``z = (x - mean) / std``: ``upper = max(0, upper + z - k)`` and
    ``lower = max(0, lower - z - k)``, alarm when a side in use exceeds h; the update
    after an alarm starts at zero.
    NaN and infinities change no sum and are counted. Indices count all updates from 0.

    Examples
    --------
    >>> from selfheal_edge._core import Cusum
    >>> chart = Cusum(0.0, 1.0, h=4.0)
    >>> [chart.update(x) for x in (0.0, 2.0, 2.0, 2.0)]
    [False, False, False, True]
    >>> chart.direction, chart.magnitude, chart.onset
    (1, 2.0, 1)
    """

    def __init__(
        self,
        mean: SupportsFloat,
        std: SupportsFloat,
        *,
        k: SupportsFloat = 0.5,
        h: SupportsFloat | None = None,
        arl0: SupportsFloat | None = None,
        sides: _Sides = "both",
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def mean(self) -> float:
        """Reference mean."""

    @property
    def std(self) -> float:
        """Reference standard deviation."""

    @property
    def sides(self) -> str:
        """'both', 'upper' or 'lower'."""

    @property
    def k(self) -> float:
        """Reference value, in standard deviations, at least 0."""

    @property
    def h(self) -> float:
        """Decision interval, in standard deviations; solved for if `arl0` was given."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Larger of the sums in use, in standard deviations."""

    @property
    def upper(self) -> float:
        """Sum that watches for a rise."""

    @property
    def lower(self) -> float:
        """Sum that watches for a fall."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down: the side of the larger sum; 0 while both are zero."""

    @property
    def magnitude(self) -> float:
        """Estimated size of the shift, in standard deviations, at least 0.

        `k` plus the sum divided by the samples since it was last zero.
        """

    @property
    def onset(self) -> int | None:
        """Index of the first sample after the leading sum was last zero; None while it is.

        Often later than the true onset, above all for small shifts; not a bound.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new: sums, counters and alarm."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> Cusum:
        """Restore a chart that continues bit for bit; raise StateError if the blob is refused."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class PageHinkley(metaclass=_Pybind11Type):
    """Detect a shift with Hinkley's test against a fixed reference (Hinkley 1971).

    Parameters
    ----------
    mean, std : float
        Reference, in units of the samples; std > 0. They never move.
    delta : float
        Tolerated shift, in standard deviations, at least 0; Hinkley writes delta / 2 for it.
    threshold : float, optional
        Threshold, in standard deviations, > 0.
    arl0 : float, optional
        Wanted mean number of samples between false alarms, 10 to 1e12, for independent normal
        samples. Exactly one of `threshold` and `arl0` is given.
    sides : {"both", "upper", "lower"}
        Which shifts to watch for.

    Raises
    ------
    ValueError
        If an argument is out of range, or not exactly one of `threshold` and `arl0` is given.

    Notes
    -----
    Cumulative sum of ``z - delta``, with ``z = (x - mean) / std``, minus its running minimum, and
    the mirror image for falls; alarm when it exceeds the threshold; the update after an alarm
    starts at zero. With a fixed reference this is the CUSUM with k = delta; kept as that
    difference, it is as exact after 1e9 samples as at the start.
    NaN and infinities change no sum and are counted. Indices count all updates from 0.

    Examples
    --------
    >>> from selfheal_edge._core import PageHinkley
    >>> chart = PageHinkley(0.0, 1.0, threshold=4.0)
    >>> [chart.update(x) for x in (0.0, 2.0, 2.0, 2.0)]
    [False, False, False, True]
    >>> chart.direction, chart.magnitude, chart.onset
    (1, 2.0, 1)
    """

    def __init__(
        self,
        mean: SupportsFloat,
        std: SupportsFloat,
        *,
        delta: SupportsFloat = 0.5,
        threshold: SupportsFloat | None = None,
        arl0: SupportsFloat | None = None,
        sides: _Sides = "both",
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def mean(self) -> float:
        """Reference mean."""

    @property
    def std(self) -> float:
        """Reference standard deviation."""

    @property
    def sides(self) -> str:
        """'both', 'upper' or 'lower'."""

    @property
    def delta(self) -> float:
        """Tolerated shift, in standard deviations, at least 0."""

    @property
    def threshold(self) -> float:
        """Threshold, in standard deviations; solved for if `arl0` was given."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Larger of the sums in use, in standard deviations."""

    @property
    def upper(self) -> float:
        """Sum that watches for a rise."""

    @property
    def lower(self) -> float:
        """Sum that watches for a fall."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down: the side of the larger sum; 0 while both are zero."""

    @property
    def magnitude(self) -> float:
        """Estimated size of the shift, in standard deviations, at least 0.

        `delta` plus the sum divided by the samples since it was last zero.
        """

    @property
    def onset(self) -> int | None:
        """Index of the first sample after the leading sum was last zero; None while it is.

        Often later than the true onset, above all for small shifts; not a bound.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new: sums, counters and alarm."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> PageHinkley:
        """Restore a chart that continues bit for bit; raise StateError if the blob is refused."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class Reference(metaclass=_Pybind11Type):
    """Freeze a signal's distribution and turn values into normal scores.

    Parameters
    ----------
    samples : ndarray of float32 or float64, shape (n,)
        Calibration samples, at least 2 finite ones; others are skipped and counted.

    Raises
    ------
    TypeError, ValueError
        If `samples` has another dtype or shape, or too few finite numbers.

    Notes
    -----
    Ties get the mid-rank. Up to 256 distinct values are kept exactly, of more those nearest to 256
    evenly spaced scores. Beyond the extremes scores rise on, towards +-8, which infinities reach;
    NaN scores NaN; next to a constant reference everything else scores +-8. Holds 4 KiB; a score
    costs O(log 256). Immutable: any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import Reference
    >>> reference = Reference(np.arange(101.0))
    >>> reference.score(50.0)
    0.0
    """

    def __init__(self, samples: _Floats) -> None: ...
    def score(self, x: SupportsFloat) -> float:
        """Give the normal score of one value."""

    def score_many(self, samples: _Floats) -> npt.NDArray[np.float64]:
        """Give the normal scores of a 1-D float32 or float64 array, without the GIL."""

    @property
    def count(self) -> int:
        """Calibration samples used."""

    @property
    def skipped(self) -> int:
        """Calibration samples that were not finite."""

    @property
    def lowest(self) -> float:
        """Smallest calibration sample."""

    @property
    def highest(self) -> float:
        """Largest calibration sample."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> Reference:
        """Restore; raise StateError if the blob is refused."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

@final
class InputSignals(metaclass=_Pybind11Type):
    """What `measure_input` found; NaN where no element is finite."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def mean(self) -> float:
        """Mean of the finite elements, dequantised."""

    @property
    def std(self) -> float:
        """Standard deviation (divided by n) of the finite elements, dequantised."""

    @property
    def saturated(self) -> float:
        """Share of elements at the limits of an integer dtype, 0 to 1; 0 for float32."""

    @property
    def nonfinite(self) -> int:
        """Elements that are NaN or infinite."""

    @property
    def change(self) -> float | None:
        """Mean absolute difference from the previous input, or None without one."""

@final
class OutputSignals(metaclass=_Pybind11Type):
    """What `measure_output` found; all NaN and label -1 if an element is not finite."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def confidence(self) -> float:
        """Largest probability."""

    @property
    def margin(self) -> float:
        """Confidence minus the second largest; with one class the confidence itself."""

    @property
    def entropy(self) -> float:
        """Entropy in nats of the probabilities divided by their sum; NaN if that is 0."""

    @property
    def label(self) -> int:
        """Index of the largest value, the first among equals."""

def measure_input(
    array: _Tensor,
    scale: SupportsFloat = 1.0,
    zero_point: SupportsIndex = 0,
    previous: _Tensor | None = None,
) -> InputSignals:
    """Measure one input tensor in one pass.

    Parameters
    ----------
    array : ndarray of int8, uint8, int16 or float32
        Of any shape, C-contiguous, at least one element.
    scale, zero_point : float, int
        Dequantised value: ``scale * (q - zero_point)``; 1 and 0 for float32.
    previous : ndarray, optional
        The input before, of the same dtype and size.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or layout, or `scale` is not positive.
    """

def measure_output(
    array: _Tensor,
    scale: SupportsFloat = 1.0,
    zero_point: SupportsIndex = 0,
    kind: Literal["probabilities", "logits"] = "probabilities",
) -> OutputSignals:
    """Measure one output tensor of a classifier.

    Parameters
    ----------
    array : ndarray of int8, uint8, int16 or float32
        One score a class, C-contiguous, at least one.
    scale, zero_point : float, int
        Dequantised value: ``scale * (q - zero_point)``; 1 and 0 for float32.
    kind : {"probabilities", "logits"}
        Whether values sum to about 1 already, or go through a softmax first.

    Raises
    ------
    TypeError, ValueError
        If the array has another dtype or layout, `scale` is not positive, or `kind` is unknown.
    """

def crc32c(buffer: _Buffer, value: SupportsIndex = 0) -> int:
    """Compute the CRC-32C (RFC 3720) of a C-contiguous buffer, continuing from `value`.

    The GIL is released from 64 KiB on.

    Examples
    --------
    >>> from selfheal_edge._core import crc32c
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """

def crc32c_backend() -> str:
    """Name the backend in use."""

def crc32c_backends() -> list[str]:
    """Name the backends that this machine can run, fastest first."""

def set_crc32c_backend(name: str) -> None:
    """Switch the backend of the whole process, for tests and measurements.

    Raises
    ------
    ValueError
        If `name` is not among `crc32c_backends`.
    """

class WeightImage(metaclass=_Pybind11Type):
    """Watch live weights: the CRC-32C that every block should have.

    Parameters
    ----------
    buffer : writable buffer
        memoryview, mmap, uint8 ndarray ..., C-contiguous, at least one byte. It stays exported
        until `release`.
    regions : sequence of (name, module, offset, nbytes)
        Tensors in it. Names are unique; regions may overlap and need not cover the image.
    block_bytes : int
        A power of two from 64 to 65536. In 512 bytes no pattern of up to 5 flipped bits escapes.
    key : bytes, optional
        16 secret bytes for the keyed hash, from the operating system in production; zeros if None.

    Raises
    ------
    TypeError
        If `buffer` is not a writable, contiguous buffer.
    ValueError
        If another argument is out of range; from every method after `release`.

    Notes
    -----
    Holds 24 bytes a block: checksum and keyed hash, both twice. Every byte is covered, those
    between regions as well.
    """

    def __init__(
        self,
        buffer: _Buffer,
        regions: Sequence[tuple[str, str, SupportsIndex, SupportsIndex]] = ...,
        block_bytes: SupportsIndex = 512,
        key: bytes | None = None,
    ) -> None: ...
    @property
    def nbytes(self) -> int:
        """Bytes of the image."""

    @property
    def block_bytes(self) -> int:
        """Bytes a block; the last may be shorter."""

    @property
    def block_count(self) -> int:
        """Blocks of the image."""

    @property
    def regions(self) -> list[tuple[str, str, int, int]]:
        """(name, module, offset, nbytes) of each region."""

    def check(
        self,
        first: SupportsIndex = 0,
        count: SupportsIndex | None = None,
        keyed: bool = False,
    ) -> list[int]:
        """List the corrupt ones among `count` blocks (None: all) from `first`, without the GIL.

        With `keyed` by keyed hash as well, which flips chosen to keep the checksum do not pass.
        """

    def block_regions(self, block: SupportsIndex) -> list[str]:
        """Name the regions that share bytes with a block."""

    def region_blocks(self, name: str) -> tuple[int, int]:
        """Give (first, count) of a region's blocks; KeyError for an unknown name."""

    def write(self, offset: SupportsIndex, data: _Buffer) -> None:
        """Change bytes on purpose, and expect them from now on.

        RuntimeError, and nothing changes, if a block that is changed in part is corrupt.
        """

    def is_genuine(self, block: SupportsIndex, data: _Buffer) -> bool:
        """Whether data, wherever it comes from, is what a block must hold: by keyed hash."""

    def rebind(self, buffer: _Buffer) -> None:
        """Watch the same content at another place; RuntimeError if it is another content."""

    def table_memory(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Give checksums, keyed hashes and copies of the key, writable: for tests."""

    def table_ok(self) -> bool:
        """Whether both entries of every block, and all copies of the key, agree."""

    def release(self) -> None:
        """Drop the buffer. Later calls, of scrubbers and pools as well, raise ValueError."""

    @property
    def released(self) -> bool:
        """Whether `release` was called."""

    def memory_bytes(self) -> int:
        """Bytes held beyond the buffer, fixed at construction; 0 after `release`."""

class Scrubber(metaclass=_Pybind11Type):
    """Check an image in slices, round and round.

    Parameters
    ----------
    image : WeightImage
        What to check.
    seed : int
        The secret order, 0 to 2**64 - 1; take it from the operating system in production.
    keyed : bool
        Check by keyed hash as well as by checksum.
    """

    def __init__(
        self, image: WeightImage, seed: SupportsIndex = 0, keyed: bool = False
    ) -> None: ...
    def step(self, budget_bytes: SupportsIndex) -> list[int]:
        """Check the next ``max(1, budget_bytes // block_bytes)`` blocks; list the corrupt ones.

        Never more than the whole image once. A full sweep takes ceil(blocks / blocks a step) steps.
        """

    @property
    def position(self) -> int:
        """Block that comes next."""

    @property
    def sweeps(self) -> int:
        """Full sweeps completed."""

    @property
    def blocks_checked(self) -> int:
        """Blocks checked so far."""

    @property
    def corrupt_found(self) -> int:
        """Corrupt blocks found so far; one that stays corrupt counts once a sweep."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

@final
class RestoreReport(metaclass=_Pybind11Type):
    """What `SnapshotPool.restore` did."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def rewritten(self) -> int:
        """Live blocks that differed and were written."""

    @property
    def refused(self) -> int:
        """Stored blocks that failed their checksum; the live bytes were left alone."""

    @property
    def refused_blocks(self) -> list[int]:
        """Indices of the refused blocks."""

class SnapshotPool(metaclass=_Pybind11Type):
    """Save states of an image in one arena of fixed size.

    Generation 0 is golden: a full copy made at construction, never written again. Others store the
    blocks that differ from it, and share those that an older generation has.

    Parameters
    ----------
    image : WeightImage
        What to save and restore.
    capacity_blocks : int
        Blocks that all generations but golden share; 0 keeps golden only.
    max_generations : int
        Golden included, 1 to 4096.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the live bytes do not have the image's checksums: damage must not become golden.

    Notes
    -----
    Holds the image's size and 24 bytes a block, ``capacity_blocks * (block_bytes + 32)`` and 4
    bytes a block and generation. Methods that take a generation raise KeyError if it is not held.
    """

    def __init__(
        self,
        image: WeightImage,
        capacity_blocks: SupportsIndex,
        max_generations: SupportsIndex = 16,
    ) -> None: ...
    def take(self) -> int:
        """Store the live bytes as a new generation and give its number, never used before.

        RuntimeError, and nothing stored, if a block is corrupt or the arena or the list of
        generations is full.
        """

    def restore(
        self,
        generation: SupportsIndex,
        first_block: SupportsIndex = 0,
        count: SupportsIndex | None = None,
    ) -> RestoreReport:
        """Make `count` live blocks (None: all) from `first_block` those of a generation.

        Each stored block is verified before it is written, and the image expects it from then on.
        """

    def drop(self, generation: SupportsIndex) -> None:
        """Forget a generation; ValueError for golden and for pinned ones."""

    def pin(self, generation: SupportsIndex) -> None:
        """Forbid dropping a generation."""

    def unpin(self, generation: SupportsIndex) -> None:
        """Allow dropping a generation; ValueError for golden."""

    @property
    def generations(self) -> list[int]:
        """Generations held, oldest first."""

    def changed_blocks(self, generation: SupportsIndex) -> list[int]:
        """List the blocks in which a generation differs from golden."""

    def verify(self, generation: SupportsIndex) -> list[int]:
        """List the blocks of a generation whose stored copy is damaged."""

    @property
    def capacity_blocks(self) -> int:
        """Blocks of the arena beyond golden."""

    @property
    def free_blocks(self) -> int:
        """Blocks of the arena not in use."""

    @property
    def max_generations(self) -> int:
        """Generations that fit, golden included."""

    def memory(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Give stored bytes, golden's seals and lists of blocks, writable: for tests."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

def keyed_hash(key: bytes, buffer: _Buffer, tweak: SupportsIndex | None = None) -> int:
    """Compute the SipHash-2-4 of a buffer, `tweak` in front as eight little-endian bytes.

    Examples
    --------
    >>> from selfheal_edge._core import keyed_hash
    >>> hex(keyed_hash(bytes(range(16)), bytes(range(15))))
    '0xa129ca6149be45e5'
    """

class Parity(metaclass=_Pybind11Type):
    """An erasure code over an image's blocks, where there is no memory for copies.

    Parameters
    ----------
    image : WeightImage
        What to protect.
    group_blocks : int
        Data blocks a group, 1 to 128; groups are interleaved against bursts.
    parity_blocks : int
        Parity blocks a group, 1 to 16: so many damaged blocks of each group come back bit for bit.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the live bytes are corrupt.

    Notes
    -----
    Holds ``parity_blocks / group_blocks`` of the image, and seals.
    """

    def __init__(
        self,
        image: WeightImage,
        group_blocks: SupportsIndex = 16,
        parity_blocks: SupportsIndex = 1,
    ) -> None: ...
    @property
    def groups(self) -> int:
        """Groups of blocks."""

    @property
    def repairable(self) -> int:
        """Damaged blocks a group that can be repaired."""

    @property
    def count(self) -> int:
        """Parity blocks."""

    def memory(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Give parity, its checksums and its keyed hashes, writable: for tests that damage them."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

@final
class Finding(metaclass=_Pybind11Type):
    """One damage that an `ImageGuard` found, and what became of it."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def part(self) -> Literal["live", "table", "key", "parity", "snapshot"]:
        """What was damaged."""

    @property
    def source(self) -> Literal["content", "snapshot", "parity", "live"] | None:
        """Where the right bytes came from; None: it is still damaged."""

    @property
    def healed(self) -> bool:
        """Whether it is right again, and verified."""

    @property
    def by_key(self) -> bool:
        """Whether the checksum held and only the keyed hash told."""

    @property
    def block(self) -> int:
        """Block of the image; of the parity for that part."""

    @property
    def wrong_bytes(self) -> int:
        """Live bytes that were wrong, known once healed."""

    @property
    def wrong_bits(self) -> int:
        """Live bits that were wrong, known once healed."""

    @property
    def flips(self) -> list[tuple[int, int]]:
        """(offset in the block, xor mask) of the first 16 wrong bytes."""

class ImageGuard(metaclass=_Pybind11Type):
    """Find damage to an image and to all that protects it, and heal it at once.

    Parameters
    ----------
    image : WeightImage
        What to guard.
    pool, parity : SnapshotPool, Parity, optional
        Where right bytes come from; a copy first, then parity. Of the same image.
    seed : int
        The secret orders of both sweeps; take it from the operating system in production.
    """

    def __init__(
        self,
        image: WeightImage,
        pool: SnapshotPool | None = None,
        parity: Parity | None = None,
        seed: SupportsIndex = 0,
    ) -> None: ...
    def step(self, fast_bytes: SupportsIndex, keyed_bytes: SupportsIndex = 0) -> list[Finding]:
        """Check the next slices of both sweeps, and heal; usually the list is empty.

        Budgets below a block add up over calls. At most one round a call.
        """

    def sweep(self) -> list[Finding]:
        """Check everything now, and heal, without the GIL."""

    def heal(self, block: SupportsIndex) -> Finding | None:
        """Heal a block; None if it was sound."""

    def restore(
        self,
        generation: SupportsIndex,
        offset: SupportsIndex = 0,
        nbytes: SupportsIndex | None = None,
    ) -> RestoreReport:
        """Make bytes (None: to the end) those of a generation, and expect them from now on.

        Exact to the byte, wholly or not at all. KeyError for a generation that is not held.
        """

    def write(self, offset: SupportsIndex, data: _Buffer) -> None:
        """Change bytes on purpose, as `WeightImage.write`; parity follows."""

    @property
    def sweeps(self) -> int:
        """Fast sweeps completed."""

    @property
    def keyed_sweeps(self) -> int:
        """Keyed sweeps completed."""

    @property
    def fast_blocks(self) -> int:
        """Blocks in one fast sweep."""

    @property
    def keyed_blocks(self) -> int:
        """Blocks in one keyed sweep."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class RuntimeRefusedError(RuntimeError):
    """LiteRT cannot be used this way, here or with this model; the text is the reason."""

class CompiledModel(metaclass=_Pybind11Type):
    """A model compiled by LiteRT, its packed weights ours.

    The weights are packed twice and compared; the second image is sealed against shrinking and
    growing. `run` releases the GIL, and threads take turns. Raises RuntimeRefusedError with the
    reason when LiteRT does not take the model.
    """

    def __init__(
        self,
        *,
        library: str,
        version: str,
        source_path: str,
        num_threads: SupportsIndex = 1,
        own_outputs: SupportsIndex = -1,
    ) -> None:
        """Compile the model whose bytes can be mapped at `source_path`; own_outputs -1: all."""

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Run once on arrays of the inputs' shapes and dtypes; copies of the own outputs."""

    def read(self, output: SupportsIndex) -> npt.NDArray[Any]:
        """Copy one output of the last run."""

    def close(self) -> None:
        """Release the runtime's memory; a second call does nothing."""

    @property
    def closed(self) -> bool: ...
    @property
    def packed(self) -> memoryview | None:
        """The packed image, live and writable, or None; the view may outlive the model."""

    @property
    def inputs(self) -> list[tuple[Any, tuple[int, ...]]]:
        """Dtype and shape of each input."""

    @property
    def outputs(self) -> list[tuple[Any, tuple[int, ...]]]:
        """Dtype and shape of each output."""

    def memory_bytes(self) -> int:
        """Bytes of tensors and packed weights."""

def require_litert(*, library: str, version: str) -> None:
    """Raise RuntimeRefusedError unless this LiteRT can be used."""

def pack_weights(
    *, library: str, version: str, source: _Buffer, num_threads: SupportsIndex = 1
) -> bytes:
    """Pack a model's weights once; a copy of the image."""
