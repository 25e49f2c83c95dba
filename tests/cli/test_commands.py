"""The commands, as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from tests.tflite.builder import dense_model

from selfheal_edge.assets import digits_model_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfheal_edge", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, pytest.param(3, marks=pytest.mark.long)])
def test_demo_heals(seed: int) -> None:
    """Every act ends as it should; without a terminal there is one plain line an act."""
    done = run("demo", "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 9
    assert all(line.startswith("[ok] ") for line in lines)
    assert "named: weight corruption; outcome: healed, every bit back" in lines[1]
    assert "named: sensor fault" in lines[2]
    assert "named: sensor fault" in lines[3]
    assert "named: covariate drift" in lines[4]
    assert "named: label shift" in lines[5]
    assert "named: adversarial input" in lines[6]
    assert "golden serves again after it; healed at once the second night" in lines[7]
    assert "confirmed after " in lines[7]
    assert "nothing confirmed; a learner without defences" in lines[8]
    told = [line for line in done.stdout.splitlines() if line.startswith("  learning: ")]
    assert any("64 in all" in line for line in told)
    assert any("decisive labels for it" in line for line in told)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_demo_fails_when_nothing_heals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no strategy restores weights, and the core may not, the demo ends with exit code 1."""
    from selfheal_edge.cli import demo, main
    from selfheal_edge.cli.acts import Stage
    from selfheal_edge.loop import assembly
    from selfheal_edge.repair import RepairOutcome
    from selfheal_edge.repair.move import Move
    from selfheal_edge.repair.rebuild import Rebuild
    from selfheal_edge.repair.reload import ReloadGolden
    from selfheal_edge.repair.rollback import Rollback

    def do_nothing(*_: object) -> RepairOutcome:
        return RepairOutcome(True, "nothing done")

    # Rebuilding heals what the runtime packs, moving what was healed in the same place before.
    for strategy in (Rollback, Rebuild, ReloadGolden, Move):
        monkeypatch.setattr(strategy, "apply", do_nothing)
    monkeypatch.setattr(assembly, "core_heals_at_once", lambda *_: False)
    every_act = Stage.acts
    monkeypatch.setattr(Stage, "acts", lambda self: islice(every_act(self), 2))
    monkeypatch.setattr(demo, "lessons", lambda *_: ())  # corrupt no weights
    assert main(["demo", "--plain"]) == 1
    printed = capsys.readouterr().out
    assert "NOT healed" in printed
    assert "1 of 2 acts ended as they should" in printed


@pytest.mark.slow
def test_inspect_shows_coverage() -> None:
    done = run("inspect", str(digits_model_path()))
    assert done.returncode == 0, done.stderr
    assert "classes    10, probabilities, from an embedding of 32" in done.stdout
    assert "executing" in done.stdout


@pytest.mark.slow
def test_inspect_keeps_its_columns_with_long_names(tmp_path: Path) -> None:
    """Converters name a tensor after all that they fused into it: hundreds of characters."""
    builder = dense_model(softmax=False)
    for tensor in builder.tree["subgraphs"][0]["tensors"][1:3]:
        tensor["name"] = (
            "first;" + 40 * "model/batch_normalization/FusedBatchNormV3;" + tensor["name"]
        )
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.file())
    done = run("inspect", str(path))
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "weights " in line or "bias " in line]
    table = [line for line in rows if line.startswith("0/")]
    assert len(table) == 2
    for line, name in zip(table, ("t1", "t2"), strict=True):
        assert len(line) < 160
        assert line.split()[0].startswith("0/")
        assert line.split()[0].endswith(name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("inspect", "nowhere.tflite"), 1, "no such file"),
        (("demo", "--runtime", "onnx"), 2, "invalid choice"),
        ((), 2, "COMMAND"),
    ],
)
def test_refuses(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_refuses_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("no model at all")
    done = run("inspect", str(path))
    assert done.returncode == 1
    assert "TFL3" in done.stderr
    assert "Traceback" not in done.stderr
