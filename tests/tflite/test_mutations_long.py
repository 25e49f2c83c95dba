from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tflite.campaign import run_campaign
from tests.tflite.support import RUNTIMES

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed"),
]


@pytest.mark.parametrize("name", ["kws_dscnn_int8", "hello_world_int8"])
def test_ten_thousand_mutations(
    runtime: Any, shared: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (shared / f"{name}.tflite").read_bytes()
    tally = run_campaign(data, 10_000, seed=2024, runtime=runtime, kernels="default")
    with capsys.disabled():
        print(f"\n{runtime} {name}: {tally}")
    assert tally.mutations == 10_000
    assert not tally.deaths
    assert not tally.hangs
    assert tally.slowest_validation_s < 2
