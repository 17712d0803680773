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
# # Hand signs
#
# Hands that sign the digits from 0 to 9. This notebook reads them, looks at what it gets wrong, asks how many numbers a
# hand needs, walks from one hand to another, and removes noise.
#
# Where the photographs of Mavi (2020, arXiv:2011.08927) are on this machine they are used; elsewhere hands that Isthmus
# draws, so that nothing is downloaded. `isthmus data list` says where they would come from.
#
# As a script: `python examples/hand_signs.py`, or sooner with `--fast`, on half of the pictures and smaller. On a
# desktop each figure waits until its window is closed; `MPLBACKEND=agg` shows none.

# %%
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus import (
    ConvAutoencoder,
    Denoiser,
    ImageClassifier,
    LinearAutoencoder,
    VariationalAutoencoder,
    load,
    load_images,
)
from isthmus.data.catalog import entries

FAST = "--fast" in sys.argv  # half of the pictures, half as large
SIDE = 32 if FAST else 64
HERE = {row.name: row.origin in ("ISTHMUS_DATA", "cache") for row in entries()}
NAME = "sign-digits" if HERE["sign-digits"] else "drawn-hands"


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

# %%
load(NAME, size=(SIDE, SIDE))

# %%
pictures, names = load_images(NAME, size=(SIDE, SIDE), grey=True, return_labels=True)
if FAST:
    pictures, names = pictures[::2], names[::2]
train, test, train_names, test_names = train_test_split(pictures, names, test_size=0.25, stratify=names, random_state=0)
print(f"{NAME}: {len(train):,} pictures of {SIDE} x {SIDE} pixels to learn from, {len(test):,} to test with")

# %% [markdown]
# ## Reading signs
#
# `standardise` takes light and contrast out of each picture first. In a notebook the fitted classifier shows its
# learning curves, its classes, and what it says of some pictures.

# %%
classifier = ImageClassifier(standardise=True, epochs=15, batch_size=32, random_state=0).fit(train, train_names)
classifier

# %%
read = classifier.predict(test)
wrong = np.flatnonzero(read != test_names)
print(f"{classifier.score(test, test_names):.1%} of {len(test)} test pictures are read right, {len(wrong)} wrong.")
if len(wrong):
    first = wrong[:10]
    said = ", ".join(f"{test_names[i]} as {read[i]}" for i in first)
    show({f"read wrong: {said}": test[first] / 255})

# %% [markdown]
# One division into training and test pictures says little about so few. `cross_val_score` tests on every picture once;
# a pipeline of codes and a linear classifier, fitted on the same folds, stands beside.

# %%
compared = {
    "convolutional classifier": ImageClassifier(standardise=True, epochs=15, batch_size=32, random_state=0),
    "linear codes, then logistic regression": make_pipeline(
        LinearAutoencoder(latent_dim=32), StandardScaler(), LogisticRegression(max_iter=1000)
    ),
}
for label, model in compared.items():
    folds = cross_val_score(model, pictures, names, cv=3)
    print(f"{label:40} {folds.mean():6.1%}   folds {', '.join(f'{fold:.1%}' for fold in folds)}")

# %% [markdown]
# ## How many numbers a hand needs
#
# The error per pixel of pictures drawn from codes, on test pictures. The linear autoencoder is solved exactly: it is
# the best of all linear ones on its training pictures. The convolutional one has to be taught, and pictures are few.

# %%
errors = {}
for size in (4, 16):
    conv = ConvAutoencoder(latent_dim=size, epochs=30, batch_size=16, learning_rate=2e-3, random_state=0).fit(train)
    linear = LinearAutoencoder(latent_dim=size).fit(train)
    errors[size] = -conv.score(test), -linear.score(test)
    print(f"{size:3} numbers: convolutional {errors[size][0]:.4f}, linear {errors[size][1]:.4f}")
better = [size for size, (deep, flat) in errors.items() if deep < flat]
ahead = ", ".join(map(str, better)) or "none of these"
print(f"Sizes of code with which the convolutional one has the smaller error: {ahead}")

# %%
show(
    {
        "test pictures": test[:10] / 255,
        f"convolutional, {size} numbers": conv.inverse_transform(conv.transform(test[:10])),
        f"linear, {size} numbers": linear.inverse_transform(linear.transform(test[:10])),
    }
)

# %% [markdown]
# ## From one hand to another
#
# Codes of a variational autoencoder lie close together, so that what lies between two of them can be drawn too. The
# classifier says what it reads on the way.

# %%
vae = VariationalAutoencoder(latent_dim=16, epochs=40, batch_size=16, learning_rate=2e-3, random_state=0).fit(train)
begin, end = vae.transform(test[[0, 1]])
share = np.linspace(0, 1, 10)[:, None]
walk = vae.inverse_transform((1 - share) * begin + share * end)
show({f"from {test_names[0]} to {test_names[1]}; read as {', '.join(classifier.predict(walk))}": walk})

# %% [markdown]
# `score_samples` is the evidence bound in nats: the lower, the stranger a picture is to the model.

# %%
scores = vae.score_samples(test)
order = np.argsort(scores)
show({"the strangest test pictures": test[order[:10]] / 255, "the most usual": test[order[-10:]] / 255})
print(f"Evidence bound of test pictures: {scores.mean():.0f} nats on average, {scores.min():.0f} the lowest")

# %% [markdown]
# ## Noise

# %%
denoiser = Denoiser(noise=0.1, epochs=15, batch_size=32, random_state=0).fit(train)
noisy = test / 255 + np.random.default_rng(0).normal(0, 0.1, test.shape)
restored = denoiser.transform(noisy)
before, after = (10 * np.log10(1 / np.mean((p - test / 255) ** 2, axis=(1, 2))).mean() for p in (noisy, restored))
kept = [np.mean(classifier.predict(np.clip(p, 0, 1)) == test_names) for p in (noisy, restored)]
print(f"Signal to noise: {before:.1f} dB before, {after:.1f} dB after.")
print(f"Read right: {kept[0]:.1%} of the noisy pictures, {kept[1]:.1%} of the restored ones.")
show({"noisy": np.clip(noisy[:10], 0, 1), "restored": restored[:10]})

# %% [markdown]
# ## To keep and to share
#
# The folder also works with the commands: `isthmus classify FOLDER photos/`.

# %%
with tempfile.TemporaryDirectory() as place:
    folder = classifier.save_pretrained(Path(place) / "signs")
    print(*sorted(file.name for file in folder.iterdir()), sep=", ")
    again = ImageClassifier.from_pretrained(folder)
same = np.array_equal(again.predict_proba(test), classifier.predict_proba(test))
print(f"The probabilities of the loaded model are {'the same to the last bit' if same else 'different'}.")
