"""Bindings trust no object that Python hands them."""

import inspect
import subprocess
import sys

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
KEPT = {"__new__", "__init__", "__setstate__", "__class__", "__doc__", "__module__", "__dict__"}
arguments = [(), (0.5,), (1,), (np.zeros(4),), (b"x",), (None,), ([], []), (np.zeros(4), None),
             (None, None, None), (0, 0), ([], [], None, np.zeros(1)), (1, b"x")]

def reached(cls):
    own = [n for c in cls.__mro__ if c.__module__ == "selfheal_edge._core" for n in vars(c)]
    for name in sorted(set(own) - KEPT):
        for given in arguments:
            blank = cls.__new__(cls)
            print(cls.__name__, name, len(given), file=sys.stderr)
            static = isinstance(next(vars(c)[name] for c in cls.__mro__ if name in vars(c)),
                                (staticmethod, classmethod))
            try:
                held = getattr(blank, name)
                if static or not callable(held):
                    if not static:
                        yield f"{cls.__name__}.{name}"
                    continue
                held(*given)
            except (TypeError, ValueError, RuntimeError, AttributeError, BufferError):
                continue
            yield f"{cls.__name__}.{name}"

found = sorted({name for cls in sys.argv[1:] for name in reached(getattr(_core, cls))})
assert not found, f"answered without __init__: {found}"
"""


def test_an_object_without_init_is_refused_everywhere() -> None:
    """The last line of what the walk says names the class and the call that ended it."""
    done = subprocess.run(
        [sys.executable, "-c", WALK, *CLASSES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


OLD_PICKLES = """
import copyreg, pickle
from selfheal_edge import _core

chart = _core.Cusum(0.0, 1.0, h=5.0)
for make in (
    lambda: pickle.dumps(chart, 0),
    lambda: pickle.dumps(chart, 1),
    lambda: type(chart).__mro__[-2](),
    lambda: type("Own", (type(chart).__mro__[-2],), {})(),
):
    try:
        make()
    except TypeError as error:
        assert "class of the core" in str(error), error
    else:
        raise AssertionError("made")
assert pickle.loads(pickle.dumps(chart, 2)).state() == chart.state()
"""


def test_what_all_classes_come_from_cannot_be_made() -> None:
    """Protocols 0 and 1 of pickle ask for one, where pybind11 ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", OLD_PICKLES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
