"""What integrity costs, and how fast damage is healed: every figure with its target.

CRC-32C stands beside google-crc32c and xxhash in one run, over blocks as the sweep reads them and
over the whole buffer; read bandwidth is NumPy's sum over 64-bit words. "Detection to healed" is the
core's call on a damaged block: look, find a source, verify, write, verify again, seal, report.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import google_crc32c
import numpy as np
import xxhash

import harness
import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.exposure import measure_exposure
from selfheal_edge.guarded_image import GuardedImage, GuardOptions
from selfheal_edge.session import Session

KEY = bytes(range(16))
SMALL = 64 << 10
LARGE = 64 << 20


def median_seconds(work: Callable[[], object], prepare: Callable[[], object], calls: int) -> float:
    """Return the median time of `work`, each time after `prepare`, which is not counted."""
    times = []
    for _ in range(calls):
        prepare()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def checksums(quick: bool) -> list[harness.Row]:
    """CRC-32C against its peers and against read bandwidth."""
    rows = []
    rng = np.random.default_rng(0)
    for name, size, calls in (("64 KiB", SMALL, 200), ("64 MiB", LARGE, 1)):
        words = rng.integers(0, 2**63, size // 8, dtype=np.int64)
        data = words.tobytes()
        functions: list[Callable[[], object]] = [
            partial(_core.crc32c, data),
            partial(google_crc32c.value, data),
            partial(xxhash.xxh3_64_intdigest, data),
            words.sum,
            partial(_core.keyed_hash, KEY, data),
        ]
        rounds = 3 if quick else 21
        times = harness.interleaved(functions, rounds=rounds, calls=calls)
        ours, google, xxh, read, keyed = (size / t / 1e9 for t in times)
        rows += [
            harness.Row(f"CRC32C {name}", ours, "GB/s", None, True),
            harness.Row(f"CRC32C {name} / google-crc32c", ours / google, "ratio", 1.0, True),
            harness.Row(f"CRC32C {name} / xxh3", ours / xxh, "ratio", None, True),
            harness.Row(f"CRC32C {name} / read bandwidth", ours / read, "ratio", 0.8, True),
            harness.Row(f"keyed hash {name}", keyed, "GB/s", None, True),
        ]
    return rows


def restores(image: GuardedImage, label: str, calls: int) -> list[harness.Row]:
    """Restore of a block, a module and the model against memcpy of the same bytes."""
    rows = []
    assert image.pool is not None
    live = np.frombuffer(image.live, np.uint8)
    region = max(image.regions.values(), key=lambda r: r.nbytes)
    first, count = image.image.region_blocks(region.name)
    blocks = image.image.block_count
    ranges = {"block": (first, 1), "module": (first, count), "model": (0, blocks)}
    for what, (begin, number) in ranges.items():
        part = live[begin * 512 : (begin + number) * 512]
        copy = part.copy()

        def damage(part: Any = part) -> None:
            part ^= np.uint8(0x55)

        restore = median_seconds(
            lambda b=begin, n=number: image.pool.restore(0, b, n),  # type: ignore[misc]
            damage,
            calls,
        )
        plain = median_seconds(lambda p=part, c=copy: np.copyto(p, c), damage, calls)  # type: ignore[misc]
        np.copyto(part, copy)
        rows.append(
            harness.Row(f"{label}: restore {what} / memcpy", restore / plain, "ratio", 1.5, False)
        )
        rows.append(harness.Row(f"{label}: restore {what}", restore * 1e6, "us", None, False))
    return rows


def model_rows(name: str, quick: bool) -> list[harness.Row]:
    """All figures that depend on a model."""
    path = harness.SHARED / "models" / f"{name}.tflite"
    if not path.exists():
        print(f"skipped {name}: no {path.name} beside the project")
        return []
    calls = 50 if quick else 1000
    session = Session(path)
    rng = np.random.default_rng(0)
    spec = session.instance.inputs[0]
    x = rng.integers(-128, 128, spec.shape).astype(spec.dtype)
    run = session.instance.run
    inference = median_seconds(lambda: run([x]), lambda: None, calls)
    images = dict(session.instance.images)
    regions = session.instance.image_regions if images else {}
    live = images.get("packed", session.source.view)
    table = regions.get("packed", session.copy.model.regions)
    image = GuardedImage("measured", live, table, GuardOptions())
    memory = np.frombuffer(live, np.uint8)
    rows = [harness.Row(f"{name}: inference", inference * 1e6, "us", None, False)]

    places = iter(rng.integers(0, image.nbytes, 10 * calls).tolist())
    here = [0]

    def damage() -> None:
        here[0] = next(places)
        memory[here[0]] ^= np.uint8(0x10)

    alone = _core.ImageGuard(image.image, None, image.parity, 1)
    for source, guard in (("copy", image.guard), ("parity", alone)):
        seconds = median_seconds(lambda g=guard: g.heal(here[0] // 512), damage, calls)  # type: ignore[misc]
        assert not image.image.check(keyed=True)
        rows.append(
            harness.Row(
                f"{name}: detection to healed, from {source}",
                seconds / inference,
                "inferences",
                5.0,
                False,
            )
        )
        rows.append(
            harness.Row(
                f"{name}: repair of a block, from {source}", seconds * 1e6, "us", None, False
            )
        )
    rows += restores(image, name, calls)

    # All images, swept within 1 s at 20 predictions a second; and the keyed sweep beside it.
    total = session.source.nbytes + (live.nbytes if images else 0)
    whole = median_seconds(lambda: image.guard.step(1 << 40, 0), lambda: None, calls)
    keyed = median_seconds(lambda: image.guard.step(0, 1 << 40), lambda: None, max(20, calls // 10))
    share = whole * total / image.nbytes
    rows += [
        harness.Row(
            f"{name}: CPU for a sweep of all images a second", share * 100, "%", 1.0, False
        ),
        harness.Row(f"{name}: full keyed sweep of one image", keyed * 1e6, "us", None, False),
        harness.Row(
            f"{name}: memory per guarded byte, all",
            image.memory_bytes / image.nbytes,
            "bytes",
            None,
            False,
        ),
    ]
    assert image.parity is not None
    lean = image.image.memory_bytes() + image.parity.memory_bytes()
    rows.append(
        harness.Row(
            f"{name}: memory per guarded byte, parity alone",
            lean / image.nbytes,
            "bytes",
            None,
            False,
        )
    )
    exposure = measure_exposure(session)
    image.close()
    session.close()
    rows += [
        harness.Row(
            f"{name}: deciding bytes watched", 100 * exposure.watched_share, "%", None, True
        ),
        harness.Row(
            f"{name}: watched or rebuilt, of data and code",
            100 * exposure.share_with_code,
            "%",
            None,
            True,
        ),
    ]
    return rows


def main() -> None:
    options = harness.arguments(__doc__)
    rows = checksums(options.quick)
    for name in harness.TINY_MODELS:
        rows += model_rows(name, options.quick)
    print(f"selfheal-edge {she.__version__}, crc32c by {_core.crc32c_backend()}")
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
