"""`selfheal-edge diff`: which layers of a model were changed, and by how much."""

from __future__ import annotations

import argparse
from typing import Any, Final

from selfheal_edge.cli.screen import is_silent, print_facts, print_rows, write_json
from selfheal_edge.text import shown
from selfheal_edge.tflite.correction_file import Correction, read_correction
from selfheal_edge.tflite.file.difference import TensorDifference, compare_models
from selfheal_edge.tflite.file.input_folding import Folded, unfolded
from selfheal_edge.tflite.file.model_file import ModelFile

__all__ = ["run_diff"]

_LAYER_WIDTH: Final = 48


def run_diff(arguments: argparse.Namespace) -> int:
    """Print what differs; errors are the caller's."""
    golden, other = (ModelFile.from_path(p) for p in (arguments.golden, arguments.healed))
    inside = None if unfolded(golden) else unfolded(other)
    plain = other if inside is None else ModelFile.from_bytes(inside.file)
    found = compare_models(golden, plain)
    corrected = _input(golden, read_correction(arguments.healed) if inside is None else inside)
    content = {
        "golden": {"path": arguments.golden, "sha256": golden.sha256},
        "healed": {"path": arguments.healed, "sha256": other.sha256},
        "tensors": [difference.to_dict() for difference in found],
        "input": corrected,
    }
    write_json(content, arguments.json)
    if is_silent(arguments.json):
        return 0
    if not found:
        print("no weight differs")
    else:
        head = ("changed", "of", "largest", "RMS", "RMS before", "scales", "layer")
        print_rows(head, [_row(difference) for difference in found])
    if corrected is not None:
        where = "the file beside it" if inside is None else "its graph"
        print_facts(
            [
                ("input", f"{corrected['features']} feature(s) corrected, by {where}"),
                ("axis", corrected["axis"]),
            ]
        )
    return 0


def _row(difference: TensorDifference) -> tuple[object, ...]:
    def number(value: float | None) -> str:
        return "?" if value is None else f"{value:.4g}"

    scales = "" if difference.scales is None else "x {:.3g} to {:.3g}".format(*difference.scales)
    layer = ", ".join(difference.modules) or difference.tensor
    return (
        f"{difference.share:.1%}",
        difference.elements,
        number(difference.largest),
        number(difference.rms),
        number(difference.golden_rms),
        scales,
        f"{shown(layer, _LAYER_WIDTH)} ({difference.dtype} {shown(difference.tensor)})",
    )


def _input(golden: ModelFile, found: Correction | Folded | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, Folded):
        features, is_inside = found.features, True
    else:
        features, is_inside = found.table.features(found.axis), False
    return {
        "name": golden.inputs[0].name,
        "axis": found.axis,
        "features": features,
        "in_graph": is_inside,
    }
