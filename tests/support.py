"""What several tests share: raw interpreters, random inputs, and small parts to plug in."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hypothesis import settings

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import BudgetExhaustedError
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.model import parts_of
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import KernelsChoice, RuntimeName, TensorSpec
from selfheal_edge.tflite.runtimes.select import available_runtimes
from selfheal_edge.tflite.sandbox.probe import Prober
from selfheal_edge.tflite.session import Session

Array = npt.NDArray[Any]

ROOT: Final = Path(__file__).resolve().parents[1]
SHARED: Final = ROOT.parent / "shared" / "models"
# Where this process imports from, for the processes that a test starts: in an installed package the
# compiled core does not lie beside the sources.
IMPORT_PATH: Final = os.pathsep.join(filter(None, sys.path))
RUNTIMES: Final = tuple(available_runtimes())
MODULES: Final = {
    "litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
}
MODELS: Final = (
    "ad_autoencoder_int8",
    "hello_world_int8",
    "kws_dscnn_dynamic_range",
    "kws_dscnn_int8",
    "mnist_lstm_int8",
    "mobilenet_v1_025_128_uint8",
    "resnet8_cifar10_float32",
    "resnet8_cifar10_int8",
    "split_concat_uint8",
    "vww_mobilenet_int8",
    "wakeword_streaming_int8",
)


@functools.cache
def digits_baseline() -> she.Baseline:
    """Return a baseline of the demo's model on the fastest runtime here, calibrated once."""
    digits = load_digits()
    return she.calibrate(
        digits_model_path(), digits.calibration_inputs, digits.calibration_labels, seed=1
    )


def examples(count: int, **others: Any) -> settings:
    """Return settings of a property: so many examples, of which the fast tier tries a quarter.

    It tries the same ones each time, so what it tries again shows what it showed before;
    `--hypothesis-profile explore`, and with it the long tier, tries other ones, and all of them.
    """
    assert settings.default is not None
    share = settings.default.max_examples / 100
    return settings(max_examples=min(count, max(15, round(count * share))), **others)


def all_hold(rule: Callable[[Any], object], cases: Mapping[str, Any]) -> None:
    """Assert that a rule holds for each of many cases, naming all for which it does not, and why.

    Where a case takes milliseconds, a test of its own would take longer to be told of than to run.
    """
    assert cases
    broken = []
    for name, case in cases.items():
        try:
            rule(case)
        except AssertionError as error:
            broken.append(f"{name}: {error}")
    assert not broken, "\n".join(broken)


def in_memory(room: int = 32 << 20) -> str | None:
    """Return a folder that lies in memory, None where there is none with so many bytes left."""
    folder = "/dev/shm"
    if not os.access(folder, os.W_OK):
        return None
    there = os.statvfs(folder)
    return folder if there.f_bavail * there.f_frsize >= room else None


def open_files() -> int:
    """Return how many descriptors this process has open, as a test may count on it.

    Garbage of tests that ran before goes first, or it would go while a test counts; the helper that
    tries unknown files is there, or it would come meanwhile; and libraries are left out, since what
    sweeps code opens one whenever its turn comes, and reads it for as long as its budget says.
    """
    _start_helpers()
    gc.collect()
    return sum(map(_lasts, os.listdir("/proc/self/fd")))


def _lasts(descriptor: str) -> bool:
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the listing's own, which is closed by now
        return False
    return ".so" not in target and not target.endswith("/maps")


def begins(budget: she.RepairBudget) -> bool:
    """Whether the budget has a repair to take; it is taken then."""
    try:
        budget.begin()
    except BudgetExhaustedError:
        return False
    return True


@functools.cache
def _start_helpers() -> None:
    for runtime in RUNTIMES:
        with Prober(runtime) as prober:
            prober.probe(digits_model_path().read_bytes())


def resident_kib() -> int:
    """Return the memory of this process, without what the allocator only keeps for later.

    LiteRT frees in an order of its own; what lies between grows by megabytes, for 2,000 cycles,
    under its plain interpreter as well, and is given back when asked for.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def stays_flat(work: Callable[[], object], allowed_kib: int, attempts: int = 4) -> bool:
    """Whether a run of `work` leaves memory within `allowed_kib` of what it was.

    A leak grows in every run. Once, anything may: the kernel takes back pages that no thread
    touches, and they return when one does.
    """
    for _ in range(attempts):
        before = resident_kib()
        work()
        if resident_kib() - before < allowed_kib:
            return True
    return False


class Raw:
    """The runtime's own interpreter, without us."""

    def __init__(
        self, path: Path, runtime: RuntimeName, kernels: KernelsChoice, num_threads: int = 1
    ) -> None:
        module = importlib.import_module(MODULES[runtime])
        options: dict[str, Any] = {"num_threads": num_threads}
        if kernels == "builtin":
            options["experimental_op_resolver_type"] = (
                module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        self.interpreter: Any = module.Interpreter(model_path=str(path), **options)
        self.interpreter.allocate_tensors()
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()

    def run(self, rows: list[Array]) -> list[Array]:
        """Return all outputs of one inference."""
        for detail, row in zip(self.inputs, rows, strict=True):
            self.interpreter.set_tensor(detail["index"], row)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(d["index"]) for d in self.outputs]


def random_batch(specs: tuple[TensorSpec, ...], count: int, seed: int) -> list[Array]:
    """Return full-range random inputs, one array of shape (count, *shape) per tensor."""
    rng = np.random.default_rng(seed)
    rows: list[Array] = []
    for spec in specs:
        shape = (count, *spec.shape)
        if spec.dtype.kind == "f":
            rows.append(rng.normal(0, 10, shape).astype(spec.dtype))
        else:
            info = np.iinfo(spec.dtype)
            rows.append(rng.integers(info.min, info.max, shape, spec.dtype, endpoint=True))
    return rows


def named(specs: tuple[TensorSpec, ...], rows: list[Array]) -> Array | dict[str, Array]:
    """Return what `predict` takes: an array, or a dict for several inputs."""
    if len(specs) == 1:
        return rows[0]
    return {spec.name: row for spec, row in zip(specs, rows, strict=True)}


def answers(model: she.SelfHealingModel, x: Array | dict[str, Array]) -> list[Array]:
    """Return all outputs of `predict` in the model's order."""
    y = model.predict(x)
    return [y[spec.name] for spec in model.outputs] if isinstance(y, dict) else [y]


def infer_one(model: she.SelfHealingModel, x: Array) -> she.Prediction:
    """Return what `infer` says of one sample."""
    found = model.infer(x)
    assert isinstance(found, she.Prediction)
    return found


def same(left: list[Array], right: list[Array]) -> bool:
    """Whether two lists of arrays are equal bit for bit, dtypes and shapes included."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left, right, strict=True)
    )


def internals(model: she.SelfHealingModel) -> Weights:
    """Return what stands behind `model.weights`: images with their guards, pools and parity."""
    return parts_of(model).weights


def stored_copy(image: GuardedImage, generation: int, block: int) -> Array:
    """Return where a generation's copy of a block lies in the pool, writable."""
    assert image.pool is not None
    size = image.image.block_bytes
    wanted = np.frombuffer(image.pool.read(generation), np.uint8)[block * size :][:size]
    rows: Array = image.pool.memory()[0].reshape(-1, size)
    place = int(np.flatnonzero((rows[:, : wanted.size] == wanted).all(axis=1))[0])
    copy: Array = rows[place]
    return copy


def litert_library() -> Path:
    """Return where LiteRT's library is installed."""
    package = importlib.util.find_spec("ai_edge_litert")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("libLiteRt.so")


def executing(model: she.SelfHealingModel) -> str:
    """Return the name of the image whose bytes run."""
    return "packed" if "packed" in model.weights.images else "source"


def flip(model: she.SelfHealingModel, offset: int, mask: int = 1, image: str | None = None) -> None:
    """Flip bits of one byte, by default of the image that executes."""
    she.redteam.inject(model).memory(image or executing(model))[offset] ^= np.uint8(mask)


def bytes_of(model: she.SelfHealingModel) -> bytes:
    """Return a copy of the live bytes that execute."""
    return bytes(she.redteam.inject(model).memory(executing(model)))


def pristine(path: Path, model: she.SelfHealingModel) -> bytes:
    """Return the executing bytes as an undamaged session of the same kind has them."""
    place = model.health.fingerprint
    data = path.read_bytes()
    taps = tuple(model.baseline.taps(ModelFile.from_bytes(data)))
    return _pristine(data, place.runtime, place.kernels, place.num_threads, taps)


@functools.cache  # what is packed from the same bytes is the same
def _pristine(
    data: bytes, runtime: Any, kernels: Any, num_threads: int, taps: tuple[int, ...]
) -> bytes:
    session = Session(data, runtime, kernels, num_threads, lambda _: taps)
    try:
        images = session.instance.images
        return bytes(images["packed"]) if "packed" in images else session.source.read()
    finally:
        session.close()


def largest_region(model: she.SelfHealingModel) -> Any:
    """Return the largest region of weights that executes."""
    regions = model.weights.images[executing(model)].regions.values()
    return max((r for r in regions if r.kind == "weights"), key=lambda r: r.nbytes)


def stream(samples: Array, count: int, seed: int = 0) -> Array:
    """Return samples drawn with replacement, never the same twice in a row."""
    rng = np.random.default_rng(seed)
    order = rng.integers(0, len(samples), count)
    while (twice := np.flatnonzero(order[1:] == order[:-1])).size:
        order[twice + 1] = rng.integers(0, len(samples), twice.size)
    return samples[order]


def kinds(model: she.SelfHealingModel) -> list[str]:
    """Return the kinds of all events."""
    return [event.kind for event in model.events]


def causes(model: she.SelfHealingModel) -> list[str | None]:
    """Return the causes of all diagnoses."""
    return [event.cause for event in model.events if event.kind == "diagnosis"]


class DoNothing:
    """A strategy that claims to heal and does nothing."""

    heals = True

    def __init__(self, name: str, applied: bool = True) -> None:
        self.name = name
        self.applied = applied
        self.calls = 0

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        """Count the call."""
        del target, case
        self.calls += 1
        return RepairOutcome(self.applied, "nothing was done")


class Break(DoNothing):
    """A strategy that raises."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.error = error

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        """Raise."""
        super().apply(target, case)
        raise self.error


def run_by(model: she.SelfHealingModel, run: Callable[[Any], Any]) -> None:
    """Have a model run by `run` until it is rebuilt: a fault where no checksum sees it."""
    she.redteam.inject(model).replace_run(run)
