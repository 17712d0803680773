"""New images from a run: codes drawn from a density, decoded and written to a folder.

    z ~ p(z),   x = D(z)

A density that is fitted for it is kept with the run, in `densities.safetensors`, and read from there the next time.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.data.files import read_npz
from isthmus.errors import InputError, StorageError
from isthmus.latent.density import Density, StandardNormal, fit_density, kind_of, load_densities, save_densities
from isthmus.networks.apply import Coder, decode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run, claim
from isthmus.training.codes import weights_fingerprint
from isthmus.training.predict import find_run
from isthmus.writing import held, write_arrays, write_bytes, write_json

MARKER = "generate.json"  # by which a folder of ours is known
MOST = 10_000  # samples at once
PICTURES = 1000  # samples that are written as pictures of their own; more go into one file
HELDOUT = 2000  # test codes by which a density is scored, at most
ON_SHEET = 1024  # samples on the contact sheet, at most
TILE, GAP = 64, 2  # pixels: least side of a sample on the sheet, and what lies between two


@dataclass(frozen=True)
class Generated:
    """What was drawn from a run.

    run: whose decoder drew. density: its name. codes: (N, D). images: (N, C, H, W) in [0, 1]. log_prob: (N,), log p of
    the codes in nats. heldout_nats: mean log p of the run's test codes, of the first 2,000 at most, minus infinity if
    one is impossible, None if there are none. notes: sentences that a user should read.
    """

    run: Run
    density: str
    codes: Tensor
    images: Tensor
    log_prob: Tensor
    heldout_nats: float | None
    notes: tuple[str, ...]


def codes_of(run: Run, part: str) -> Tensor | None:
    """Codes of the training, validation or test images, (N, D), as training wrote them; None if there are none.

    Raises: InputError if the run's codes.npz is missing or damaged.
    """
    codes = read_npz(run.folder / "codes.npz").get(part)
    return None if codes is None or not len(codes) else torch.from_numpy(codes)


def density_of(run: Run, network: Coder, name: str) -> tuple[Density, bool]:
    """The density of this name over the codes of a run, and whether it was fitted now, to its training codes.

    Otherwise it is N(0, I) or was kept with the run. The same codes give the same density.
    Raises: InputError if there is no density of this name, nothing to fit it to, or what is kept is damaged or of
    another network.
    """
    if kind_of(name) is StandardNormal:
        return StandardNormal(network.latent_dim), False
    kept = _kept(run)
    if name in kept:
        if kept[name].latent_dim != network.latent_dim:
            raise InputError(
                f"{run.densities} is over codes of {kept[name].latent_dim} numbers, those of {run.folder} have "
                f"{network.latent_dim}: it belongs to another run; delete it."
            )
        return kept[name], False
    if run.model == run.folder and not (run.folder / "codes.npz").exists():
        there = ", ".join(("normal", *kept))
        raise InputError(
            f"{run.folder} is a model alone and has no codes to fit a {name} to; take one of {there}, or the run that "
            f"it was copied from."
        )
    codes = codes_of(run, "train")
    if codes is None:
        raise InputError(f"{run.folder / 'codes.npz'} holds no training codes; train the run again.")
    return fit_density(name, codes, generator=torch.Generator().manual_seed(0)), True


def keep_density(run: Run, name: str, density: Density) -> None:
    """Add a density to those kept with the run. Raises: StorageError; InputError if what is kept is damaged."""
    with held(run.folder):  # what another process adds meanwhile is not lost
        save_densities(run.densities, {**_kept(run), name: density})
        run.record_densities()


def generate_into(
    folder: Path,
    run_folder: Path,
    *,
    density: str | None = None,
    count: int = 64,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "cpu",
) -> Generated:
    """Draw `count` images from a run and write them: `samples.png`, a contact sheet; `samples/`, a picture each, or
    `samples.npz` of more than 1,000; `table.csv`, the log p of each; `codes.npz`, the codes and their log p.

    Arguments: run_folder: what `find_run` takes. density: a name of `DENSITIES`; by default `normal` for a VAE and
    `mixture` for an autoencoder. seed: decides the codes, whatever the device.
    Raises: InputError for a run, a density or a count that cannot be used, before anything is written; RunExistsError
    if the folder is taken; StorageError if it cannot be written. A run that cannot be written to is only noted.
    """
    if not 1 <= count <= MOST:
        raise InputError(f"-n is the number of images to draw, from 1 to {MOST}; got {count}.")
    run = find_run(run_folder, (Autoencoder, VAE))
    network = _coder(run).to(device)
    name = density or ("normal" if isinstance(network, VAE) else "mixture")
    chosen, fitted = density_of(run, network, name)
    with claim(folder, marker=MARKER, resume=None, overwrite=overwrite):
        facts = {"run": str(run.folder), "density": name, "count": count, "seed": seed}
        write_json(folder / MARKER, facts)
        notes = keep_or_note(run, name, chosen) if fitted else []
        if name == "normal" and not isinstance(network, VAE):
            notes.append(
                "nothing made the codes of an autoencoder standard normal: most of these images come from where it "
                "never put a code"
            )
        codes = chosen.sample(count, generator=torch.Generator().manual_seed(seed))
        images, log_prob = decode(network, codes), chosen.log_prob(codes)
        drawn = Generated(run, name, codes, images, log_prob, _heldout(run, chosen), tuple(notes))
        _write(drawn, folder)
    return drawn


def contact_sheet(images: Tensor) -> Image.Image:
    """Images (N, C, H, W) in [0, 1] as one picture, in rows as many as columns; small ones are enlarged."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    times = max(1, -(-TILE // max(height, width)))
    sheet = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 0.5)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * (height + GAP), GAP + i % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    picture = _picture(sheet)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _coder(run: Run) -> Coder:
    name = str(run.config()["model"]["name"])
    network = run.network()
    if not isinstance(network, Autoencoder | VAE):
        raise InputError(f"{run.folder} is a {name}, which has no codes to draw; give a run of a vae or autoencoder.")
    return network


def _kept(run: Run) -> dict[str, Density]:
    run.check_densities()
    return load_densities(run.densities) if run.densities.exists() else {}


def keep_or_note(run: Run, name: str, density: Density) -> list[str]:
    """`keep_density`; where the disk does not let us, a sentence that says so instead."""
    try:
        keep_density(run, name, density)
    except StorageError as error:
        return [f"the {name} was fitted, and is not kept with the run: {error}"]
    return []


@torch.no_grad()
def _heldout(run: Run, density: Density) -> float | None:
    codes = codes_of(run, "test") if (run.folder / "codes.npz").exists() else None
    return None if codes is None else float(density.log_prob(codes[:HELDOUT].double()).mean())


def _write(drawn: Generated, folder: Path) -> None:
    count = len(drawn.images)
    digits = len(str(count))
    names = [f"{i:0{digits}d}{'' if count > PICTURES else '.png'}" for i in range(1, count + 1)]
    _write_picture(folder / "samples.png", contact_sheet(drawn.images[:ON_SHEET]))
    if count > PICTURES:
        write_arrays(folder / "samples.npz", {"images": (drawn.images * 255).round().byte().numpy()})
    else:
        for name, image in zip(names, drawn.images, strict=True):
            _write_picture(folder / "samples" / name, _picture(image))
    table = io.StringIO()
    rows = ((name, f"{nats:.6g}") for name, nats in zip(names, drawn.log_prob.tolist(), strict=True))
    csv.writer(table, lineterminator="\n").writerows([("sample", "log_prob"), *rows])
    write_bytes(folder / "table.csv", table.getvalue().encode())
    arrays = {"codes": drawn.codes.numpy(), "log_prob": drawn.log_prob.numpy()}
    write_arrays(folder / "codes.npz", {**arrays, "model": np.array(weights_fingerprint(drawn.run))})


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy())


def _write_picture(path: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
