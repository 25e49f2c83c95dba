"""The C++ core of selfheal-edge.

Objects belong to one thread at a time. Nothing allocates after construction but results. Arrays are
never converted: a wrong dtype raises TypeError, a wrong shape or layout ValueError, each naming the
argument, what was expected and what came. NaN and infinities are skipped and counted by whatever
accumulates.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, SupportsFloat, SupportsIndex, final

import numpy as np
import numpy.typing as npt
from _typeshed import structseq
from typing_extensions import Buffer, Never, Self

from selfheal_edge.errors import SelfHealError

_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_Buffer = Buffer | npt.NDArray[Any]  # NumPy declares itself a Buffer from Python 3.12 on
_Sides = Literal["both", "upper", "lower"]

__version__: str

class _Pybind11Type(type): ...

class StateError(SelfHealError, ValueError):
    """A state blob was refused; the subclass says why."""

class StateTruncatedError(StateError):
    """The blob is shorter or longer than it says."""

class StateCorruptError(StateError):
    """Not a state blob, a wrong checksum, or content that no object can have."""

class StateTypeError(StateError):
    """The state of another class."""

class StateTooLargeError(StateError):
    """The object would take more memory than `max_bytes` allows."""

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
    def from_state(state: bytes, *, max_bytes: int = 16777216) -> RingBuffer:
        """Restore a buffer; raise StateError if the blob is refused.

        Parameters
        ----------
        state
            From `state()`.
        max_bytes
            What the object may take beside four times its state: a few bytes may name a capacity
            of gigabytes.
        """

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

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
    def from_state(state: bytes, *, max_bytes: int = 16777216) -> Moments:
        """Restore; raise StateError if the blob is refused.

        Parameters
        ----------
        state
            From `state()`.
        max_bytes
            What the object may take beside four times its state: a few bytes may name a capacity
            of gigabytes.
        """

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

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

def ewma_average_run_length(
    limit: SupportsFloat, weight: SupportsFloat, shift: SupportsFloat = 0.0, sides: _Sides = "both"
) -> float:
    """Compute the mean number of samples until an `Ewma` chart raises the alarm.

    On independent normal samples, from 0. limit: in asymptotic standard deviations, > 0; weight:
    0.001 to 1; shift: mean of the samples, in standard deviations.
    """

def ewma_limit(arl0: SupportsFloat, weight: SupportsFloat, sides: _Sides = "both") -> float:
    """Solve for the limit that gives a wanted number of samples, 10 to 1e12."""

def shewhart_average_run_length(
    limit: SupportsFloat, shift: SupportsFloat = 0.0, sides: _Sides = "both"
) -> float:
    """Compute the mean number of samples until one lies beyond the limit."""

def shewhart_limit(arl0: SupportsFloat, sides: _Sides = "both") -> float:
    """Solve for the limit that one in `arl0` normal samples exceeds."""

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
    compat : {"frouros"}, optional
        Give that library's CUSUM bit for bit instead, which learns its mean from the stream: `k`
        is its delta (default 0.005), `h` its lambda_ (50), `min_instances` its min_num_instances;
        mean, std and arl0 stay away.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range, or not exactly one of `h` and `arl0` is given.

    Notes
    -----
    With ``z = (x - mean) / std``, rounded to a multiple of 2**-20:
    ``upper = max(0, upper + z - k)`` and ``lower = max(0, lower - z - k)``,
    alarm when a side in use exceeds h; the update
    after an alarm starts at zero.
    Sums are exact, so a batch leaves the same state to the bit as one update a sample.
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
        mean: SupportsFloat | None = None,
        std: SupportsFloat | None = None,
        *,
        k: SupportsFloat | None = None,
        h: SupportsFloat | None = None,
        arl0: SupportsFloat | None = None,
        sides: _Sides = "both",
        compat: Literal["frouros"] | None = None,
        min_instances: SupportsFloat | None = None,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Larger of the sums in use, in standard deviations."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def mean(self) -> float:
        """Reference mean; with compat the running one."""

    @property
    def std(self) -> float:
        """Reference standard deviation; NaN with compat."""

    @property
    def sides(self) -> str:
        """'both', 'upper' or 'lower'."""

    @property
    def upper(self) -> float:
        """Sum that watches for a rise; NaN with compat."""

    @property
    def lower(self) -> float:
        """Sum that watches for a fall; NaN with compat."""

    @property
    def sums(self) -> dict[str, float]:
        """The internal sums by name; with compat, those of that library."""

    @property
    def k(self) -> float:
        """Reference value, in standard deviations, at least 0."""

    @property
    def h(self) -> float:
        """Decision interval, in standard deviations; solved for if `arl0` was given."""

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
    compat : {"river", "frouros"}, optional
        Give that library's test bit for bit instead, which learns its mean from the stream, with
        its `delta` (default 0.005), `threshold` (50), `min_instances` (30) and forgetting factor
        `alpha` (0.9999); mean, std and arl0 stay away, as the last two do without `compat`.
        frouros' watches for a rise only.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

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
        mean: SupportsFloat | None = None,
        std: SupportsFloat | None = None,
        *,
        delta: SupportsFloat | None = None,
        threshold: SupportsFloat | None = None,
        arl0: SupportsFloat | None = None,
        sides: _Sides = "both",
        compat: Literal["river", "frouros"] | None = None,
        min_instances: SupportsFloat | None = None,
        alpha: SupportsFloat | None = None,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Larger of the sums in use, in standard deviations."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def mean(self) -> float:
        """Reference mean; with compat the running one."""

    @property
    def std(self) -> float:
        """Reference standard deviation; NaN with compat."""

    @property
    def sides(self) -> str:
        """'both', 'upper' or 'lower'."""

    @property
    def upper(self) -> float:
        """Sum that watches for a rise; NaN with compat."""

    @property
    def lower(self) -> float:
        """Sum that watches for a fall; NaN with compat."""

    @property
    def sums(self) -> dict[str, float]:
        """The internal sums by name; with compat, those of that library."""

    @property
    def delta(self) -> float:
        """Tolerated shift, in standard deviations, at least 0."""

    @property
    def threshold(self) -> float:
        """Threshold, in standard deviations; solved for if `arl0` was given."""

class Ewma(metaclass=_Pybind11Type):
    """Detect a shift with an exponentially weighted average (Roberts 1959).

    Parameters
    ----------
    mean, std : float
        Reference, in units of the samples; std > 0. They never move.
    weight : float
        Share of the newest sample, 0.001 to 1: small for small shifts.
    limit : float, optional
        In asymptotic standard deviations of the average, > 0.
    arl0 : float, optional
        Wanted mean number of samples between false alarms, 10 to 1e12, for independent normal
        samples. Exactly one of `limit` and `arl0` is given.
    sides : {"both", "upper", "lower"}
        Which shifts to watch for.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    ``e = e + weight * ((x - mean) / std - e)``, from 0 and again after an alarm.

    Examples
    --------
    >>> from selfheal_edge._core import Ewma
    >>> chart = Ewma(0.0, 1.0, arl0=500)
    >>> round(chart.limit, 2)
    2.81
    """

    def __init__(
        self,
        mean: SupportsFloat,
        std: SupportsFloat,
        *,
        weight: SupportsFloat = 0.1,
        limit: SupportsFloat | None = None,
        arl0: SupportsFloat | None = None,
        sides: _Sides = "both",
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """The average in its asymptotic standard deviations; absolute for two sides."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def mean(self) -> float:
        """Reference mean."""

    @property
    def std(self) -> float:
        """Reference standard deviation."""

    @property
    def weight(self) -> float:
        """Share of the newest sample."""

    @property
    def limit(self) -> float:
        """In asymptotic standard deviations of the average."""

    @property
    def average(self) -> float:
        """The average, in standard deviations of a sample."""

    @property
    def sides(self) -> str:
        """'both', 'upper' or 'lower'."""

class Adwin(metaclass=_Pybind11Type):
    """Detect a change of the mean with an adaptive window (Bifet and Gavalda 2007).

    Parameters
    ----------
    delta : float
        Probability of error at each cut, above 0, at most 1.
    clock : int
        Samples between tests, at least 1.
    max_buckets : int
        Buckets of each size, 1 to 1000.
    min_window_length : int
        Samples on either side of a cut, at least 1.
    grace_period : int
        Samples without a test at the start.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        delta: SupportsFloat = 0.002,
        clock: SupportsIndex = 32,
        max_buckets: SupportsIndex = 5,
        min_window_length: SupportsIndex = 5,
        grace_period: SupportsIndex = 10,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Mean of the window."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def delta(self) -> float:
        """Probability of error at each cut."""

    @property
    def width(self) -> float:
        """Samples in the window."""

    @property
    def total(self) -> float:
        """Their sum."""

    @property
    def variance(self) -> float:
        """Sum of their squared deviations."""

    @property
    def estimation(self) -> float:
        """Their mean; 0 without samples."""

class Kswin(metaclass=_Pybind11Type):
    """Detect a change of distribution by Kolmogorov-Smirnov windows (Raab and others 2020).

    Parameters
    ----------
    alpha : float
        Level of the test at every sample, 0 to 1.
    window_size : int
        Samples held, at least ``2 * stat_size``.
    stat_size : int
        Samples of either side of a test, 1 to 10000.
    seed : int, optional
        Starts the draws anew after every alarm; None draws one from the system.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        alpha: SupportsFloat = 0.005,
        window_size: SupportsIndex = 100,
        stat_size: SupportsIndex = 30,
        seed: SupportsIndex | None = None,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Latest distance of the distributions, 0 to 1."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def alpha(self) -> float:
        """Level of each test."""

    @property
    def seed(self) -> int:
        """Starts the draws."""

    @property
    def p_value(self) -> float:
        """Of the latest test; 0 before the first."""

class Ddm(metaclass=_Pybind11Type):
    """Detect a rise of an error rate (Gama and others 2004).

    Parameters
    ----------
    warm_start : float
        Samples without an alarm at the start.
    warning_threshold, drift_threshold : float
        In standard deviations above the lowest rate so far.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        warm_start: SupportsFloat = 30.0,
        warning_threshold: SupportsFloat = 2.0,
        drift_threshold: SupportsFloat = 3.0,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """What is compared with the limit."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def warning_detected(self) -> bool:
        """Whether the last update was a warning short of an alarm."""

class Eddm(metaclass=_Pybind11Type):
    """Detect a fall of the distance between errors (Baena-Garcia and others 2006).

    Parameters
    ----------
    warm_start : float
        Samples and errors without an alarm at the start.
    alpha, beta : float
        Levels of warning and alarm; alpha >= beta.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        warm_start: SupportsFloat = 30.0,
        alpha: SupportsFloat = 0.95,
        beta: SupportsFloat = 0.9,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """What is compared with the limit."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def warning_detected(self) -> bool:
        """Whether the last update was a warning short of an alarm."""

class HddmA(metaclass=_Pybind11Type):
    """Detect a change of a rate by Hoeffding's bound (Frias-Blanco and others 2015).

    Parameters
    ----------
    drift_confidence, warning_confidence : float
        Probabilities of error, above 0, at most 1.
    two_sided_test : bool
        Whether falls count as well.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        drift_confidence: SupportsFloat = 0.001,
        warning_confidence: SupportsFloat = 0.005,
        two_sided_test: bool = False,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """What is compared with the limit."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def warning_detected(self) -> bool:
        """Whether the last update was a warning short of an alarm."""

class HddmW(metaclass=_Pybind11Type):
    """Detect a change of a rate by McDiarmid's bound (Frias-Blanco and others 2015).

    Parameters
    ----------
    drift_confidence, warning_confidence : float
        Probabilities of error, above 0, at most 1.
    lambda_val : float
        Weight of the newest sample, 0 to 1.
    two_sided_test : bool
        Whether falls count as well.
    track_onset : bool
        False saves 3 KiB and answers None for the onset.
    latch : bool
        A lasting shift raises one alarm (one up, one down), and no other until it has ended:
        until 64 samples or more speak against even half of it, or eight times as long as one
        took. Needs `track_onset`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Learns its reference from the stream. Alarms equal river's; NaN and infinities are skipped.
    """

    def __init__(
        self,
        drift_confidence: SupportsFloat = 0.001,
        warning_confidence: SupportsFloat = 0.005,
        lambda_val: SupportsFloat = 0.05,
        two_sided_test: bool = False,
        track_onset: bool = True,
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """What is compared with the limit."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def warning_detected(self) -> bool:
        """Whether the last update was a warning short of an alarm."""

_Detector = Cusum | PageHinkley | Ewma | Adwin | Kswin | Ddm | Eddm | HddmA | HddmW

def update_channels(detectors: Sequence[_Detector], samples: _Floats) -> npt.NDArray[np.int64]:
    """Give every detector its column of a table of samples, in order, without the GIL.

    Parameters
    ----------
    detectors : sequence of detectors
        Different objects, of any classes and parameters, one a column. They keep all state: ask
        them for onset and the like, save and restore them.
    samples : array of float32 or float64, shape (n, len(detectors))
        A row a time, C-contiguous.

    Returns
    -------
    array of int64, shape (alarms, 2)
        Row and column of every sample that raised an alarm, by row, then by column.

    Raises
    ------
    TypeError
        If one is no detector of one signal, or samples are not such an array.
    ValueError
        If the table has not a column a detector, or a detector is there twice.

    Notes
    -----
    Equals ``detectors[c].update(samples[r, c])`` in loops over r and c to the bit. `Cusum` and
    `PageHinkley` without `compat` go side by side in the lanes of vectors, below 1 ns a value for
    16 to 64 of them; the others take their columns one after the other. False alarms add up: of 12
    detectors with an arl0 of 1e6 each, one raises a false alarm every 83,000 rows. `MonitorBank`
    promises for all together.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import Cusum, update_channels
    >>> charts = [Cusum(20.0, 0.5, h=4.0), Cusum(5.0, 0.1, h=4.0)]
    >>> update_channels(charts, np.array([[20.0, 5.0], [20.0, 5.3], [20.0, 5.3]])).tolist()
    [[2, 1]]
    >>> charts[1].onset
    1
    """

class Reference(metaclass=_Pybind11Type):
    """Freeze a signal's distribution and turn values into normal scores.

    Parameters
    ----------
    samples : ndarray of float32 or float64, shape (n,)
        Calibration samples in the order in which they came, at least 2 finite ones; others are
        skipped and counted.

    Raises
    ------
    TypeError, ValueError
        If `samples` has another dtype or shape, or too few finite numbers.

    Notes
    -----
    Ties get the mid-rank. Up to 256 distinct values are kept exactly, of more those nearest to 256
    evenly spaced scores. Beyond the extremes scores rise on, towards +-8, which infinities reach;
    NaN scores NaN; next to a constant reference everything else scores +-8. Holds 11 KiB; a score
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

    @staticmethod
    def normal(mean: SupportsFloat, std: SupportsFloat) -> Reference:
        """Make the reference of a normal distribution that is known for certain."""

    @property
    def phi(self) -> float:
        """Lag-1 autocorrelation of the scores, which charts take out; 0 if none stood out."""

    @property
    def limit(self) -> float:
        """Where charts clip scores: how far out a rarer value lies, calibration cannot know."""

    @property
    def count(self) -> int:
        """Calibration samples used."""

    @property
    def skipped(self) -> int:
        """Calibration samples that were not finite."""

    @property
    def offset(self) -> float:
        """What is taken off a whitened score before charts take it."""

    @property
    def scale(self) -> float:
        """What it is multiplied by after that."""

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

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class MonitorBank(metaclass=_Pybind11Type):
    """Watch many signals under one false-alarm promise.

    Parameters
    ----------
    references : sequence of Reference, or sequence of such sequences
        One a signal; or, for several regimes (day, night), one such list a regime.
    arl0 : float
        Wanted mean number of updates between false alarms of the whole bank, at least 10, and at
        most 1e12 over the number of signals. For 90 % of calibrations it is at least that,
        whatever the correlation between signals.
    latch : bool
        A lasting shift of a signal raises one alarm, as in `Cusum`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    On every signal: CUSUMs with k = 0.15, 0.4 and 1.2 up and down, and on either side a count of
    far samples. Holds about 3.3 KiB a signal and 11 KiB a reference. NaN and infinities are
    skipped and counted a signal. The update after an alarm starts that signal's charts at zero.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import MonitorBank, Reference
    >>> bank = MonitorBank([Reference.normal(0, 1), Reference.normal(5, 2)], arl0=10_000)
    >>> bank.update_many(np.full((20, 2), 5.0)).tolist()[0]
    [1, 0]
    """

    def __init__(
        self,
        references: Sequence[Reference] | Sequence[Sequence[Reference]],
        arl0: SupportsFloat,
        latch: bool = False,
    ) -> None: ...
    def update(self, values: _Floats) -> bool:
        """Take one value of every signal, 1-D; say whether any signal alarms."""

    def update_many(self, values: _Floats) -> npt.NDArray[np.int64]:
        """Take rows of a 2-D array in order, without the GIL; equals one by one.

        Gives rows (update, signal) of the alarms.
        """

    @property
    def alarms(self) -> list[int]:
        """Signals that alarmed in the last update."""

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Normal scores of the last row; NaN where there was no value."""

    def statistic(self, signal: SupportsIndex) -> float:
        """Give a signal's largest statistic over its threshold; above 1 is an alarm."""

    def direction(self, signal: SupportsIndex) -> int:
        """+1 up, -1 down, 0 unknown."""

    def magnitude(self, signal: SupportsIndex) -> float:
        """Give the most likely size of a signal's shift, in normal scores; 0 unknown."""

    def onset(self, signal: SupportsIndex) -> int | None:
        """Give the most likely index of the first changed update, or None."""

    def onset_earliest(self, signal: SupportsIndex) -> int | None:
        """Give the 95 % bound: the change did not begin before this update; or None."""

    def onset_since_start(self, signal: SupportsIndex) -> bool:
        """Say whether the change may be older: before the bound, nothing is remembered."""

    def latched(self, signal: SupportsIndex) -> bool:
        """Say whether a lasting shift of a signal was told, and goes on."""

    def accept(self, signal: SupportsIndex) -> None:
        """Take a signal's level since the onset for normal, in this regime.

        It is known to 1 / sqrt(samples since the onset) standard deviations.
        """

    def accepted(self, signal: SupportsIndex) -> float:
        """Give what was accepted, in normal scores."""

    def accepted_spread(self, signal: SupportsIndex) -> float:
        """Give the spread that was accepted, in normal scores."""

    def set_level(
        self, signal: SupportsIndex, level: SupportsFloat, spread: SupportsFloat = 1.0
    ) -> None:
        """Take a level and a spread of the signal's scores for normal, in this regime.

        Charts hear what differs from there and start at zero; 0 and 1 are the reference's own. The
        level is of scores that were clipped to the reference's `limit`.
        """

    def leading_chart(self, signal: SupportsIndex) -> int:
        """Give the chart with the largest statistic: 4 * side + k, k = 3 the far samples."""

    def thresholds(self, signal: SupportsIndex) -> dict[str, list[float]]:
        """Give the thresholds of a signal's charts, by name.

        "certain_..." are what a known distribution would need: the difference is what the size of
        the calibration costs, in samples of delay about (upper - certain_upper) / k at the shift
        of 2 k. Infinite: a chart that the calibration cannot support.
        """

    def left_out(self, signal: SupportsIndex) -> list[int]:
        """Charts of one signal that its calibration cannot support, 4 * side + k."""

    def skipped(self, signal: SupportsIndex) -> int:
        """Give how many values of a signal were NaN or infinite."""

    @property
    def regime(self) -> int:
        """Which references are in use; charts go on when it changes."""

    @regime.setter
    def regime(self, arg1: SupportsIndex, /) -> None: ...
    @property
    def regimes(self) -> int:
        """References a signal."""

    @property
    def signals(self) -> int:
        """How many signals."""

    @property
    def arl0(self) -> float:
        """Updates between false alarms, as asked."""

    @property
    def count(self) -> int:
        """Updates since construction or `reset`."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state, references included, as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> MonitorBank:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

def count_run_length(
    begin: SupportsFloat,
    stay: SupportsFloat,
    weight_begin: SupportsIndex,
    weight_stay: SupportsIndex,
    limit: SupportsIndex,
    falling: bool = False,
) -> float:
    """Return the mean number of samples until a counting chart alarms, exactly.

    The event it counts is a chain of two states: it begins with probability `begin` and goes on
    with probability `stay`. A rising chart adds `weight_begin` for the first sample of a run and
    `weight_stay` for each further one, and takes 1 off, not below 0, for a sample without the
    event; a falling one the other way round. Both alarm above `limit`. The result is exact where
    the chart goes back to 0 on average.
    """

@final
class LabelReference(metaclass=_Pybind11Type):
    """How often a classifier names each class in normal operation, and in what runs.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,)
        Predicted classes of a calibration, in the order in which inputs came; negative: none.
    classes : int
        How many classes the model has; labels are below it.

    Notes
    -----
    Up to 31 classes are counted one by one; of more, those that come most often and in 16 runs at
    least, all others together.
    """

    def __init__(self, labels: npt.NDArray[np.int64], classes: SupportsIndex) -> None: ...
    @property
    def classes(self) -> int:
        """Classes of the model."""

    @property
    def samples(self) -> int:
        """Labels of the calibration."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What is counted, one dict each.

        `label`: the class, None for the rest; `complement`: whether it is all but that class;
        `count`, and `runs` of samples in a row.
        """

    @property
    def bunching(self) -> float:
        """How many times as fast the variance of counts grows as that of two-state chains does."""

    @property
    def wanders(self) -> bool:
        """Whether counts vary the more the longer they are, up to the longest."""

    @property
    def independent_labels(self) -> float:
        """How many independent labels would tell as much."""

    @property
    def changes(self) -> int:
        """Runs of all classes but the one that has most of them."""

    @property
    def is_supported(self) -> bool:
        """Whether a `LabelMix` can keep a promise on it."""

    def state(self) -> bytes:
        """Return what `from_state` takes."""

    @staticmethod
    def from_state(state: bytes) -> LabelReference:
        """Return the same reference; errors as of every class with a state."""

@final
class FloatGraph(metaclass=_Pybind11Type):
    """A float shadow of a quantised classifier, forward and backward.

    A layer with weights W has a gain and a bias for each output channel, z = gain * (W x) + bias,
    clipped to what its output can hold. Gains and biases are learned, weights where a layer says
    so; the last layer's outputs are logits.

    Parameters
    ----------
    layers : ndarray of uint32, shape (n, 16)
        Kind (0 convolution or dense, 1 depthwise, 2 sum, 3 average pool, 4 maximum pool), whether
        weights are learned, number of the input (0: the graph's, n + 1: layer n's output), second
        input of a sum, height, width and channels of input and output, height and width of kernel
        and stride, zeros above and left.
    limits : ndarray of float32, shape (n, 2)
        Least and greatest value of each output.
    weights, biases : ndarray of float32
        Of the layers that have some, one after the other: output channels x kernel x input
        channels (depthwise: kernel x channels).
    max_bytes : int
        What it may hold; more is refused.

    Raises
    ------
    ValueError
        When layers do not fit together, a number is not finite, or it takes more than `max_bytes`.

    Notes
    -----
    Adam (Kingma and Ba, 2015), each number with a rate of its own, on the weighted mean of
    cross-entropies. Deterministic. Nothing allocates after construction but what is returned. The
    GIL is released in `logits` and `step`. One object, one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import FloatGraph
    >>> dense = np.array([[0, 1, 0, 0, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 0, 0]], np.uint32)
    >>> far, none = np.array([[-3e38, 3e38]], np.float32), np.zeros(2, np.float32)
    >>> graph = FloatGraph(dense, far, none, none, max_bytes=1 << 16)
    >>> x, sure = np.array([[-1], [1]], np.float32), np.eye(2, dtype=np.float32)
    >>> losses = [graph.step(x, sure, np.ones(2, np.float32), 0.1) for _ in range(20)]
    >>> round(losses[0], 3), losses[-1] < 0.1
    (0.693, True)
    """

    def __init__(
        self,
        layers: npt.NDArray[np.uint32],
        limits: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
        biases: npt.NDArray[np.float32],
        *,
        max_bytes: SupportsIndex,
    ) -> None: ...
    def logits(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits of samples, shape (n, classes)."""

    def step(
        self,
        inputs: npt.NDArray[np.float32],
        targets: npt.NDArray[np.float32],
        sample_weights: npt.NDArray[np.float32],
        rate: SupportsFloat,
    ) -> float:
        """Take one step of Adam; returns the loss before it.

        Parameters
        ----------
        inputs, targets
            Shape (n, numbers) and (n, classes): distributions.
        sample_weights
            Shape (n,), from 0 on.
        rate
            Of all rates.
        """

    def set_parameters(self, values: npt.NDArray[np.float32]) -> None:
        """Set what is learned, and begin anew with Adam's moments; a gain is at least 0.05."""

    def set_rates(self, rates: npt.NDArray[np.float32]) -> None:
        """Set how far each number may go in one step of rate 1; ones at first."""

    @property
    def parameters(self) -> npt.NDArray[np.float32]:
        """Of each layer gains, biases and, where it learns them, weights."""

    @property
    def gradient(self) -> npt.NDArray[np.float32]:
        """That of the latest step, before it."""

    @property
    def inputs(self) -> int:
        """Numbers of a sample."""

    @property
    def classes(self) -> int:
        """Logits of a sample."""

    def memory_bytes(self) -> int:
        """Return the bytes held, fixed at construction."""

class SoftmaxHead(metaclass=_Pybind11Type):
    """Learn how a classifier's last layer should change, from few samples.

    Softmax regression, pulled to where it starts. With u the embedding in units of its spread and a
    1 behind it, a sample's logits are those of the start plus D u. `fit` finds the D that minimises
    the sum over samples of weight times cross-entropy, plus pull / 2 times the squared length of D.

    Parameters
    ----------
    classes : int
        2 or more.
    dimensions : int
        Of an embedding, 1 or more.
    capacity : int
        Samples at most, 1 or more.
    max_bytes : int
        What it may hold; more is refused.

    Raises
    ------
    ValueError
        When a size is out of range, or needs more than `max_bytes`.

    Notes
    -----
    Newton's method by conjugate gradients and a line search; every step lowers the objective.
    Leaving out one sample of weight w moves D by at most sqrt(2) w |u| / pull. Coordinates beyond
    64 spreads count as 64, and the weight of an embedding is cut that is longer than `reach` times
    sqrt(dimensions + 1). 64 samples of 64 dimensions, 12 classes: below a millisecond a fit and
    95 KiB. Nothing allocates after construction but what is returned. The GIL is released in `load`
    and `fit`. One object, one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import SoftmaxHead
    >>> x = np.array([[-1], [-2], [1], [2]], np.float32)
    >>> head = SoftmaxHead(classes=2, dimensions=1, capacity=4)
    >>> head.load(x, np.zeros(1), np.ones(1), np.zeros((4, 2)))
    >>> head.aim(np.array([0, 0, 1, 1]), np.ones(4))
    >>> head.fit(pull=1.0).is_converged
    True
    >>> head.logits().argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """

    def __init__(
        self,
        classes: SupportsIndex,
        dimensions: SupportsIndex,
        capacity: SupportsIndex,
        *,
        max_bytes: SupportsIndex = 67108864,
    ) -> None: ...
    def load(
        self,
        embeddings: npt.NDArray[np.float32],
        mean: npt.NDArray[np.float64],
        spread: npt.NDArray[np.float64],
        logits: npt.NDArray[np.float64],
    ) -> None:
        """Take samples (n, dimensions), and their logits by the start (n, classes).

        `mean` and `spread` are by dimension. ValueError where a size does not fit or a number is
        not finite; then it holds no samples.
        """

    def aim(
        self,
        targets: npt.NDArray[Any],
        sample_weights: npt.NDArray[np.float64],
        reach: SupportsFloat = 2.0,
    ) -> None:
        """Set what the samples should be.

        A class each (int64) or a distribution over the classes (float64, shape (n, classes)).
        Weights are from 0, which leaves a sample out, to 1e6.
        """

    def fit(
        self,
        pull: SupportsFloat,
        *,
        products: SupportsIndex = 400,
        tolerance: SupportsFloat = 0.0001,
        warm: bool = False,
    ) -> SoftmaxHead.Outcome:
        """Find the change for a pull above 0; from the last one on if `warm`, else from none."""

    def change(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what to add to the start's weights (classes, dimensions) and biases (classes,)."""

    def logits(self) -> npt.NDArray[np.float64]:
        """Return the logits of all samples, those left out too, after the last fit."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def dimensions(self) -> int:
        """Of an embedding."""

    @property
    def capacity(self) -> int:
        """Samples that there is room for."""

    @property
    def samples(self) -> int:
        """Samples that it holds."""

    @property
    def sample_weights(self) -> npt.NDArray[np.float64]:
        """Weights as they count, with what `reach` has cut."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

    @final
    class Outcome(metaclass=_Pybind11Type):
        """What a fit came to."""

        def __init__(self, *args: Never, **kwargs: Never) -> None: ...
        @property
        def is_converged(self) -> bool:
            """Whether the change is as near to the optimum as was asked for."""

        @property
        def products(self) -> int:
            """Passes over the samples that it took."""

        @property
        def loss(self) -> float:
            """Weighted sum of cross-entropies; nats."""

        @property
        def change(self) -> float:
            """Length of D."""

@final
class LabelMix(metaclass=_Pybind11Type):
    """Hear when the mix of predicted classes changes.

    Parameters
    ----------
    reference : LabelReference
        The mix of normal operation.
    arl0 : float
        Updates between false alarms of all charts together, 10 to 1e15.
    latch : bool
        A lasting change is told once, of every class.

    Notes
    -----
    Every class has counting CUSUMs for 3 and for 27 times its odds, and for a third, solved exactly
    for a two-state chain that is as far from the reference's as its counts leave possible: the
    promise holds for 90 % of calibrations whose labels' memory is like this one's. An update is
    O(1). About 10 KiB. One object, one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import LabelMix, LabelReference
    >>> normal = np.random.default_rng(1).integers(0, 10, 1000)
    >>> mix = LabelMix(LabelReference(normal, 10), 1e5)
    >>> told = [mix.update(3) for _ in range(20)].index(True)
    >>> mix = LabelMix(LabelReference(normal, 10), 1e5)
    >>> len(mix.update_many(np.full(told + 1, 3)))
    1
    >>> mix.change["label"], mix.change["direction"], mix.change["onset"]
    (3, 1, 0)
    """

    def __init__(
        self, reference: LabelReference, arl0: SupportsFloat, latch: bool = False
    ) -> None: ...
    def update(self, label: SupportsIndex) -> bool:
        """Take one label; negative: an update without one. Say whether a change is told."""

    def update_many(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Take labels in order; return the indices at which a change was told."""

    @property
    def change(self) -> dict[str, Any]:
        """What was told in the last update; else what is closest to it.

        `label` (None: the rest), `direction`, `share` since the onset, the `reference`'s,
        `statistic` over its threshold, `magnitude` (of the log odds ratio), `onset` and `earliest`
        (indices of updates, or None), `since_start`.
        """

    @property
    def latched(self) -> bool:
        """Whether a change was told that goes on."""

    @property
    def looks_normal(self) -> bool:
        """Whether the latest 64 labels look like the reference."""

    @property
    def reference(self) -> LabelReference:
        """What it compares with: the calibration's, or what was accepted."""

    @property
    def arl0(self) -> float:
        """Updates between false alarms."""

    @property
    def count(self) -> int:
        """Updates."""

    def charts(self, event: SupportsIndex) -> list[tuple[int, int, int]]:
        """Return begin, stay and limit of an event's charts: up, far up, down; 0: left out."""

    def accept(self) -> None:
        """Take the mix since the change that was told for normal, as a calibration of that size."""

    def restart(self) -> None:
        """Start charts at zero; latches and what was accepted stay."""

    def reset(self) -> None:
        """Forget charts, history and latches; what was accepted stays."""

    def state(self) -> bytes:
        """Return what `from_state` takes."""

    @staticmethod
    def from_state(state: bytes) -> LabelMix:
        """Return one that continues bit for bit."""

    def memory_bytes(self) -> int:
        """Return the bytes held, fixed at construction."""

@final
class InferenceMonitor(metaclass=_Pybind11Type):
    """A `MonitorBank`, and what needs no chart: inputs that repeat, are flat, are no numbers.

    And answers that stay the same while inputs differ.

    Parameters
    ----------
    references : sequence of Reference
        One a signal; none where nothing can be measured.
    arl0 : float
        As in `MonitorBank`.
    flat : sequence of (int, float)
        Index of a signal, and the value below which it is flat; 8 in a row raise an alarm.
    max_repeats : int
        Inputs in a row, equal to the bit, that raise an alarm; 0: they say nothing.
    max_frozen : int
        Answers in a row, equal to the bit, that raise an alarm, those to inputs that repeat not
        counted; 0: they say nothing.
    latch : bool
        What lasts is told once: a shift of a signal, as in `Cusum`; a run until it ends; values
        that are no numbers until 64 updates had none; a count of a rare kind until it is zero.
    few : sequence of (int, float, int, int)
        Of samples of a rare kind: index of a signal, and the value below which a sample is one of
        them; what a run of them adds to a count, from which any other sample takes 1, not below 0;
        and the limit above which it is an alarm, at most 2**20.
    labels : LabelReference, optional
        The classes of calibration: adds a `LabelMix` on those that are predicted. An input that
        repeats, or is no numbers, is not counted.
    label_arl0 : float, optional
        Updates between false alarms of that chart alone; None: `arl0`.

    Notes
    -----
    Keeps the scores of the latest 256 updates. One object, one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import InferenceMonitor, Reference
    >>> monitor = InferenceMonitor([Reference.normal(0, 1)], 1e6, flat=[], max_repeats=3)
    >>> [monitor.update(np.zeros(1), n > 0, 0) for n in range(4)]
    [False, False, False, True]
    >>> monitor.repeats_alarm, monitor.bank_alarm
    (True, False)
    """

    def __init__(
        self,
        references: Sequence[Reference],
        arl0: SupportsFloat,
        *,
        flat: Sequence[tuple[SupportsIndex, SupportsFloat]],
        max_repeats: SupportsIndex,
        max_frozen: SupportsIndex = 0,
        latch: bool = False,
        few: Sequence[tuple[SupportsIndex, SupportsFloat, SupportsIndex, SupportsIndex]] = (),
        labels: LabelReference | None = None,
        label_arl0: SupportsFloat | None = None,
    ) -> None: ...
    def update(
        self,
        values: npt.NDArray[np.float64],
        repeats_previous: bool,
        nonfinite: SupportsIndex,
        same_answer: bool = False,
        label: SupportsIndex = -1,
    ) -> bool:
        """Take one inference, as `SignalPass` measured it; say whether it raises any alarm."""

    def settled(self) -> bool:
        """Whether the latest 64 updates raised no alarm and look like the reference."""

    def accept(self) -> None:
        """Take every lasting shift that was told for normal, as `MonitorBank.accept` does."""

    def reset(self) -> None:
        """Forget charts and history; `count` and `nonfinite` go on."""

    @property
    def label_mix(self) -> LabelMix | None:
        """The chart of the mix of predicted classes, part of this object; None without `labels`."""

    @property
    def label_mix_alarm(self) -> bool:
        """Whether the last update told that the mix of predicted classes has changed."""

    @property
    def bank(self) -> MonitorBank | None:
        """The bank, part of this object; None without references."""

    @property
    def window(self) -> npt.NDArray[np.float64]:
        """Scores of the latest updates, oldest first, one row an update."""

    @property
    def few_alarms(self) -> list[int]:
        """Which counts of rare samples raised an alarm in the last update."""

    @property
    def few_counts(self) -> list[tuple[int, int, int, bool]]:
        """Of each kind: the count, `count` before it left zero, runs since, and whether told."""

    @property
    def bank_alarm(self) -> bool:
        """Whether the last update raised an alarm of the bank."""

    @property
    def nonfinite_alarm(self) -> bool:
        """Whether it had values that were NaN or infinite."""

    @property
    def flat_alarm(self) -> bool:
        """Whether inputs have lost their spread."""

    @property
    def repeats_alarm(self) -> bool:
        """Whether inputs repeat."""

    @property
    def frozen_alarm(self) -> bool:
        """Whether answers stay the same while inputs differ."""

    @property
    def count(self) -> int:
        """Updates, ever."""

    @property
    def repeats(self) -> int:
        """Equal inputs in a row."""

    @property
    def flats(self) -> int:
        """Flat inputs in a row."""

    @property
    def max_repeats(self) -> int:
        """Repeats that alarm."""

    @property
    def frozen(self) -> int:
        """Equal answers in a row to inputs that differ."""

    @property
    def max_frozen(self) -> int:
        """Equal answers that alarm."""

    @property
    def nonfinite(self) -> int:
        """Values that were NaN or infinite, ever."""

    @property
    def last_nonfinite(self) -> int:
        """Values of the last update that were."""

    def copy(self) -> InferenceMonitor:
        """Copy it as it is, for another thread to take its state: some 30 microseconds."""

    def state(self, history: bool = True) -> bytes:
        """Give the bank, the window and all counters as a versioned, checksummed blob.

        Without `history` the window is empty, and `settled` waits until there is one again. Lets
        go of the GIL.
        """

    @staticmethod
    def from_state(state: bytes) -> InferenceMonitor:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class SignalMonitor(metaclass=_Pybind11Type):
    """Watch one signal with `MonitorBank`'s charts, with the face of a detector.

    Parameters
    ----------
    normal : Reference or numpy.ndarray
        Normal operation of the signal, or samples of it: 1-D float64, in order; the stream goes on
        right after them.
    arl0 : float
        Wanted mean number of samples between false alarms, 10 to 1e12.
    periods : sequence of int
        Samples in what repeats, up to four, each at most half of `normal`: taken out. None with a
        `Reference`.
    latch : bool
        A lasting shift raises one alarm, as in `Cusum`.

    Raises
    ------
    ValueError
        If `arl0` or a period is out of range.
    """

    def __init__(
        self,
        normal: Reference | npt.NDArray[np.float64],
        *,
        arl0: SupportsFloat,
        periods: Sequence[int] = (),
        latch: bool = False,
    ) -> None: ...
    def update(self, x: SupportsFloat, /) -> bool:
        """Take one sample; say whether it raises the alarm."""

    def update_many(self, samples: _Floats) -> npt.NDArray[np.int64]:
        """Take a 1-D float32 or float64 array in order, without the GIL.

        Gives the positions in it of the samples that raised the alarm; equals one by one.
        """

    @property
    def drift_detected(self) -> bool:
        """Whether the last update raised the alarm."""

    @property
    def statistic(self) -> float:
        """Largest statistic over its threshold; above 1 is an alarm."""

    @property
    def direction(self) -> int:
        """+1 up, -1 down, 0 unknown."""

    @property
    def magnitude(self) -> float:
        """Most likely size of the shift, in standard deviations; 0 unknown."""

    @property
    def onset(self) -> int | None:
        """Most likely index of the first changed sample, from the likelihood ratio; or None."""

    @property
    def onset_earliest(self) -> int | None:
        """95 % bound: the change did not begin before this index; or None."""

    @property
    def onset_since_start(self) -> bool:
        """Whether the change may be older: the bound is the latest start, before it is nothing."""

    @property
    def latched(self) -> bool:
        """Whether a lasting shift was told, and goes on; False without `latch`."""

    def accept(self) -> None:
        """Take what is now for normal: the level since the onset, or what is learned from now on.

        A fixed reference moves to that level, which is known to 1 / sqrt(samples since the onset)
        standard deviations.
        """

    @property
    def count(self) -> int:
        """Updates since construction or `reset`, skipped ones included."""

    @property
    def skipped(self) -> int:
        """Updates with NaN or infinity."""

    def reset(self) -> None:
        """Start as new."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Restore one that continues bit for bit; raise StateError if the blob is refused."""

    def clone(self) -> Self:
        """Make a new one with the same parameters, as river's models ask for."""

    def __getstate__(self) -> bytes:
        """As `state`: for copy and pickle."""

    def __setstate__(self, state: bytes, /) -> None:
        """As `from_state`: for copy and pickle."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction; 3 KiB of them find the onset."""

    @property
    def arl0(self) -> float:
        """Samples between false alarms, as asked."""

    @property
    def thresholds(self) -> dict[str, list[float]]:
        """As `MonitorBank.thresholds`."""

    @property
    def left_out(self) -> list[int]:
        """Charts that the calibration cannot support, 4 * side + k: they never alarm."""

    @property
    def samples(self) -> int:
        """Calibration samples used."""

    @property
    def samples_needed(self) -> int:
        """Calibration samples that would do for a chart on either side; 0: no number would."""

    @property
    def wander(self) -> float:
        """How far the level may stray from the calibration's, in standard deviations."""

    @property
    def spread_wander(self) -> float:
        """Standard deviation of the spread of long stretches, as a share of it; 0: none."""

    @property
    def trend(self) -> float:
        """Share of that wander which a straight line explains."""

    @property
    def unsteadiness(self) -> float:
        """How far sums of the calibration stray: of a constant level, above 0.574 once in forty."""

    @property
    def periods(self) -> list[int]:
        """Periods that are taken out, in samples."""

    @property
    def unnamed_period(self) -> int:
        """A period that the calibration shows beside those; 0 if none."""

    @property
    def phi(self) -> float:
        """Lag-1 autocorrelation that is taken out."""

@final
class TensorLayout(metaclass=_Pybind11Type):
    """What the elements of a C-contiguous tensor are.

    Parameters
    ----------
    dtype : {"int8", "uint8", "int16", "float32"}
    elements : int
        1 to 2**31.
    channels : int
        Elements of the innermost dimension, at least 1: roughness compares ``x[i + channels]`` with
        ``x[i]``; neighbours where that leaves no pair.
    scale, zero_point : float, int
        Dequantised value: ``scale * (q - zero_point)``; 1 and 0 for float32.
    """

    def __init__(
        self,
        dtype: str,
        elements: SupportsIndex,
        channels: SupportsIndex = 1,
        scale: SupportsFloat = 1.0,
        zero_point: SupportsIndex = 0,
    ) -> None: ...

@final
class SignalPass(metaclass=_Pybind11Type):
    """Measures one inference after the other, from its raw tensors.

    Parameters
    ----------
    inputs, outputs : sequence of TensorLayout or None
        None: a tensor that is not measured.
    classifier : {"probabilities", "logits"}, optional
        What output 0 holds, one value a class, or a single probability of class 1 of two; None for
        a model without classes.
    reconstructs : bool
        Output 0 imitates input 0: equally many elements, and no classes.
    detections : sequence of four int, optional
        Which outputs hold a detector's boxes (n x 4), classes and scores (n each), and count (1),
        all of float32.
    inner : sequence of TensorLayout
        Further tensors in the middle of the model.
    embedding : TensorLayout, optional
        The input of a classifier's last layer.
    embedding_part : sequence of int
        Of a wide embedding: where the runs of 16 elements begin that are measured, one behind the
        other; empty: all elements are.
    centroids : ndarray of float32, shape (classes, measured elements), optional
        Where the classes lie in it, dequantised; a row that begins with NaN has no known place.
    precision : ndarray of float32, shape (measured elements,), optional
        One over the variance around the centroids.
    class_scales : ndarray of float32, shape (classes,), optional
        What a distance to each class is multiplied by, > 0; 1 by default.
    left_out : sequence of (str, int)
        Role and tensor of signals that rows shall not have, as in `names`.
    recent_bytes : int
        For copies of the latest inputs, which `recent` gives: of 8 to 256 inferences, or of as many
        as fit in 2 MiB where 8 do not, and of one at least. 0: nothing is kept but the previous
        input and answer.
    backend : str, optional
        One of `signal_backends`; the fastest by default. All give the same integers.

    Notes
    -----
    Integers are summed exactly, floats in doubles. Holds copies of the latest inferences, the
    centroids of known classes and 6 KiB of tables. One object, one thread.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import SignalPass, TensorLayout
    >>> measured = SignalPass([TensorLayout("int8", 4)], [])
    >>> row = np.empty(len(measured.names))
    >>> measured.measure([np.array([1, 2, 3, 6], np.int8)], [], None, row)[:2]
    (False, 0)
    >>> dict(zip((role for role, _ in measured.names), row.tolist()))["input_mean"]
    3.0
    """

    def __init__(
        self,
        inputs: Sequence[TensorLayout | None],
        outputs: Sequence[TensorLayout | None],
        *,
        classifier: str | None = None,
        reconstructs: bool = False,
        detections: Sequence[int] | None = None,
        inner: Sequence[TensorLayout] = (),
        embedding: TensorLayout | None = None,
        embedding_part: Sequence[int] = (),
        centroids: npt.NDArray[np.float32] | None = None,
        precision: npt.NDArray[np.float32] | None = None,
        class_scales: npt.NDArray[np.float32] | None = None,
        left_out: Sequence[tuple[str, int]] = (),
        recent_bytes: SupportsIndex = 524288,
        backend: str | None = None,
    ) -> None: ...
    @property
    def names(self) -> list[tuple[str, int]]:
        """Role and tensor of every number of a row.

        For every measured input ``input_mean``, ``input_std``, ``input_saturated_low`` and
        ``input_saturated_high`` (shares at the limits of an integer type), ``input_change`` (mean
        absolute difference from the previous input) and ``input_roughness``. Of a classifier
        ``confidence``, ``margin`` and ``entropy``; of a detector ``detections`` (with a score of
        0.5 or more), ``top_score``, ``mean_score`` and ``box_area`` (of these); of any other model
        ``reconstruction_error`` (mean squared difference), if it reconstructs; then, but for
        classifiers, ``output_mean`` and ``output_std`` of every other measured output. Of inner
        tensors ``inner_mean`` and ``inner_active`` (share of elements above zero). Of an
        embedding ``embedding_norm``, ``embedding_active`` and, with centroids,
        ``embedding_distance`` (Mahalanobis, diagonal, to the centroid of the class that output 0
        names).
        """

    @property
    def inner(self) -> int:
        """How many inner tensors are measured."""

    def measure(
        self,
        inputs: Sequence[npt.NDArray[Any]],
        outputs: Sequence[npt.NDArray[Any] | None],
        embedding: npt.NDArray[Any] | None,
        row: npt.NDArray[np.float64],
        inner: Sequence[npt.NDArray[Any] | None] = (),
    ) -> tuple[bool, int, int, float, int, bool]:
        """Measure one inference into `row`.

        Parameters
        ----------
        inputs, outputs : sequence of ndarray
            Of any shape, C-contiguous, of the dtypes and sizes of their layouts; what has none is
            not looked at. An output that is None measures as NaN.
        embedding : ndarray, optional
            Not looked at without a layout.
        row : ndarray of float64
            Where the signals go, one per name.
        inner : sequence of ndarray
            As many as there are layouts.

        Returns
        -------
        tuple
            Whether the inputs repeat the previous ones, how many of their values are not finite,
            the label (-1 without one; of a detector the class with the largest score, if that is
            0.5 or more), its confidence (NaN then), how many outputs that decide hold
            NaN or infinity, and whether those outputs equal the previous ones to the bit.
        """

    def recent(
        self, most: int = 1 << 30
    ) -> tuple[
        list[npt.NDArray[Any]],
        npt.NDArray[Any] | None,
        npt.NDArray[Any] | None,
        npt.NDArray[np.int64],
    ]:
        """Copy what is kept of the latest inferences, oldest first.

        Parameters
        ----------
        most
            How many of them at most.

        Returns
        -------
        tuple
            Of every measured input an array of shape (m, elements); output 0 of a classifier and
            the embedding, of shape (n, elements), where they take at most 4 KiB, None otherwise;
            the labels, of shape (n,), -1 for none. m <= n <= 256, in the tensors' own dtypes. The
            last row of each is the latest inference's.
        """

    def forget(self) -> None:
        """Forget all inferences: the next one repeats nothing."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

def signal_backends() -> list[str]:
    """Name the backends of `SignalPass` that this CPU runs, fastest first."""

def crc32c(buffer: _Buffer, value: SupportsIndex = 0) -> int:
    """Compute the CRC-32C (RFC 3720) of a C-contiguous buffer, continuing from `value`.

    The GIL is released from 64 KiB on.

    Examples
    --------
    >>> from selfheal_edge._core import crc32c
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """

def keep_for_ever(object: object) -> None:  # noqa: A002 — as it is called in the core
    """Never let go of an object, not even when the interpreter ends."""

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
    """Watch live weights: the keyed hash that every block should have.

    Parameters
    ----------
    buffer : writable buffer
        memoryview, mmap, uint8 ndarray ..., C-contiguous, at least one byte. It stays exported
        until `release`.
    regions : sequence of (name, module, offset, nbytes)
        Tensors in it. Names are unique; regions may overlap and need not cover the image.
    block_bytes : int
        A power of two from 64 to 65536.
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
    Holds 16 bytes a block: its hash, twice. Every byte is covered, those between regions as well.
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

    def check(self, first: SupportsIndex = 0, count: SupportsIndex | None = None) -> list[int]:
        """List the corrupt ones among `count` blocks (None: all) from `first`, without the GIL."""

    def block_regions(self, block: SupportsIndex) -> list[str]:
        """Name the regions that share bytes with a block."""

    def region_blocks(self, name: str) -> tuple[int, int]:
        """Give (first, count) of a region's blocks; KeyError for an unknown name."""

    def write(self, offset: SupportsIndex, data: _Buffer) -> None:
        """Change bytes on purpose, and expect them from now on.

        RuntimeError, and nothing changes, if a block that is changed in part is corrupt.
        """

    def rebind(self, buffer: _Buffer) -> None:
        """Watch the same content at another place; RuntimeError if it is another content."""

    def table_memory(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Give hashes (all first ones, then all second ones) and the key, writable: for tests."""

    def table_ok(self) -> bool:
        """Whether both entries of every block, and all copies of the key, agree."""

    def release(self) -> None:
        """Drop the buffer. Later calls, of pools and guards as well, raise ValueError."""

    @property
    def released(self) -> bool:
        """Whether `release` was called."""

    def memory_bytes(self) -> int:
        """Bytes held beyond the buffer, fixed at construction; 0 after `release`."""

@final
class RestoreReport(structseq[Any], tuple[int, int, list[int]]):
    """What `SnapshotPool.restore` did."""

    __match_args__: Final = ("rewritten", "refused", "refused_blocks")

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
    blocks that differ from it, and share those that an older generation has. Without a copy,
    golden's blocks are the live ones, until they are about to be changed on purpose.

    Parameters
    ----------
    image : WeightImage
        What to save and restore.
    capacity_blocks : int
        Blocks that all generations but golden share; 0 keeps golden only.
    max_generations : int
        Golden included, 1 to 4096.
    copies_golden : bool
        Whether golden has a full copy.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the live bytes do not have the image's checksums: damage must not become golden.

    Notes
    -----
    Holds the image's size and 24 bytes a block, ``capacity_blocks * (block_bytes + 24)`` and 8.25
    bytes a block and generation. Methods that take a generation raise KeyError if it is not held.
    """

    def __init__(
        self,
        image: WeightImage,
        capacity_blocks: SupportsIndex,
        max_generations: SupportsIndex = 16,
        copies_golden: bool = True,
    ) -> None: ...
    @property
    def copies_golden(self) -> bool:
        """Whether golden has a full copy."""

    def take(self, at_least: SupportsIndex = 0) -> int:
        """Store the live bytes as a new generation and give its number, never used before.

        The number is the smallest that no generation has had, or `at_least` where that is larger.
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

    def read(self, generation: SupportsIndex) -> bytes:
        """Return the bytes of a generation; RuntimeError if a stored block is damaged."""

    def drop(self, generation: SupportsIndex) -> None:
        """Forget a generation; ValueError for golden and for pinned ones."""

    def pin(self, generation: SupportsIndex) -> None:
        """Forbid dropping a generation."""

    def unpin(self, generation: SupportsIndex) -> None:
        """Allow dropping a generation; ValueError for golden."""

    @property
    def generations(self) -> list[int]:
        """Generations held, oldest first."""

    def renew_golden(self, data: _Buffer) -> int:
        """Write golden's damaged copies anew from the verified bytes of the whole image.

        Gives the number of blocks that were written; ValueError if `data` has another size.
        """

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

def keyed_hash(key: bytes, buffer: _Buffer, tweak: SupportsIndex = 0) -> int:
    """Compute the keyed hash of a buffer in the place that `tweak` names.

    Notes
    -----
    Sums of products of keyed words: a change that does not depend on the key passes with a
    probability of 2^-63 at most. Expanding the key takes 2 µs; images do it once.

    Examples
    --------
    >>> from selfheal_edge._core import keyed_hash
    >>> here, there = (keyed_hash(bytes(range(16)), b"the same bytes", place) for place in (7, 8))
    >>> here == there
    False
    """

def keyed_hash_backend() -> str:
    """Name the backend in use, `"avx2"` or `"neon"`, say; keyed_hash.hpp has them all."""

def keyed_hash_backends() -> list[str]:
    """Name the backends that this machine can run, fastest first."""

def set_keyed_hash_backend(name: str) -> None:
    """Switch the backend of the whole process, for tests and measurements.

    Raises
    ------
    ValueError
        If `name` is not among `keyed_hash_backends`.
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

    def memory(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Give parity and its hashes, writable: for tests that damage them."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

@final
class Finding(metaclass=_Pybind11Type):
    """One damage that an `ImageGuard` found, and what became of it."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def part(self) -> Literal["live", "table", "key", "parity", "snapshot", "list"]:
        """What was damaged."""

    @property
    def source(self) -> Literal["content", "snapshot", "parity", "live", "file"] | None:
        """Where the right bytes came from; None: it is still damaged."""

    @property
    def healed(self) -> bool:
        """Whether it is right again, and verified."""

    @property
    def block(self) -> int:
        """Block of the image; of the parity for that part."""

    @property
    def wrong_bits(self) -> int:
        """Live bits that were wrong, known once healed."""

    @property
    def flips(self) -> list[tuple[int, int]]:
        """(offset in the block, xor mask) of the first 16 wrong bytes."""

class ImageSet(metaclass=_Pybind11Type):
    """All images of a model as one: changed in each of them or in none.

    Parameters
    ----------
    guards : sequence of ImageGuard
        1 to 8, of different images, all with a pool or none; the pools hold the same generations.

    Raises
    ------
    ValueError
        If they cannot be one.

    Notes
    -----
    Images are named by their place. A change is stored in all pools before a live byte moves.
    """

    def __init__(self, guards: Sequence[ImageGuard]) -> None: ...
    def take(self, changed: bool = False, at_least: SupportsIndex = 0) -> int:
        """Store the live bytes of all images as one generation and give its number.

        With `changed` they are no longer the active generation's, on purpose. `at_least`, as in
        `SnapshotPool.take`. RuntimeError, and nothing stored, likewise.
        """

    def patch(
        self,
        changes: Sequence[tuple[SupportsIndex, SupportsIndex, _Buffer]],
        at_least: SupportsIndex = 0,
    ) -> int:
        """Make (image, offset, bytes) a new generation, live and active; give its number.

        Those of an image come ascending and do not overlap, or ValueError. Nothing has changed if
        it raises.
        """

    def restore(
        self,
        generation: SupportsIndex,
        ranges: Sequence[tuple[SupportsIndex, SupportsIndex, SupportsIndex]],
    ) -> RestoreReport:
        """Make (image, offset, nbytes) those of a generation, in all images or in none."""

    def activate(self, generation: SupportsIndex) -> None:
        """Say which generation the live bytes are meant to be."""

    def drop(self, generation: SupportsIndex) -> None:
        """Forget a generation; ValueError for golden, the active one and pinned ones."""

    def pin(self, generation: SupportsIndex) -> None:
        """Forbid dropping a generation."""

    def unpin(self, generation: SupportsIndex) -> None:
        """Allow dropping a generation; ValueError for golden."""

    def origin(self, generation: SupportsIndex) -> int:
        """Give the first generation with the same content on purpose."""

    @property
    def next_generation(self) -> int:
        """The smallest number that no generation has had in any image."""

    @property
    def active(self) -> int:
        """The generation that the live bytes are meant to be."""

    @property
    def generations(self) -> list[int]:
        """Generations held, oldest first; none without pools."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

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
    def step(self, live_bytes: SupportsIndex, behind_bytes: SupportsIndex = 0) -> list[Finding]:
        """Check the next slices of live bytes and of what stands behind them, and heal.

        Live bytes go in rows of 16 blocks; small budgets add up over calls. At most one round a
        call. Usually the list is empty.
        """

    def look(self, live_bytes: SupportsIndex) -> list[Finding]:
        """Check the next slice of live bytes, and repair nothing."""

    def sweep(self) -> list[Finding]:
        """Check everything now, and heal, without the GIL."""

    def heal(self, block: SupportsIndex) -> Finding | None:
        """Heal a block; None if it was sound."""

    def heal_from(self, block: SupportsIndex, data: _Buffer) -> Finding | None:
        """Heal a block, where nothing here brings it back from `data`: an image's bytes elsewhere.

        None if it was sound, or if what `data` has there is not genuine either.
        """

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
        """Sweeps of live bytes completed."""

    @property
    def live_blocks(self) -> int:
        """Live blocks."""

    @property
    def blocks_behind(self) -> int:
        """Blocks in a sweep of what stands behind them: parity, copies, lists and the key."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

class CodePages(metaclass=_Pybind11Type):
    """Watch the read-only pages of loaded libraries, code and constants, by keyed hash.

    Parameters
    ----------
    names : sequence of str
        Libraries with one of these in their path.
    key : bytes
        16 secret bytes for the hash.
    seed : int
        The secret order.

    Notes
    -----
    In the first round pages are compared with the libraries' files as well, read around the page
    cache where the file system allows that. Nothing is watched elsewhere than on Linux. Holds 16
    bytes for each 4 KiB.
    """

    def __init__(self, names: Sequence[str], key: bytes, seed: SupportsIndex) -> None: ...
    def step(self, nbytes: SupportsIndex) -> list[tuple[str, int, int, str, int]]:
        """Check the next rows of 64 KiB, without the GIL; list damaged pages, each once.

        (path of the library, offset in its file, address, nearest exported symbol, wrong bytes of
        the page): of the first wrong byte, or of the page where no file tells.
        """

    @property
    def nbytes(self) -> int:
        """Bytes watched."""

    @property
    def unproven_bytes(self) -> int:
        """Bytes of these that no file proves: relocated by the library itself, or replaced."""

    @property
    def direct_bytes(self) -> int:
        """Bytes compared with a file that was read around the page cache."""

    @property
    def sweeps(self) -> int:
        """Complete rounds."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

def code_is_watchable() -> bool:
    """Whether this system can say what code is mapped."""

class RuntimeRefusedError(RuntimeError):
    """LiteRT cannot be used this way, here or with this model; the text is the reason."""

class Engine(metaclass=_Pybind11Type):
    """A built model whose tensors stay where they are: what a `HotPath` runs."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...

class InterpreterCall(Engine):
    """Copy in, invoke and copy out, through addresses that an interpreter's tensors keep.

    An interpreter's tensors stay where they are until something reallocates them: the addresses
    are taken once, after the allocation. Wrong ones corrupt memory. One thread at a time; the
    interpreter must outlive this object.
    """

    def __init__(
        self,
        *,
        invoke: Callable[[], object],
        inputs: Sequence[tuple[int, np.dtype[Any], tuple[int, ...]]],
        outputs: Sequence[tuple[int, np.dtype[Any], tuple[int, ...]]],
        taps: Sequence[tuple[int, np.dtype[Any], tuple[int, ...]]] = ...,
        variables: Sequence[tuple[int, np.dtype[Any], tuple[int, ...]]] = ...,
    ) -> None: ...
    def __call__(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run once on arrays of exactly the inputs' shapes and dtypes; the results are copies."""

    def close(self) -> None:
        """Run no more, also inside a `HotPath`; a second call does nothing."""

class CompiledModel(Engine):
    """A model compiled by LiteRT, its packed weights ours.

    The weights are packed twice and compared; the second image is sealed against shrinking and
    growing. `run` releases the GIL; one thread at a time runs it. Raises RuntimeRefusedError with
    the reason when LiteRT does not take the model.
    """

    def __init__(
        self,
        *,
        library: str,
        version: str,
        source_path: str,
        num_threads: SupportsIndex = 1,
        own_outputs: SupportsIndex = -1,
        taps: Sequence[SupportsIndex] = ...,
    ) -> None:
        """Compile the model whose bytes can be mapped at `source_path`.

        own_outputs: how many of the outputs, from the first on, are the user's; -1: all. taps:
        indices of outputs that a `HotPath` may measure.
        """

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

class QuietStderr(metaclass=_Pybind11Type):
    """Hold back what a runtime's own logger notifies of in this thread, in a ``with`` block."""

    def __init__(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

def require_litert(*, library: str, version: str) -> None:
    """Raise RuntimeRefusedError unless this LiteRT can be used, and files in memory."""

def pack_weights(
    *, library: str, version: str, source: _Buffer, num_threads: SupportsIndex = 1
) -> bytes:
    """Pack a model's weights once; a copy of the image."""

ATTENTION: dict[str, int]
"""Bits of what a `HotPath` calls `handle` with.

``damage``: the sweep found something, see `HotPath.findings`, and the inference has not run yet;
``run_failed``: the runtime failed, there is no answer yet; ``alarm``: the monitor raised one;
``due``: `due_number` or `due_seconds` is reached; ``watched``: every inference is handled;
``monitor_failed``: never told, the call raises.
"""

def coarse_seconds() -> float:
    """Seconds of the monotonic clock that a `HotPath` reads without one of its own.

    Ticks every few milliseconds; reading it takes a few nanoseconds.
    """

class FairLock(metaclass=_Pybind11Type):
    """A lock that its holder may take again, and that is handed on in the order of arrival.

    Free of contention, taking it and giving it back are one atomic exchange each. Waiting is done
    without the GIL. Any thread.

    Examples
    --------
    >>> from selfheal_edge._core import FairLock
    >>> lock = FairLock()
    >>> lock.enter()
    >>> lock.enter()
    >>> lock.leave(), lock.leave(), lock.mine
    (False, True, False)
    """

    def __init__(self) -> None: ...
    def try_enter(self) -> bool:
        """Take it if no other thread has it or waits; say whether."""

    def enter(self) -> None:
        """Take it; wait for those who came before."""

    def leave(self) -> bool:
        """Give it back; True when this thread has it no more.

        RuntimeError when it is not this thread's.
        """

    def give_way(self) -> bool:
        """Let in the threads that wait, then take it again; False if none waits.

        Also False, at once, where this thread has taken it more than once. RuntimeError when it is
        not this thread's.
        """

    def __enter__(self) -> None:
        """Take it, for the length of a `with` block, which no signal's handler can tear open."""

    def __exit__(self, *_: object) -> None:
        """Give it back."""

    def attempt(self) -> LockAttempt:
        """Make a context that takes it if no other thread has it or waits, and says so."""

    def close(self) -> None:
        """Let no thread enter any more. `enter` still works: its caller looks at `closed`."""

    @property
    def mine(self) -> bool:
        """Whether this thread has it."""

    @property
    def closed(self) -> bool:
        """Whether no thread may enter any more."""

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that made it."""

class LockAttempt(metaclass=_Pybind11Type):
    """A lock that is taken for a block if that needs no waiting; made by `FairLock.attempt`."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    def __enter__(self) -> bool:
        """Try to take it; say whether that was so."""

    def __exit__(self, *_: object) -> None:
        """Give it back, if it was taken."""

class LockScope(metaclass=_Pybind11Type):
    """What `Turns` is built on: a lock for the length of a `with` block.

    A class built on it has `check`, which raises where no thread may enter: in a forked child, in a
    thread that has `core` of another scope whose `outer` this is but not this one, and after
    `core.close()`; and `ended`, called when a thread's outermost block has given the lock back.

    Parameters
    ----------
    outer
        The scope that a thread enters before this one, if it enters both.
    """

    def __init__(self, outer: LockScope | None = None) -> None: ...
    @property
    def core(self) -> FairLock:
        """The lock."""

    @property
    def inside_inner(self) -> bool:
        """Whether this thread has the inner lock and not this one."""

    def __enter__(self) -> None:
        """Take the lock; raise what `check` raises where this thread may not enter."""

    def __exit__(self, *_: object) -> None:
        """Give it back; call `ended` if that was the last time."""

_Outside = tuple[str, np.dtype[Any], Sequence[int], float, int]

class Flag(metaclass=_Pybind11Type):
    """A truth that any thread may set, and that a `HotPath` reads."""

    def __init__(self) -> None: ...
    @property
    def value(self) -> bool:
        """The truth; True at first."""

    @value.setter
    def value(self, value: bool) -> None: ...

class PythonEngine(Engine):
    """An engine that calls Python functions.

    Parameters
    ----------
    run : callable
        Given a list of one array an input, returns one array an output: copies, whose sizes may be
        others every time. The arrays that it is given are the same ones at every call.
    tapped : callable
        Returns one array a tap, of the last run.
    inputs, outputs, taps : sequence of (name, dtype, shape, scale, zero_point)
        The tensors; an output or a tap of another dtype or size is not measured.
    """

    def __init__(
        self,
        *,
        run: Callable[[list[npt.NDArray[Any]]], Sequence[npt.NDArray[Any]]],
        tapped: Callable[[], Sequence[npt.NDArray[Any]]],
        inputs: Sequence[_Outside],
        outputs: Sequence[_Outside],
        taps: Sequence[_Outside],
    ) -> None: ...

@final
class ChannelNumbers(metaclass=_Pybind11Type):
    """Mean, spread and roughness of each channel of inputs; of a channel of one element its value.

    Parameters
    ----------
    shape : sequence of int
        Of one input: 1 to 8 axes of at least one element.
    channel : int or None
        The axis whose elements are sensors or colours of their own; None: there is one channel.
    smooth : sequence of int
        Axes along which neighbours look alike: roughness is the mean absolute step along them.
    scale, zero_point : float
        Of the input; 1 and 0 for real numbers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channel: int | None,
        smooth: Sequence[int],
        scale: float,
        zero_point: float,
    ) -> None: ...
    def measure(self, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the numbers of raw inputs, shape (n, size), some 3 ns an element.

        Parameters
        ----------
        inputs
            int8, uint8, int16 or float32, C-contiguous, n inputs along the first axis. What is not
            finite counts as 0.
        """

    @property
    def size(self) -> int:
        """Numbers of an input."""

    def memory_bytes(self) -> int:
        """Bytes held."""

class ConditionGate(metaclass=_Pybind11Type):
    """Tells whether inputs have come from the condition that is served to another one.

    Parameters
    ----------
    numbers : int
        Of an input.
    rivals : sequence of (direction, mean, spread, centre, factor, examples)
        At most 16 other conditions: the direction that tells them from the one that is served, mean
        and spread of their examples, each one a number; where the middle lies along the direction,
        what logarithms are multiplied by, and how many examples there are.
    height : float
        What a sum of logarithms has to reach.
    """

    def __init__(
        self,
        numbers: SupportsIndex,
        rivals: Sequence[
            tuple[Sequence[float], Sequence[float], Sequence[float], float, float, int]
        ],
        height: float,
    ) -> None: ...
    def judge(self, rows: npt.NDArray[np.float64]) -> tuple[int | None, bool]:
        """Return the rival that a stretch has come to, or None, and whether it may yet be one.

        Parameters
        ----------
        rows
            Shape (n, numbers), C-contiguous, oldest first.
        """

    def first_passage(self, rows: npt.NDArray[np.float64]) -> int:
        """Return how many inputs of a stream come until one is seen; 0: never."""

    def memory_bytes(self) -> int:
        """Bytes held."""

class ConditionWatch(metaclass=_Pybind11Type):
    """Looks at every input that a HotPath serves, whether it has come to another condition.

    Parameters
    ----------
    numbers : ChannelNumbers
        Copied.
    gate : ConditionGate
        For every `step`-th of these numbers.
    dtype : str
        Of the model's first input.
    step : int
        See `gate`.

    Notes
    -----
    A hot path has the thread that serves call it: use it under the inference lock.
    """

    def __init__(
        self,
        numbers: ChannelNumbers,
        gate: ConditionGate,
        dtype: str,
        step: SupportsIndex = 1,
    ) -> None: ...
    @property
    def to(self) -> int | None:
        """The rival that inputs have come to, or None."""

    def reset(self) -> None:
        """Begin anew."""

    def memory_bytes(self) -> int:
        """Bytes held."""

class InputCorrection(metaclass=_Pybind11Type):
    """A correction of one input, feature by feature.

    Parameters
    ----------
    dtype : str
        ``"int8"``, ``"uint8"`` or ``"float32"``.
    shape : sequence of int
        Of one sample: 1 to 8 axes of at least one element.
    nbytes : int
        Room for the correction: 64, and for each feature 256 for 8 bits, 8 for float32.

    Notes
    -----
    Its bytes say what it does: `selfheal_edge.tflite.input_table` has the format. Bytes that say
    what cannot be correct nothing. All zero, it corrects nothing and costs nothing.
    """

    def __init__(self, dtype: str, shape: Sequence[int], nbytes: int) -> None: ...
    @property
    def memory(self) -> npt.NDArray[np.uint8]:
        """Its bytes, writable: all zero at first, which corrects nothing."""

    @property
    def is_on(self) -> bool:
        """Whether it corrects anything."""

    def corrected(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return one input as the hot path corrects it; the array itself where it does not.

        Raises
        ------
        TypeError, ValueError
            For an array that is not one input.
        """

    def memory_bytes(self) -> int:
        """Bytes held."""

@final
class HotPath(metaclass=_Pybind11Type):
    """What surrounds an inference, in one call.

    Sweep a slice of the weights, copy and quantise the input, run, measure, copy the answer, update
    the monitor. Python is entered only when something is up, and where engine or monitor are
    Python's.

    Parameters
    ----------
    inference_lock : FairLock
        Held while inferences run.
    signals : SignalPass
        What is measured.
    monitor : InferenceMonitor or callable
        What hears it; one reference a signal. A function takes a `measurement` and returns what is
        true where it raises alarms; what it raises ends the call. It may predict, or close.
    measurement : type
        A named tuple of values, repeats_previous, nonfinite, label, confidence, nonfinite_outputs,
        same_answer.
    inputs, outputs : sequence of (name, dtype, shape, scale, zero_point)
        The model's tensors as users see them; scale 0 for one that is not quantised.
    prediction, predictions : type
        Classes with the slots id, output, label, confidence, trusted, verified, quarantined,
        alarms, and ids, output, labels, confidence, trusted, verified, quarantined, alarms.
    trusted : Flag
        Whether answers may be relied on that are sound by themselves.
    first_id : int
        The id of an inference is this and its number.
    handle : callable
        Called under the inference lock with a set of `ATTENTION`, the runtime's error or None, and
        what a monitor's function returned or None; returns the inference's alarms. If it returns
        after a failure, the inference is tried once more.
    ended : callable
        Called after the inference lock was given back, if `handle` was called.
    clock : callable, optional
        Monotonic seconds, asked before each inference; None for `coarse_seconds`.
    shape : callable
        Called with answers of any size (a list of arrays for each inference), a form and whether
        real numbers came in; returns what the user gets.
    live_bytes, behind_bytes : int
        What is swept of each image, and of what stands behind it, before each inference at least,
        gathered until it makes a block.
    live_seconds, behind_seconds : float
        In which a sweep shall be complete where inferences are rare; 0: bytes alone count.
    heals : bool
        Whether the sweep repairs what it finds; else it looks.

    Notes
    -----
    An inference that takes less than 20 microseconds keeps the GIL, a longer one gives it away; one
    of an engine that needs it keeps it always. Nothing allocates after `attach` and `guard` but the
    answer.
    """

    def __init__(
        self,
        *,
        inference_lock: FairLock,
        signals: SignalPass,
        monitor: InferenceMonitor | Callable[[Any], object],
        measurement: type,
        inputs: Sequence[_Outside],
        outputs: Sequence[_Outside],
        prediction: type,
        predictions: type,
        trusted: Flag,
        first_id: SupportsIndex,
        handle: Callable[[int, BaseException | None, Any], object],
        ended: Callable[[], object],
        clock: Callable[[], float] | None,
        shape: Callable[[Any, Any, bool], object],
        live_bytes: SupportsIndex,
        behind_bytes: SupportsIndex,
        live_seconds: SupportsFloat,
        behind_seconds: SupportsFloat,
        heals: bool,
    ) -> None: ...
    def predict(self, x: object, out: object = None, /) -> Any:
        """Give the answer to an array, or to a dict of arrays; None where this is not the way.

        That is an array that is not plain, C-contiguous and of a fitting shape and dtype, values
        that are NaN, a closed model, a forked process: the caller says what is wrong, or calls
        `serve`.
        """

    def infer(self, x: object, /) -> Any:
        """Give a prediction, or predictions of a batch; None likewise."""

    def serve(
        self,
        rows: Sequence[npt.NDArray[Any]],
        *,
        form: str,
        real: bool,
        nonfinite: npt.NDArray[np.int64] | None,
        records: bool,
    ) -> Any:
        """Serve n inferences from arrays of shape (n, *shape), in the tensors' own dtypes.

        form, real: as in `Batch`. nonfinite: for every inference how many of its values
        quantisation has hidden. records: whether a prediction is wanted. RuntimeError when closed.
        """

    def again(self) -> bool:
        """Inside `handle`: serve that inference anew, without sweep and monitor."""

    def attach(
        self, engine: Engine | None, embedding: SupportsIndex = -1, proven: bool = False
    ) -> None:
        """Run this engine from now on; None: no more.

        embedding: the tap that is measured. proven: its bytes were verified, so that its answers
        are trusted although no sweep looks at them.
        """

    def watch(self, conditions: ConditionWatch | None) -> None:
        """Have the first input of each inference looked at from now on; None: no more.

        Raises
        ------
        ValueError
            For one of another type or size of inputs.
        """

    def correct(self, correction: InputCorrection | None) -> None:
        """Correct the only input from now on, where its bytes say so; None: never.

        Signals of the input, and what is kept of it, are of what came in.
        """

    def guard(
        self,
        guards: Sequence[ImageGuard],
        maintenance_lock: FairLock | None = None,
        executing: Sequence[bool] = ...,
        all_watched: bool = True,
    ) -> None:
        """Sweep these images from now on, unless another thread has the lock.

        executing: of each, whether answers come from its bytes, so that `verifying` has to look at
        it; all if empty; time alone paces the sweep of the others. all_watched: whether
        nothing executes from elsewhere; else no answer says that it is verified.
        """

    @property
    def timed(self) -> bool:
        """Whether the parts of each inference are timed."""

    @timed.setter
    def timed(self, timed: bool) -> None: ...
    @property
    def timing(self) -> tuple[float, float, float]:
        """Seconds of the model, of checking, of signals and monitor, in the last one timed."""

    @property
    def verifying(self) -> str | None:
        """What is checked whole at each inference: None, ``"before"`` or ``"around"``.

        An inference during which a byte was wrong is made again, from a recurrent model's state
        before it; after eight findings its answer is given, and is not to be trusted.
        """

    @verifying.setter
    def verifying(self, what: str | None) -> None: ...
    @property
    def findings(self) -> list[tuple[int, Finding]]:
        """What the last sweep found, with the index of the image."""

    @property
    def has_reals(self) -> bool:
        """Whether the core gives real numbers for all quantised outputs."""

    @property
    def number(self) -> int:
        """Inferences served."""

    @property
    def due_number(self) -> int:
        """Handle from this inference on; 2**64 - 1, or None when set: never."""

    @due_number.setter
    def due_number(self, number: int | None) -> None: ...
    @property
    def due_seconds(self) -> float:
        """Handle from this time on; infinity, or None when set: never."""

    @due_seconds.setter
    def due_seconds(self, seconds: float | None) -> None: ...
    @property
    def heals(self) -> bool:
        """Whether sweeps repair what they find at once, or only report it."""

    @heals.setter
    def heals(self, heals: bool) -> None: ...
    @property
    def passages_from(self) -> int:
        """Handle, from this inference on, those whose input has come to another condition.

        Set to None: never.
        """

    @passages_from.setter
    def passages_from(self, number: int | None) -> None: ...
    @property
    def watched(self) -> bool:
        """Whether every inference is handled."""

    @watched.setter
    def watched(self, watched: bool) -> None: ...
    @property
    def suspecting(self) -> bool:
        """Whether the latest input is suspect, or all that come are."""

    @suspecting.setter
    def suspecting(self, suspecting: bool) -> None: ...
    @property
    def awaits_calm(self) -> bool:
        """Whether every inference is handled after which the monitor has settled."""

    @awaits_calm.setter
    def awaits_calm(self, awaits: bool) -> None: ...
    @property
    def watched_on_record(self) -> bool:
        """Whether every inference is handled whose caller is told more than the answer."""

    @watched_on_record.setter
    def watched_on_record(self, watched: bool) -> None: ...
    def memory_bytes(self) -> int:
        """Bytes held: fixed after `guard` but for answers that are kept to be used again."""

def quick_predict(cls: type, slow: Callable[..., Any], attribute: str) -> Any:
    """Make a method ``predict(x, out=None)`` of a class.

    It tries the `HotPath` that an instance has as `attribute`, which may be None, before it calls
    `slow`. One class of a process has one.
    """

def quick_infer(cls: type, slow: Callable[..., Any], attribute: str) -> Any:
    """Make a method ``infer(x)`` of a class likewise."""

def committee_infer(cls: type, slow: Callable[..., Any], attribute: str) -> Any:
    """Make a method ``infer(x)`` of a class.

    The `Committee` that an instance has as `attribute` answers, before `slow` is called. One class
    of a process has one.
    """

def committee_predict(cls: type, slow: Callable[..., Any], attribute: str) -> Any:
    """Make a method ``predict(x)`` of a class likewise."""

class FixedShare(metaclass=_Pybind11Type):
    """Weights of a few members that answer together, from what is known of their losses.

    Fixed share (Herbster and Warmuth 1998), with the switching rate learned by a mixture of a few
    rates. For each rate a, with losses l and the learning rate h, v = w e^(-h l) and then
    w = (1 - a) v / sum v + a / members awake; all as logarithms. A sleeper has no weight, wakes at
    the floor, and returns within 32 rounds to the share that it had, an eighth of what is missing
    with each, unless its losses exceed those of the mixture by 1.

    Parameters
    ----------
    members : int
        1 to 16.
    learning_rate : float
        What a loss of 1 takes off the logarithm of a weight: above 0, at most 4.
    rates : list of float
        1 to 8 switching rates, each from 1e-6 to 0.5; by default four, from 1/2048 to 1/32.
    floor : float
        The least weight of a member that is awake: 0 to 1 / (2 members).

    Raises
    ------
    ValueError
        When an argument is out of range.

    Notes
    -----
    An update of 3 members and 4 rates takes some 2 us. Nothing allocates after construction but
    what is returned. A state goes on bit for bit on every machine. One object, one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge._core import FixedShare
    >>> share = FixedShare(2, floor=0.01)
    >>> for _ in range(10):
    ...     share.update(np.array([0.0, 1.0]))
    >>> share.weights.round(2).tolist()
    [0.99, 0.01]
    """

    def __init__(
        self,
        members: SupportsIndex,
        *,
        learning_rate: SupportsFloat = 1.0,
        rates: Sequence[float] = ...,
        floor: SupportsFloat = 0.01,
    ) -> None: ...
    def update(self, losses: npt.NDArray[np.float64], influence: SupportsFloat = 1.0) -> None:
        """Take a round: a loss a member, from 0 to 1, NaN for none. Those of sleepers do not count.

        A label may weigh less than one: `influence`, 0 to 1. ValueError for other numbers.
        """

    def hear(
        self,
        losses: npt.NDArray[np.float64],
        influence: SupportsFloat = 1.0,
        importance: SupportsFloat = 1.0,
    ) -> None:
        """Take a round of a source that may err or lie.

        A weight follows it as far as 0.04 from what learned rounds say; further where one member's
        losses exceed another's by more than a fifth of false labels can make it seem. `importance`,
        0 to 1: how often such a round is among all, against among those that are heard.
        """

    def prove(self, member: SupportsIndex) -> None:
        """Let a member that returns do so by one round: it is known to be right without a label."""

    def set_asleep(self, asleep: Sequence[bool]) -> None:
        """Say which members sleep. ValueError where none would be awake."""

    def restore(self, member: SupportsIndex) -> None:
        """Have an awake member return to its share of before: what has cost it that is healed."""

    def set_cap(self, member: SupportsIndex, most: SupportsFloat) -> None:
        """Bound a member's weight, above 0; 1: no bound."""

    def set_weight(self, member: SupportsIndex, weight: SupportsFloat) -> None:
        """Give a member that is awake a weight; the others share the rest in proportion."""

    def seated(self, places: Sequence[int]) -> FixedShare:
        """Return the same for other seats: `places` says who of now sits in each, -1 for a new one.

        A new member begins with an even share; what the others had keeps its proportions. Sleep,
        caps and returns go with their member. ValueError for what is no place of now, or is named
        twice, and where the floor is too high for so many.
        """

    def bound(self, rounds: SupportsIndex, switches: SupportsIndex) -> float:
        """Return the most by which the loss exceeds that of any sequence of members."""

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """One a member; they sum to one."""

    @property
    def asleep(self) -> tuple[bool, ...]:
        """Which members sleep."""

    @property
    def returning(self) -> tuple[bool, ...]:
        """Which members return to their share of before."""

    @property
    def caps(self) -> tuple[float, ...]:
        """The most that each may weigh."""

    @property
    def past(self) -> tuple[float, ...]:
        """The share that each goes back to after a sleep."""

    @property
    def rates(self) -> npt.NDArray[np.float64]:
        """Switching rates."""

    @property
    def rate_weights(self) -> npt.NDArray[np.float64]:
        """What each of the switching rates weighs by now."""

    @property
    def mixture_loss(self) -> float:
        """Loss of the mixture so far."""

    @property
    def rounds(self) -> int:
        """Rounds so far."""

    @property
    def members(self) -> int:
        """Number of members."""

    @property
    def floor(self) -> float:
        """The least weight of one awake."""

    @property
    def learning_rate(self) -> float:
        """What a loss of 1 takes off the logarithm of a weight."""

    def state(self) -> bytes:
        """Give the whole state as a versioned, checksummed blob."""

    @staticmethod
    def from_state(state: bytes) -> FixedShare:
        """Restore an object that continues bit for bit."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""

@final
class Committee(metaclass=_Pybind11Type):
    """Asks a few members, and makes one answer of theirs, by their weights.

    The lock, the members' calls, the look at their states, temperatures, weights, votes and the
    ring of latest answers are one call. What is out of the ordinary is its face's, whose methods it
    calls with the lock: ``_attend(x, answers, error)`` returns the answers to combine where a
    member raised, all are silent, or one answers again or is in another state than was noted;
    ``_follow()`` acts where members part too often, or at all where that is to be followed, or one
    returns; ``_deliver()`` comes after the lock, where a callback is to be told.

    Parameters
    ----------
    share : FixedShare
        Has the weights.
    lock : LockScope
        Taken for each answer.
    width : int
        Classes, or values of an answer: 1 to 65536.
    capacity : int
        Answers that are kept for labels that come later: 1 to 65536.
    combine : str
        ``"mean"``, ``"vote"`` or ``"best"``.
    has_classes : bool
        Whether outputs are probabilities or logits; else values.
    input_shape, shape : list of int
        Of an input, and of an output.
    answer, prediction : type
        The classes of what comes in and of what goes out, with slots.
    names : tuple of str
        The members, in order.
    first_id : int
        Ids are above it.
    heard : bool
        Whether ``_deliver()`` is called.

    Raises
    ------
    ValueError
        When an argument is out of range, or a class has other slots.

    Notes
    -----
    About a microsecond beside three members of ten classes. Fixed memory.
    """

    def __init__(
        self,
        share: FixedShare,
        *,
        lock: LockScope,
        width: SupportsIndex,
        capacity: SupportsIndex,
        combine: str,
        has_classes: bool,
        input_shape: Sequence[int],
        shape: Sequence[int],
        answer: type,
        prediction: type,
        names: tuple[str, ...],
        first_id: SupportsIndex,
        heard: bool,
    ) -> None: ...
    def answer(self, face: Any, x: Any, /) -> Any:
        """Ask the members about one sample, and return the committee's answer.

        Raises what a member raises where none is left, and what ``lock.check()`` raises.
        """

    def seat(
        self,
        member: SupportsIndex,
        *,
        infer: Callable[[Any], Any],
        loop: Any,
        scores: str,
        dtype: np.dtype[Any],
        scale: SupportsFloat,
        zero_point: SupportsIndex,
        temperature: SupportsFloat,
    ) -> None:
        """Give a place to a member: whom to ask, whose state to look at, how to read the output.

        All of it, or where that raises nothing. `scores`: ``"probabilities"``, ``"logits"``,
        ``"sigmoid"`` or ``"values"``.
        """

    def note(self, member: SupportsIndex, state: Any) -> None:
        """Take note of the state of a member's loop that was looked at; None: look again."""

    def silence(self, member: SupportsIndex, until: SupportsIndex | None) -> None:
        """Ask a member again after so many answers; None: never, 0: at once."""

    @property
    def has_changed(self) -> bool:
        """Whether a member's loop has another state than was noted."""

    def ask(self, x: Any, answers: list[Any]) -> Exception | None:
        """Ask the members whose answers the list lacks, until one raises; return that, or None."""

    @property
    def takes_raw(self) -> bool:
        """Whether raw inputs mean the same to all members."""

    @takes_raw.setter
    def takes_raw(self, takes: bool) -> None: ...
    @property
    def on_call(self) -> bool:
        """Whether a member serves that should sleep, so that no answer is trusted."""

    @on_call.setter
    def on_call(self, on_call: bool) -> None: ...
    def set_reach(self, reach: SupportsFloat) -> None:
        """Set the distance of values that counts as a loss of 1."""

    def watch(self, share: SupportsFloat, memory: SupportsFloat, interval: SupportsFloat) -> bool:
        """Count partings, of which there is such a share; return whether there can be a chart.

        `memory` is the correlation of one parting with the next. An alarm comes after `interval`
        answers on average, if there is no change.
        """

    def watch_nothing(self) -> None:
        """Count partings without a chart."""

    def importance(self, has_parted: bool) -> float:
        """Take note of a label of an answer; return what it counts for, 0 to 1.

        That is how often members part in the latest answers, against in those of labels.
        """

    def take_alarm(self) -> bool:
        """Return whether members parted too often since this was asked last."""

    def take_parting(self) -> bool:
        """Return whether members parted, in an answer that was to be followed."""

    def follow_partings_from(self, number: SupportsIndex) -> None:
        """Have ``_follow()`` called for partings from so many answers on; at first from 0 on."""

    def losses(
        self, id: SupportsIndex, label: Any, *, wrong: bool = False
    ) -> npt.NDArray[np.float64] | None:
        """Return the losses of the members in a kept answer, NaN for those without; None: not kept.

        `wrong`: it is known that the label is not the one.
        """

    def kept(self, id: SupportsIndex) -> npt.NDArray[np.float32] | None:
        """Return what each member gave, (members, width), NaN without; None: not kept."""

    def ids(self, id: SupportsIndex) -> tuple[int, ...]:
        """Return each member's own id of its answer; -1: none, or not kept."""

    def labels(self, id: SupportsIndex) -> tuple[int, ...]:
        """Return the class that each member named; -1: none, or not kept."""

    def verdict(self, id: SupportsIndex) -> int:
        """Return the class that was answered; -1: none, or not kept."""

    def parted(self, id: SupportsIndex) -> bool:
        """Return whether members that were awake parted; False where it is not kept."""

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in order."""

    @names.setter
    def names(self, names: tuple[str, ...]) -> None: ...
    @property
    def held_from(self) -> int:
        """The id of the oldest answer that is kept, if there is one."""

    @property
    def first_id(self) -> int:
        """Ids are above this."""

    @property
    def number(self) -> int:
        """Answers so far."""

    @property
    def capacity(self) -> int:
        """Answers that are kept."""

    @property
    def partings(self) -> int:
        """Answers on which members that were awake parted."""

    @property
    def is_watched(self) -> bool:
        """Whether partings have a chart."""

    def memory_bytes(self) -> int:
        """Bytes held, fixed at construction."""
