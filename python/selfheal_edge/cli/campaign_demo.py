"""`selfheal-edge demo --campaign`: thirty simulated days of four devices, as a picture."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli.campaign import open_world, print_report, progress_bar
from selfheal_edge.cli.samples import check_folder, read_samples
from selfheal_edge.redteam.survival.campaign import campaign_of
from selfheal_edge.redteam.survival.picture import life_picture
from selfheal_edge.redteam.survival.record import Record
from selfheal_edge.redteam.survival.run import Arena, hushed, run_campaign, summary_of
from selfheal_edge.redteam.survival.verdict import exit_code
from selfheal_edge.text import LIST, shown

__all__ = ["run_campaign_demo"]


def _samples(arguments: argparse.Namespace) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return model, inputs and labels: the user's, or the digits that the package ships."""
    if (arguments.model is None) != (arguments.data is None):
        raise ValueError("--model, --data: expected both or none")
    if arguments.model is not None:
        return arguments.model, *read_samples(arguments.data)
    digits = load_digits()
    x = np.concatenate([digits.calibration_inputs, digits.heldout_inputs])
    y = np.concatenate([digits.calibration_labels, digits.heldout_labels])
    return digits_model_path(), x, y


def run_campaign_demo(arguments: argparse.Namespace) -> int:
    """Run the combined campaign and draw it; return 1 only if the guarded model broke."""
    began = time.perf_counter()
    check_folder("--picture", arguments.picture)
    model, x, y = _samples(arguments)
    world = open_world(model, x, y, arguments)
    records: list[Record] = []
    try:
        campaign = campaign_of("combined", world.domain.kind, world.kind, arguments.days)
        arena = Arena(world, world.calibrate())
        with hushed(), progress_bar(1) as bar:
            records.extend(run_campaign(arena, campaign, told=bar))
        summary = summary_of(records, campaign, arena.limits, arena.identity)
    finally:
        world.close()
    path = Path(arguments.picture)
    name = Path(str(model)).name
    title = f"{arguments.days:g} simulated days of {name}, run in four ways"
    path.write_text(life_picture(records[0], title=title) + "\n", encoding="utf-8")
    print_report(records, summary["summary"])
    print()
    print(f"drawn: {shown(path, LIST)} ({time.perf_counter() - began:.0f} s in all)")
    return int(exit_code([records[0]["verdict"]]) == 1)
