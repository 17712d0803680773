# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
# ruff: noqa: B018

# %% [markdown]
# # Handwritten digits
#
# An autoencoder squeezes each picture into a few numbers, its code, and draws it again from them. This notebook fits
# one, compares it with the best that any linear method can do, draws digits nobody wrote, finds odd pictures, reads
# digits, and removes noise. The pictures come with Isthmus; nothing is downloaded.
#
# As a script: `python examples/digits.py`, or sooner with `--fast`, on a fifth of the pictures. On a desktop each
# figure waits until its window is closed; `MPLBACKEND=agg` shows none.

# %%
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from isthmus import (
    ConvAutoencoder,
    Denoiser,
    ImageClassifier,
    LinearAutoencoder,
    VariationalAutoencoder,
    load,
    load_images,
)

FAST = "--fast" in sys.argv  # a fifth of the pictures


def show(rows, width=9):
    """One row of pictures a label: {label: (M, H, W) in [0, 1]}."""
    figure, places = plt.subplots(len(rows), squeeze=False, figsize=(width, 1.25 * len(rows)), layout="constrained")
    for axes, (label, pictures) in zip(places[:, 0], rows.items(), strict=True):
        axes.imshow(np.hstack(list(pictures)), cmap="gray", vmin=0, vmax=1)
        axes.set_title(label, fontsize=9, loc="left")
        axes.set_axis_off()
    if plt.get_backend().lower() != "agg":  # which has no window
        plt.show()
    plt.close(figure)


# %% [markdown]
# ## The pictures
#
# `load` gives a set that knows its classes and shows itself; `load_images` gives plain arrays, as scikit-learn likes
# them: pictures (N, H, W) from 0 to 255, and the name of each one's class.

# %%
load("mnist-5k")

# %%
pictures, names = load_images("mnist-5k", return_labels=True)
if FAST:
    pictures, names = pictures[::5], names[::5]
train, test, train_names, test_names = train_test_split(pictures, names, test_size=0.2, stratify=names, random_state=0)
print(
    f"{len(train):,} pictures of {train.shape[1]} x {train.shape[2]} pixels to learn from, {len(test):,} to test with"
)

# %% [markdown]
# ## An autoencoder
#
# `fit` learns, `transform` gives codes, and `inverse_transform` draws pictures from codes. In a notebook the fitted
# autoencoder shows its learning curves and some pictures before and after.

# %%
autoencoder = ConvAutoencoder(latent_dim=8, epochs=20, batch_size=32, learning_rate=4e-3, random_state=0).fit(train)
autoencoder

# %%
codes = autoencoder.transform(test)
print(f"{test[0].size} pixels became {codes.shape[1]} numbers; the first code: {np.round(codes[0], 1)}")

# %% [markdown]
# ## The best a linear method can do
#
# `LinearAutoencoder` is solved in closed form: no linear autoencoder with as many numbers, however trained, has a
# smaller error on the pictures it was fitted to. `score` is minus the mean squared error per pixel.

# %%
linear = LinearAutoencoder(latent_dim=8).fit(train)
error, least = -autoencoder.score(test), -linear.score(test)
verdict = "lower" if error < least else "higher"
print(f"Error on test pictures: convolutional {error:.4f}, linear {least:.4f}.")
print(f"That of the convolutional autoencoder is {abs(1 - error / least):.0%} {verdict}.")

# %%
some = test[:12]
show(
    {
        "test pictures": some / 255,
        "convolutional, 8 numbers": autoencoder.inverse_transform(codes[:12]),
        "linear, 8 numbers": linear.inverse_transform(linear.transform(some)),
    }
)

# %% [markdown]
# ## Digits nobody wrote
#
# A variational autoencoder learns codes that are spread like a normal distribution, from which new codes can be drawn.

# %%
vae = VariationalAutoencoder(latent_dim=16, epochs=20, batch_size=32, random_state=0).fit(train)
vae

# %%
show({"drawn from the variational autoencoder": vae.sample(12, random_state=1)})

# %% [markdown]
# ## Odd pictures
#
# `score_samples` says how well each picture is understood: the lower, the stranger. Here it is given digits turned
# upside down (some are digits still), negatives, and digits cut in two halves that changed places.

# %%
odd = np.concatenate([test[0:20, ::-1, ::-1], 255 - test[20:40], np.roll(test[40:60], 14, axis=2)])
usual, strange = vae.score_samples(test[60:]), vae.score_samples(odd)
truth = np.repeat([0, 1], [len(usual), len(strange)])
area = roc_auc_score(truth, -np.concatenate([usual, strange]))
print(f"An odd picture scores lower than a test picture in {area:.0%} of all pairs.")
limit = np.quantile(usual, 0.05)
for label, scores in zip(("upside down", "negative", "halves swapped"), np.split(strange, 3), strict=True):
    print(f"{label:20} {np.mean(scores < limit):4.0%} are below the lowest twentieth of test pictures")

# %%
order = np.argsort(usual)
show({"the strangest test pictures": test[60:][order[:12]] / 255, "the most usual": test[60:][order[-12:]] / 255})

# %% [markdown]
# ## Reading digits
#
# The classifier is a scikit-learn estimator too, and so is everything in a pipeline: codes, then the nearest
# neighbour among them. `cross_val_score` fits each anew on every fold.

# %%
classifier = ImageClassifier(epochs=10, random_state=0).fit(train, train_names)
print(f"{classifier.score(test, test_names):.1%} of the test pictures are read right")
classifier

# %%
neighbours = make_pipeline(LinearAutoencoder(latent_dim=16), KNeighborsClassifier(5))
folds = cross_val_score(neighbours, train, train_names, cv=3)
print(f"From 16 numbers, by nearest neighbours: {folds.mean():.1%}, folds from {folds.min():.1%} to {folds.max():.1%}")

# %% [markdown]
# ## Noise
#
# A denoiser learns from clean pictures, to which it adds noise itself; `transform` takes noisy ones.

# %%
denoiser = Denoiser(noise=0.25, epochs=10, random_state=0).fit(train)
noisy = test / 255 + np.random.default_rng(0).normal(0, 0.25, test.shape)
restored = denoiser.transform(noisy)
before, after = (10 * np.log10(1 / np.mean((p - test / 255) ** 2, axis=(1, 2))).mean() for p in (noisy, restored))
print(f"Signal to noise, mean over test pictures: {before:.1f} dB before, {after:.1f} dB after")
show({"noisy": np.clip(noisy[:12], 0, 1), "restored": restored[:12]})

# %% [markdown]
# ## To keep and to share
#
# A saved model is a folder of plain files without pickle: weights, settings, and a card that describes it.

# %%
with tempfile.TemporaryDirectory() as place:
    folder = autoencoder.save_pretrained(Path(place) / "digits")
    print(*sorted(file.name for file in folder.iterdir()), sep=", ")
    again = ConvAutoencoder.from_pretrained(folder)
same = np.array_equal(again.transform(test), codes)
print(f"The codes of the loaded model are {'the same to the last bit' if same else 'different'}.")
