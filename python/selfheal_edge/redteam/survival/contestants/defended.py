"""Ours: a model that guards itself, with a store, a key and an owner who answers."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import Baseline, Event, Policy
from selfheal_edge.health import HealthState, Prediction
from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.clock import SimulatedClock
from selfheal_edge.redteam.survival.contestant import OWNER, Answers, Asked, Costs, Told
from selfheal_edge.redteam.survival.plain import Output
from selfheal_edge.redteam.survival.world import World
from selfheal_edge.tflite.file.model_file import ModelFile

__all__ = ["Defended"]

_KEY: Final = bytes(range(32, 64))
_BYTES: Final = 16_384
_EVENTS: Final = 4096


class Defended:
    """The guarded model.

    Parameters
    ----------
    world
        What it lives in.
    baseline
        From `World.calibrate`.
    folder
        Its flash: a copy of the model's file, and the store.
    policy
        None: the defaults, with the owner as such.
    """

    name = "defended"

    def __init__(
        self, world: World, baseline: Baseline, folder: Path, policy: Policy | None = None
    ) -> None:
        self.world, self.folder = world, folder
        self.clock = SimulatedClock()
        self.told: list[Told] = []
        self.predictions = 0
        self._baseline = baseline
        # As many bytes on every machine: what a budget buys is timed, and runs would differ.
        self._policy = Policy(scrub_bytes_per_predict=_BYTES) if policy is None else policy
        if self._policy.owner is None:
            self._policy = dataclasses.replace(self._policy, owner=OWNER, max_events=_EVENTS)
        self._cpu = 0.0
        self._flash = 0
        self.model_file.write_bytes(ModelFile.of(world.model).data)
        self._sources: dict[str, Any] = {}
        """Capabilities, by the name of the source."""
        self._starts = 0
        self.model = self._timed(self._open)
        self._output: Output = world.golden.output
        shape = world.golden.input.shape
        self._one = (1, *shape[1:]) if shape[:1] == (1,) else shape

    @property
    def model_file(self) -> Path:
        """The file that it starts from."""
        return self.folder / "model.tflite"

    @property
    def store_file(self) -> Path | None:
        """What it keeps across restarts."""
        return self.folder / "device.store"

    def serve(self, raw: Raw) -> Answers:
        """Answer n inputs, one after the other."""
        rows = raw.reshape(len(raw), *self._one)
        step = self.world.life.seconds_per_prediction
        infer, clock = self.model.infer, self.clock
        trusted, ids, outputs = [], [], []
        began = time.process_time()
        for row in rows:
            clock.seconds += step
            found = infer(row)
            self.predictions += 1
            trusted.append(found.trusted)
            ids.append(found.id)
            outputs.append(found.output)
        self._keep_regularly()
        self._cpu += time.process_time() - began
        assert isinstance(found, Prediction)
        spec = self._output.spec
        raw_outputs = self._first(outputs).reshape(len(rows), *spec.shape)
        return Answers(
            raw_outputs,
            self._output.labels(raw_outputs),
            np.array(trusted, bool),
            np.array(ids, np.int64),
        )

    def _keep_regularly(self) -> None:
        """Have written what a device writes once a minute: its timer follows real time, not ours.

        Otherwise the power would be cut from a device that has not written for days.
        """
        keeper = self.model._keeper  # noqa: SLF001 — the red team reaches behind the face
        assert keeper is not None
        keeper.store.do_each_minute()
        keeper.commit()

    def _first(self, outputs: list[Any]) -> Raw:
        """Return output 0 of each, which a dict has by name."""
        if isinstance(outputs[0], dict):
            outputs = [one[self._output.spec.name] for one in outputs]
        return np.stack(outputs)

    def run_aside(self, raw: Raw) -> Raw:
        """Return the raw outputs that it would give now; its charts do not hear of it."""
        session = parts_of(self.model).session
        correction, spec = session.correction, self._output.spec
        rows = np.ascontiguousarray(raw).reshape(len(raw), *self.world.golden.input.shape)
        outputs = np.empty((len(rows), *spec.shape), spec.dtype)
        for n, row in enumerate(rows):
            given = row if correction is None else correction.corrected(row)
            if session.stateful:
                session.instance.reset_variables()
            outputs[n] = session.instance.run([given])[0]
        return outputs

    def serves(self) -> str:
        """Name what serves now."""
        active = self.model.weights.active
        return "golden" if active == 0 else f"generation {active}"

    def hour_begins(self) -> None:
        """Do nothing: what is due is done at predictions."""

    def is_worried(self) -> bool:
        """Whether its answers are untrusted, or a repair is on probation."""
        health = self.model.health
        return health.state is not HealthState.HEALTHY or health.on_probation

    def wanted(self, limit: int) -> Sequence[Asked]:
        """Return inputs whose label it would like to know."""
        found = self._timed(lambda: self.model.wanted_labels(limit))
        return [
            Asked(q.id, q.input if isinstance(q.input, np.ndarray) else None, q.answers)
            for q in found
        ]

    def feedback(self, label: Any, id: int, source: str, *, authenticated: bool = False) -> bool:
        """Tell it a label, from a source with a key or from a bare name."""
        told = {"correct" if self.world.kind == "autoencoder" else "label": label}
        given: Any = source
        if authenticated:
            if source not in self._sources:
                self._sources[source] = self.model.feedback_source(source, key=self._key(source))
            given = self._sources[source]
        return bool(self._timed(lambda: self.model.feedback(**told, id=id, source=given)))

    def memory(self, image: str = "executing") -> npt.NDArray[np.uint8] | None:
        """Return a writable view of live bytes; None where it has none."""
        images = parts_of(self.model).weights.images
        executing = "packed" if "packed" in images else "source"
        if image == "executing":
            image = executing
        if image in images:
            return np.frombuffer(images[image].live, np.uint8)
        guarded = images[executing]
        stretches: dict[str, Callable[[], Any]] = {
            "tables": guarded.image.table_memory,
            "parity": lambda: () if guarded.parity is None else guarded.parity.memory(),
            "snapshots": lambda: () if guarded.pool is None else guarded.pool.memory(),
        }
        if image not in stretches:
            return None
        found = [np.asarray(part).reshape(-1).view(np.uint8) for part in stretches[image]()]
        return max(found, key=len) if found else None

    def report(self) -> dict[str, Any]:
        """Return what a health report and the journal show."""
        health = self.model.health
        diagnosis = self.model.diagnosis
        return {
            "state": health.state.value,
            "trusted": health.state is HealthState.HEALTHY,
            "trouble": None if health.trouble is None else health.trouble.value,
            "diagnosis": None if diagnosis is None else diagnosis.cause.value,
            "alarms": health.alarms,
            "repairs": health.repairs,
            "generation": health.generation,
            "condition": health.condition,
            "on_probation": health.on_probation,
            "budget": health.budget,
            "sweeps": health.sweeps,
            "corrupt_blocks": health.corrupt_blocks,
        }

    def restart(self, *, clean: bool) -> None:
        """Start anew: after `close`, or from what the flash held when the process was killed."""
        self.told.append(Told(self.predictions, "restart", None, "clean" if clean else "killed"))
        if clean:
            self._close()
        else:
            with tempfile.TemporaryDirectory(dir=self.folder.parent) as aside:
                kept = Path(aside)
                for path in self._store_files():
                    shutil.copyfile(path, kept / path.name)
                self._close()
                for path in self._store_files():
                    path.unlink()
                for path in kept.iterdir():
                    shutil.copyfile(path, self.folder / path.name)
        self.model = self._timed(self._open)

    def _store_files(self) -> list[Path]:
        return [p for p in self.folder.glob("device.store*") if not p.name.endswith(".lock")]

    def costs(self) -> Costs:
        """Return what it has cost so far."""
        store = self.model.health.store
        written = 0 if store is None else store.bytes_written
        memory = self.model.memory_report()["total"]
        return Costs(self._cpu, memory, self._flash + written)

    def close(self) -> None:
        """Release everything."""
        self._close()

    def _close(self) -> None:
        store = self.model.health.store
        self._flash += 0 if store is None else store.bytes_written
        self._timed(self.model.close)

    def _open(self) -> SelfHealingModel:
        self._starts += 1
        model = SelfHealingModel(
            self.model_file,
            self._baseline,
            store=self.store_file,
            key=_KEY,
            policy=self._policy,
            on_event=self._hear,
            runtime=self.world.runtime.runtime,
            kernels=self.world.runtime.kernels,
            clock=self.clock,
            seed=self.world.life.seed + self._starts,
        )
        names = {*self._sources, OWNER}
        self._sources = {n: model.feedback_source(n, key=self._key(n)) for n in sorted(names)}
        return model

    @staticmethod
    def _key(source: str) -> bytes:
        return source.encode().ljust(32, b".")[:32]

    def _hear(self, event: Event) -> None:
        self.told.append(
            Told(
                self.predictions,
                event.kind.value,
                None if event.cause is None else event.cause.value,
                event.outcome,
                event.strategy,
            )
        )

    def _timed(self, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        try:
            return call()
        finally:
            self._cpu += time.process_time() - began
