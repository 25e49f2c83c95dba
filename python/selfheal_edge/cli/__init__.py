"""The command line: `selfheal-edge demo`, `inspect`, `redteam` and the commands on a store."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from selfheal_edge import __version__
from selfheal_edge.cli.store_parser import add_store_commands, run_store_command
from selfheal_edge.errors import IntegrityError, SelfHealError, StoreError, StoreVersionError
from selfheal_edge.text import MESSAGE, shown
from selfheal_edge.tflite.sandbox.packages import PACKAGES

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selfheal-edge", description="Self-healing TFLite models on edge devices."
    )
    parser.add_argument("--version", action="version", version=f"selfheal-edge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    runtime = argparse.ArgumentParser(add_help=False)
    runtime.add_argument(
        "--runtime",
        choices=("auto", *PACKAGES),
        default="auto",
        help="TFLite runtime to use (default: LiteRT where it is installed)",
    )

    demo = commands.add_parser(
        "demo",
        parents=[runtime],
        help="damage a real model and watch it heal",
        description=(
            "Serve real digits with a real int8 model, flip bits in its live weights, break its "
            "sensor, let its input drift, and show what is noticed, named and healed. "
            "The exit code is 0 only if every act ended as it should."
        ),
    )
    demo.add_argument("--seed", type=int, default=0, help="for the same faults again (default: 0)")
    demo.add_argument(
        "--plain", action="store_true", help="plain lines, as when the output is not a terminal"
    )
    _add_demo_campaign(demo)

    inspect = commands.add_parser(
        "inspect",
        parents=[runtime],
        help="show what a model file holds and how it would be guarded",
    )
    inspect.add_argument("model", help="a TFLite file")
    inspect.add_argument("--kernels", choices=("auto", "default", "builtin"), default="auto")
    inspect.add_argument("--threads", type=int, default=1, metavar="N")
    diff = commands.add_parser(
        "diff",
        help="say which layers of a model were changed, and by how much",
        description=(
            "Compare two files of one model: of each constant that differs the share of changed "
            "elements, the largest and the root mean square change in real units, and the factor "
            "between scales."
        ),
    )
    diff.add_argument("golden", help="the model as it was")
    diff.add_argument("healed", help="the model as it is: what `export` has written")
    diff.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH",
        help="JSON in place of text; with a path, JSON to that file beside the text",
    )
    _add_redteam(commands, runtime)
    add_store_commands(commands)
    return parser


def _add_demo_campaign(demo: Any) -> None:
    demo.add_argument(
        "--campaign",
        action="store_true",
        help="thirty simulated days of four devices under attack instead, drawn as a picture",
    )
    demo.add_argument("--model", help="with --campaign: a TFLite file in place of the digits'")
    demo.add_argument("--data", metavar="X.npz", help="with --model: its samples x and labels y")
    demo.add_argument(
        "--picture", default="campaign.svg", metavar="OUT.svg", help="default: campaign.svg"
    )
    demo.add_argument("--days", type=float, default=30.0, metavar="N", help="default: 30")
    demo.set_defaults(kind=None, predictions_per_day=2016, labels_per_day=64)


def _add_redteam(commands: Any, runtime: argparse.ArgumentParser) -> None:
    redteam = commands.add_parser(
        "redteam",
        parents=[runtime],
        help="attack a model and its healing, and see what it survives",
        description=(
            "Have the guarded model, a bare one, one that heals naively and one that an operator "
            "restarts live simulated days of drifts, faults and attacks, and print what each of "
            "them survives. Exit code: 0 where the guarded one survived or degraded within limits, "
            "1 where it broke, 2 for wrong arguments, 3 where nothing broke and events were too "
            "few to say. With --scenarios: calibrate on half of the samples, let streams meet a "
            "sensor fault, a drift, a shift of labels or an attack, and print what the diagnosis "
            "named."
        ),
    )
    redteam.add_argument("model", help="a TFLite file with one input")
    redteam.add_argument(
        "--data",
        required=True,
        metavar="X.npz",
        help="x: samples of normal operation; y: labels, or what should be answered",
    )
    redteam.add_argument(
        "--scenarios", action="store_true", help="run the scenarios of all causes instead"
    )
    redteam.add_argument(
        "--kind",
        choices=("image", "spectrogram", "vector"),
        help="of input (default: as its shape looks)",
    )
    redteam.add_argument(
        "--cases", type=int, default=40, metavar="N", help="streams of each cause (default: 40)"
    )
    redteam.add_argument("--seed", type=int, default=0, help="for the same streams (default: 0)")
    _add_campaign_options(redteam)
    redteam.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH",
        help="JSON in place of text; with a path, JSON to that file beside the text",
    )


def _add_campaign_options(parser: Any) -> None:
    """Add the options of a campaign to a parser."""
    parser.add_argument(
        "--campaign",
        default="standard",
        metavar="NAME|FILE",
        help="standard (all attacks alone, then the combined campaign), alone, combined, a part of "
        "attacks' names, or a JSON file (default: standard)",
    )
    parser.add_argument(
        "--days", type=float, default=30.0, metavar="N",
        help="simulated days of the combined campaign (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="begin no further unit after so long"
    )
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), metavar="N",
        help="units that run at a time, each in a process (default: 2, where there are two cores)",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where the file of --json ends")
    parser.add_argument("--report", metavar="OUT.html", help="write the report as one HTML file")
    parser.add_argument(
        "--against", metavar="OLD.json", help="compare with what --json wrote of an older run"
    )
    parser.add_argument(
        "--limits", metavar="FILE", help="JSON with limits of the verdicts, by name"
    )
    parser.add_argument(
        "--predictions-per-day", type=int, default=2016, metavar="N", help="default: 2016"
    )
    parser.add_argument(
        "--labels-per-day", type=int, default=64, metavar="N",
        help="answers of an honest owner while the device is worried (default: 64)",
    )  # fmt: skip


def _run(arguments: argparse.Namespace) -> int:
    """Run a command on a model."""
    if arguments.command == "demo":
        if arguments.campaign:
            from selfheal_edge.cli.campaign_demo import run_campaign_demo  # noqa: PLC0415

            return run_campaign_demo(arguments)
        if arguments.model is not None or arguments.data is not None:
            option = "--data" if arguments.model is None else "--model"
            raise ValueError(f"{option}: expected with --campaign")
        from selfheal_edge.cli.demo import run_demo  # noqa: PLC0415 — --help stays quick

        return run_demo(arguments.runtime, arguments.seed, plain=arguments.plain)
    if arguments.command == "redteam":
        if not arguments.scenarios:
            from selfheal_edge.cli.campaign import run_campaign_command  # noqa: PLC0415

            return run_campaign_command(arguments)
        from selfheal_edge.cli.redteam import run_redteam  # noqa: PLC0415

        return run_redteam(arguments)
    if arguments.command == "diff":
        from selfheal_edge.cli.diff import run_diff  # noqa: PLC0415

        return run_diff(arguments)
    from selfheal_edge.cli.inspect import run_inspect  # noqa: PLC0415

    return run_inspect(arguments.model, arguments.runtime, arguments.kernels, arguments.threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 well, 1 not, 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    is_of_store = arguments.command in (
        "explain",
        "journal",
        "labels",
        "quarantine",
        "snapshot",
    )
    try:
        return run_store_command(arguments) if is_of_store else _run(arguments)
    except BrokenPipeError:
        # The reader has seen enough. What is left in the buffer must not be told of at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SelfHealError, OSError, ValueError) as error:
        print(f"selfheal-edge: {shown(error, MESSAGE)}", file=sys.stderr)
        is_damage = isinstance(error, (IntegrityError, StoreError))
        is_damage = is_damage and not isinstance(error, StoreVersionError)
        if arguments.command == "redteam":
            return 2  # 1 says that the model broke
        return 1 if is_damage or not is_of_store else 2
    except KeyboardInterrupt:
        return 130
