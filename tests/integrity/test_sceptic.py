"""What the sceptic's script calls a certain answer."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from tests.support import ROOT, Array, flip, largest_region

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.model import parts_of

SCRIPT = ROOT / "examples" / "sceptic.py"


class Attacked:
    """A model of which a bit flips at every chosen moment of the first inferences."""

    def __init__(self, model: she.SelfHealingModel, moment: str, times: int) -> None:
        self._model = model
        self._moment = moment
        self.times = times
        self._rng = np.random.default_rng(3)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _flip(self) -> None:
        if self.times:
            self.times -= 1
            region = largest_region(self._model)
            flip(self._model, region.offset + int(self._rng.integers(region.nbytes)), 0x80)

    def predict(self, x: Array) -> Array:
        """Run without a sweep before, so that nothing but the one after it can tell."""
        if self._moment == "before":
            self._flip()
        answer = parts_of(self._model).session.instance.run([x])[0]
        if self._moment == "after":
            self._flip()
        return answer


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the examples are not here")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_no_answer_is_wrong_that_a_sweep_has_followed(
    digits_baseline: she.Baseline, digits: DigitsData, moment: str
) -> None:
    spec = importlib.util.spec_from_file_location("sceptic", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    sceptic = importlib.util.module_from_spec(spec)
    sys.modules["sceptic"] = sceptic  # its dataclasses look there
    spec.loader.exec_module(sceptic)
    x: Array = digits.heldout_inputs[:40, np.newaxis]
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        run = parts_of(model).session.instance.run
        expected = [run([row])[0].tobytes() for row in x]
        attacked = Attacked(model, moment, times=30)
        sweeps = sceptic.Sweeps(model)
        for row, right in zip(x, expected, strict=True):
            assert sceptic.ask_until_sound(attacked, row, sweeps).tobytes() == right
        assert attacked.times == 0
        assert sweeps.repeated == 30
        assert sweeps.began <= sweeps.ended
