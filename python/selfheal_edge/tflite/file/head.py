"""Find the last layer of a classifier, and with it the embedding.

The rule. Walk back from output 0 of subgraph 0 through operators that keep one value per class
(softmax, log-softmax, logistic, reshape, squeeze, expand-dims, quantise, dequantise, cast) to the
operator behind them. It is a head when all of this holds:

- it is a FULLY_CONNECTED, or a CONV_2D with a 1x1 kernel whose output has one position;
- its weights are constant, its input is computed, it has no fused activation;
- it yields one row per sample: as many as the model's first input has, or one;
- it has two classes or more, or a single output that is a LOGISTIC's: the probability of class 1
  of two (any other single output is a regression or a score, without classes);
- the output has not as many elements as the first input (that is an autoencoder).

A regression with several outputs looks like logits to this rule: `calibrate(labels=…)` tells it by
its targets. Other kinds of head (pooling after the last convolution, several outputs that matter)
are not found, never guessed.

A regressor's last layer is found in the same way, where nothing makes probabilities of its output:
then how many numbers it gives does not matter.
"""

from __future__ import annotations

from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import DecodedSubgraph, HeadInfo, OperatorInfo

__all__ = ["find_head"]


def find_head(graph: DecodedSubgraph, *, is_regression: bool = False) -> HeadInfo | str:
    """Return the last layer before the classes, or why there is none.

    Parameters
    ----------
    graph
        Subgraph 0 of a validated model.
    is_regression
        Whether it has no classes: then a row of weights is for a number.
    """
    found = _last(graph)
    if isinstance(found, str):
        return found
    operator, activation = found
    if is_regression:
        reason = f"output 0 has gone through {activation}" if activation else ""
    else:
        reason = _why_no_classes(graph, operator, activation)
    return reason or _head(graph, operator, activation)


def _last(graph: DecodedSubgraph) -> tuple[OperatorInfo, str | None] | str:
    """Return the operator behind output 0, and what makes probabilities of its result, if any."""
    producers = {out: op for op in graph.operators for out in op.outputs}
    if not graph.inputs or not graph.outputs:
        return "the model has no input, or no output"
    activation: str | None = None
    output = graph.outputs[0]
    index = output
    while (operator := producers.get(index)) is not None:
        known = operator_known_as(operator.name)
        if known.probabilities:
            activation = activation or operator.name
        elif not known.keeps_classes:
            break
        index = operator.inputs[0]
    return "no layer computes output 0" if operator is None else (operator, activation)


def _why_no_classes(graph: DecodedSubgraph, operator: OperatorInfo, activation: str | None) -> str:
    if reason := _why_no_layer(graph, operator):
        return reason
    tensors = graph.tensors
    classes = tensors[operator.inputs[1]].shape[0]
    rows = tensors[operator.outputs[0]].size // classes if classes else 0
    if classes < 2 and not (classes == 1 and activation == "LOGISTIC" and rows == 1):
        return f"output 0 has {classes} value(s) and no LOGISTIC: a score, not classes"
    output = tensors[graph.outputs[0]].size
    if output == tensors[graph.inputs[0]].size or output != rows * classes:
        return "output 0 is as large as the input, or has more than one value a class"
    return ""


def _head(graph: DecodedSubgraph, operator: OperatorInfo, activation: str | None) -> HeadInfo | str:
    if reason := _why_no_layer(graph, operator):
        return reason
    tensors = graph.tensors
    embedding, weights = (tensors[i] for i in operator.inputs[:2])
    classes, features = weights.shape[0], weights.shape[-1]
    first = tensors[graph.inputs[0]]
    batch = first.shape[0] if first.shape else 1
    rows = tensors[operator.outputs[0]].size // classes if classes else 0
    is_sigmoid = classes == 1 and activation == "LOGISTIC"
    if rows not in (1, batch) or embedding.size != rows * features:
        return f"the last layer yields {rows} rows a sample"
    bias = operator.inputs[2] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
    return HeadInfo(
        operator=operator.index,
        embedding=embedding.index,
        embedding_size=features,
        weights=weights.index,
        bias=bias,
        logits=operator.outputs[0],
        classes=2 if is_sigmoid else classes,
        output="logits" if activation is None else "probabilities",
        activation=activation,
    )


def _why_no_layer(graph: DecodedSubgraph, operator: OperatorInfo) -> str:
    if operator.name not in ("FULLY_CONNECTED", "CONV_2D"):
        return f"output 0 comes from {operator.name}, not from FULLY_CONNECTED or CONV_2D"
    if operator.options.get("fused_activation_function", 0):
        return f"the last {operator.name} has a fused activation"
    embedding, weights = (graph.tensors[i] for i in operator.inputs[:2])
    shape = weights.shape
    if operator.name == "CONV_2D" and (len(shape) != 4 or shape[1:3] != (1, 1)):
        return f"the last convolution's kernel is not 1x1: weights of shape {shape}"
    if not weights.is_constant or len(shape) < 2:
        return "the last layer's weights are computed, or no matrix"
    return "the last layer's input is a constant" if embedding.is_constant else ""
