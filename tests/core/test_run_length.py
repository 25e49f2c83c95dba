import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfheal_edge import _core

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracles" / "run_length.json"


@pytest.fixture(scope="module")
def oracle() -> Any:
    if not ORACLE.exists():
        pytest.skip("no ../shared/oracles/run_length.json beside the project")
    return json.loads(ORACLE.read_text(), parse_float=str)


def agrees(ours: float, printed: str | int) -> bool:
    """To the last digit that is printed."""
    decimals = len(str(printed).partition(".")[2])
    return abs(ours - float(printed)) <= 0.5000001 * 10.0**-decimals


def cusum_cases(oracle: Any) -> dict[str, tuple[float, str]]:
    cases = {}
    for row in oracle["cusum"]["rows"]:
        shift = float(row[0])
        for h, sides, method, printed in (
            (4, "upper", "integral", row[1]),
            (4, "both", "integral", row[2]),
            (5, "upper", "integral", row[3]),
            (5, "both", "integral", row[4]),
            (5, "both", "siegmund", row[5]),
        ):
            ours = _core.average_run_length(h, 0.5, shift, sides, method)  # type: ignore[arg-type]
            cases[f"shift={shift} h={h} {sides} {method}"] = (ours, printed)
    h3 = oracle["cusum_one_sided_h3_k05"]
    cases["shift=0 h=3"] = (_core.average_run_length(3, 0.5, 0, "upper"), h3["arl0"])
    cases["shift=1 h=3"] = (_core.average_run_length(3, 0.5, 1, "upper"), h3["arl_at_shift_1"])
    return cases


# Three figures that an independent solution of the same equation, a Markov chain and a simulation
# do not bear out (test_disputed_figures). Named one by one, so that no other can hide here.
DISPUTED = {"shift=3.0 h=4 upper integral", "shift=3.0 h=4 both integral", "shift=1 h=3"}


def test_run_lengths_agree_with_the_oracle(oracle: Any) -> None:
    cases = cusum_cases(oracle)
    wrong = {name: case for name, case in cases.items() if not agrees(*case)}
    assert wrong.keys() - DISPUTED == set(), wrong


@pytest.mark.xfail(strict=True, reason="the oracle prints 2.195 and, for shift 1.5, 3.749")
@pytest.mark.parametrize("name", sorted(DISPUTED))
def test_disputed_figures_agree_with_the_oracle(oracle: Any, name: str) -> None:
    assert agrees(*cusum_cases(oracle)[name])


@pytest.mark.parametrize(
    ("h", "shift", "exact"), [(4, 3.0, 2.1944809), (3, 1.0, 6.4039089), (3, 1.5, 3.7491084)]
)
def test_disputed_figures(h: float, shift: float, exact: float) -> None:
    """The figures to which NumPy's Gauss-Legendre nodes and LAPACK lead."""
    erf = np.vectorize(math.erf)
    x, w = np.polynomial.legendre.leggauss(80)
    y, w = (x + 1) * h / 2, w * h / 2
    u = np.concatenate([[0.0], y])
    drift = 0.5 - shift
    kernel = np.empty((81, 81))
    kernel[:, 0] = 0.5 * (1 + erf((drift - u) / math.sqrt(2)))
    gap = y[None, :] + drift - u[:, None]
    kernel[:, 1:] = w * np.exp(-0.5 * gap**2) / math.sqrt(2 * math.pi)
    independent = np.linalg.solve(np.eye(81) - kernel, np.ones(81))[0]
    assert independent == pytest.approx(exact, abs=1e-7)
    assert _core.average_run_length(h, 0.5, shift, "upper") == pytest.approx(exact, abs=1e-7)


def test_thresholds_agree_with_the_oracle(oracle: Any) -> None:
    table = oracle["cusum_two_sided_h_for_arl0"]
    wrong = []
    for row in table["rows"]:
        for arl0, printed in zip(table["columns"][1:], row[1:], strict=True):
            ours = _core.cusum_threshold(float(arl0), float(row[0]))
            if not agrees(ours, printed):
                wrong.append((row[0], arl0, printed, ours))
    assert wrong == []


def test_refusals() -> None:
    with pytest.raises(ValueError, match="arl0: expected a number of samples from 10 to 1e12"):
        _core.cusum_threshold(5, 0.5)
    with pytest.raises(ValueError, match="h: expected a finite number >= 0, got nan"):
        _core.average_run_length(float("nan"), 0.5)
    with pytest.raises(ValueError, match="method: expected 'integral' or 'siegmund', got 'guess'"):
        _core.average_run_length(1, 0.5, method="guess")  # type: ignore[arg-type]
