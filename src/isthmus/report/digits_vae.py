"""The sections D7 and D8 of the study of digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from isthmus.figures import codes, curves, images
from isthmus.figures.labels import short_classes
from isthmus.figures.style import BLUE, ORANGE, PALETTE, PURPLE, RED
from isthmus.report.page import Section, Table
from isthmus.studies import findings
from isthmus.studies.digits import DigitsResult
from isthmus.studies.findings_vae import DAMAGES, METHODS, d7, d8, methods_of
from isthmus.studies.restoration import MAIN, SAMPLES, Measured
from isthmus.studies.samples import examples_of

INKS = (ORANGE, PURPLE, PALETTE[5])
SHORT = {
    "noisy": "noisy",
    "nlm": "non-local",
    "tv": "total var.",
    "denoiser": "trained",
    "bottleneck": "bottleneck",
    "noisy_encoder": "fine-tuned",
    "map": "MAP",
    "guess": "damaged",
}


def variational_section(result: DigitsResult) -> Section:
    """D7: what was found, its pictures and a table."""
    found, classes = result.d7, short_classes(result.data.classes)
    columns = columns_of(result)
    rows = {"original": found.originals}
    rows |= {_row(name): reading.reconstructed for name, reading in found.readings.items()}
    panels = [images.rows("D7-reconstructions", "test images and what the VAEs keep", columns, rows)]
    run = found.main.run
    panels.append(curves.bound_curves("D7-curves", "the VAE with sigma learnt", run.epochs, best=run.best_epoch))
    labels = result.parts.test.labels
    for name, reading in found.readings.items():
        title = f"means, {reading.title}"
        panels.append(codes.scatter(f"D7-codes-{name}", title, reading.means, labels, classes, stds=reading.stds))
    what = "a sample of the posterior of each training image"
    panels.append(codes.marginals("D7-aggregate", "all codes together, and the prior", found.codes, what=what))
    before = result.d5
    panels.append(
        images.manifold("D7-manifold-d5", "D5: the lab's decoder", before.grid, before.images, before.strip_codes)
    )
    panels.append(
        images.manifold(
            "D7-manifold",
            "D7: the VAE's decoder",
            found.grid,
            found.images,
            None,
            unit="quantile of N(0, 1)",
            contours=False,
        )
    )
    if result.d3 is not None:
        series: dict[str, tuple[NDArray[np.float64] | Sequence[float], str]] = {
            "lab's autoencoder": (result.d3["lab.clean"].per_class, BLUE)
        }
        for reading, ink in zip(found.readings.values(), INKS, strict=True):
            if reading.neighbours is not None:
                series[reading.title] = (reading.neighbours.per_class, ink)
        level = ("chance", result.chance)
        panels.append(curves.by_class("D7-neighbours", "1-nearest neighbour in the code", classes, series, level=level))
    asked = (
        "Train a variational autoencoder with a code of two numbers; show reconstructions, the means and the decoded "
        "grid; say what the weight on the KL does."
    )
    return Section("D7", "The VAE", asked, d7(result), panels, [_readings(result)])


def restoration_section(result: DigitsResult) -> Section:
    """D8: what was found, its pictures and three tables."""
    found, columns = result.d8, columns_of(result)
    methods = methods_of(found)
    shown = {SHORT[name]: methods[name].examples for name in ("noisy", "bottleneck", "noisy_encoder", "map")}
    shown["std of MAP x 4"] = 4 * found.sureness.std
    shown |= {SHORT[name]: methods[name].examples for name in ("nlm", "denoiser") if name in methods}
    shown["clean"] = found.clean
    panels = [images.rows("D8-denoising", f"noise of standard deviation {found.sigma}, {MAIN} numbers", columns, shown)]
    sizes = list(found.sizes)
    series: dict[str, tuple[Sequence[float], str]] = {
        "clean, reconstructed": ([at.ceiling.quality.psnr for at in found.sizes.values()], PALETTE[8]),
        "MAP": ([at.map.quality.psnr for at in found.sizes.values()], BLUE),
        "bottleneck, fine-tuned": ([at.noisy_encoder.quality.psnr for at in found.sizes.values()], ORANGE),
        "bottleneck": ([at.bottleneck.quality.psnr for at in found.sizes.values()], RED),
    }
    levels = {
        _title(name): found.others[name].quality.psnr for name in ("denoiser", "nlm", "tv") if name in found.others
    }
    panels.append(curves.by_size("D8-sizes", "restored test images", sizes, series, levels))
    panels.append(curves.objective_path("D8-path", "the MAP objective", found.path.cpu().numpy()))
    groups: dict[str, dict[str, Tensor]] = {}
    for text, by_method in found.damages.items():
        name = DAMAGES[text.partition(":")[0]]
        groups[f"{name} ({text})"] = {
            "damaged": found.damaged[text],
            **{SHORT[m]: by_method[m].examples for m in ("bottleneck", "map")},
        }
    groups["clean"] = {"clean": found.clean}
    panels.append(images.blocks("D8-damages", f"other damages, {MAIN} numbers", columns, groups))
    asked = (
        "Denoise by the bottleneck and by the code that best explains the noisy image (MAP), and compare; does the "
        "digit keep its class?"
    )
    return Section("D8", "Restoring", asked, d8(result), panels, [_methods(result), _by_size(result), _damages(result)])


def columns_of(result: DigitsResult) -> list[str]:
    """The class of each example, shortened, or its number where there are no classes."""
    chosen = examples_of(result.parts.test)
    labels = result.parts.test.labels
    if labels is None:
        return [str(i + 1) for i in range(len(chosen))]
    classes = short_classes(result.data.classes)
    return [classes[labels[i]] for i in chosen]


def _readings(result: DigitsResult) -> Table:
    head = ["KL weight", "beside the sum on [0, 1]", "sigma", "test error", "KL (nats)", "active units"]
    head += ["spread of the means", "width of a posterior", *(["1-NN"] if result.d3 is not None else [])]
    rows = []
    for reading in result.d7.readings.values():
        row = [reading.title, f"{reading.per_sse:.4g}", f"{reading.sigma:.3g}", f"{reading.mse:.5f}"]
        row += [f"{reading.kl:.2f}", f"{int(reading.active.sum())} of {len(reading.active)}"]
        row += [f"{reading.spread:.3f}", f"{reading.width:.3f}"]
        if result.d3 is not None:
            row.append("" if reading.neighbours is None else findings.percent(reading.neighbours.mean))
        rows.append(row)
    notes = [
        "The course's weight of 0.01 does not say whether squares are summed or averaged over pixels in [-1, 1]: both "
        "readings are trained. Beta is 1 for all three: minus the loss is the evidence bound for that sigma.",
        "Sigma learnt begins with the weights of the reading with the sum, and is trained on.",
        "Active: the mean of the axis varies by more than 0.01 over images. Spread, width: standard deviations.",
    ]
    return Table("What the weight on the KL means, and does", head, rows, notes)


def _methods(result: DigitsResult) -> Table:
    found = result.d8
    rows, numbers = [], []
    methods = methods_of(found)
    for name, measured in methods.items():
        numbers.append([measured.quality.psnr, measured.quality.ssim, *_kept(measured)])
        rows.append([_title(name), *_cells(measured), _seconds(measured)])
    best = {(int(row), column + 1) for column, row in enumerate(np.argmax(np.array(numbers), axis=0))}
    head = ["", "PSNR (dB)", "SSIM", *([] if result.d4 is None else ["class kept", "95 % interval"]), "seconds"]
    notes = ["All test images, against the clean ones; restored images are clipped to [0, 1]."]
    if found.strengths:
        chosen = ", ".join(f"{_title(name)} {strength:g} sigma" for name, strength in found.strengths.items())
        notes.append(f"Strengths chosen on validation images: {chosen}.")
    else:
        notes.append(
            "Non-local means and total variation are left out: scikit-image is not installed (pip install "
            "isthmus[denoise])."
        )
    text = f"The VAE with {MAIN} numbers: {found.main.bound:.1f} nats per test image by the evidence bound, "
    text += f"{found.iwae:.1f} by {SAMPLES} importance samples"
    notes.append(f"{text}; exact probabilistic PCA {found.ppca:.1f}." if found.ppca is not None else f"{text}.")
    return Table(
        f"Noise of standard deviation {found.sigma}, codes of {MAIN} numbers", head, rows, notes, frozenset(best)
    )


def _by_size(result: DigitsResult) -> Table:
    found = result.d8
    head = ["numbers in the code", "decoder's sigma", "clean, reconstructed", "bottleneck", "fine-tuned", "MAP"]
    head += ["converged", "seconds of MAP", *([] if result.d4 is None else ["class kept, MAP"])]
    rows = []
    for size, at in found.sizes.items():
        row = [str(size), f"{at.sigma:.3f}"]
        row += [f"{m.quality.psnr:.2f}" for m in (at.ceiling, at.bottleneck, at.noisy_encoder, at.map)]
        row += [findings.percent(at.converged), _seconds(at.map)]
        rows.append([*row, *(findings.percent(kept) for kept in _kept(at.map))])
    notes = [
        "PSNR in dB. Fine-tuned: the encoder trained on noisy images, the decoder frozen. Converged: the gradient "
        "fell to a thousandth, or the objective by less than 1e-5 of itself in 5 steps."
    ]
    return Table("By the size of the code", head, rows, notes)


def _damages(result: DigitsResult) -> Table:
    found = result.d8
    names = ("guess", "bottleneck", "denoiser", "map")
    head = ["damage", *(_title(name) for name in names)]
    if result.d4 is not None:
        head.append("class kept, MAP")
    rows, best = [], set()
    for i, (text, methods) in enumerate(found.damages.items()):
        values = [methods[name].quality.psnr for name in names]
        best.add((i, 1 + int(np.argmax(values))))
        rows.append(
            [text, *(f"{value:.2f}" for value in values), *(findings.percent(k) for k in _kept(methods["map"]))]
        )
    notes = [
        "PSNR in dB over all test images. No network was trained for these; the trained denoiser knows noise alone, "
        "and gets the damaged image brought to full size."
    ]
    return Table("Other damages: half the pixels missing, a blur, blocks of 2 x 2", head, rows, notes, frozenset(best))


def _cells(measured: Measured) -> list[str]:
    cells = [f"{measured.quality.psnr:.2f}", f"{measured.quality.ssim:.3f}"]
    if measured.kept is not None and measured.interval is not None:
        low, high = measured.interval
        cells += [findings.percent(measured.kept), f"{100 * low:.1f} to {100 * high:.1f}"]
    return cells


def _kept(measured: Measured) -> list[float]:
    return [] if measured.kept is None else [measured.kept]


def _seconds(measured: Measured) -> str:
    return "" if measured.seconds is None else f"{measured.seconds:.1f}" if measured.seconds >= 1 else "< 1"


def _title(name: str) -> str:
    return METHODS[name].removeprefix("the ").removesuffix(" itself")


def _row(name: str) -> str:
    return {"vae2": "sigma learnt", "vae2-sum": "0.01, sum", "vae2-mean": "0.01, mean"}[name]
