"""The demo's acts of learning: a drifted model learns from answers, and a poisoner fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import Baseline
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.cli.acts import Act
from selfheal_edge.health import Prediction
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.policy import Policy
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.session import Session

__all__ = ["Lesson", "lessons"]

_DARKEST: Final = 100
_CLEAN: Final = 200
_FIRST: Final = 300
_SERVED: Final = 200
_ROUNDS: Final = 4
_ASKED: Final = 16
_TELLS: Final = ("diagnosis", "repair", "probation", "regime", "confirmed", "rejected", "reverted")

Images = npt.NDArray[np.int8]
Answer = Callable[[int], int]


def _in_shade(images: Images) -> Images:
    """Darken images from left to right, as a lamp does that lights one side."""
    shade = np.linspace(0, _DARKEST, images.shape[2])[None, None, :, None]
    return np.asarray(np.clip(np.rint(images + shade), -128, 127), np.int8)


class Lesson:
    """A guarded model that is asked what it knows, and told; golden beside it.

    Parameters
    ----------
    digits
        Half of the held-out digits are served until the first answers came, the others after them.
    baseline, policy, runtime, seed
        As for the model.
    name
        Of the source that answers the device's questions.
    answer
        What it says of a digit.
    """

    def __init__(
        self,
        digits: DigitsData,
        baseline: Baseline,
        policy: Policy,
        runtime: RuntimeArgument,
        seed: int,
        name: str,
        answer: Answer,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._inputs, self._labels = digits.heldout_inputs, digits.heldout_labels
        order = self._rng.permutation(len(self._inputs))
        self._early, self._late = np.array_split(order, 2)
        self._answer = answer
        self._digit_of: dict[int, int] = {}
        self._told = 0
        self.labels = 0
        self.lessons: list[tuple[Images, int]] = []
        with ExitStack() as undo:
            self.model = undo.enter_context(
                SelfHealingModel(
                    digits_model_path(), baseline, policy=policy, runtime=runtime, seed=seed
                )
            )
            chosen = self.model.health.fingerprint.kernels
            kernels: KernelsArgument = "builtin" if chosen == "builtin" else "default"
            self._golden = Session(digits_model_path(), runtime, kernels, taps=baseline.taps)
            undo.callback(self._golden.close)
            self._bench = Bench(self._golden, baseline.output_kind)
            undo.callback(self._bench.close)
            self.close = undo.pop_all().close
        self._source = self.model.feedback_source(name, key=self._rng.bytes(32))

    def clean(self, act: Act, count: int) -> float:
        """Serve usual digits of the second half; return the share that was right."""
        return self._serve(act, self._late, count, lambda images: images)[0]

    def first(self, act: Act, count: int) -> float:
        """Serve usual digits of the first half."""
        return self._serve(act, self._early, count, lambda images: images)[0]

    def drifted(self, act: Act, count: int, *, is_early: bool = False) -> tuple[float, float]:
        """Serve digits in the shade; return what was right with us, and by golden alone."""
        pool = self._early if is_early else self._late
        return self._serve(act, pool, count, _in_shade)

    def _serve(
        self, act: Act, pool: npt.NDArray[np.int64], count: int, change: Callable[[Images], Images]
    ) -> tuple[float, float]:
        chosen = self._rng.choice(pool, count)
        images = change(self._inputs[chosen])
        right = golden = 0
        for digit, image in zip(chosen, images, strict=True):
            prediction = self.model.infer(image[None])
            assert isinstance(prediction, Prediction)
            self._digit_of[prediction.id] = int(digit)
            right += prediction.label == self._labels[digit]
            golden += int(np.argmax(self._golden.instance.run([image[None]])[0][0])) == int(
                self._labels[digit]
            )
        act.predictions += count
        return right / count, golden / count

    def ask(self, limit: int = _ASKED) -> int:
        """Have the source answer what the device asks; return how many answers that were."""
        questions = self.model.wanted_labels(limit)
        for question in questions:
            label = self._answer(int(self._labels[self._digit_of[question.id]]))
            self.model.feedback(label, id=question.id, source=self._source)
            assert isinstance(question.input, np.ndarray)
            self.lessons.append((question.input.reshape(self._inputs.shape[1:]), label))
        self.labels += len(questions)
        return len(questions)

    def news(self) -> list[str]:
        """Return what events have told since the last call, but for alarms."""
        events = self.model.events
        fresh, self._told = events[self._told :], len(events)
        return [
            f"{e.kind}{f', {e.cause.value}' if e.cause else ''}: {e.outcome or e.evidence[0]}"
            for e in fresh
            if e.kind in _TELLS and (e.outcome or e.evidence)
        ]

    def kinds(self) -> set[str]:
        """Return the kinds of all events so far."""
        return {event.kind for event in self.model.events}

    def undefended(self, count: int) -> float:
        """Return what golden would do in the shade with a last layer that believed every answer.

        No hold-out, no cap and no trial: gradient descent on the answers alone.
        """
        head = find_head(self._golden.copy.model)
        assert isinstance(head, Head), head
        images = np.stack([image for image, _ in self.lessons])
        labels = np.array([label for _, label in self.lessons])
        embeddings = self._embeddings(images)
        weights, bias = head.weights.copy(), head.bias.copy()
        rate = 1.0 / max(1.0, float(np.square(embeddings).sum(axis=1).mean()))
        targets = np.eye(head.classes)[labels]
        for _ in range(2000):
            logits = embeddings @ weights.T + bias
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            wrong = shares / shares.sum(axis=1, keepdims=True) - targets
            weights -= rate * wrong.T @ embeddings / len(labels)
            bias -= rate * wrong.mean(axis=0)
        chosen = self._rng.choice(self._late, count)
        tested = self._embeddings(_in_shade(self._inputs[chosen]))
        answers = np.argmax(tested @ weights.T + bias, axis=1)
        return float(np.mean(answers == self._labels[chosen]))

    def _embeddings(self, images: Images) -> npt.NDArray[np.float64]:
        answers = self._bench.answers(images)
        assert answers.embeddings is not None
        return np.asarray(answers.embeddings, np.float64)


def _learns(lesson: Lesson) -> Iterator[Act]:
    act = Act("learning", f"a lamp from one side, up to {_DARKEST} levels")
    act.story.append(f"{lesson.first(act, _CLEAN):.1%} of usual digits are right")
    yield act
    with_us, golden = lesson.drifted(act, _FIRST, is_early=True)
    act.story += [f"in the shade {golden:.1%} by golden, {with_us:.1%} with us", *lesson.news()]
    yield act
    confirmed_with: int | None = None
    for _ in range(_ROUNDS):
        number = lesson.ask()
        with_us, golden = lesson.drifted(act, _SERVED)
        act.story += [
            f"{number} answers, {lesson.labels} in all: then {golden:.1%} by golden, "
            f"{with_us:.1%} with us",
            *lesson.news(),
        ]
        act.unguarded, act.guarded = golden, with_us
        if confirmed_with is None and "confirmed" in lesson.kinds():
            confirmed_with = lesson.labels
        yield act
    served = lesson.model.health.generation
    back = lesson.clean(act, _SERVED)
    is_golden = lesson.model.health.generation == 0
    act.story += [f"the lamp is mended: {back:.1%} of usual digits are right", *lesson.news()]
    yield act
    night, alone = lesson.drifted(act, _SERVED)
    is_repaired = lesson.model.health.generation == served != 0
    act.story += [
        f"the second night: {alone:.1%} by golden, {night:.1%} with us, without an answer",
        *lesson.news(),
    ]
    act.cause = next((e.cause or "" for e in lesson.model.events if e.kind == "diagnosis"), "")
    act.passed = (
        confirmed_with is not None
        and is_golden
        and is_repaired
        and with_us > golden
        and night > alone
    )
    act.outcome = (
        f"{'NOT confirmed' if confirmed_with is None else f'confirmed after {confirmed_with}'} of "
        f"{lesson.labels} answers; "
        f"golden {'serves' if is_golden else 'does NOT serve'} again after it; "
        f"{'healed' if is_repaired else 'NOT healed'} at once the second night"
    )
    yield act


def _is_poisoned(lesson: Lesson) -> Iterator[Act]:
    act = Act("poison", "every answer is false, from one source with a key")
    lesson.first(act, _CLEAN)
    with_us, golden = lesson.drifted(act, _FIRST, is_early=True)
    act.story += [f"in the shade {golden:.1%} by golden, {with_us:.1%} with us", *lesson.news()]
    yield act
    for _ in range(_ROUNDS):
        number = lesson.ask()
        with_us, golden = lesson.drifted(act, _SERVED)
        act.story += [
            f"{number} false answers, {lesson.labels} in all: then {golden:.1%} by golden, "
            f"{with_us:.1%} with us",
            *lesson.news(),
        ]
        act.unguarded, act.guarded = golden, with_us
        yield act
    believer = lesson.undefended(_SERVED)
    usual = lesson.clean(act, _SERVED)
    act.story.append(
        f"a learner that believes each answer: {believer:.1%}; usual digits with us: {usual:.1%}"
    )
    is_confirmed = "confirmed" in lesson.kinds()
    act.cause = next((e.cause or "" for e in lesson.model.events if e.kind == "diagnosis"), "")
    act.passed = not is_confirmed and with_us >= golden - 0.02 and with_us > believer
    act.outcome = (
        f"{'CONFIRMED' if is_confirmed else 'nothing confirmed'}; "
        f"a learner without defences: {believer:.1%}"
    )
    yield act


def lessons(
    digits: DigitsData, baseline: Baseline, policy: Policy, runtime: RuntimeArgument, seed: int
) -> Iterator[Iterator[Act]]:
    """Yield the acts; `policy` names "operator" as owner, and no other source decides alone."""

    def act(play: Callable[[Lesson], Iterator[Act]], name: str, answer: Answer) -> Iterator[Act]:
        lesson = Lesson(digits, baseline, policy, runtime, seed, name, answer)
        try:
            yield from play(lesson)
        finally:
            lesson.close()

    yield act(_learns, "operator", lambda digit: digit)
    yield act(_is_poisoned, "stranger", lambda digit: (digit + 1) % 10)
