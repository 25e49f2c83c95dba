"""`selfheal-edge redteam`: a campaign against a real model, its lines, its page and its code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.test_text import HOSTILE

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import campaign, main
from selfheal_edge.redteam.survival.campaign import campaign_of
from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.world import World

QUICK = ("--predictions-per-day", "480", "--campaign", "random bit flips")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    digits = load_digits()
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(
        path,
        x=np.concatenate([digits.calibration_inputs, digits.heldout_inputs]),
        y=np.concatenate([digits.calibration_labels, digits.heldout_labels]),
    )
    return str(path)


class SharedWorld(World):
    """A world in which one campaign after another takes place, learned once."""

    learned: she.Baseline | None = None

    def calibrate(self) -> she.Baseline:
        if self.learned is None:
            self.learned = super().calibrate()
        return self.learned

    def close(self) -> None:
        """Stay open for the next command."""


@pytest.fixture(scope="module", autouse=True)
def worlds() -> Iterator[None]:
    """Make what the same arguments ask for once: a world is most of what a short command costs."""
    made: dict[Any, SharedWorld] = {}

    def world(model: Any, x: Any, y: Any, *life: Any, **how: Any) -> World:
        asked = (model, x.tobytes(), y.tobytes(), life, tuple(how.items()))
        if asked not in made:
            made[asked] = SharedWorld(model, x, y, *life, **how)
        return made[asked]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(campaign, "World", world)
        yield
    for one in made.values():
        World.close(one)


def run(data: str, *arguments: str) -> int:
    return main(["redteam", str(digits_model_path()), "--data", data, *QUICK, *arguments])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_lines_page_and_text(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, html = tmp_path / "out.jsonl", tmp_path / "out.html"
    assert run(data, "--json", str(out), "--report", str(html)) == 0
    found, last = lines_of(out)
    assert found["attack"] == "random bit flips"
    assert found["verdict"] == "survived"
    for name in NAMES:
        assert set(found["accuracy"][name]) == {"before", "during", "after"}
    assert found["accuracy"]["defended"]["during"] > found["accuracy"]["undefended"]["during"]
    assert last["summary"]["score"] > 0.95
    assert last["summary"]["scores"]["undefended"] < last["summary"]["score"]
    text = capsys.readouterr().out
    assert "score" in text
    assert "random bit flips" in text
    made = html.read_text("utf-8")
    assert "<svg" in made
    assert "viewport" in made
    assert not re.search(r"""(?:src|href)=['"](?!https://atlas\.mitre\.org)""", made)
    assert "<script" not in made
    assert "@import" not in made

    # Gone on with, nothing is run again; a summary follows.
    before = out.read_text().splitlines()[0]
    assert run(data, "--json", str(out), "--resume", "--against", str(out)) == 0
    assert out.read_text().splitlines()[0] == before
    assert lines_of(out)[1]["summary"]["against"] == [
        {"attack": "random bit flips", "then": "survived", "now": "survived", "points": 0.0}
    ]
    assert "against the older run" in capsys.readouterr().out

    # A narrow screen has room for why.
    monkeypatch.setenv("COLUMNS", "80")
    why = "loses 31.2 points against undisturbed inputs, which no repair brings back; all is said"
    narrow = tmp_path / "narrow.jsonl"
    narrow.write_text(json.dumps({**json.loads(before), "why": [why]}) + "\n")
    assert run(data, "--json", str(narrow), "--resume", "--budget", "-1") in (0, 3)
    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= 80
    assert any(line.strip() == why[:74] for line in told), told

    # Texts of a file that a stranger wrote: neither terminal nor page takes a word for a command.
    strange = {**json.loads(before), "attack": f"{HOSTILE}<script>" + "x" * 5000, "why": [HOSTILE]}
    strange |= {"aim": HOSTILE, "technique": {"id": "'><script>", "name": HOSTILE}}
    strange["notes"] = {NAMES[0]: {HOSTILE: f"<script>{HOSTILE}"}}
    written = tmp_path / "strange.jsonl"
    written.write_text(json.dumps(strange) + "\n")
    how = ("--resume", "--budget", "-1", "--against", str(written), "--report", str(html))
    assert run(data, "--json", str(written), *how) in (0, 3)
    said = capsys.readouterr()
    made = html.read_text("utf-8")
    assert "<script" not in made
    assert "\\x1b[2J" in made
    assert len(made) < 200_000
    for line in (said.out + said.err + made).split("\n"):
        assert line.isprintable(), line
    written.write_text(json.dumps({**strange, "verdict": HOSTILE}) + "\n")
    assert run(data, "--json", str(written), *how) == 2
    assert "expected verdicts among broken" in capsys.readouterr().err

    # A run of another seed is no run to go on with.
    assert run(data, "--json", str(out), "--resume", "--seed", "1") == 2
    assert "seed 0 and not 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_limits_decide_the_code(data: str, tmp_path: Path) -> None:
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"left_points": 0, "lost_points": 0}))
    out = tmp_path / "out.jsonl"
    # No model loses less than nothing for sure: then nothing can be said.
    assert run(data, "--limits", str(limits), "--json", str(out)) == 3
    assert lines_of(out)[0]["verdict"] == "inconclusive"


def test_no_time_no_unit(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert run(data, "--budget", "-1", "--json", str(out)) == 3, "nothing can be said"
    assert lines_of(out)[0]["summary"]["not_run"] == ["random bit flips"]
    assert "not run, the time was up: random bit flips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--campaign", "nonsense"), "--campaign: expected standard"),
        (("--resume",), "--resume: expected the file"),
        (("--limits", "none.json"), "none.json"),
        (("--predictions-per-day", "3"), "predictions_per_day: expected 24 or more"),
        (("--days", "0"), "--days: expected 2 to 10000, got 0"),
        (("--days", "nan"), "--days: expected 2 to 10000, got nan"),
        (("--days", "inf"), "--days: expected 2 to 10000, got inf"),
        (("--seed", "-1"), "seed: expected an integer of at least 0, got -1"),
        (("--report", "no/such/folder/out.html"), "--report: no such folder"),
        (("--json", "no/such/folder/out.jsonl"), "--json: no such folder"),
    ],
)
def test_wrong_arguments(
    data: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, *arguments) == 2, "1 is for a model that broke"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"attacks": "a real drift"}, "attacks: expected 'all' or a list, got 'a real drift'"),
        ({"attacks": 7}, "attacks: expected 'all' or a list, got 7"),
        ({"attacks": [["power cuts"]]}, r"attacks: expected names .* got \['power cuts'\]"),
        (
            {"attacks": ["power cuts", "power cuts"]},
            "attacks: expected each once, got .*'power cuts'",
        ),
        ({"phases": [{"attack": {}}]}, r"phases: expected an attack .* got \{\}"),
        (
            {"phases": [{"attack": "power cuts"}], "days": float("nan")},
            "days: expected a number from 1 to 10000",
        ),
        (
            {"phases": [{"attack": "power cuts"}], "days": float("inf")},
            "days: expected a number from 1 to 10000",
        ),
        (
            {"phases": [{"attack": "power cuts"}], "days": -3},
            "days: expected a number from 1 to 10000, got -3",
        ),
    ],
)
def test_a_campaign_file_that_is_none(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        campaign_of(str(path), "image", "classifier")


@pytest.mark.slow
def test_the_demo_draws_a_life(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "life.svg"
    model = str(digits_model_path())
    told = ["demo", "--campaign", "--days", "2", "--picture", str(picture)]
    assert main([*told, "--model", model]) == 1
    assert "--model, --data: expected both or none" in capsys.readouterr().err
    assert main(["demo", "--model", model, "--data", data]) == 1
    assert "--model: expected with --campaign" in capsys.readouterr().err
    nowhere = ["--picture", "no/such/folder/life.svg"]
    assert main(["demo", "--campaign", *nowhere]) == 1
    assert "--picture: no such folder" in capsys.readouterr().err
    assert main([*told, "--model", model, "--data", data]) in (0, 1)
    drawn = ElementTree.parse(picture).getroot()
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for text in ("selfheal-edge", "hourly restart", "1 random bit flips", "simulated days"):
        assert text in texts
    assert "drawn: " in capsys.readouterr().out


@pytest.mark.slow
def test_units_side_by_side_come_to_the_same(data: str, tmp_path: Path) -> None:
    campaign = tmp_path / "two.json"
    campaign.write_text(json.dumps({"attacks": ["power cuts", "random bit flips"]}))
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / f"{jobs}.jsonl"
        how = ("--campaign", str(campaign), "--days", "2", "--jobs", jobs, "--json", str(out))
        assert run(data, *how) in (0, 3)
        lines = sorted(lines_of(out)[:2], key=lambda line: str(line["attack"]))
        found.append([(line["attack"], line["verdict"], line["over_time"]) for line in lines])
    assert found[0] == found[1]
