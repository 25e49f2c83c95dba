"""Which bytes are counted, and what is still told of them after a model was closed."""

from __future__ import annotations

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path


def test_a_closed_model_tells_what_was_counted(digits_baseline: she.Baseline) -> None:
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as model:
        share = model.health.protected_share
    assert share.heap is not None
    assert model.health.protected_share == share
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as never_asked:
        pass
    after = never_asked.health.protected_share
    assert (after.watched, after.copied, after.heap) == (share.watched, share.copied, None)
    assert after.code == share.code
    assert never_asked.health.protected_share is after
