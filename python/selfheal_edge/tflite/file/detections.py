"""Find the outputs of a detector: boxes, classes, scores and how many there are.

The rule. Either an operator TFLite_Detection_PostProcess computes four of the outputs of subgraph
0, in whatever order the model returns them; or the model has exactly four outputs of float32,
n x 4, n, n and 1 elements with n above 1, of which the two of n are told apart by "score" or
"class" in their names, or come in that operator's order: boxes, classes, scores, count.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from selfheal_edge.tflite.format.records import DecodedSubgraph, TensorInfo

__all__ = ["DetectionOutputs", "find_detections"]

_OPERATOR: Final = "TFLite_Detection_PostProcess"

DetectionOutputs: TypeAlias = tuple[int, int, int, int]
"""Which of a model's outputs are boxes, classes, scores and the count."""


def find_detections(graph: DecodedSubgraph) -> DetectionOutputs | None:
    """Return where a detector's outputs are, or None where a model is none.

    Parameters
    ----------
    graph
        Subgraph 0 of a validated model.
    """
    outputs = list(graph.outputs)
    for operator in graph.operators:
        if operator.custom_code != _OPERATOR or len(operator.outputs) != 4:
            continue
        if all(outputs.count(index) == 1 for index in operator.outputs):
            boxes, classes, scores, count = (outputs.index(index) for index in operator.outputs)
            return boxes, classes, scores, count
    return _by_shape([graph.tensors[index] for index in outputs])


def _by_shape(outputs: list[TensorInfo]) -> DetectionOutputs | None:
    if len(outputs) != 4 or any(tensor.dtype != "float32" for tensor in outputs):
        return None
    boxes = [i for i, t in enumerate(outputs) if t.shape[-1:] == (4,) and len(t.shape) >= 2]
    if len(boxes) != 1 or outputs[boxes[0]].size <= 4:
        return None
    most = outputs[boxes[0]].size // 4
    each = [i for i, t in enumerate(outputs) if t.size == most]
    count = [i for i, t in enumerate(outputs) if t.size == 1]
    if len(each) != 2 or len(count) != 1:
        return None
    named = [[word in outputs[i].name.lower() for word in ("class", "score")] for i in each]
    if named == [[False, True], [True, False]]:
        each.reverse()
    elif named != [[True, False], [False, True]] and (boxes[0], *each, count[0]) != (0, 1, 2, 3):
        return None
    return boxes[0], each[0], each[1], count[0]
