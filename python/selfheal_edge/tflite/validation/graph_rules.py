"""What must hold for a subgraph: indices in range, data flow in order, branches that end."""

from __future__ import annotations

from collections.abc import Iterator

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import DecodedModel, DecodedSubgraph, OperatorInfo
from selfheal_edge.tflite.validation.operator_rules import check_operator
from selfheal_edge.tflite.validation.result_sizes import check_result_sizes

__all__ = ["check_graph", "check_subgraph_references"]


def check_graph(data: bytes, number: int, graph: DecodedSubgraph) -> None:
    """Check one subgraph whose tensors were checked.

    Raises
    ------
    ModelFormatError
        With the operator's place and name, what was expected and what was found.
    """
    place = f"Model.subgraphs[{number}]"
    _check_ends(number, graph)
    _check_data_flow(data, place, graph)


def _check_ends(number: int, graph: DecodedSubgraph) -> None:
    place = f"Model.subgraphs[{number}]"
    count = len(graph.tensors)
    tensors = graph.tensors
    for field, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for index in indices:
            if not 0 <= index < count:
                raise ModelFormatError(
                    f"{place}.{field}: expected tensors 0 to {count - 1}, got {index}"
                )
    for index in graph.inputs:
        if tensors[index].is_constant or tensors[index].is_variable:
            raise ModelFormatError(
                f"{place}.inputs: expected a tensor that can be written, got constant or variable "
                f"{index} ({tensors[index].name!r})"
            )
    if number == 0 and not graph.outputs:
        raise ModelFormatError(f"{place}.outputs: expected at least one output, got none")


def _check_data_flow(data: bytes, place: str, graph: DecodedSubgraph) -> None:
    count = len(graph.tensors)
    tensors = graph.tensors
    # An empty tensor needs no producer: converters give empty shapes and lists that way.
    available = {t.index for t in tensors if t.is_constant or t.is_variable or not t.size} | set(
        graph.inputs
    )
    written = set(graph.inputs)
    for operator in graph.operators:
        where = f"{place}.operators[{operator.index}] ({operator.custom_code or operator.name})"
        _check_indices(where, operator, count)
        for index in operator.inputs:
            if index >= 0 and index not in available:
                raise ModelFormatError(
                    f"{where}.inputs: expected a constant, variable, input or earlier result, got "
                    f"tensor {index} ({tensors[index].name!r}), which nothing has produced"
                )
        for index in operator.outputs:
            if index in written or tensors[index].is_constant:
                raise ModelFormatError(
                    f"{where}.outputs: expected a tensor that nothing else defines, got tensor "
                    f"{index} ({tensors[index].name!r})"
                )
            written.add(index)
        available.update(operator.outputs)
        check_operator(where, operator, tensors)
        check_result_sizes(where, data, operator, tensors)
    for index in graph.outputs:
        if index not in available:
            raise ModelFormatError(
                f"{place}.outputs: expected a tensor that the graph produces, got {index} "
                f"({tensors[index].name!r})"
            )


def _check_indices(where: str, operator: OperatorInfo, count: int) -> None:
    optional = operator_known_as(operator.name).absent
    for position, index in enumerate(operator.inputs):
        if not (0 <= index < count or (index == -1 and position in optional)):
            lowest = -1 if position in optional else 0
            raise ModelFormatError(
                f"{where}.inputs[{position}]: expected {lowest} to {count - 1}, got {index}"
            )
    for position, index in enumerate(operator.outputs):
        if not 0 <= index < count:
            raise ModelFormatError(
                f"{where}.outputs[{position}]: expected 0 to {count - 1}, got {index}"
            )
    for position, index in enumerate(operator.intermediates):
        if not -1 <= index < count:
            raise ModelFormatError(
                f"{where}.intermediates[{position}]: expected -1 to {count - 1}, got {index}"
            )


def _references(operator: OperatorInfo) -> Iterator[int]:
    for field in operator_known_as(operator.name).calls:
        value = operator.options[field]
        yield from value if isinstance(value, tuple) else (value,)


def check_subgraph_references(model: DecodedModel) -> None:
    """Check that control flow names subgraphs that exist, fit, and do not call themselves.

    Raises
    ------
    ModelFormatError
        With the operator's place, what was expected and what was found.
    """
    calls: dict[int, set[int]] = {i: set() for i in range(len(model.subgraphs))}
    for number, graph in enumerate(model.subgraphs):
        for operator in graph.operators:
            if not operator_known_as(operator.name).calls:
                continue
            place = f"Model.subgraphs[{number}].operators[{operator.index}] ({operator.name})"
            targets = tuple(_references(operator))
            for target in targets:
                if not 0 <= target < len(model.subgraphs):
                    raise ModelFormatError(
                        f"{place}: expected subgraphs 0 to {len(model.subgraphs) - 1}, got {target}"
                    )
                calls[number].add(target)
            _check_arity(place, operator, model, targets)
    _check_no_recursion(calls)


def _check_arity(
    place: str, operator: OperatorInfo, model: DecodedModel, targets: tuple[int, ...]
) -> None:
    given, taken = len(operator.inputs), len(operator.outputs)
    if operator.name == "IF":
        wanted = [(t, given - 1, taken) for t in targets]
    elif operator.name == "WHILE":
        wanted = [(targets[0], given, 1), (targets[1], given, given)]
        if taken != given:
            raise ModelFormatError(f"{place}: expected {given} outputs, got {taken}")
    elif operator.name == "CALL_ONCE":
        wanted = [(targets[0], 0, 0)]
    else:
        return
    for target, inputs, outputs in wanted:
        graph = model.subgraphs[target]
        if (len(graph.inputs), len(graph.outputs)) != (inputs, outputs):
            raise ModelFormatError(
                f"{place}: expected subgraph {target} to have {inputs} inputs and {outputs} "
                f"outputs, got {len(graph.inputs)} and {len(graph.outputs)}"
            )


def _check_no_recursion(calls: dict[int, set[int]]) -> None:
    remaining = {number: set(targets) for number, targets in calls.items()}
    while remaining:
        leaves = {number for number, targets in remaining.items() if not targets}
        if not leaves:
            raise ModelFormatError(
                f"Model.subgraphs: expected control flow that ends, got subgraphs that call "
                f"themselves: {sorted(remaining)}"
            )
        for number in leaves:
            del remaining[number]
        for number in remaining:
            remaining[number] -= leaves
