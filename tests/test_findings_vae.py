"""The sentences of D7 and D8 follow their numbers, also where MAP loses and where the code collapses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from isthmus.data.degrade import parse_recipe
from isthmus.networks.variational import VAE
from isthmus.studies import findings_vae
from isthmus.studies.findings_vae import d7, d8
from isthmus.studies.restoration import OTHERS


def measured(psnr: float, kept: float | None = 0.9, seconds: float | None = 2.0) -> SimpleNamespace:
    interval = None if kept is None else (kept - 0.01, kept + 0.01)
    return SimpleNamespace(quality=SimpleNamespace(psnr=psnr, ssim=0.5), kept=kept, interval=interval, seconds=seconds)


def at_size(**psnr: float) -> SimpleNamespace:
    values = {"ceiling": 26.0, "bottleneck": 18.0, "noisy_encoder": 23.0, "map": 25.0, **psnr}
    return SimpleNamespace(**{name: measured(p) for name, p in values.items()}, converged=0.97, steps=15.0)


def restoration(**changes: object) -> SimpleNamespace:
    sizes = {16: at_size(map=24.5), 32: at_size(ceiling=28.0), 64: at_size(ceiling=30.0, map=24.0, noisy_encoder=25.5)}
    others = {"noisy": measured(12.0, 0.6), "nlm": measured(22.0), "denoiser": measured(26.0, 0.995)}
    damage = {"guess": measured(17.0), "bottleneck": measured(20.0), "denoiser": measured(21.0), "map": measured(23.0)}
    facts = {
        "sizes": sizes,
        "others": others,
        "path": torch.zeros(5, 1234),
        "gap": 2e-5,
        "sureness": SimpleNamespace(coverage=0.96, coverage_ink=0.8),
        "damages": {"mask:0.5+noise:0.1": damage},
        **changes,
    }
    found = SimpleNamespace(**facts)
    found.main = found.sizes[16]
    return found


def words_d8(**changes: object) -> str:
    return " ".join(d8(SimpleNamespace(d8=restoration(**changes)))).replace("\u00a0", " ")  # type: ignore[arg-type]


def test_map_is_compared_with_both_bottlenecks_and_its_losses_are_told() -> None:
    words = words_d8()
    assert "to 24.5 dB, 6.5 dB above the bottleneck of the same network (18.0 dB) and 1.5 dB above the fairer" in words
    assert "MAP loses to the network trained to denoise (26.0 dB): it was trained for this very noise" in words
    assert "It leads non-local means (22.0 dB)" in words


def test_nothing_is_said_to_win_where_it_loses() -> None:
    worse = {16: at_size(map=17.0), 32: at_size(), 64: at_size()}
    words = words_d8(sizes=worse)
    assert "to 17.0 dB, 1.0 dB below the bottleneck of the same network (18.0 dB) and 6.0 dB below the fairer" in words
    assert "MAP loses to non-local means (22.0 dB), the network trained to denoise (26.0 dB), the bottleneck" in words
    assert "it was trained for this very noise" not in words
    assert "It leads" not in words
    best = words_d8(sizes={16: at_size(map=29.0), 32: at_size(), 64: at_size()})
    assert "Nothing compared here restores better than MAP." in best


@pytest.mark.parametrize(
    ("map_kept", "bottleneck_kept", "verdict"),
    [(0.99, 0.9, "more often than"), (0.9, 0.99, "less often than"), (0.95, 0.945, "as often as")],
)
def test_the_class_is_judged_with_its_noise(map_kept: float, bottleneck_kept: float, verdict: str) -> None:
    at = at_size()
    at.map, at.bottleneck = measured(25.0, map_kept), measured(18.0, bottleneck_kept)
    words = words_d8(sizes={16: at, 32: at_size(), 64: at_size()})
    assert f"in {100 * map_kept:.1f} %, {verdict} the bottleneck" in words
    assert "best is the network trained to denoise with 99.5 %" in words


def test_codes_that_fit_the_noise_are_named() -> None:
    words = words_d8()
    assert "MAP reaches 24.5 dB with 16, 25.0 dB with 32 and 24.0 dB with 64 numbers, best with 32." in words
    assert "From 32 to 64 numbers clean images are reconstructed 2.0 dB better, but MAP gains nothing" in words
    assert "From 16 to 32" not in words
    assert "With 64 numbers the fine-tuned encoder's bottleneck is ahead of MAP." in words


@pytest.mark.parametrize(
    ("share", "ink", "words"),
    [
        (0.96, 0.8, "hold 96.0 % of them, too wide; of pixels that are drawn on 80.0 %, too narrow: one sigma"),
        (0.9, 0.91, "hold 90.0 % of them, as they should; of pixels that are drawn on 91.0 %, as they should."),
        (0.5, None, "hold 50.0 % of them, too narrow."),
    ],
)
def test_uncertainty_is_judged(share: float, ink: float | None, words: str) -> None:
    assert words in words_d8(sureness=SimpleNamespace(coverage=share, coverage_ink=ink))


def test_other_damages_and_the_solver() -> None:
    words = words_d8()
    assert "best in 1 of 1: missing pixels 23.0 dB against 21.0 of the network trained to denoise" in words
    assert "97.0 % of the searches converged, after 15 steps in the mean; 1,234 images took 2.0 s" in words
    assert "ends 0.002 % above" in words
    assert "ends 0.300 % below" in words_d8(gap=-3e-3)


def test_without_labels_no_class_is_mentioned() -> None:
    at = {name: measured(20.0, None) for name in ("ceiling", "bottleneck", "noisy_encoder", "map")}
    plain = SimpleNamespace(**at, converged=1.0, steps=9.0)
    words = words_d8(sizes={16: plain, 32: plain, 64: plain}, others={"noisy": measured(12.0, None)})
    assert "class" not in words


def reading(
    title: str, per_sse: float, spread: float, active: list[bool], reduction: str | None = None, kl: float = 8.0
) -> SimpleNamespace:
    weight = None
    if reduction is not None:
        weight = VAE.from_course(0.01, reduction=reduction, pixels=1024, pixel_range=(-1, 1))  # type: ignore[arg-type]
    return SimpleNamespace(
        title=title,
        per_sse=per_sse,
        spread=spread,
        active=np.array(active),
        weight=weight,
        kl=kl,
        mse=0.03,
        sigma=0.17,
        bound=300.0,
        neighbours=SimpleNamespace(mean=0.8),
    )


def words_d7(spreads: tuple[float, float, float], active: list[bool], iwae: float = 320.0) -> str:
    readings = {
        "vae2": reading("sigma learnt", 0.06, spreads[1], [True, True]),
        "vae2-sum": reading("sum", 0.0025, spreads[0], [True, True], "sum"),
        "vae2-mean": reading("mean", 2.56, spreads[2], active, "mean", kl=0.01),
    }
    cells = SimpleNamespace(occupied=np.array([[True, False], [True, True]]))
    aggregate = SimpleNamespace(uneven=0.3, floor=0.05)
    found = SimpleNamespace(
        readings=readings, main=readings["vae2"], iwae=iwae, ppca=123.0, aggregate=aggregate, grid=cells
    )
    clean = {f"{name}.clean": SimpleNamespace(mean=m) for name, m in (("lab", 0.6), ("strong", 0.77))}
    errors = SimpleNamespace(test_mse={"pca": 0.045, "lab": 0.034, "strong": 0.027})
    result = SimpleNamespace(pca_name="exact PCA", d1=errors, d3=clean, d5=SimpleNamespace(grid=cells), d7=found)
    return " ".join(d7(result)).replace("\u00a0", " ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spreads", "words"),
    [
        ((4.0, 1.5, 0.9), "The means tighten with the weight"),
        ((0.9, 1.5, 4.0), "The means spread with the weight"),
        ((1.5, 0.9, 4.0), "The means neither tighten nor spread steadily"),
    ],
)
def test_the_means_do_what_their_numbers_say(spreads: tuple[float, float, float], words: str) -> None:
    assert words in words_d7(spreads, [True, True])


@pytest.mark.parametrize(
    ("active", "words"),
    [
        ([True, True], "all 2 units are active (0.01 nats of KL): nothing collapses"),
        ([True, False], "1 of 2 units are active (0.01 nats of KL): the code collapses in part"),
        ([False, False], "no unit is active (0.01 nats of KL): the code says nothing, it has collapsed"),
    ],
)
def test_a_collapse_is_measured_not_assumed(active: list[bool], words: str) -> None:
    said = words_d7((4.0, 1.5, 0.9), active)
    assert words in said
    assert "2.56 KL beside the sum of squares on [0, 1]" in said


def test_the_density_is_set_against_the_exact_linear_one() -> None:
    assert "explains an image by 197 nats more" in words_d7((4.0, 1.5, 0.9), [True, True])
    assert "explains an image by 23 nats less" in words_d7((4.0, 1.5, 0.9), [True, True], iwae=100.0)


def test_every_method_and_damage_has_a_name() -> None:
    assert set(findings_vae.methods_of(restoration())) <= set(findings_vae.METHODS)  # type: ignore[arg-type]
    assert {parse_recipe(text).kind for text in OTHERS} == set(findings_vae.DAMAGES)
