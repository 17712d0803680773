"""Imports go one way, down the map; importing the package is instant and changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import isthmus

ROOT = Path(isthmus.__file__).parent
# Reading order: a file imports only from entries above it, or from files above it in its own folder.
ORDER = [
    "errors",
    "settings",
    "writing",
    "display",
    "metrics",
    "data.arrays",
    "data.selection",
    "data.stored",
    "data.imageset",
    "data.split",
    "data.idx",
    "data.states",
    "data.looking",
    "data.contents",
    "data.photographs",
    "data.decoding",
    "data.cache",
    "data.uniform",
    "data.shards",
    "data.parquet",
    "data.folders",
    "data.tables",
    "data.npy",
    "data.files",
    "data.degrade",
    "data.augment",
    "data.drawn_hands",
    "data.download",
    "data.catalog",
    "data.pictures",
    "data.batches",
    "networks.convolution",
    "networks.sharing",
    "networks.compiled",
    "networks.autoencoder",
    "networks.pca",
    "networks.variational",
    "networks.denoiser",
    "networks.classifier",
    "networks.apply",
    "networks.catalog",
    "networks.shapes",
    "model_config",
    "model_card",
    "model_files",
    "hub",
    "runs",
    "run_table",
    "removal",
    "machine",
    "training.distributed",
    "training.draws",
    "training.feed",
    "training.optimizers",
    "training.scoring",
    "training.loop",
    "training.diagnosis",
    "training.events",
    "training.job",
    "training.workers",
    "training.ray_session",
    "training.cluster",
    "training.carried",
    "training.duration",
    "training.trial",
    "training.sweep",
    "training.evaluation",
    "training.predict",
    "training.thumbnails",
    "training.codes",
    "training.shard_finding",
    "training.joined_codes",
    "training.redraw",
    "training.shard_reading",
    "training.shard_writing",
    "training.shard_encoding",
    "training.shard_engines",
    "latent.neighbours",
    "latent.separability",
    "latent.manifold",
    "latent.gaussians",
    "latent.mixtures",
    "latent.density",
    "latent.generation",
    "latent.sampling",
    "latent.stored",
    "latent.search",
    "latent.interpolation",
    "latent.outliers",
    "inverse.bottleneck",
    "inverse.laplace",
    "inverse.objective",
    "inverse.solvers",
    "inverse.map",
    "inverse.classical",
    "inverse.pictures",
    "studies.study",
    "studies.single",
    "studies.samples",
    "studies.variational",
    "studies.restoration",
    "studies.digits",
    "studies.findings",
    "studies.findings_vae",
    "studies.gaussian_sum",
    "studies.convolution",
    "studies.rates",
    "studies.sizes",
    "studies.clusters",
    "studies.drawing",
    "studies.signs",
    "studies.findings_signs",
    "studies.study_file",
    "studies.study_mistakes",
    "studies.study_reading",
    "studies.study_text",
    "studies.built_in",
    "studies.estimate",
    "studies.analyses",
    "studies.redrawn",
    "studies.code_size",
    "studies.custom",
    "studies.sweeping",
    "studies.findings_sizes",
    "studies.findings_custom",
    "figures.style",
    "figures.labels",
    "figures.curves",
    "figures.images",
    "figures.codes",
    "figures.densities",
    "figures.convolution",
    "figures.spatial",
    "figures.sheets",
    "figures.sizes",
    "report.page",
    "report.digits_vae",
    "report.digits",
    "report.signs_codes",
    "report.signs",
    "report.sheets",
    "report.redrawn",
    "report.custom_sections",
    "report.custom_sizes",
    "report.custom",
    "report.studies",
    "report.card",
    "report.answers",
    "report.notebook",
    "exported_parts",
    "export",
    "explorer.page",
    "explorer.policy",
    "explorer.sprites",
    "explorer.points",
    "explorer.layout",
    "explorer.densities",
    "explorer.parts",
    "explorer.bundle",
    "explorer.target",
    "explorer.single",
    "explorer.serve",
    "explorer.links",
    "estimators.parameters",
    "estimators.inputs",
    "estimators.estimator",
    "estimators.codes",
    "estimators.autoencoders",
    "estimators.classifier",
    "estimators.denoiser",
    "cli.options",
    "cli.console",
    "cli.reading",
    "cli.classify",
    "cli.data",
    "cli.decode",
    "cli.denoise",
    "cli.doctor",
    "cli.encode",
    "cli.evaluate",
    "cli.explore",
    "cli.export",
    "cli.generate",
    "cli.interpolate",
    "cli.outliers",
    "cli.reconstruct",
    "cli.runs",
    "cli.search",
    "cli.shapes",
    "cli.study",
    "cli.sweep",
    "cli.train",
    "cli.main",
    "__main__",
]
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(tree: ast.AST) -> set[str]:
    """Modules of the package that a file imports, by their place on the map."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "isthmus":
            inner = node.module.partition(".")[2]
            found |= {inner} if inner in ORDER else {f"{inner}.{a.name}".strip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "isthmus"}
    return found - {"__version__"}


def test_the_map_names_every_file() -> None:
    assert sorted(module(path) for path in FILES) == sorted(ORDER)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_only_from_above(path: Path) -> None:
    place = ORDER.index(module(path))
    for name in imported(ast.parse(path.read_text())):
        assert name in ORDER, f"{module(path)} imports {name}, which is not on the map"
        assert ORDER.index(name) < place, f"{module(path)} imports {name}, which stands below it"


@pytest.mark.parametrize("path", [p for p in FILES if "cli" not in p.parts], ids=module)
def test_no_import_inside_a_function(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{module(path)}:{node.name} imports in its body"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, isthmus; heavy = {'torch', 'numpy', 'pydantic', 'sklearn', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'train' in dir(isthmus)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_loads() -> None:
    for name in isthmus.__all__:
        assert getattr(isthmus, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        isthmus.nonsense  # noqa: B018
