"""Train, quantise and write the demo model and its data (development time only).

Nothing in the package imports this file. To rebuild the two assets beside it::

    python -m venv venv && venv/bin/pip install tensorflow-cpu==2.21.0 scikit-learn==1.9.1
    CUDA_VISIBLE_DEVICES= venv/bin/python python/selfheal_edge/assets/make_digits_cnn.py

The committed files were made with Python 3.11, tensorflow-cpu 2.21.0, NumPy 2.4.6 and
scikit-learn 1.9.1 on x86_64, seed 1797. The same versions on the same kind of CPU give the same
bytes again; other versions may give a model that differs by a rounding.

The 1,797 images are split by class into 697 to train on, 600 to calibrate and 500 held out. Weights
and quantisation ranges come from the training part alone. The architecture and the number of epochs
were picked among five candidates by accuracy on the calibration part and by how visibly flipped
bits hurt; the held-out accuracy of the one picked was neither the best nor the worst of the five.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 1797
CALIBRATION_SIZE = 600
HELDOUT_SIZE = 500
EPOCHS = 300
BATCH = 32
GREY_LEVELS = 16.0

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def load_split(seed: int) -> dict[str, tuple[Images, Labels]]:
    """Split the digits by class into ``train``, ``calibration`` and ``heldout``.

    Images are float32 ``[n, 8, 8, 1]`` in [0, 1].
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415  (not a dependency of the package)
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    digits = load_digits()
    images = (digits.images[..., None] / GREY_LEVELS).astype(np.float32)
    labels = digits.target.astype(np.int64)
    x_rest, x_heldout, y_rest, y_heldout = train_test_split(
        images, labels, test_size=HELDOUT_SIZE, stratify=labels, random_state=seed
    )
    x_train, x_calibration, y_train, y_calibration = train_test_split(
        x_rest, y_rest, test_size=CALIBRATION_SIZE, stratify=y_rest, random_state=seed
    )
    return {
        "train": (x_train, y_train),
        "calibration": (x_calibration, y_calibration),
        "heldout": (x_heldout, y_heldout),
    }


def augment(images: Images, rng: np.random.Generator) -> Images:
    """Shift each image by up to one pixel, scale its contrast and add light noise."""
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Half of the images stay in place: the strokes touch the border, so a shift loses ink.
    moved = rng.random(n) < 0.5
    rows = np.where(moved, rng.integers(0, 3, n), 1)
    columns = np.where(moved, rng.integers(0, 3, n), 1)
    shifted = np.stack(
        [padded[i, rows[i] : rows[i] + height, columns[i] : columns[i] + width] for i in range(n)]
    )
    contrast = rng.uniform(0.85, 1.15, (n, 1, 1, 1))
    noise = rng.normal(0.0, 0.04, shifted.shape)
    augmented: Images = np.clip(shifted * contrast + noise, 0.0, 1.0).astype(np.float32)
    return augmented


def build(batch: int | None) -> Any:
    """Return the Keras network for a fixed or a free batch size.

    No wide dense layer: it would hold most of the bits and hardly suffer when some flip. With 100
    random bits flipped anywhere in weights and biases, this network keeps 35 % of the held-out
    answers right (mean of 10 draws), one of two convolutions and a 384 by 32 dense layer 70 %.
    Most of that harm comes from the high bits of the int32 biases: 100 flips among the int8 weights
    alone leave 95 %, 100 flips of their top bits 82 %.
    """
    from tensorflow import keras  # noqa: PLC0415

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch, 8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.DepthwiseConv2D(
                3, strides=2, padding="same", activation="relu", name="depthwise"
            ),
            layers.Conv2D(32, 1, activation="relu", name="pointwise"),
            layers.Conv2D(24, 3, activation="relu", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="embedding"),
            layers.Dense(10, name="logits"),
            layers.Softmax(name="probabilities"),
        ],
        name="digits_cnn",
    )


def train(images: Images, labels: Labels, seed: int) -> Any:
    """Train with Adam and a cosine schedule on freshly augmented images in every epoch."""
    import tensorflow as tf  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    model = build(None)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(tf.keras.optimizers.AdamW(schedule, 1e-3), "sparse_categorical_crossentropy")
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        model.fit(
            augment(images[order], rng), labels[order], batch_size=BATCH, shuffle=False, verbose=0
        )
    return model


def convert(model: Any, representative: Images) -> bytes:
    """Quantise to int8 throughout, input and output included."""
    import tensorflow as tf  # noqa: PLC0415

    # With a fixed batch of one, Flatten becomes one static RESHAPE and not a shape computation.
    single = build(1)
    single.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    # Dense layers with a scale per channel need runtimes newer than tflite-runtime 2.14.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


def quantise(images: Images, scale: float, zero_point: int) -> NDArray[np.int8]:
    """Quantise with round half to even and saturation."""
    levels = np.rint(images / np.float32(scale)) + zero_point
    quantised: NDArray[np.int8] = np.clip(levels, -128, 127).astype(np.int8)
    return quantised


def accuracy(content: bytes, inputs: NDArray[np.int8], labels: Labels) -> float:
    """Return the share of correct answers of the int8 model."""
    import tensorflow as tf  # noqa: PLC0415

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    correct = 0
    for image, label in zip(inputs, labels, strict=True):
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        correct += int(interpreter.get_tensor(sink)[0].argmax() == label)
    return correct / len(labels)


def main() -> None:
    """Write ``digits_cnn_int8.tflite`` and ``digits.npz``."""
    parser = argparse.ArgumentParser(description="Train and write the demo model and its data.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf  # noqa: PLC0415

    tf.keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    parts = load_split(arguments.seed)
    content = convert(train(*parts["train"], arguments.seed), parts["train"][0])

    detail = tf.lite.Interpreter(model_content=content).get_input_details()[0]
    scale, zero_point = detail["quantization"]
    arrays: dict[str, Any] = {}
    for part in ("calibration", "heldout"):
        images, labels = parts[part]
        arrays[f"{part}_inputs"] = quantise(images, scale, zero_point)
        arrays[f"{part}_labels"] = labels.astype(np.int8)

    arguments.output.mkdir(parents=True, exist_ok=True)
    model_path = arguments.output / "digits_cnn_int8.tflite"
    data_path = arguments.output / "digits.npz"
    model_path.write_bytes(content)
    np.savez_compressed(data_path, **arrays)

    for path in (model_path, data_path):
        print(f"{path.name}: {path.stat().st_size} bytes")
    for part in ("calibration", "heldout"):
        share = accuracy(content, arrays[f"{part}_inputs"], parts[part][1])
        print(f"int8 accuracy on {part}: {share:.4f}")


if __name__ == "__main__":
    main()
