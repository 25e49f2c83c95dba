"""Calibration: what normal operation looks like, learned once and frozen."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.calibration.correctness import (
    SAMPLES,
    Judged,
    fit_correctness,
    judge_changes,
)
from selfheal_edge.calibration.known_answers import Reservoir, choose_inputs
from selfheal_edge.calibration.profile import Asker, is_profiled, learn_profile, profile_size
from selfheal_edge.calibration.regimes import (
    NamedRegimes,
    find_periods,
    learn_regimes,
    read_regimes,
)
from selfheal_edge.calibration.targets import expected_error, read_targets
from selfheal_edge.calibration.temperature import fit_temperature
from selfheal_edge.diagnosis.layout import Layout
from selfheal_edge.diagnosis.moved_copies import COST, count_of, raw_copies
from selfheal_edge.diagnosis.profile import Profile
from selfheal_edge.diagnosis.window import Answers
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.learning.reference import LearningReference, learn_reference
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.monitoring.correctness import CorrectnessModel, read_answers
from selfheal_edge.monitoring.embedding import (
    Embedding,
    find_embedding,
    find_inner,
    fit_classes,
    why_too_near,
)
from selfheal_edge.monitoring.few_samples import FEW_RATE, SMALL_MARGINS, FewSamples, learn_few
from selfheal_edge.monitoring.interval import predictions
from selfheal_edge.monitoring.sensor_limits import (
    SensorLimits,
    flat_limit,
    run_limit,
)
from selfheal_edge.monitoring.signals import OutputKind, SignalExtractor
from selfheal_edge.store.file_format import is_storable
from selfheal_edge.text import LIST, quoted, shown
from selfheal_edge.tflite.arrays import Batch, Tensors, read_batch
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import CopyOptions
from selfheal_edge.tflite.fixed_shapes import fix_shapes
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.sandbox.known import tried_kernels
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.session import ModelSource, Session, answers_numbers

__all__ = ["calibrate", "output_kind"]

_MIN_SAMPLES: Final = 50
_KNOWN_ANSWERS: Final = 4
_PROFILED: Final = 2
_LEAST_LABELS: Final = 50  # independent ones, as LabelReference has it
_LEAST_CHANGES: Final = 10  # likewise
_NO_LIMIT: Final = (
    "equal {what} come in runs too long for {count} samples to say how long: a calibration of more "
    "than four times the longest may do"
)
_LABELLED: Final = 1  # a stream of random numbers of its own
_DISTANCE: Final = "embedding_distance"
_ALARMS: Final = ("input_flat", "input_repeats", "output_frozen", SMALL_MARGINS, "label_mix")
"""What can be left out beside signals."""


def output_kind(session: Session) -> OutputKind | None:
    """Return what output 0 of a session's model holds; None for a model without classes."""
    head = session.model.head
    return None if head is None else head.output


def _check_labels(labels: Any, classes: int) -> npt.NDArray[np.int64]:
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(
            "labels: expected integers in one dimension, one per input, "
            f"got shape {given.shape} and dtype {given.dtype.name}"
        )
    if given.size and (given.min() < 0 or given.max() >= classes):
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1}, got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)


def _read_labels(
    labels: Any, session: Session
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
    """Return the classes, or what a model without classes should answer; or neither."""
    if labels is None:
        return None, None
    head = session.model.head
    if head is None or answers_numbers(session, labels):
        return None, read_targets(labels, session.instance.outputs[0])
    return _check_labels(labels, head.classes), None


def _batches(session: Session, inputs: Any) -> Iterator[Batch]:
    """Yield the calibration in parts: all of an array at once, of an iterable one by one."""
    specs = session.instance.inputs
    if isinstance(inputs, (np.ndarray, Mapping)):
        yield read_batch(specs, session.names.inward(inputs)[0], argument="inputs")
        return
    if isinstance(inputs, (str, bytes)) or not isinstance(inputs, Iterable):
        raise TypeError(
            "inputs: expected an array, a dict of arrays or an iterable of samples, "
            f"got {type(inputs).__name__}"
        )
    for n, sample in enumerate(inputs):
        yield read_batch(specs, session.names.inward(sample)[0], argument=f"inputs[{n}]")


def _check_storable(session: Session) -> None:
    """Refuse a model whose known answers no baseline could hold, before anything has run."""
    instance = session.instance
    for what, specs in (("inputs", instance.inputs), ("outputs", instance.outputs)):
        for spec in specs:
            if not is_storable(spec.dtype):
                raise ModelFormatError(
                    f"model: expected {what} that hold numbers, got {spec.dtype.name} "
                    f"({quoted(spec.name)})"
                )


class _Observed(NamedTuple):
    """What was seen of the calibration, sample by sample."""

    values: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]
    inside: list[Array]
    answers: list[Array]
    """Output 0, where labels or targets are known; else none."""
    repeats: npt.NDArray[np.bool_]
    same_answer: npt.NDArray[np.bool_]


def _observe(
    session: Session,
    extractor: SignalExtractor,
    inputs: Any,
    truth: npt.NDArray[Any] | None,
    named: NamedRegimes | None,
    samples: Sequence[Reservoir],
    profiled: Reservoir,
) -> _Observed:
    """Run the calibration."""
    values = array("d")
    predicted = array("q")
    inside: list[Array] = []
    answers: list[Array] = []
    repeats = array("b")
    same = array("b")
    for batch in _batches(session, inputs):
        if isinstance(inputs, (np.ndarray, Mapping)):
            _check_size(batch.size, truth, named)  # before anything runs
        for n in range(batch.size):
            row = [rows[n, ...] for rows in batch.rows]
            outputs = session.instance.run(row)
            tapped = session.instance.tapped()
            measured = extractor.measure(row, outputs, tapped)
            values.extend(measured.values)
            repeats.append(measured.repeats_previous)
            same.append(measured.same_answer)
            predicted.append(-1 if measured.label is None else measured.label)
            inside += [tensor.reshape(-1)[extractor.part] for tensor in tapped[:1]]
            if truth is not None:
                answers.append(outputs[0].reshape(-1).copy())
            for sample in samples if truth is not None else samples[:1]:
                sample.offer(row)
            profiled.offer([*row[:1], *(output.reshape(-1) for output in outputs[:1]), *tapped[:1]])
    _check_size(len(predicted), truth, named)
    signals = np.frombuffer(values, np.float64) if values else np.empty(0)
    shape = len(predicted), len(extractor.names)
    return _Observed(
        signals.reshape(shape),
        np.frombuffer(predicted, np.int64),
        inside,
        answers,
        np.frombuffer(repeats, np.bool_),
        np.frombuffer(same, np.bool_),
    )


def _label_mix(
    observed: _Observed, classes: int | None, ignored: Collection[str], left_out: dict[str, str]
) -> _core.LabelReference | None:
    """Return the mix of predicted classes; None, and why into `left_out`, where none is watched."""
    # What repeats has the same label, and is not counted in serving either.
    labels = observed.predicted[(observed.predicted >= 0) & ~observed.repeats]
    if "label_mix" in ignored or (classes is None and labels.size == 0):
        return None
    if labels.size == 0:
        left_out["label_mix"] = "no calibration sample has a label that counts"
        return None
    # A detector's classes are not known: some beyond those that were seen are none of these.
    known = int(labels.max()) + 3 if classes is None else classes
    mix = _core.LabelReference(np.ascontiguousarray(labels), known)
    if mix.is_supported:
        return mix
    if mix.wanders:
        left_out["label_mix"] = "the mix of predicted classes wanders during this calibration"
    elif mix.changes < _LEAST_CHANGES:
        left_out["label_mix"] = (
            f"predicted classes other than the most frequent come in {mix.changes} runs; "
            f"their mix rests on {_LEAST_CHANGES} or more"
        )
    else:
        left_out["label_mix"] = (
            f"labels come in runs, so that {labels.size} of them tell as much as "
            f"{mix.independent_labels:.0f}; their mix rests on {_LEAST_LABELS} or more"
        )
    return None


def _limits(
    observed: _Observed, signals: Mapping[str, npt.NDArray[np.float64]], interval: float
) -> tuple[SensorLimits, dict[str, str]]:
    """Return when what needs no chart is an alarm, and what never is, each with the reason."""
    left_out = {}
    repeats = run_limit(observed.repeats, interval)
    if repeats == 0:
        left_out["input_repeats"] = _NO_LIMIT.format(what="inputs", count=observed.repeats.size)
    # An input that repeats has the same answer: it says nothing of the model.
    answers = observed.same_answer[~observed.repeats]
    frozen = run_limit(answers, interval)
    if frozen == 0:
        left_out["output_frozen"] = _NO_LIMIT.format(what="answers", count=answers.size)
    spreads = {}
    for name, column in signals.items():
        if not name.startswith("input_std"):
            continue
        least = flat_limit(column, interval)
        if least is None:
            left_out[name.replace("input_std", "input_flat")] = "flat inputs are normal here"
        else:
            spreads[name] = least
    return SensorLimits(repeats, frozen, spreads), left_out


def _places(
    tap: int | None,
    tapped: TensorSpec | None,
    observed: _Observed,
    truth: npt.NDArray[np.int64] | None,
    interval: float,
) -> tuple[Embedding | None, npt.NDArray[np.float64], dict[str, str]]:
    """Return where the classes lie, how far each sample is, and why that is no signal."""
    predicted = observed.predicted
    if tap is None or tapped is None:
        return None, np.full(len(predicted), np.nan), {}
    members = predicted if truth is None else truth
    found, new, again = fit_classes(tap, tapped, np.stack(observed.inside), members, predicted)
    why = why_too_near(new, again, interval)
    return found, new, {} if why is None else {_DISTANCE: why}


def _references(
    signals: Mapping[str, npt.NDArray[np.float64]], named: NamedRegimes | None
) -> tuple[dict[str, _core.Reference], dict[str, str]]:
    """Return the references, of one regime, and the signals without one, each with the reason."""
    kept, left_out = {}, {}
    for name, column in signals.items():
        values = column if named is None else column[named.home]
        known = int(np.isfinite(values).sum())
        if known >= _MIN_SAMPLES - 1:  # the first input has not changed from anything
            kept[name] = _core.Reference(np.ascontiguousarray(values))
        else:
            left_out[name] = (
                f"{known} of {len(values)} calibration samples have a value; "
                f"a reference rests on {_MIN_SAMPLES} or more"
            )
    return kept, left_out


def _correctness(
    session: Session,
    embedding: Embedding | None,
    observed: _Observed,
    distances: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64] | None,
    labelled: Reservoir,
) -> CorrectnessModel | None:
    """Learn how likely answers are right; the distances are those of samples that are new."""
    kind = output_kind(session)
    if truth is None or kind is None:
        return None
    rng = labelled.rng
    answers = read_answers(np.stack(observed.answers), session.instance.outputs[0], kind)
    with np.errstate(divide="ignore"):
        away = np.log(np.maximum(distances, 1e-6))
    clean = Judged(replace(answers, log_distance=away), answers.labels == truth)
    chosen = truth[labelled.numbers]
    changed = judge_changes(session, kind, embedding, labelled.held, chosen, rng)
    return fit_correctness(clean, changed, rng)


def _room_for_profile(session: Session, seed: int | None) -> Reservoir:
    first = session.instance.inputs[0]
    input_bytes = first.dtype.itemsize * int(np.prod(first.shape, dtype=np.int64))
    rng = np.random.default_rng(None if seed is None else (seed, _PROFILED))
    return Reservoir(rng, profile_size(input_bytes))


def _profile(
    session: Session,
    kind: OutputKind | None,
    sample: Reservoir,
    predicted: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64] | None,
    targets: npt.NDArray[np.float64] | None,
    signals: Mapping[str, npt.NDArray[np.float64]],
    references: Mapping[str, _core.Reference],
) -> dict[str, Array]:
    """Learn what a diagnosis compares with; nothing for models of several inputs."""
    if not is_profiled(session):
        return {}
    order = np.argsort(sample.numbers)
    rows = np.array(sample.numbers)[order]
    held = [sample.held[n] for n in order]
    scored = [
        reference.score_many(np.ascontiguousarray(signals[name]))[rows]
        for name, reference in references.items()
    ]
    scores = np.stack(scored, axis=1) if scored else np.empty((len(rows), 0))
    asker = Asker(session, kind)
    inside = [row[2] for row in held] if len(held[0]) > 2 else None
    inputs = np.stack([row[0] for row in held])
    answers = asker.read([row[1] for row in held], inside)
    profile = learn_profile(
        inputs,
        answers,
        scores,
        predicted,
        asker.quantization,
        None if session.stateful else asker,
        None if truth is None else float(np.mean(predicted != truth)),
    )
    classes = 1 if answers is None else answers.outputs.shape[1]
    named = np.zeros(len(rows), np.int64) if answers is None else answers.labels.astype(np.int64)
    shape = session.instance.inputs[0].shape or (1,)
    samples = inputs.reshape(len(inputs), *(shape[1:] if shape[0] == 1 < len(shape) else shape))
    reference = learn_reference(
        samples,
        named if truth is None or answers is None else truth[rows],
        classes,
        None if inside is None else _real(session.instance.taps[0], inside),
        asker.quantization,
        has_truth=truth is not None and answers is not None,
        targets=None if targets is None else targets[rows],
        axis=_feature_axis(profile.layout, samples.shape[1:]),
    )
    if answers is not None and not session.stateful and count_of(profile.layout):
        cost = _cost_of_copies(profile, asker, reference)
        profile = replace(profile, bounds={**profile.bounds, COST: cost})
    return {**profile.to_arrays(), **reference.to_arrays()}


def _cost_of_copies(profile: Profile, asker: Asker, reference: LearningReference) -> float:
    """Return the accuracy that answers from moved copies would cost on held inputs."""
    inputs = reference.inputs
    own = asker(inputs)
    said = [asker(copy) for copy in raw_copies(profile, inputs)]
    assert own is not None
    mean = np.mean([one.outputs for one in said if one is not None], axis=0)
    voted = Answers(np.asarray(mean, np.float32), None)
    right = own.labels == reference.labels
    return float(np.mean(right) - np.mean(voted.labels == reference.labels))


def _real(spec: TensorSpec, raw: Sequence[Array]) -> npt.NDArray[np.float32]:
    values = np.stack([row.reshape(-1) for row in raw]).astype(np.float64)
    real = spec.scale * (values - spec.zero_point) if spec.quantized else values
    return real.astype(np.float32)


def _feature_axis(layout: Layout, shape: tuple[int, ...]) -> int | None:
    """Return the axis of a sample whose elements are features of their own; None without any."""
    if layout.channel is None or layout.channel in layout.smooth:
        return None
    return [axis for axis, size in enumerate(shape) if size > 1 or layout.shape == (1,)][
        layout.channel
    ]


def _few(
    signals: Mapping[str, npt.NDArray[np.float64]],
    ignored: Collection[str],
    interval: float,
    left_out: dict[str, str],
) -> tuple[FewSamples, ...]:
    """Return which rare samples are counted; say in `left_out` why none are."""
    if "margin" not in signals or SMALL_MARGINS in ignored:
        return ()
    few = learn_few("margin", signals["margin"], interval / FEW_RATE)
    if few is None:
        left_out[SMALL_MARGINS] = "small margins are no rare samples in this calibration"
    return () if few is None else (few,)


def _check_size(samples: int, truth: npt.NDArray[Any] | None, named: NamedRegimes | None) -> None:
    if samples < _MIN_SAMPLES:
        raise ValueError(
            f"inputs: expected a batch of at least {_MIN_SAMPLES} samples, got {samples}"
        )
    if truth is not None and len(truth) != samples:
        what = "targets" if truth.dtype.kind == "f" else "integers"
        raise ValueError(
            f"labels: expected {samples} {what}, one per input, got shape {truth.shape}"
        )
    if named is not None:
        named.check_size(samples)


class _Taps:
    """Finds which inner tensors to read, for a `Session`, and says afterwards."""

    def __init__(
        self,
        embedding: str | Literal[False] | None,
        inner: Literal["stages"] | Sequence[str],
        *,
        has_labels: bool,
    ) -> None:
        self._names = embedding, inner
        self._has_labels = has_labels
        self.embedding: int | None = None
        self.inner: tuple[int, ...] = ()

    def __call__(self, file: ModelFile) -> tuple[int, ...]:
        self.embedding = find_embedding(file, self._names[0], is_regression=self._has_labels)
        self.inner = find_inner(file, self._names[1], self.embedding)
        return () if self.embedding is None else (self.embedding, *self.inner)


def _check_ignored(ignore: Collection[str], measurable: Sequence[str]) -> tuple[str, ...]:
    known = (*measurable, _DISTANCE, *_ALARMS)
    for name in ignore:
        if name not in known:
            expected = shown(", ".join(map(quoted, known)), LIST)
            raise ValueError(f"ignore: expected names of signals ({expected}), got {quoted(name)}")
    return tuple(dict.fromkeys(ignore))


def calibrate(
    model: ModelSource,
    inputs: Tensors | Iterable[Tensors],
    labels: npt.ArrayLike | None = None,
    *,
    false_alarm_interval: float | str = 1_000_000,
    rate_hz: float | None = None,
    embedding: str | Literal[False] | None = None,
    inner: Literal["stages"] | Sequence[str] = (),
    regimes: Sequence[str] | Sequence[int] | npt.NDArray[Any] | None = None,
    ignore: Collection[str] = (),
    state: Literal["carried", "reset"] = "carried",
    shapes: Mapping[str, Sequence[int]] | None = None,
    runtime: RuntimeArgument = "auto",
    kernels: KernelsArgument = "auto",
    num_threads: int = 1,
    probe: ProbePolicy | None = None,
    seed: int | None = None,
) -> Baseline:
    """Learn what normal operation of a model looks like.

    Call it once for a model file, on a PC or on the device, with inputs recorded while all was
    well; save what it returns, and give it to `SelfHealingModel` at every start. Which argument is
    for which wish:

    - fewer false alarms, or sooner true ones: `false_alarm_interval`; more `inputs` help both;
    - a signal that changes for good reasons, such as a counter among the inputs: `ignore`;
    - conditions that come and go, such as day and night: `regimes`;
    - a recurrent model whose samples are not one stream: ``state="reset"``;
    - a model with open axes: `shapes`;
    - accuracy in `Baseline.accuracy`, estimates of it while the model serves, and centroids of true
      classes: `labels`.

    Parameters
    ----------
    model
        The TFLite file, or its bytes.
    inputs
        At least 50 inputs from normal operation, in the order in which a device sees them: how
        often equal inputs follow each other tells a stuck sensor, and the autocorrelation of the
        signals goes into the thresholds. A
        batch; a dict of batches by tensor name, or by the names of a SignatureDef, for several
        inputs; or an iterable of samples, such as a generator, of which one at a time is held.
        A thousand and more make alarms sharper.
    labels
        Their classes, shape (n,), integers: for the accuracy, for what `Health.performance` can
        tell of it later, and for where the classes lie in the embedding. Without them a sample
        belongs to the class that the model names. A single sigmoid has the classes 0 and 1. For a
        model without classes real numbers: what output 0 should be, shape (n, ...). Such numbers,
        several for each input, also say of a model whose last layer would pass for logits that it
        answers numbers.
    false_alarm_interval
        How many predictions shall lie, on average and at least, between two false alarms of all
        signals together; or a duration such as ``"30 d"`` together with `rate_hz`.
    rate_hz
        Predictions a second, for a `false_alarm_interval` in time.
    embedding
        Name of the inner tensor to watch; None takes the input of a classifier's last layer, where
        there is one, and of a regressor's that has `labels`; False watches none, which saves its
        signals and their cost, and what a repair of the last layer could learn from.
    inner
        Further inner tensors to watch beside an embedding, at most three, each of at most 16 KiB:
        their names, or ``"stages"`` for the last one of each of the network's last three sizes
        (`find_inner`). Each costs two signals and one look at its elements.
    regimes
        The operating condition of each input, shape (n,): names or whole numbers, such as "day" and
        "night", at most eight, each of at least 50 inputs. The references are those of the one with
        most inputs; the charts follow the others, which are no news then
        (`SelfHealingModel.regimes`). None: all inputs are of one.
    ignore
        Signals that shall raise no alarm, by name, such as ``("input_mean[week]",)`` for an input
        that counts; also ``"input_repeats"``, ``"input_flat"``, ``"output_frozen"`` and
        ``"small_margins"`` and ``"label_mix"``.
        They are not watched at all.
    state
        Of a recurrent model. ``"carried"``: the samples are one stream, the state goes on from one
        to the next, and `predict` does the same; `SelfHealingModel.reset_state` starts it anew.
        ``"reset"``: each sample is a sequence of its own, and the state starts anew before each,
        here and in every `predict`.
    shapes
        Shapes by input name, for inputs with open axes; None takes those in the file, where an
        open axis has one element. The model is served with these shapes.
    runtime
        ``"auto"`` takes LiteRT where it is installed, else tflite-runtime.
    kernels
        ``"auto"`` takes the fastest kernels under which all weights can be guarded.
    num_threads
        Threads of the runtime.
    probe
        What probing an unknown file in a child process may cost; None: a minute and 512 MiB.
    seed
        Chooses the known answers; None draws from the operating system.

    Returns
    -------
    Baseline
        To be given to `SelfHealingModel`, or saved.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError
        For the model file and the runtime.
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    Cost: three inferences per input, and one child process that probes the file. Two of the three,
    at most 2048, go into choosing the known answers: inputs that notice most of single flips of
    weight bits, which are tried on this session's own copy of the weights. With `labels`, 2040 more
    at most: 24 harmless changes of up to 85 inputs show how confidence decays. A classifier of one
    input and without a state answers some 3,000 more, for what a diagnosis compares with. Memory: a
    batch of reals for a quantised model is held quantised as well; of an iterable up to 300 samples
    are held, or what 8 MiB hold, and 32 beside them, with `labels` 117.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> from selfheal_edge.assets import digits_model_path, load_digits
    >>> inputs = load_digits().calibration_inputs
    >>> model, interval = digits_model_path(), "30 d"
    >>> baseline = she.calibrate(model, inputs, false_alarm_interval=interval, rate_hz=10)
    >>> baseline.samples == len(inputs), f"{baseline.false_alarm_interval:,.0f} predictions"
    (True, '25,920,000 predictions')
    """
    interval = predictions(false_alarm_interval, rate_hz)
    if isinstance(ignore, str) or not isinstance(ignore, Collection):
        raise TypeError(f"ignore: expected a tuple of names of signals, got {ignore!r}")
    probe_policy = ProbePolicy() if probe is None else probe
    if not isinstance(probe_policy, ProbePolicy):
        raise TypeError(f"probe: expected a ProbePolicy, got {type(probe).__name__}")
    named = read_regimes(regimes)
    if state not in ("carried", "reset"):
        raise ValueError(f"state: expected 'carried' or 'reset', got {state!r}")
    file = ModelFile.of(model)
    fixed = fix_shapes(file, shapes, runtime, probe_policy)
    taps = _Taps(embedding, inner, has_labels=labels is not None)
    made = CopyOptions(fixed, starts_anew=state == "reset")
    session = Session(file, runtime, kernels, num_threads, taps, made, probe_policy)
    try:
        _check_storable(session)
        truth, targets = _read_labels(labels, session)
        kind = output_kind(session) if targets is None else None
        classes = None if kind is None or session.model.head is None else session.model.head.classes
        tap, tapped = taps.embedding, next(iter(session.instance.taps), None)
        extractor = SignalExtractor(
            session.instance.inputs,
            session.instance.outputs,
            kind,
            tapped,
            ignore=ignore,
            recent_bytes=0,
            detections=session.model.detections,
            inner=session.instance.taps[1:],
        )
        ignored = _check_ignored(ignore, extractor.measurable)
        rng = np.random.default_rng(seed)
        sample = Reservoir(rng)
        labelled = Reservoir(
            np.random.default_rng(None if seed is None else (seed, _LABELLED)), SAMPLES
        )
        profiled = _room_for_profile(session, seed)
        told = truth if targets is None else targets
        observed = _observe(session, extractor, inputs, told, named, (sample, labelled), profiled)
        predicted = observed.predicted
        signals = dict(zip(extractor.names, observed.values.T, strict=True))
        found, distances, too_near = _places(tap, tapped, observed, truth, interval)
        if found is not None and len(found.classes) and _DISTANCE not in (*ignored, *too_near):
            signals[_DISTANCE] = distances
        limits, never = _limits(observed, signals, interval)
        references, unsupported = _references(signals, named)
        few = _few(signals if "margin" in references else {}, ignored, interval, never)
        chosen = choose_inputs(session, sample, _KNOWN_ANSWERS, rng)
        questions = tuple(tuple(sample.held[n]) for n in chosen)
        answers = tuple(tuple(row) for row in session.answers(questions))
        return Baseline(
            model_sha256=session.model.sha256,
            fingerprint=session.fingerprint,
            false_alarm_interval=interval,
            samples=sample.seen,
            accuracy=None if truth is None else float(np.mean(predicted == truth)),
            output_kind=kind,
            detections=session.model.detections,
            references=references,
            regimes=learn_regimes(named, signals, references),
            error=expected_error(observed.answers, session.instance.outputs[0], targets),
            periods=find_periods(signals, references) if named is None else {},
            label_mix=_label_mix(observed, classes, ignored, never),
            embedding=found,
            correctness=_correctness(session, found, observed, distances, truth, labelled),
            temperature=None
            if truth is None or kind is None
            else fit_temperature(observed.answers, session.instance.outputs[0], kind, truth),
            profile=_profile(
                session, kind, profiled, predicted, truth, targets, signals, references
            ),
            limits=limits,
            few=few,
            inner=taps.inner,
            known_answers=KnownAnswers(questions, answers),
            built_sha256=session.copy.model.sha256,
            tried_kernels=tried_kernels(
                session.copy.model.sha256, session.choice.runtime.name, num_threads
            ),
            state=state,
            ignore=ignored,
            left_out={**unsupported, **never, **too_near},
            shapes=fixed,
        )
    finally:
        session.close()
