"""The public face: a model that guards itself."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Literal

import numpy as np

from selfheal_edge.baseline import Baseline
from selfheal_edge.diagnosis import AttackDiagnoser
from selfheal_edge.errors import BaselineMismatchError, ForkedProcessError, ModelClosedError
from selfheal_edge.exposure import measure_exposure
from selfheal_edge.guarded_image import GuardedImage, GuardOptions, guard_session
from selfheal_edge.healing import Healer
from selfheal_edge.health import CoverageSummary, Health, Prediction
from selfheal_edge.journal import Event, Journal
from selfheal_edge.loop import HealingLoop, Step
from selfheal_edge.monitor import PerformanceMonitor
from selfheal_edge.policy import Policy
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.session import Session
from selfheal_edge.tflite.arrays import Batch, Tensors, check_out, read_batch, shape_outputs
from selfheal_edge.tflite.protocol import Array, TensorSpec
from selfheal_edge.tflite.select import KernelsArgument, RuntimeArgument
from selfheal_edge.turns import Turns
from selfheal_edge.weights import Weights

__all__ = ["SelfHealingModel"]


class SelfHealingModel:
    """A TFLite model that notices damage, finds its cause, repairs it and proves the repair.

    Parameters
    ----------
    model
        The TFLite file.
    baseline
        From `calibrate`, for the same file. It may come from another machine or runtime: the
        first start here settles the known answers anew and says so in `events`.
    policy
        Budgets and responses; the defaults suit most devices.
    monitor, diagnoser, repair_kit
        Parts of the loop to replace by the user's own.
    on_event
        Called with every `Event`, in order and one at a time, in a thread that uses the model, once
        its call has done its work: it may use the model, or close it. What it raises is logged.
    runtime, kernels, num_threads
        As in `calibrate`.
    clock
        Monotonic seconds, for tests; `time.monotonic` by default.
    seed
        For tests; None draws from the operating system.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError
        For the model file and the runtime.
    BaselineMismatchError
        When the baseline belongs to another file.

    Notes
    -----
    Before each prediction a slice of the weights is checked, and what is corrupt is restored
    before the model runs. `predict` may be called from several threads; calls take turns. An
    object belongs to the process that made it.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> from selfheal_edge.assets import digits_model_path, load_digits
    >>> digits = load_digits()
    >>> baseline = she.calibrate(digits_model_path(), digits.calibration_inputs)
    >>> with she.SelfHealingModel(digits_model_path(), baseline) as model:
    ...     model.predict(digits.heldout_inputs[:3]).shape
    (3, 10)
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        baseline: Baseline,
        *,
        policy: Policy | None = None,
        monitor: PerformanceMonitor | None = None,
        diagnoser: AttackDiagnoser | None = None,
        repair_kit: ModelRepairKit | None = None,
        on_event: Callable[[Event], None] | None = None,
        runtime: RuntimeArgument = "auto",
        kernels: KernelsArgument = "auto",
        num_threads: int = 1,
        clock: Callable[[], float] | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(baseline, Baseline):
            raise TypeError(f"baseline: expected a Baseline, got {type(baseline).__name__}")
        self._policy = Policy() if policy is None else policy
        kit = ModelRepairKit() if repair_kit is None else repair_kit
        kit.require(self._policy.strategies())
        baseline.vouch()
        self._journal = Journal(self._policy.max_events, on_event, clock)
        self._turns = Turns(self._journal.deliver)
        self._session = Session(model, runtime, kernels, num_threads, baseline.taps)
        try:
            self._exposure = measure_exposure(self._session)
            self._baseline = baseline
            self._extractor = baseline.extractor(self._session.instance)
            if self._extractor.names != tuple(baseline.references):
                raise BaselineMismatchError(
                    f"baseline: expected the signals {self._extractor.names}, "
                    f"got {tuple(baseline.references)}"
                )
            ticks = time.monotonic if clock is None else clock
            self._weights = Weights(
                self._guarded(),
                lambda: self._session.coverage,
                lambda corrupt: self._loop.take_in(corrupt),  # noqa: PLW0108 — made below
                self._turns,
                ticks,
            )
            self._healer = Healer(
                session=self._session,
                weights=self._weights,
                guard=self._guarded,
                known=baseline.known_answers,
                kit=kit,
                policy=self._policy,
                journal=self._journal,
            )
            self._monitor = PerformanceMonitor(baseline) if monitor is None else monitor
            self._loop = HealingLoop(
                session=self._session,
                weights=self._weights,
                extractor=self._extractor,
                monitor=self._monitor,
                diagnoser=AttackDiagnoser() if diagnoser is None else diagnoser,
                healer=self._healer,
                policy=self._policy,
                journal=self._journal,
                clock=ticks,
            )
            rng = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311
            self._first_id = rng.getrandbits(62) << 48
            same_place = baseline.fingerprint == self._session.fingerprint
            if not (same_place and self._healer.known_answers_right()):
                self.commission(flips=False)
        except BaseException:
            self._session.close()
            raise

    def _guarded(self) -> dict[str, GuardedImage]:
        policy = self._policy
        return guard_session(
            self._session,
            GuardOptions(policy.max_generations, policy.snapshots, policy.parity_blocks),
        )

    # --- serving ---------------------------------------------------------------------------

    def predict(self, x: Tensors, out: Array | None = None) -> Array | dict[str, Array]:
        """Return the model's answer.

        Parameters
        ----------
        x
            Exactly the input's shape, or a batch: one more leading axis, or, where the input's
            first axis is 1, that axis. The model's own dtype; or float32 for a quantised model,
            which is quantised (half to even, saturating), and the answer dequantised. A dict by
            tensor name for several inputs.
        out
            Where to put the answer of a model with one output: a writable C-contiguous array of
            the answer's shape and dtype.

        Returns
        -------
        numpy.ndarray or dict
            The raw answer; a dict by tensor name for several outputs.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was expected and what came; the model is unharmed.
        ModelClosedError, ForkedProcessError
            After `close`, or in a forked child.
        """
        with self._turns:
            batch = self._read(x)
            specs = self._session.instance.outputs
            if out is not None:
                check_out(specs, batch, out)
            steps = self._run(batch)
            answer = shape_outputs(specs, [s.outputs for s in steps], batch.form, batch.real)
        if out is None or isinstance(answer, dict):
            return answer
        np.copyto(out, answer)
        return out

    def infer(self, x: Tensors) -> Prediction:
        """Return the answer to one sample with what the guard makes of it.

        Raises
        ------
        TypeError, ValueError, ModelClosedError, ForkedProcessError
            As `predict`; also for a batch of more than one sample.
        """
        with self._turns:
            batch = self._read(x)
            if batch.size != 1:
                raise ValueError(f"x: expected one sample, got a batch of {batch.size}")
            step = self._run(batch)[0]
            specs = self._session.instance.outputs
            return Prediction(
                id=self._first_id + step.number,
                output=shape_outputs(specs, [step.outputs], batch.form, batch.real),
                label=step.measured.label,
                confidence=step.measured.confidence,
                trusted=step.trusted,
                quarantined=False,
                alarms=step.alarms,
            )

    def _read(self, x: Tensors) -> Batch:
        skip = self._policy.nonfinite == "skip"
        return read_batch(self._session.instance.inputs, x, skip_nonfinite=skip)

    def _run(self, batch: Batch) -> list[Step]:
        counts = batch.nonfinite
        return [
            self._loop.step(
                [r[n, ...] for r in batch.rows], 0 if counts is None else int(counts[n])
            )
            for n in range(batch.size)
        ]

    # --- maintenance -----------------------------------------------------------------------

    def snapshot(self) -> int:
        """Save the weights as they are; return the generation's number.

        Raises
        ------
        IntegrityError
            While a block is corrupt.
        RuntimeError
            When there is no room for another generation.
        """
        with self._turns:
            taken = self._weights.take()
            self._journal.add("snapshot", self._loop.predictions, outcome=f"generation {taken}")
            return taken

    def rollback(
        self, to: int | Literal["golden"] = "golden", modules: Collection[str] | None = None
    ) -> None:
        """Put the weights back to a saved state, and rebuild the runtime from them.

        Parameters
        ----------
        to
            ``"golden"``, the state of the file, or a number that `snapshot` returned.
        modules
            Names from `weights.modules`; None for the whole model. To the byte: neighbours that
            share a block with a module stay as they are.

        Raises
        ------
        ValueError
            For an unknown generation or module.
        IntegrityError
            When the saved bytes are themselves damaged, or the model is not proven sound
            afterwards; answers are marked untrusted then.
        """
        with self._turns:
            self._healer.roll_back(to, modules, self._loop.predictions)
            self._loop.restored()

    def commission(self, *, flips: bool = True) -> None:
        """Settle the known answers on this device, from bytes that are proven to be the file's.

        Runs by itself, without `flips`, at a start on another runtime, kernel choice or machine.

        Parameters
        ----------
        flips
            Also cross-check the coverage table by changing weights of instances made for it, and
            lower what flips contradict: 0.1 s for a small model, seconds for a large one.

        Raises
        ------
        IntegrityError
            When the weights are corrupt, or two fresh instances disagree.
        """
        with self._turns:
            self._baseline = self._healer.commission(
                self._baseline, self._loop.predictions, flips=flips
            )

    # --- looking at it ---------------------------------------------------------------------

    @property
    def baseline(self) -> Baseline:
        """The baseline, with the known answers as settled on this device."""
        return self._baseline

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self._session.instance.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs."""
        return self._session.instance.outputs

    @property
    def events(self) -> Sequence[Event]:
        """What happened, oldest first; bounded by `Policy.max_events`."""
        self._turns.check_process()
        with self._turns.lock:
            return self._journal[:]

    @property
    def weights(self) -> Weights:
        """The guarded bytes: `images`, `regions`, `coverage`, `scrub()`."""
        return self._weights

    @property
    def health(self) -> Health:
        """The state at this moment."""
        self._turns.check_process()
        with self._turns.lock:
            trouble = self._loop.trouble
            trusted = self._healer.trusted
            return Health(
                state="closed" if self._turns.closed else "healthy" if trusted else "untrusted",
                trouble=None if trouble is None else trouble.cause.value,
                generation=self._weights.active,
                coverage=CoverageSummary.of(self._session.coverage, self._session.choice.reason),
                exposure=self._exposure,
                fingerprint=self._session.fingerprint,
                predictions=self._loop.predictions,
                alarms=self._loop.alarms,
                corrupt_blocks=self._loop.corrupt_blocks,
                guard_repairs=self._loop.guard_repairs,
                repairs=self._healer.repairs,
                failed_repairs=self._healer.failed,
                sweeps=self._weights.sweeps,
                nonfinite=self._monitor.nonfinite,
            )

    def memory_report(self) -> dict[str, int]:
        """Return the bytes that the guard holds beside the runtime's own, by what for."""
        report = {
            "model file": len(self._session.model.data),
            **{f"{name} image": i.nbytes for name, i in self._weights.images.items()},
            "checksums and snapshots": self._weights.memory_bytes,
            "references, charts and history": self._monitor.memory_bytes,
            "previous input": self._extractor.memory_bytes,
            "known answers": self._baseline.known_answers.nbytes,
        }
        return {**report, "total": sum(report.values())}

    # --- life ------------------------------------------------------------------------------

    def close(self) -> None:
        """Release everything; calling it again, or in a forked child, does nothing."""
        try:
            with self._turns:
                self._journal.add("closed", self._loop.predictions)
                self._turns.closed = True
                self._weights.close()
                self._session.close()
        except (ModelClosedError, ForkedProcessError):
            return  # what a child holds is its parent's, and goes when the child ends

    def __enter__(self) -> SelfHealingModel:
        with self._turns:
            return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state: Any = "closed" if self._turns.closed else self._session.fingerprint
        return f"<SelfHealingModel {self._session.model.sha256[:12]}, {state}>"
