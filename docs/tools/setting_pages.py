"""The page on the settings, from the classes that check them."""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.networks.catalog import NETWORKS
from isthmus.settings import TrainingSettings
from isthmus.studies.study import DigitsSettings
from isthmus.studies.study_text import Key, keys
from markdown_text import cards, cell


def settings_page() -> str:
    network = 'networks.NAME, model.name = "'
    rows = keys()
    parts = [
        "# Settings\n",
        "Every setting there is, made from the classes that check them. A key is changed by `--set KEY=VALUE`, which "
        "may be repeated; the value is TOML, and a word alone is text. Unknown keys and values out of range are "
        "refused, all at once, each with the nearest key that exists.\n",
        "## Of `isthmus train` { #train }\n",
        "    isthmus train lab photos/ --out run --set model.latent_dim=16 --set training.epochs=20\n",
        "The network is named by the first argument, the images by the second, and the seed by `--seed`.\n",
        "### The images\n",
        _table((k, f"data.{k.path}") for k in rows if k.table == "data"),
    ]
    for name, entry in NETWORKS.items():
        parts += [
            f"\n### The network `{name}` {{ #{name} }}\n",
            f"{entry.summary[0].upper()}{entry.summary[1:]}.\n",
            _table((k, k.path) for k in rows if k.table == f'{network}{name}"'),
        ]
    parts += [
        "\n### The training\n",
        "From `training.shift` on: how each training image is varied anew whenever it is seen. Where a network has a "
        "default of its own, the second table says which.\n",
        _table((k, k.path) for k in rows if k.table == "networks.NAME, training"),
        "",
        _own_training(),
        "\n## Of a built-in study { #built-in }\n",
        "`isthmus study digits` and `isthmus study signs` take `data.height`, `data.width` and `data.grey`, as above; "
        "that of digits also this.\n",
        "| key | unless given | what it does |\n|---|---|---|",
        *_own_of_digits(),
        "\n## Of a study file { #study-file }\n",
        "A study of one's own is a TOML file, which [a page of its own](study-file.md) explains. Its `data`, and the "
        "`model` and `training` of each network, take the keys above. The others are these. "
        "[`study.schema.json`](study.schema.json), which `isthmus study --schema` prints, lets an editor check such a "
        "file.\n",
    ]
    for table, title in {
        "": "At the top",
        "networks.NAME": "`[networks.NAME]`",
        "networks.NAME, sweep": "Its sweep",
    }.items():
        parts += [f"\n### {title}\n", _table((k, k.path) for k in rows if k.table == table)]
    return "\n".join(parts)


def _table(rows: Iterable[tuple[Key, str]]) -> str:
    lines = [
        f"| `{path}` | {key.takes} | {f'`{key.default}`' if key.default else 'must be given'} | {cell(key.what)} |"
        for key, path in rows
    ]
    return cards("| key | takes | unless given | what it does |", lines)


def _own_training() -> str:
    """What each network is trained with unless told otherwise, where networks differ."""
    plain = TrainingSettings()
    names = [
        name
        for name in TrainingSettings.model_fields
        if any(getattr(entry.training, name) != getattr(plain, name) for entry in NETWORKS.values())
    ]
    rows = [
        f"| `training.{name}` | {' | '.join(f'`{getattr(e.training, name)}`' for e in NETWORKS.values())} |"
        for name in names
    ]
    head = f"| key | {' | '.join(f'`{name}`' for name in NETWORKS)} |\n|---|{'---|' * len(NETWORKS)}"
    return "\n".join([head, *rows])


def _own_of_digits() -> list[str]:
    known = {key.path for key in keys() if not key.table}
    fields = {name: field for name, field in DigitsSettings.model_fields.items() if name not in {*known, "data"}}
    return [f"| `{name}` | `{field.default}` | {cell(field.description or '')} |" for name, field in fields.items()]
