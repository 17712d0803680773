"""Makes the model files of format version 1 as estimators saved them; README.md says how and when.

    python tests/data/make_estimators.py FOLDER

Each learns for a few steps from made-up samples. `expected.npz` holds four samples for each of them, and what it says.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from isthmus import ConvAutoencoder, Denoiser, ImageClassifier, LinearAutoencoder
from isthmus.estimators.estimator import Estimator

COUNT, SHAPE = 40, (16, 16, 3)


def pictures() -> np.ndarray:
    """Colour images (N, H, W, C) with a bar that is as high up as the image comes late, and noise."""
    images = np.random.default_rng(0).integers(0, 60, (COUNT, *SHAPE), dtype=np.uint8)
    for i, image in enumerate(images):
        image[i % 12 : i % 12 + 4] += np.array([150, 100, 50], np.uint8)
    return images


def columns(count: int) -> np.ndarray:
    """Rows of numbers in columns of very different sizes, (N, count)."""
    rows = np.random.default_rng(1).normal(size=(COUNT, count)).cumsum(axis=1)
    return rows * 10.0 ** np.arange(-2, count - 2) + 5


def fitted() -> dict[str, tuple[Estimator, np.ndarray | pd.DataFrame]]:
    """Estimators by name, each with what it learnt from."""
    images, rows = pictures(), columns(6)
    frame = pd.DataFrame(rows[:, :4], columns=["width", "height", "weight", "größe"])
    flat = images.reshape(COUNT, -1) / 100 - 1
    labels = np.where(rows[:, 3] > np.median(rows[:, 3]), 10, 3)
    of_images = ConvAutoencoder(latent_dim=3, width=2, epochs=2, batch_size=8, density="gaussian", random_state=0)
    of_rows = ConvAutoencoder(latent_dim=2, width=2, epochs=2, batch_size=8, image_shape=SHAPE, random_state=0)
    return {
        "classifier": (ImageClassifier(hidden=8, epochs=20, random_state=0).fit(frame, labels), frame),
        "images": (of_images.fit(images), images),
        "rows-of-images": (of_rows.fit(flat), flat),
        "linear": (LinearAutoencoder(2, density="kernel").fit(rows), rows),
        "denoiser": (
            Denoiser(0.25, width=2, epochs=2, batch_size=8, random_state=0).fit(images[..., 0]),
            images[..., 0],
        ),
    }


def answers(estimator: Estimator, X: np.ndarray | pd.DataFrame) -> dict[str, np.ndarray]:
    """What an estimator says of X."""
    if isinstance(estimator, ImageClassifier):
        return {"probabilities": estimator.predict_proba(X), "labels": estimator.predict(X)}
    if isinstance(estimator, Denoiser):
        return {"restored": estimator.transform(X)}
    codes = estimator.transform(X)
    redrawn, samples = estimator.inverse_transform(codes), estimator.sample(3, random_state=1)
    return {"codes": codes, "redrawn": redrawn, "scores": estimator.score_samples(X), "samples": samples}


def make(folder: Path) -> None:
    """Write every model, and what they say."""
    expected = {}
    for name, (estimator, X) in fitted().items():
        estimator.save_pretrained(folder / name)
        expected[f"{name}.given"] = np.asarray(X[:4])
        expected |= {f"{name}.{key}": values for key, values in answers(estimator, X[:4]).items()}
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
