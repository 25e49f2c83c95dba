from __future__ import annotations

from typing import Any

import pytest
from tests.tflite import builder
from tests.tflite.campaign import run_campaign
from tests.tflite.support import RUNTIMES

pytestmark = pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed")


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_what_validation_and_probe_let_through_is_safe(
    runtime: Any, kernels: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = builder.dense_model().file()
    tally = run_campaign(data, 120, seed=7, runtime=runtime, kernels=kernels)
    with capsys.disabled():
        print(f"\n{runtime} {kernels}: {tally}")
    assert tally.mutations == 120
    assert not tally.deaths
    assert not tally.hangs
    assert tally.served > 0
