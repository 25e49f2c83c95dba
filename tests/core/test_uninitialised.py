"""Bindings trust no object that Python hands them."""

import inspect
import subprocess
import sys

import pytest

from selfheal_edge import _core

CLASSES = sorted(
    name
    for name, held in vars(_core).items()
    if inspect.isclass(held) and not issubclass(held, (BaseException, tuple))
)

# In a process of its own, since what is looked for ends the process.
WALK = """
import faulthandler, sys
import numpy as np
from selfheal_edge import _core

faulthandler.enable()
cls = getattr(_core, sys.argv[1])
own = [n for c in cls.__mro__ if c.__module__ == "selfheal_edge._core" for n in vars(c)]
KEPT = {"__new__", "__init__", "__setstate__", "__class__", "__doc__", "__module__", "__dict__"}
arguments = [(), (0.5,), (1,), (np.zeros(4),), (b"x",), (None,), ([], []), (np.zeros(4), None),
             (None, None, None), (0, 0), ([], [], None, np.zeros(1)), (1, b"x")]
reached = []
for name in sorted(set(own) - KEPT):
    for given in arguments:
        blank = cls.__new__(cls)
        print(name, len(given), file=sys.stderr)
        static = isinstance(next(vars(c)[name] for c in cls.__mro__ if name in vars(c)),
                            (staticmethod, classmethod))
        try:
            held = getattr(blank, name)
            if static or not callable(held):
                if not static:
                    reached.append(name)
                continue
            held(*given)
        except (TypeError, ValueError, RuntimeError, AttributeError):
            continue
        reached.append(name)
assert not reached, f"answered without __init__: {sorted(set(reached))}"
"""


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_without_init_is_refused_everywhere(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
