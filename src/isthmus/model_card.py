"""The model card: the README.md beside the weights, written from the facts alone, for people and for hubs.

Names that a person gave (of the data, of classes) are shown as code, so that nothing in them counts as Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from isthmus.model_config import ModelConfig
from isthmus.networks.catalog import build
from isthmus.settings import ClassifierSettings, DenoiserSettings, LinearSettings, VAESettings

PACKAGE = "isthmus"
MOST_CLASSES = 20  # named in the card

# Of models that no estimator wrote: the estimator that loads them.
ESTIMATORS = {
    "lab": "ConvAutoencoder",
    "strong": "ConvAutoencoder",
    "linear": "LinearAutoencoder",
    "vae": "VariationalAutoencoder",
    "classifier": "ImageClassifier",
    "denoiser": "Denoiser",
}
TITLES = {
    "lab": "Autoencoder",
    "strong": "Autoencoder",
    "linear": "Linear autoencoder",
    "vae": "Variational autoencoder",
    "classifier": "Classifier",
    "denoiser": "Denoiser",
}
TASKS = {"classifier": "image-classification", "denoiser": "image-to-image"}
FIGURES = {
    "mse": "mean squared error per pixel, pixels in [0, 1]",
    "psnr": "peak signal-to-noise ratio, decibels, mean over images",
    "noisy_psnr": "the same of the noisy images, before they are restored",
    "accuracy": "share of images whose class is right",
    "reconstruction": "minus log p(x|z), nats per image",
    "kl": "Kullback-Leibler divergence of the codes from N(0, I), nats per image",
    "kl_nats": "Kullback-Leibler divergence of the codes from N(0, I), nats per image",
    "bound_nats": "lower bound of log p(x), nats per image",
    "iwae_nats": "importance-weighted lower bound of log p(x), nats per image",
}
PARTS = {
    "validation_": "validation images",
    "test_": "test images",
    "pca.test_": "test images, by PCA with a code of the same size",
}


def card(config: ModelConfig) -> str:
    """The card as Markdown, with YAML front matter."""
    with torch.device("meta"):  # to count parameters no memory is needed
        network = build(config.model, config.image_shape, classes=len(config.classes))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sections = [
        _front_matter(config),
        f"# {TITLES[config.model.name]} of {_kind(config)}, trained with Isthmus",
        f"Network {_code(config.model.name)} with {_settings(config)}. It has {parameters:,} parameters and takes "
        f"{_given(config)}.",
        f"## Data\n\n{_data(config)}",
        f"## Figures\n\n{_figures(config)}",
        f"## How to load it\n\n{_loading(config)}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(config, parameters)),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: ModelConfig) -> str:
    """What hubs sort models by; only words of our own, so that it is YAML whatever the data are called."""
    task = TASKS.get(config.model.name, "image-feature-extraction") if config.of_images else None
    kind = TITLES[config.model.name].lower().replace(" ", "-")
    lines = [f"library_name: {PACKAGE}", *([f"pipeline_tag: {task}"] if task else []), "tags:"]
    return "\n".join(["---", *lines, f"- {PACKAGE}", f"- {kind}", "---"])


def _settings(config: ModelConfig) -> str:
    """The settings of the network, as `train --set model.NAME=VALUE` takes them."""
    values = config.model.model_dump(mode="json", exclude={"name"})
    return ", ".join(_code(f"{name}={str(value).lower()}") for name, value in values.items())


def _kind(config: ModelConfig) -> str:
    if not config.of_images:
        return "rows of numbers"
    return "grey images" if config.image_shape[0] == 1 else "colour images"


def _given(config: ModelConfig) -> str:
    channels, height, width = config.image_shape
    if not config.of_images:
        return f"rows of {math.prod(config.image_shape):,} numbers"
    return f"{'grey' if channels == 1 else 'colour'} images of {height} x {width} pixels"


def _data(config: ModelConfig) -> str:
    count = "" if config.data.images is None else f"{config.data.images:,} "
    turned = ", turned grey" if config.data.grey else ""
    held = config.estimator is not None and any(name.startswith("validation_") for name in config.figures)
    among = ", some of them held out to choose the weights by" if held else ""  # a run counts those learnt from only
    rows = [("data set", _code(config.data.name)), ("trained on", f"{count}{_given(config)}{turned}{among}")]
    if config.classes:
        named = ", ".join(_code(name) for name in config.classes[:MOST_CLASSES])
        more = len(config.classes) - MOST_CLASSES
        rows.append(("classes", f"{len(config.classes)}: {named}{f' and {more} more' if more > 0 else ''}"))
    if config.noise:
        rows.append(
            ("noise added while training", f"Gaussian, standard deviation {config.noise:g} on the scale [0, 1]")
        )
    rows.append(("fingerprint (sha256)", _code(config.data.fingerprint)))
    return _table(("", ""), rows)


def _figures(config: ModelConfig) -> str:
    if not config.figures:
        return "None were recorded." + (" Measure it: `isthmus evaluate FOLDER DATA`." if config.of_images else "")
    rows = [(_code(name), f"{value:.5g}", *_meaning(config, name)) for name, value in config.figures.items()]
    chosen = any(name.startswith("validation_") for name in config.figures)
    tested = any(name.startswith("test_") for name in config.figures)
    notes = ["The weights were chosen by the validation images, which flatters the figures on them."] * chosen
    notes += ["The test images played no part in the training."] * tested
    return "\n\n".join([_table(("figure", "value", "on", "what it is"), rows), *([" ".join(notes)] if notes else [])])


def _meaning(config: ModelConfig, name: str) -> tuple[str, str]:
    """On which images a figure was measured, and what it is; "" where that is not known here."""
    for prefix, part in PARTS.items():
        if name.startswith(prefix):
            what = name.removeprefix(prefix)
            return part, _loss(config) if what == "loss" else FIGURES.get(what, "")
    return "", ""


def _loss(config: ModelConfig) -> str:
    if isinstance(config.model, ClassifierSettings):
        return "cross-entropy, nats per image"
    if isinstance(config.model, VAESettings):
        return f"{config.model.beta:g} x kl + reconstruction, nats per image"
    return FIGURES["mse"]


def _loading(config: ModelConfig) -> str:
    name = config.estimator.name if config.estimator else ESTIMATORS[config.model.name]
    shape = math.prod(config.image_shape) if not config.of_images else ", ".join(map(str, config.image_shape))
    call, function = _uses(config)
    python = (
        f'from {PACKAGE} import {name}\n\nmodel = {name}.from_pretrained("FOLDER")\n'
        f"answer = model.{call}  # X: (N, {shape}){' of uint8, or floats in [0, 1]' if config.of_images else ''}"
    )
    text = (
        f"`FOLDER` is this folder; `from_pretrained` also takes its id on a hub. Only JSON, safetensors and a plain "
        f"array are read: nothing in them can run, and a file that was altered is refused by its sha256.\n\n"
        f"```python\n{python}\n```"
    )
    if not config.of_images:
        return f"{text}\n\nThe commands of Isthmus take images, so they refuse this model of rows of numbers."
    network = (
        f"from pathlib import Path\n\nfrom {PACKAGE} import Run\nfrom {PACKAGE}.networks.apply import {function}\n\n"
        f'answer = {function}(Run(Path("FOLDER")).network(), X)'
    )
    return f"{text}\n\nThe network alone:\n\n```python\n{network}\n```\n\nFrom the command line:\n\n{_commands(config)}"


def _uses(config: ModelConfig) -> tuple[str, str]:
    """What an estimator and what `networks.apply` is called with."""
    if isinstance(config.model, ClassifierSettings):
        return "predict(X)", "classify"
    return "transform(X)", "reconstruct" if isinstance(config.model, DenoiserSettings) else "encode"


def _commands(config: ModelConfig) -> str:
    if isinstance(config.model, ClassifierSettings):
        lines = ["isthmus classify FOLDER IMAGES"]
    elif isinstance(config.model, DenoiserSettings):
        lines = ["isthmus denoise FOLDER IMAGES --method bottleneck --out DIR"]
    else:
        lines = ["isthmus encode FOLDER IMAGES --out codes.npz"]
    return "\n".join(["```sh", *lines, "isthmus evaluate FOLDER DATA", "```"])


def _limits(config: ModelConfig, parameters: int) -> list[str]:
    count, limits = config.data.images, [_limit_of_input(config)]
    among = "the" if count is None else f"the {count:,}"
    limits.append(
        f"It has seen {among} training {'images' if config.of_images else 'rows'} of {_code(config.data.name)} and "
        f"nothing else; what looks different gets an answer too, and nothing warns that it may be wrong."
    )
    if count is not None and parameters > count:
        limits.append(
            f"It has {parameters / count:,.0f} parameters for each of them, enough to remember some: judge it by what "
            f"it has not seen."
        )
    limits.append(_limit_of_network(config))
    if not any(name.startswith("test_") for name in config.figures):
        limits.append("It was not measured on a test part when this card was written.")
    if config.of_images:
        limits.append(
            "`trained_on.npy` holds a hash of each training image. `isthmus evaluate` warns where images were trained "
            "on, but only of exact copies; and whoever has an image can find out by it whether it was among them."
        )
    return limits


def _limit_of_input(config: ModelConfig) -> str:
    if not config.of_images:
        return (
            f"It takes rows of {math.prod(config.image_shape):,} numbers, each scaled by its least and greatest value "
            f"in the training rows; far beyond those it was never trained."
        )
    channels, height, width = config.image_shape
    colour = "turn colour ones grey" if channels == 1 else "refuse grey ones"
    return (
        f"It knows {_given(config)}. The commands scale other images to {height} x {width} and {colour}: detail finer "
        f"than that is lost."
    )


def _limit_of_network(config: ModelConfig) -> str:
    """What a network of this kind cannot do."""
    model, values = config.model, math.prod(config.image_shape)
    if isinstance(model, ClassifierSettings):
        return (
            f"It answers with one of its {len(config.classes)} classes, for an image of none of them as well; its "
            f"probabilities were not calibrated."
        )
    if isinstance(model, DenoiserSettings):
        return (
            f"It was trained on Gaussian noise of standard deviation {config.noise:g}, on the scale [0, 1]: stronger "
            f"noise is left in part, weaker noise costs detail, and of blur or missing pixels it knows nothing."
        )
    kept = f"It keeps {model.latent_dim:,} numbers of {values:,} and loses the rest"
    if isinstance(model, VAESettings):
        return f"{kept}. Its likelihoods are lower bounds, and compare only data of this kind and size."
    if isinstance(model, LinearSettings):
        return f"{kept}: no more than PCA with as many components keeps. It gives no probability and no class."
    return f"{kept}. It gives no probability of an image and no class."


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    """A name as code on one line, whatever is in it."""
    plain = " ".join(text.split()).replace("`", "'")
    return f"`{plain or ' '}`"
