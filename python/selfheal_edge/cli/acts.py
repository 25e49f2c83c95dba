"""The demo's acts: what is done to a guarded model, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.causes import Cause
from selfheal_edge.health import Prediction
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.redteam.inject import Flip, inject
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.session import Session

__all__ = ["Act", "Stage"]

_COLLAPSED: Final = 0.5
_FLIPS_A_ROUND: Final = 20
_SERVED: Final = 400
_UPDATE_EVERY: Final = 25

_CROWD: Final = 3
_QUESTIONS: Final = 60  # that an attacker asks for each input

Images = npt.NDArray[np.int8]
Labels = npt.NDArray[np.int8]


@dataclass
class Act:
    """One row of the demo's table; filled in while the act runs."""

    title: str
    fault: str = ""
    predictions: int = 0
    unguarded: float | None = None
    guarded: float | None = None
    noticed_after: int | None = None
    cause: str = ""
    outcome: str = ""
    passed: bool | None = None
    evidence: list[str] = field(default_factory=list)
    performance: str = ""
    story: list[str] = field(default_factory=list)
    """What happened on the way, told as it comes."""


def _saturate(images: Images, rng: np.random.Generator) -> Images:  # noqa: ARG001
    levels = (images.astype(np.int16) + 128) * 6 - 128
    return np.clip(levels, -128, 127).astype(np.int8)


def _stick(images: Images, rng: np.random.Generator) -> Images:
    return np.repeat(images[rng.integers(len(images))][None], len(images), axis=0)


def _drift(images: Images, rng: np.random.Generator) -> Images:
    noise = rng.normal(30.0, 50.0, images.shape)
    return np.asarray(np.clip(np.rint(images + noise), -128, 127), np.int8)


def _crowd(labels: Labels, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw digits of which four in five are the same one."""
    chosen = rng.integers(len(labels), size=_SERVED)
    crowd = np.flatnonzero(labels == _CROWD)
    is_one = rng.random(_SERVED) < 0.8
    return np.where(is_one, crowd[rng.integers(len(crowd), size=_SERVED)], chosen)


class Stage:
    """A guarded model, an unguarded twin that suffers the same, and real digits.

    Parameters
    ----------
    model
        Guarded.
    digits
        Held-out digits are served, in random order.
    runtime
        For the twin; the guarded model's.
    seed
        Order of digits, places of faults.
    """

    def __init__(
        self, model: SelfHealingModel, digits: DigitsData, runtime: RuntimeArgument, seed: int
    ) -> None:
        self._model = model
        self._inputs = digits.heldout_inputs
        self._labels = digits.heldout_labels
        self._rng = np.random.default_rng(seed)
        chosen = model.health.fingerprint.kernels
        kernels: KernelsArgument = "builtin" if chosen == "builtin" else "default"
        self._twin = Session(digits_model_path(), runtime, kernels, taps=model.baseline.taps)
        self._golden = self._guarded_outputs()
        # Where the weights are that execute, in the twin as in the guarded model.
        packed = "packed" in self._twin.instance.images
        self._image = "packed" if packed else "source"
        self._live = self._twin.instance.images["packed"] if packed else self._twin.source.view
        self._sound = bytes(self._live)

    def close(self) -> None:
        """Close the twin; the guarded model belongs to the caller."""
        self._twin.close()

    def acts(self) -> Iterator[Iterator[Act]]:
        """Yield the acts; each yields its row again and again while it goes on."""
        yield self._all_is_well()
        yield self._flip_bits()
        yield self._break_input(
            "stuck sensor", "one frame again and again", _stick, Cause.SENSOR_FAULT
        )
        yield self._break_input("saturated sensor", "gain times six", _saturate, Cause.SENSOR_FAULT)
        yield self._break_input("input drift", "haze and noise", _drift, Cause.COVARIATE_DRIFT)
        yield self._meet(
            "label shift",
            f"four digits in five are a {_CROWD}",
            lambda: self._of(_crowd(self._labels, self._rng)),
            Cause.LABEL_SHIFT,
        )
        yield self._meet(
            "attack", "every other digit is crafted", self._crafted, Cause.ADVERSARIAL_INPUT
        )

    def _guarded_outputs(self) -> npt.NDArray[np.int8]:
        return np.asarray(self._model.predict(self._inputs), np.int8)

    def _twin_accuracy(self, images: Images, labels: npt.NDArray[np.int8]) -> float:
        outputs = [self._twin.instance.run([image[None]])[0][0] for image in images]
        return float(np.mean(np.argmax(outputs, axis=1) == labels))

    def _draw(self, count: int) -> npt.NDArray[np.int64]:
        return self._rng.integers(len(self._inputs), size=count)

    def _serve(
        self, act: Act, images: Images, labels: npt.NDArray[np.int8], *, over: bool = False
    ) -> Iterator[Act]:
        """Serve images one by one; until the fault is over, note accuracy, notice and cause."""
        right = 0
        seen = len(self._model.events)
        for n, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
            prediction = self._model.infer(image[None])
            assert isinstance(prediction, Prediction)
            right += prediction.label == label
            act.predictions += 1
            if not over:
                act.guarded = right / n
                self._note(act, n, seen)
                seen = len(self._model.events)
            if n % _UPDATE_EVERY == 0:
                yield act

    def _note(self, act: Act, n: int, seen: int) -> None:
        """Note what the events since number `seen` say."""
        for event in self._model.events[seen:]:
            if event.kind in ("alarm", "diagnosis") and act.noticed_after is None:
                act.noticed_after = n
            if event.kind == "diagnosis":
                act.cause = event.cause or ""
                act.evidence.extend(event.evidence)

    def _all_is_well(self) -> Iterator[Act]:
        act = Act("all is well", "none")
        chosen = self._draw(_SERVED)
        act.unguarded = self._twin_accuracy(self._inputs[chosen], self._labels[chosen])
        yield from self._serve(act, self._inputs[chosen], self._labels[chosen])
        act.passed = act.noticed_after is None
        act.outcome = "no alarm" if act.passed else "false alarm"
        yield act

    def _flip_bits(self) -> Iterator[Act]:
        act = Act("bit flips", "0 bits of live weights")
        chosen = self._draw(_SERVED)
        images, labels = self._inputs[chosen], self._labels[chosen]
        flips: list[Flip] = []
        act.unguarded = 1.0
        while act.unguarded >= _COLLAPSED:
            flips += self._flip_twin()
            act.fault = f"{len(flips)} bits of live weights"
            act.unguarded = self._twin_accuracy(images, labels)
            yield act
        for flip in flips:
            inject(self._model).memory(flip.image)[flip.offset] ^= np.uint8(1 << flip.bit)
        yield from self._serve(act, images, labels)
        exact = bool(np.array_equal(self._guarded_outputs(), self._golden))
        sound = not self._model.weights.scrub(repair=False)
        act.passed = exact and sound and act.cause == Cause.WEIGHT_CORRUPTION.value
        act.outcome = "healed, every bit back" if act.passed else "NOT healed"
        yield act

    def _flip_twin(self) -> list[Flip]:
        """Flip random bits of the twin's weights; return them."""
        everything = (
            self._twin.instance.image_regions["packed"]
            if self._image == "packed"
            else self._twin.copy.model.regions
        )
        regions = [r for r in everything if r.kind in ("weights", "bias")]
        offsets = np.concatenate([np.arange(r.offset, r.offset + r.nbytes) for r in regions])
        live = np.frombuffer(self._live, np.uint8)
        flips = [
            Flip(self._image, int(offset), int(bit))
            for offset, bit in zip(
                self._rng.choice(offsets, _FLIPS_A_ROUND),
                self._rng.integers(8, size=_FLIPS_A_ROUND),
                strict=True,
            )
        ]
        for flip in flips:
            live[flip.offset] ^= np.uint8(1 << flip.bit)
        return flips

    def _break_input(
        self,
        title: str,
        fault: str,
        damage: Callable[[Images, np.random.Generator], Images],
        expected: Cause,
    ) -> Iterator[Act]:
        def broken() -> tuple[Images, Labels]:
            images, labels = self._of(self._draw(_SERVED))
            return damage(images, self._rng), labels

        yield from self._meet(title, fault, broken, expected)

    def _of(self, chosen: npt.NDArray[np.int64]) -> tuple[Images, Labels]:
        return self._inputs[chosen], self._labels[chosen]

    def _crafted(self) -> tuple[Images, Labels]:
        """Change every other digit, block by block, as little as it takes to change its answer."""
        images, labels = self._of(self._draw(_SERVED))
        crafted = images.copy()
        for n in range(0, _SERVED, 2):
            crafted[n] = self._attacked(images[n])
        return crafted, labels

    def _attacked(self, image: Images) -> Images:
        def margin(tried: Images, label: int | None) -> tuple[float, int]:
            answer = self._twin.instance.run([tried[None]])[0][0].astype(np.int64)
            named = int(answer.argmax()) if label is None else label
            return float(answer[named] - np.delete(answer, named).max()), named

        least, label = margin(image, None)
        for strength in (40, 70, 100):
            best = image
            for _ in range(_QUESTIONS):
                top, left = self._rng.integers(0, 7, size=2)
                tried = best.astype(np.int64)
                block = image[top : top + 2, left : left + 2].astype(np.int64)
                tried[top : top + 2, left : left + 2] = block + self._rng.choice((-1, 1)) * strength
                candidate = np.clip(tried, -128, 127).astype(np.int8)
                found, _ = margin(candidate, label)
                if found < 0:
                    return candidate
                if found < least:
                    least, best = found, candidate
        return best

    def _meet(
        self,
        title: str,
        fault: str,
        make: Callable[[], tuple[Images, Labels]],
        expected: Cause,
    ) -> Iterator[Act]:
        """Serve what is not usual, then what is."""
        act = Act(title, fault)
        self._live[:] = self._sound  # the twin is sound again
        images, labels = make()
        act.unguarded = self._twin_accuracy(images, labels)
        yield from self._serve(act, images, labels)
        if expected is Cause.COVARIATE_DRIFT:
            act.performance = f"{self._model.health.performance} (truly {act.guarded:.0%})"
        named = act.cause == expected.value and self._model.health.state == "untrusted"
        act.outcome = "answers marked untrusted" if named else "NOT named"
        yield act
        after = self._draw(_SERVED)
        yield from self._serve(act, self._inputs[after], self._labels[after], over=True)
        trusted = self._model.health.state == "healthy"
        act.passed = named and trusted
        if named:
            act.outcome += ", trusted again after it" if trusted else ", NOT trusted again"
        yield act
