"""Choose a runtime and its kernels, and build a model with them."""

from __future__ import annotations

import platform
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from selfheal_edge.errors import ModelFormatError, RuntimeUnavailableError
from selfheal_edge.text import quoted
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.float_environment import UsualFloats
from selfheal_edge.tflite.memory.source_image import SourceImage
from selfheal_edge.tflite.runtimes.litert import LiteRt
from selfheal_edge.tflite.runtimes.protocol import Instance, KernelsChoice, Runtime, RuntimeName
from selfheal_edge.tflite.runtimes.tflite_runtime import TfliteRuntime
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.sandbox.probe_copy import probe_copy

__all__ = [
    "Choice",
    "KernelsArgument",
    "RuntimeArgument",
    "available_runtimes",
    "choose",
    "load_runtime",
]

RuntimeArgument: TypeAlias = Literal["auto", RuntimeName]
KernelsArgument: TypeAlias = Literal["auto", "default", "builtin"]

_RUNTIMES: Final[dict[RuntimeName, Callable[[], Runtime]]] = {
    "litert": LiteRt,
    "tflite_runtime": TfliteRuntime,
}
_as_assumed: set[tuple[str, RuntimeName]] = set()
"""Copies whose shapes were compared, by hash and runtime."""
_HANDLES: Final = frozenset({"RESOURCE", "VARIANT"})
_loaded: dict[RuntimeName, Runtime] = {}


def _load(name: RuntimeName) -> Runtime:
    if name not in _loaded:
        _loaded[name] = _RUNTIMES[name]()
    return _loaded[name]


def available_runtimes() -> dict[RuntimeName, str]:
    """Return the version of every runtime that can be imported here, fastest first."""
    found: dict[RuntimeName, str] = {}
    for name in _RUNTIMES:
        try:
            found[name] = _load(name).version
        except ImportError:
            continue
    return found


def _unavailable(wanted: str, reasons: Sequence[str]) -> RuntimeUnavailableError:
    text = f"runtime: expected {wanted} to be importable, got: " + "; ".join(reasons)
    if struct.calcsize("P") == 4 and platform.machine() == "aarch64":
        text += (
            ". This Python is 32-bit on a 64-bit kernel, so installers took it for a 64-bit one: "
            "install with 'linux32 pip install …', which brings tflite-runtime, or use a 64-bit "
            "system, where LiteRT is several times faster"
        )
    return RuntimeUnavailableError(text)


def load_runtime(argument: str) -> Runtime:
    """Return the runtime of this name, or with ``"auto"`` the fastest one that is here."""
    if argument != "auto" and argument not in _RUNTIMES:
        raise ValueError(
            f"runtime: expected one of {', '.join(get_args(RuntimeArgument))}, got {argument!r}"
        )
    wanted: list[RuntimeName] = [n for n in _RUNTIMES if argument in ("auto", n)]
    reasons = []
    for name in wanted:
        try:
            return _load(name)
        except ImportError as error:
            reasons.append(f"{name}: {error}")
    raise _unavailable(" or ".join(wanted), reasons)


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs a model, and why it and not another."""

    runtime: Runtime
    kernels: KernelsChoice
    num_threads: int
    reason: str
    copy: ModelCopy
    probe_policy: ProbePolicy = field(default_factory=ProbePolicy)

    def build(self, source: SourceImage) -> Instance:
        """Build a fresh instance from the live bytes of `source`."""
        with UsualFloats():  # weights are packed, and threads started, as for every instance
            return self.runtime.build(
                source.path, self.copy, self.kernels, self.num_threads, self.probe_policy
            )


def _reason(asked: KernelsArgument, chosen: KernelsChoice, instance: Instance) -> str:
    worst = instance.coverage.worst.value
    if asked != "auto":
        return f"{chosen} kernels as asked for; weights are {worst}"
    if chosen == "default":
        return f"default kernels are the fastest, and weights are {worst}"
    return f"builtin kernels: weights are {worst}; default kernels would hide a packed copy"


def _check_ends(model: ModelFile) -> None:
    """Refuse inputs and outputs that are handles, which no array can stand for."""
    for place, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        for tensor in tensors:
            if tensor.type in _HANDLES:
                raise ModelFormatError(
                    f"model: expected {place} that hold numbers or text, "
                    f"got {tensor.dtype} ({quoted(tensor.name)})"
                )


def _check_assumed(
    runtime: Runtime, source_path: str, copy: ModelCopy, probe_policy: ProbePolicy
) -> None:
    """Compare the shapes that constants of the copy follow from with those that the runtime finds.

    Builtin kernels settle every shape before the first run; what they do not settle is not known.
    """
    key = (copy.model.sha256, runtime.name)
    if not copy.assumed or key in _as_assumed:
        return
    instance = runtime.build(source_path, copy, "builtin", 1, probe_policy)
    try:
        found = instance.settled_shapes(copy.assumed)
    finally:
        instance.close()
    for index, shape in copy.assumed.items():
        if found.get(index) != shape:
            raise ModelFormatError(
                f"model: expected the shape {list(shape)} of tensor {index}, which the file "
                f"declares, got {found.get(index)} from {runtime.name}"
            )
    _as_assumed.add(key)


def choose(
    model: ModelFile | ModelCopy,
    source: SourceImage,
    runtime: RuntimeArgument = "auto",
    kernels: KernelsArgument = "auto",
    num_threads: int = 1,
    probe_policy: ProbePolicy = ProbePolicy(),  # noqa: B008 — immutable
) -> tuple[Choice, Instance]:
    """Choose what runs `model`, and build it.

    Parameters
    ----------
    model
        The map of the file, or our copy of it.
    source
        The same bytes (the copy's), where the runtime can map them.
    runtime
        ``"auto"`` takes LiteRT where it is installed, else tflite-runtime.
    kernels
        ``"auto"`` takes the fastest kernels under which every weight is `executing`; where there
        are none, those with the best coverage.
    num_threads
        At least 1.
    probe_policy
        What probing an unknown file in a child process may cost.

    Raises
    ------
    RuntimeUnavailableError
        When no such runtime can be imported.
    ModelFormatError
        When the runtime refuses the file, or dies of it (tried in a child process first, unless
        this file is known); and when it finds other shapes than the copy was made for.
    """
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"num_threads: expected an integer of at least 1, got {num_threads!r}")
    if kernels not in get_args(KernelsArgument):
        raise ValueError(
            f"kernels: expected one of {', '.join(get_args(KernelsArgument))}, got {kernels!r}"
        )
    copy = ModelCopy.unchanged(model) if isinstance(model, ModelFile) else model
    _check_ends(copy.original)
    chosen = load_runtime(runtime)
    candidates: tuple[KernelsChoice, ...] = (
        ("default", "builtin") if kernels == "auto" else (kernels,)
    )
    best: tuple[KernelsChoice, Instance] | None = None
    refusal: ModelFormatError | None = None
    notes: list[str] = []
    for candidate in candidates:  # fastest first
        try:
            probe_copy(copy, chosen.name, candidate, num_threads, probe_policy)
            _check_assumed(chosen, source.path, copy, probe_policy)
            instance = chosen.build(source.path, copy, candidate, num_threads, probe_policy)
        except ModelFormatError as error:
            refusal = error
            continue
        if instance.note:
            notes.append(instance.note)
        if best is None or instance.coverage.worst.rank < best[1].coverage.worst.rank:
            if best is not None:
                best[1].close()
            best = (candidate, instance)
        else:
            instance.close()
        if best[1].coverage.worst is Coverage.EXECUTING:
            break
    if best is None:
        assert refusal is not None
        raise refusal
    reason = "; ".join([_reason(kernels, *best), *notes])
    return Choice(chosen, best[0], num_threads, reason, copy, probe_policy), best[1]
