"""`kill -9` of a process that serves with a store: what it told, and its charts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import warm
from tests.store import serving

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.monitor import PerformanceMonitor


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


SERVE = "from tests.store import serving; serving.run()"


def killed(folder: Path, baseline: she.Baseline, kills: int) -> str:
    baseline.save(folder / "baseline")
    done = warm.run(SERVE, folder / "store", folder / "baseline", kills, 1, timeout=60 + 60 * kills)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_told_is_in_the_chain_or_known_as_lost(
    tmp_path: Path, baseline: she.Baseline
) -> None:
    """Weights that serve after each kill are what served, or what was about to; no id comes twice.

    What an event told of the chain is in it, as far as the chain was written.
    """
    print(killed(tmp_path, baseline, 15))


def test_after_a_kill_the_charts_are_those_of_a_commit(
    tmp_path: Path, baseline: she.Baseline
) -> None:
    baseline.save(tmp_path / "baseline")
    expected = PerformanceMonitor(baseline)
    for _ in range(3):
        with warm.start(SERVE, tmp_path / "store", tmp_path / "baseline", "stream") as child:
            first = last = int(child.stdout.readline())
            while last < first + 3:
                last = int(child.stdout.readline())
        with she.SelfHealingModel(
            digits_model_path(), baseline, store=tmp_path / "store", key=serving.KEY
        ) as model:
            found = parts_of(model).monitor
            assert isinstance(found, PerformanceMonitor)
            assert found.count > expected.count
            # A start knows no input before its first one, so this is one as well.
            with she.SelfHealingModel(digits_model_path(), baseline, monitor=expected) as alone:
                while expected.count < found.count:
                    at = expected.count % len(serving.INPUTS)
                    alone.predict(serving.INPUTS[at : at + 1])
            assert found.core.state(history=False) == expected.core.state(history=False)
            assert "ended without close" in str(model.events[-1])
