"""The demo model that ships with the package, and the data to calibrate and judge it.

A small int8 network that reads handwritten digits of 8 by 8 pixels. ``make_digits_cnn.py`` beside
this file made both assets; ``README.md`` says where the images come from.
"""

# The images are the "Optical Recognition of Handwritten Digits" set by E. Alpaydin and C. Kaynak
# (UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0), in the part that
# scikit-learn bundles; here split, and quantised to int8.

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DigitsData", "digits_model_path", "load_digits"]

_HERE = Path(__file__).resolve().parent


class DigitsData(NamedTuple):
    """Digits that the demo model was not trained on, ready to be its input.

    Attributes
    ----------
    calibration_inputs : ndarray of int8, shape (600, 8, 8, 1)
        Images to calibrate with. -128 is paper, 127 is full ink.
    calibration_labels : ndarray of int8, shape (600,)
        Their digits, 0 to 9.
    heldout_inputs : ndarray of int8, shape (500, 8, 8, 1)
        Images to judge with. None of them is among the calibration images.
    heldout_labels : ndarray of int8, shape (500,)
        Their digits, 0 to 9.
    """

    calibration_inputs: NDArray[np.int8]
    calibration_labels: NDArray[np.int8]
    heldout_inputs: NDArray[np.int8]
    heldout_labels: NDArray[np.int8]


def digits_model_path() -> Path:
    """Return the path of the demo model, an int8 TFLite file.

    Returns
    -------
    pathlib.Path
        An absolute path. The model takes int8 ``[1, 8, 8, 1]`` and answers with int8
        probabilities ``[1, 10]``; the input of its last dense layer, ``[1, 32]``, is the embedding.

    Examples
    --------
    >>> digits_model_path().name
    'digits_cnn_int8.tflite'
    """
    return _HERE / "digits_cnn_int8.tflite"


def load_digits() -> DigitsData:
    """Load the demo's calibration and held-out digits.

    Returns
    -------
    DigitsData
        Fresh, writable arrays; changing them changes nothing for the next caller.

    Notes
    -----
    Reads one compressed file of 30 kB; the arrays take 71,500 bytes.

    Examples
    --------
    >>> digits = load_digits()
    >>> digits.heldout_inputs.shape, digits.heldout_inputs.dtype
    ((500, 8, 8, 1), dtype('int8'))
    """
    with np.load(_HERE / "digits.npz", allow_pickle=False) as arrays:
        return DigitsData(**{name: arrays[name] for name in DigitsData._fields})
