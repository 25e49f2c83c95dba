"""`selfheal-edge demo`: a real model is damaged and heals before your eyes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final, Protocol

from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.calibration.calibrate import calibrate
from selfheal_edge.cli.acts import Act, Stage
from selfheal_edge.cli.lessons import lessons
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.policy import Policy
from selfheal_edge.tflite.runtimes.select import RuntimeArgument

__all__ = ["run_demo"]

_SCRUB_BYTES: Final = 512  # one block a prediction: slow enough to see the sweep at work
_INFERENCES: Final = 10_000
_HEADINGS: Final = (
    "act",
    "what happens",
    "served",
    "right without us",
    "right with us",
    "noticed after",
    "named",
    "outcome",
)


def _cells(act: Act) -> tuple[str, ...]:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    after = act.noticed_after
    noticed = "" if after is None else f"{after} prediction{'s' if after > 1 else ''}"
    return (
        act.title,
        act.fault,
        str(act.predictions),
        percent(act.unguarded),
        percent(act.guarded),
        noticed,
        act.cause.replace("_", " "),
        act.outcome,
    )


class _View(Protocol):
    def say(self, text: str) -> None: ...

    def show(self, act: Act) -> None: ...

    def done(self, act: Act) -> None: ...


class _PlainView:
    """One line when an act is over."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def show(self, act: Act) -> None:
        """Nothing: lines that change are for terminals."""

    def done(self, act: Act) -> None:
        pairs = zip(_HEADINGS[1:], _cells(act)[1:], strict=True)
        facts = "; ".join(f"{name}: {cell}" for name, cell in pairs if cell)
        print(f"[{'ok' if act.passed else 'FAILED'}] {act.title}: {facts}", flush=True)


@contextmanager
def _live_view() -> Iterator[_View]:
    """Yield a table that is redrawn in place; ImportError without rich."""
    from rich.console import Console  # noqa: PLC0415 — an extra
    from rich.live import Live  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    class LiveView:
        def __init__(self, live: Live) -> None:
            self._live = live
            self._acts: list[Act] = []

        def _table(self) -> Table:
            table = Table(title="selfheal-edge demo", title_style="bold", expand=False)
            for heading in _HEADINGS:
                right = heading in ("served", "right without us", "right with us")
                table.add_column(heading, justify="right" if right else "left")
            for act in self._acts:
                style = {None: "yellow", True: "green", False: "bold red"}[act.passed]
                table.add_row(*_cells(act)[:-1], f"[{style}]{_cells(act)[-1] or '…'}[/]")
            return table

        def say(self, text: str) -> None:
            self._live.console.print(text, highlight=False)

        def show(self, act: Act) -> None:
            if not self._acts or self._acts[-1] is not act:
                self._acts.append(act)
            self._live.update(self._table())
            time.sleep(0.02)  # so that an eye can follow

        def done(self, act: Act) -> None:
            self.show(act)

    with Live(console=Console(), refresh_per_second=20) as live:
        yield LiveView(live)


@contextmanager
def _view(plain: bool) -> Iterator[_View]:
    if not plain and sys.stdout.isatty():
        try:
            import rich  # noqa: F401, PLC0415
        except ImportError:
            plain = True
    else:
        plain = True
    if plain:
        yield _PlainView()
        return
    with _live_view() as view:
        yield view


def run_demo(runtime: RuntimeArgument, seed: int, *, plain: bool) -> int:
    """Run all acts; return 0 only if each ended as it should."""
    digits = load_digits()
    path = digits_model_path()
    baseline = calibrate(
        path, digits.calibration_inputs, digits.calibration_labels, runtime=runtime, seed=seed
    )
    # What a device meets in weeks happens within seconds here: so does what it may ask.
    policy = Policy(
        scrub_bytes_per_predict=_SCRUB_BYTES,
        diagnosis_inferences_per_minute=_INFERENCES,
        owner="operator",
    )
    acts: list[Act] = []
    with (
        SelfHealingModel(path, baseline, policy=policy, runtime=runtime, seed=seed) as model,
        _view(plain) as view,
    ):
        view.say(
            f"model: {path.name}, {path.stat().st_size} bytes, int8, on {baseline.fingerprint}"
        )
        view.say(f"guard: {model.health.coverage}")
        stage = Stage(model, digits, runtime, seed)
        try:
            learning = lessons(digits, baseline, policy, runtime, seed)
            for rows in chain(stage.acts(), learning):
                act, told = None, 0
                for act in rows:
                    for line in act.story[told:]:
                        view.say(f"  {act.title}: {line}")
                    told = len(act.story)
                    view.show(act)
                if act is not None:
                    view.done(act)
                    acts.append(act)
        finally:
            stage.close()
        for act in acts:
            if act.evidence:
                view.say(f"why {act.title} was named {act.cause}: {act.evidence[0]}")
        for act in acts:
            if act.performance:
                view.say(f"how {act.title} was judged without labels: {act.performance}")
        passed = sum(bool(act.passed) for act in acts)
        view.say(f"{passed} of {len(acts)} acts ended as they should")
    return 0 if passed == len(acts) else 1
