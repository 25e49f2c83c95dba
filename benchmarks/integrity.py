"""What integrity costs, and how fast damage is healed: every figure with its target.

CRC-32C stands beside google-crc32c and xxhash in one run, over blocks as the sweep reads them and
over the whole buffer; read bandwidth is NumPy's sum over 64-bit words. "Detection to healed" is the
core's call on a damaged block: look, find a source, verify, write, verify again, seal, report. The
share of bytes that is covered is printed with its parts; `integrity/protected_share.py` says how
they are counted.
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
from selfheal_edge import _core
from selfheal_edge.calibration.known_answers import choose_questions
from selfheal_edge.integrity.guarded_image import GuardedImage, GuardOptions
from selfheal_edge.integrity.protected_share import measure_protected_share
from selfheal_edge.tflite.session import Session

KEY = bytes(range(16))
PARTS = ("checks", "checksums", "large", "models")
SIZES = {
    "512 B": 512,
    "4 KiB": 4 << 10,
    "64 KiB": 64 << 10,
    "1 MiB": 1 << 20,
    "16 MiB": 16 << 20,
    "64 MiB": 64 << 20,
}


def each_seconds(
    works: list[Callable[[], object]], prepare: Callable[[], object], calls: int
) -> list[float]:
    """Return the median time of each of `works`, in turn, each time after `prepare`."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(calls):
        for row, work in zip(times, works, strict=True):
            prepare()
            start = time.perf_counter()
            work()
            row.append(time.perf_counter() - start)
    return [statistics.median(row) for row in times]


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
    """CRC-32C against its peers and against read bandwidth; the fastest of many interleaved runs.

    Blocks as small as a sweep's are dominated by the call from Python, ours and theirs.
    """
    rows = []
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        data = rng.bytes(size)
        words = np.frombuffer(data, np.int64)  # the very same pages: NumPy's own may be huge ones
        functions: list[Callable[[], object]] = [
            partial(_core.crc32c, data),
            partial(google_crc32c.value, data),
            partial(xxhash.xxh3_64_intdigest, data),
            words.sum,
            partial(_core.keyed_hash, KEY, data),
        ]
        calls = max(1, min(200, (1 << 22) // size))
        rounds = 3 if quick else max(21, min(201, (1 << 28) // (size * calls)))
        times = harness.interleaved(functions, rounds=rounds, calls=calls, best=True)
        ours, google, xxh, read, keyed = (size / t / 1e9 for t in times)
        target = None if size < 4096 else 0.8  # NumPy's call alone takes longer than the block
        rows += [
            harness.Row(f"CRC32C {name}", ours, "GB/s", None, True),
            harness.Row(f"CRC32C {name} / google-crc32c", ours / google, "ratio", 1.0, True),
            harness.Row(f"CRC32C {name} / xxh3", ours / xxh, "ratio", None, True),
            harness.Row(f"CRC32C {name} / read bandwidth", ours / read, "ratio", target, True),
            harness.Row(f"keyed hash {name}", keyed, "GB/s", None, True),
        ]
    return rows


def checks(quick: bool) -> list[harness.Row]:
    """Measure the check before an answer, and CRC-32C, under each backend; the best of many runs.

    In the caches and beyond: read bandwidth is NumPy's sum over the same bytes. An inference checks
    from within the core: what a call from Python takes that checks nothing is taken off a check.
    """
    rows = []
    rng = np.random.default_rng(0)
    kinds = (
        ("check", _core.keyed_hash_backends(), _core.set_keyed_hash_backend),
        ("CRC-32C", _core.crc32c_backends(), _core.set_crc32c_backend),
    )
    for name in ("64 KiB", "256 KiB", "1 MiB", "64 MiB"):
        size = SIZES.get(name, 256 << 10)
        data = np.frombuffer(bytearray(rng.bytes(size)), np.uint8)
        image = _core.WeightImage(data, key=KEY)
        nothing = partial(image.check, 0, 0)
        works: dict[str, Callable[[], object]] = {
            "check": image.check,
            "CRC-32C": partial(_core.crc32c, data),
        }
        rounds = 5 if quick else max(9, min(400, (1 << 29) // size))
        calls = max(1, min(50, (1 << 22) // size))
        (read,) = harness.interleaved(
            [data.view(np.int64).sum], rounds=rounds, calls=calls, best=True
        )
        for kind, backends, switch in kinds:
            for backend in backends:
                switch(backend)
                seconds, call = harness.interleaved(
                    [works[kind], nothing], rounds=rounds, calls=calls, best=True
                )
                seconds -= call if kind == "check" else 0.0
                label = f"{kind}, {backend}, {name}"
                is_judged = kind == "check" and backend == backends[0]
                inner = 40.0 if is_judged and size <= 256 << 10 else None
                beyond = 0.8 if is_judged and name == "64 MiB" else None
                rows += [
                    harness.Row(label, size / seconds / 1e9, "GB/s", inner, True),
                    harness.Row(f"{label} / read bandwidth", read / seconds, "ratio", beyond, True),
                ]
            switch(backends[0])
        del image
    return rows


def notice_rows(session: Session, name: str, quick: bool) -> list[harness.Row]:
    """Known answers, chosen greedily and drawn at random: which share of top-bit flips they notice.

    Chosen on one half of the candidates' flips, as calibration does, and judged by others.
    """
    if session.stateful:
        return []
    rng = np.random.default_rng(11)
    spec = session.instance.inputs[0]
    inputs = [[rng.integers(-128, 128, spec.shape).astype(spec.dtype)] for _ in range(64)]
    packed = session.instance.images.get("packed")
    regions = (
        session.instance.image_regions["packed"]
        if packed is not None
        else session.copy.model.regions
    )
    live = np.frombuffer(session.source.view if packed is None else packed, np.uint8)
    offsets = np.concatenate(
        [np.arange(r.offset, r.offset + r.nbytes) for r in regions if r.kind == "weights"]
    )
    run = session.instance.run
    count = 8
    greedy = choose_questions(inputs, run, live, offsets, count, 2048, rng)
    drawn = [rng.choice(64, count, replace=False).tolist() for _ in range(5)]
    asked = sorted({*greedy, *(i for row in drawn for i in row)})
    sound = {i: run(inputs[i])[0].tobytes() for i in asked}
    flips = 20 if quick else 400
    noticed = np.zeros((len(asked), flips), bool)
    for n in range(flips):
        offset = int(rng.choice(offsets))
        live[offset] ^= np.uint8(0x80)
        for k, i in enumerate(asked):
            noticed[k, n] = run(inputs[i])[0].tobytes() != sound[i]
        live[offset] ^= np.uint8(0x80)

    def share(chosen: list[int]) -> float:
        return 100 * float(noticed[[asked.index(i) for i in chosen]].any(axis=0).mean())

    return [
        harness.Row(f"{name}: top-bit flips noticed by 8 chosen", share(greedy), "%", None, True),
        harness.Row(
            f"{name}: top-bit flips noticed by 8 random",
            statistics.mean(share(row) for row in drawn),
            "%",
            None,
            True,
        ),
    ]


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

        restore, rollback, plain = each_seconds(
            [
                lambda b=begin, n=number: image.pool.restore(0, b, n),  # type: ignore[misc]
                lambda b=begin, s=part.size: image.guard.restore(0, b * 512, s),  # type: ignore[misc]
                lambda p=part, c=copy: np.copyto(p, c),  # type: ignore[misc]
            ],
            damage,
            calls,
        )
        np.copyto(part, copy)
        rows.append(
            harness.Row(f"{label}: restore {what} / memcpy", restore / plain, "ratio", 1.5, False)
        )
        rows.append(harness.Row(f"{label}: restore {what}", restore * 1e6, "us", None, False))
        rows.append(
            harness.Row(
                f"{label}: restore {what}, parity and seals followed",
                rollback * 1e6,
                "us",
                None,
                False,
            )
        )
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
        assert not image.image.check()
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

    # All images, swept within 1 s at 20 predictions a second; and what stands behind them.
    total = session.source.nbytes + (live.nbytes if images else 0)
    whole = median_seconds(lambda: image.guard.step(1 << 40, 0), lambda: None, calls)
    keyed = median_seconds(lambda: image.guard.step(0, 1 << 40), lambda: None, max(20, calls // 10))
    share = whole * total / image.nbytes
    rows += [
        harness.Row(
            f"{name}: CPU for a sweep of all images a second", share * 100, "%", 1.0, False
        ),
        harness.Row(f"{name}: full sweep behind one image", keyed * 1e6, "us", None, False),
        harness.Row(
            f"{name}: memory per guarded byte, all",
            image.memory_bytes / image.nbytes,
            "bytes",
            None,
            False,
        ),
    ]
    assert image.parity is not None
    rows.append(
        harness.Row(
            f"{name}: parity per guarded byte",
            image.parity.memory_bytes() / image.nbytes,
            "bytes",
            None,
            False,
        )
    )
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
    rows += notice_rows(session, name, quick)
    protected_share = measure_protected_share(session)
    print(f"{name}: {protected_share}")
    image.close()
    session.close()
    rows += [
        harness.Row(
            f"{name}: deciding bytes watched", 100 * protected_share.watched_share, "%", None, True
        ),
        harness.Row(
            f"{name}: watched or rebuilt, of data and code",
            100 * protected_share.share_with_code,
            "%",
            None,
            True,
        ),
    ]
    return rows


def large_rows(quick: bool) -> list[harness.Row]:
    """Sweep an image of 8 MiB with eight generations, and restore all of them.

    A visit of the sweep behind must not depend on how much there is, nor a restore on which
    generation it goes to. Every generation differs from golden in 256 blocks of its own.
    """
    rng = np.random.default_rng(5)
    live = bytearray(rng.bytes(8 << 20))
    memory = np.frombuffer(live, np.uint8)
    image = _core.WeightImage(live, key=KEY)
    pool = _core.SnapshotPool(image, 8 * 256, 9)
    guard = _core.ImageGuard(image, pool, _core.Parity(image), 1)
    calls = 3 if quick else 9

    def sweep() -> None:
        assert not guard.step(0, 1 << 40)

    def take(number: int) -> None:
        assert guard.restore(0).refused == 0
        for block in range(number * 256, number * 256 + 256):
            guard.write(512 * block, bytes(memory[512 * block : 512 * block + 8] ^ np.uint8(1)))
        assert pool.take() == number

    take(1)
    one = median_seconds(sweep, lambda: None, calls)
    for number in range(2, 9):
        take(number)
    eight = median_seconds(sweep, lambda: None, calls)
    restores = each_seconds(
        [partial(guard.restore, number) for number in range(9)],
        lambda: guard.restore(0),
        calls,
    )
    assert not image.check()
    label = "8 MiB, 8 generations"
    rows = [
        harness.Row(f"{label}: full sweep behind", eight * 1e3, "ms", None, False),
        harness.Row(f"{label}: sweep behind / with 1", eight / one, "ratio", 1.5, False),
        harness.Row(
            f"{label}: one visit of it", eight / guard.blocks_behind * 1e6, "us", 1.0, False
        ),
        harness.Row(f"{label}: restore golden", restores[0] * 1e3, "ms", None, False),
    ]
    for number in range(1, 9):
        ratio = restores[number] / restores[0]
        rows.append(harness.Row(f"{label}: restore {number} / golden", ratio, "ratio", 1.5, False))
    return rows


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    rows: list[harness.Row] = []
    if "checks" in options.parts:
        rows += checks(options.quick)
    if "checksums" in options.parts:
        rows += checksums(options.quick)
    if "large" in options.parts:
        rows += large_rows(options.quick)
    for name in harness.TINY_MODELS if "models" in options.parts else ():
        rows += model_rows(name, options.quick)
    print(f"crc32c by {_core.crc32c_backend()}, keyed hash by {_core.keyed_hash_backend()}")
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
