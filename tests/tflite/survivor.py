"""Run models one after the other in one process; deaths of this process are what the tests count.

Usage: python survivor.py MODULE KERNELS. Reads ``<u32 size><bytes>`` from stdin and answers each
with one byte on the original stdout: ``.`` ran, ``x`` the runtime raised.
"""

from __future__ import annotations

import importlib
import os
import struct
import sys

import numpy as np


def main() -> None:
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    module = importlib.import_module(sys.argv[1])
    options = {}
    if sys.argv[2] == "builtin":
        options["experimental_op_resolver_type"] = (
            module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    stream = sys.stdin.buffer
    while header := stream.read(4):
        data = stream.read(struct.unpack("<I", header)[0])
        try:
            interpreter = module.Interpreter(model_content=data, **options)
            interpreter.allocate_tensors()
            for fill in (0, 1):
                for detail in interpreter.get_input_details():
                    value = np.full(detail["shape"], fill).astype(detail["dtype"])
                    interpreter.set_tensor(detail["index"], value)
                interpreter.invoke()
                for detail in interpreter.get_output_details():
                    interpreter.get_tensor(detail["index"])
            answer = b"."
        except Exception:
            answer = b"x"
        interpreter = None
        os.write(answers, answer)


if __name__ == "__main__":
    main()
