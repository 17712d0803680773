"""A study file as text: every key there is, the JSON Schema of them, a file to start from, and settings as TOML.

All of it is made from the settings classes, so that the file, the schema and docs/study-file.md say the same.
"""

from __future__ import annotations

import json
import math
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from isthmus.networks.catalog import NETWORKS
from isthmus.settings import MODELS, DataSettings, TrainingSettings
from isthmus.studies.study_file import NAME, CustomSettings, NetworkSettings, SweepSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TABLES: dict[str, type[BaseModel]] = {
    "": CustomSettings,
    "data": DataSettings,
    "networks.NAME": NetworkSettings,
    **{f'networks.NAME, model.name = "{name}"': kind for name, kind in MODELS.items()},
    "networks.NAME, training": TrainingSettings,
    "networks.NAME, sweep": SweepSettings,
}
HELD_BY_TABLES = {"data", "networks", "model", "training", "sweep"}  # keys that are tables, listed as such


@dataclass(frozen=True)
class Key:
    """A key of a study file: the table it stands in, its dotted path there, what it takes, what it is unless it is
    given ("" where it must be), and what it does."""

    table: str
    path: str
    takes: str
    default: str
    what: str


def keys() -> list[Key]:
    """Every key, table by table."""
    return [key for table, kind in TABLES.items() for key in _keys_of(table, kind)]


def schema() -> dict[str, Any]:
    """The JSON Schema of study files, to check one or to help an editor write it."""
    made = CustomSettings.model_json_schema()
    parts = made["$defs"]
    for kind in MODELS.values():
        parts[kind.__name__]["required"] = ["name"]
    made["properties"]["networks"] |= {"minProperties": 1, "propertyNames": {"pattern": f"^{NAME.pattern}$"}}
    known = {"model": sorted({key for kind in MODELS.values() for key in kind.model_fields} - {"name"})}
    known["training"] = sorted(TrainingSettings.model_fields)
    for part, names in known.items():
        lists = next(side for side in parts["SweepSettings"]["properties"][part]["anyOf"] if side["type"] == "object")
        lists["propertyNames"] = {"enum": names}
        lists["additionalProperties"]["minItems"] = 1
    del parts["NetworkSettings"]["properties"]["training"]["default"]  # it is the network's own
    about = "What `isthmus study FILE` takes, as TOML; docs/study-file.md explains it."
    return {"$schema": DIALECT, **made, "title": "A study of Isthmus", "description": about}


def schema_text() -> str:
    """The schema as it lies in the package, studies/study.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def tables() -> str:
    """Every key as Markdown tables, for docs/study-file.md."""
    parts = []
    for table in TABLES:
        place, _, choice = table.partition(", ")
        title = f"`[{place}]`{f', `{choice}`' if choice else ''}" if table else "At the top"
        rows = [
            f"| `{key.path}` | {key.takes} | {f'`{key.default}`' if key.default else 'must be given'} | {key.what} |"
            for key in keys()
            if key.table == table
        ]
        head = "| key | takes | unless given | what it does |\n|---|---|---|---|"
        parts.append("\n".join([f"### {title}\n", _about(table) + "\n", head, *rows]))
    return "\n\n".join(parts) + "\n"


def template(data: str = "mnist-5k", name: str = "study.toml") -> str:
    """A study file to start from, with every key named in comments. Arguments: data: its images. name: of the file."""
    return f"{_start(data, shlex.quote(name) if name.isprintable() else 'FILE')}\n{_reference()}"


def as_toml(tree: Mapping[str, Any]) -> str:
    """Settings as TOML: a table for data and for each network, and dotted keys in it.

    >>> print(as_toml({"seed": 1, "networks": {"a": {"model": {"name": "lab"}, "sweep": {"seed": [0, 1]}}}}))
    seed = 1
    <BLANKLINE>
    [networks.a]
    model.name = "lab"
    sweep.seed = [0, 1]
    """
    lines = _lines({key: value for key, value in tree.items() if not isinstance(value, Mapping)})
    named = {"data": tree["data"]} if "data" in tree else {}
    named |= {f"networks.{name}": network for name, network in tree.get("networks", {}).items()}
    for name, table in named.items():
        lines += ["", f"[{name}]", *_lines(table)]
    return "\n".join(lines)


def shortened(settings: CustomSettings) -> dict[str, Any]:
    """The settings without what is as it would be anyway: read again, they are the same."""
    tree = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for name, network in settings.networks.items():
        own = NETWORKS[network.model.name].training
        given = network.training.model_dump(mode="json", exclude_none=True)
        training = {key: value for key, value in given.items() if value != getattr(own, key)}
        model = {"name": network.model.name, **network.model.model_dump(mode="json", exclude_defaults=True)}
        rest = {key: tree["networks"][name][key] for key in tree["networks"][name] if key not in ("model", "training")}
        tree["networks"][name] = {"model": model, **({"training": training} if training else {}), **rest}
    return {**tree, "analyses": list(settings.analyses)}


def _lines(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _lines(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key} = {_value(value)}")
    return found


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _keys_of(table: str, kind: type[BaseModel]) -> Iterator[Key]:
    part = {"networks.NAME, training": "training.", "networks.NAME, sweep": "sweep."}.get(table, "")
    prefix = "model." if "model.name" in table else part
    nodes = kind.model_json_schema()
    for name, given in kind.model_fields.items():
        if name in HELD_BY_TABLES and table in ("", "networks.NAME"):
            continue
        chooses = name == "name" and prefix == "model."
        default = "" if chooses or given.default is PydanticUndefined else _default(given.default)
        if prefix == "training.":
            default = f"{default}, or the network's own" if name in _differing() else default
        node = nodes["properties"][name]
        yield Key(table, f"{prefix}{name}", _takes(node), default, (given.description or "").replace("|", "or"))


def _differing() -> set[str]:
    """Settings of training that some network has a default of its own for."""
    plain = TrainingSettings()
    return {
        name
        for name in TrainingSettings.model_fields
        for entry in NETWORKS.values()
        if getattr(entry.training, name) != getattr(plain, name)
    }


def _default(value: Any) -> str:
    return "none" if value is None else "all that suit" if value == () else _value(value)


def _takes(node: Mapping[str, Any]) -> str:
    """What a node of a schema takes, in words."""
    if "anyOf" in node:
        return " or ".join(_takes(side) for side in node["anyOf"] if side.get("type") != "null")
    if "const" in node or "enum" in node:
        return " or ".join(f"`{_value(choice)}`" for choice in node.get("enum", [node.get("const")]))
    kind = node.get("type")
    if kind == "array":
        return f"a list, each {_takes(node['items'])}" if node.get("items") else "a list"
    if kind in ("integer", "number"):
        return f"{'a whole number' if kind == 'integer' else 'a number'}{_limits(node)}"
    return {"boolean": "`true` or `false`", "string": "text", "object": "lists by key"}.get(str(kind), "a value")


def _limits(node: Mapping[str, Any]) -> str:
    """
    >>> _limits({"type": "integer", "exclusiveMinimum": 0, "maximum": 256}), _limits({"exclusiveMinimum": 0})
    (' from 1 to 256', ' above 0')
    """
    low, high = node.get("minimum"), node.get("maximum")
    if node.get("type") == "integer" and "exclusiveMinimum" in node:
        low = node["exclusiveMinimum"] + 1
    words = []
    if low is not None:
        words.append(f"from {low:g}" if high is not None else f"of at least {low:g}")
    elif "exclusiveMinimum" in node:
        words.append(f"above {node['exclusiveMinimum']:g}")
    if high is not None:
        words.append(f"to {high:g}" if low is not None else f"up to {high:g}")
    if node.get("exclusiveMaximum", math.inf) < 2**53:
        words.append(f"below {node['exclusiveMaximum']:g}")
    return "".join(f" {word}" for word in words)


def _about(table: str) -> str:
    text = (TABLES[table].__doc__ or "").strip()
    if "model.name" in table:
        name = table.rpartition('= "')[2].rstrip('"')
        own = {k: v for k, v in NETWORKS[name].training.model_dump().items() if v != getattr(TrainingSettings(), k)}
        text += f" Its own training: {', '.join(f'{k} = {_value(v)}' for k, v in own.items()) or 'as below'}."
    return " ".join(text.split())


def _reference() -> str:
    """Every key in comments."""
    lines = [
        "# Every key there is. A line of one is: key = what it is unless you give it, then what it takes and does."
    ]
    for table in TABLES:
        lines += ["#", f"# [{table}]" if table else "# At the top, before any [table]:"]
        lines += _commented(_about(table), indent=2) if table else []
        for key in keys():
            if key.table == table:
                lines.append(f"#   {key.path} = {key.default or '(must be given)'}")
                lines += _commented(f"{key.takes.replace('`', '')}. {key.what}")
    return "\n".join(lines) + "\n"


def _commented(text: str, *, indent: int = 6) -> list[str]:
    begin = "#" + " " * (indent + 1)
    return textwrap.wrap(text, 110, initial_indent=begin, subsequent_indent=begin, break_on_hyphens=False)


def _start(data: str, name: str) -> str:
    return f"""\
# A study of your own, in TOML.
#   isthmus study {name} --dry-run   says what would be trained, and about how long that takes
#   isthmus study {name}             trains it, measures, and writes a report to read in a browser
#   isthmus study {name} --set networks.conv.training.epochs=3   changes any key from the command line
#   isthmus study --schema   prints a JSON Schema, by which an editor can check this file as you write
# Below the study stands every key there is. docs/study-file.md explains them.

title = "What a few numbers keep of my images"
seed = 0          # decides which images train and which test, and the first weights

# What is measured. Leave out what you do not ask. What needs labels is left out where the images have none.
#   reconstruction  error of every network with a code, beside exact PCA of the same size
#   codes           where the images lie in the code; numbers of it that say nothing
#   neighbours      does the nearest neighbour in the code have the same class?
#   accuracy        what the classifier names right, and what it takes for what
#   restoration     damaged images restored by every network (see degradations)
#   generation      images drawn from the codes, and how near they come to real ones (see densities)
#   code-size       how many numbers are enough? Needs three sizes or more of one network
analyses = ["reconstruction", "codes", "neighbours", "accuracy", "restoration", "generation", "code-size"]

# What restoration is tried on. Each is one damage, with noise or without, and noise stands for its standard deviation.
degradations = ["noise:0.25", "mask:0.5+noise:0.1"]

# What generation draws codes from.
densities = ["normal", "gaussian", "mixture"]

[data]
name = {_value(data)}    # a name from `isthmus data list`, or a folder of images, with a subfolder for each class
height = 32
width = 32

# Epochs are meant for a set of the size that meant_for says: one of fewer images gets more of them, one of more fewer.
# A convolutional autoencoder with codes of five sizes. Each list below sweep holds values of one setting, and every
# combination of them is a run: here ten, since two seeds show how far two runs differ by chance.
[networks.conv]
model.name = "lab"
model.code_relu = false
training.epochs = 10
meant_for = 3500
sweep.model.latent_dim = [2, 4, 8, 16, 32]
sweep.seed = [0, 1]

# A variational autoencoder, which can also draw new images and restore damaged ones by search.
[networks.vae]
model.name = "vae"
model.latent_dim = 16
training.epochs = 10
meant_for = 3500

# A network trained to remove noise.
[networks.denoiser]
model.name = "denoiser"
training.noise = 0.25
meant_for = 3500

# A classifier, by which the others are judged. Without labels it is left out.
[networks.judge]
model.name = "classifier"
training.epochs = 10
meant_for = 3500
"""
