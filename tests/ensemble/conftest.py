"""Three members that read digits, made here: calibrated once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.made_members import DigitsParts, digits_parts, float_twin, trained_mlp

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path

Open = Callable[..., dict[str, she.SelfHealingModel]]


@pytest.fixture(scope="session")
def parts() -> DigitsParts:
    return digits_parts()


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    cnn = digits_model_path().read_bytes()
    return {"cnn": cnn, "twin": float_twin(cnn), "mlp": trained_mlp()}


@pytest.fixture(scope="session")
def baselines(files: dict[str, bytes], parts: DigitsParts) -> dict[str, she.Baseline]:
    return {
        name: she.calibrate(file, parts.calibration, parts.calibration_labels, seed=1)
        for name, file in files.items()
    }


@pytest.fixture
def opened(files: dict[str, bytes], baselines: dict[str, she.Baseline]) -> Iterator[Open]:
    """Open models by name, which are closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def open_models(*names: str, **options: Any) -> dict[str, she.SelfHealingModel]:
            return {
                name: stack.enter_context(
                    she.SelfHealingModel(files[name], baselines[name], seed=n + 1, **options)
                )
                for n, name in enumerate(names or tuple(files))
            }

        yield open_models
