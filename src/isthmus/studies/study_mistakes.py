"""Every mistake in a study file at once, by dotted path, with what to write instead.

The types tell most of them. What no type tells is looked for in what stands in the file, whatever it is, so that one
mistake does not hide another: a network with a mistake is left out of what is said of all of them together.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from isthmus.data.degrade import parse_recipe
from isthmus.errors import InputError
from isthmus.networks.catalog import NETWORKS
from isthmus.settings import MODELS, DataSettings, RunSettings, TrainingSettings, merge, nearest, problems, validate
from isthmus.studies.study_file import (
    CODERS,
    FEWEST_SIZES,
    LONGEST,
    MOST_RUNS,
    NAME,
    NEEDS,
    CustomSettings,
    NetworkSettings,
    Planned,
    count_of,
    families,
    in_a_name,
    planned,
)

NO_SIZES = (
    f"code-size needs {FEWEST_SIZES} sizes of one network or more; sweep them, as sweep.model.latent_dim = [2, 4, 8], "
    f"or leave the analysis out"
)
ADD_ONE = 'add one, as [networks.conv] with model.name = "lab"'
# Names that Windows keeps for itself: no folder there can be called so.
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)
LARGEST = 2**63  # whole numbers of TOML have 64 bits
GONE = object()  # in place of what was taken out
# The words for a type in Python, and those in a study file.
WORDS = {
    ", unable to interpret input": "",
    ", unable to parse string as a number": "",
    ", unable to parse string as an integer": "",
    "a valid boolean": "true or false",
    "a valid dictionary": "a table",
    "a valid integer": "a whole number",
    "a valid list": "a list",
    "a valid number": "a number",
    "a valid string": "a text in quotes",
    "a valid tuple": "a list",
}


def mistakes(tree: Mapping[str, Any]) -> tuple[dict[str, str], list[Planned]]:
    """Every mistake by dotted path, and what the networks without one would be trained as.

    Arguments: tree: what stands in the file, with the defaults of each network filled in.
    """
    found: dict[str, str] = {}
    kept = _possible(tree, (), found)
    found |= {path: _in_words(text) for path, text in problems(CustomSettings, kept).items()}
    found |= {path: hint for path in found if (hint := _elsewhere(path, found[path], kept))}
    found |= _further(kept)
    runs = _sound_runs(kept, found)
    found |= dict(_run_problems(runs))
    analyses = _texts(kept.get("analyses"))
    doubtful = any(path.partition(".")[0] == "networks" for path in found)
    if "code-size" in analyses and not doubtful and not families(runs):
        found.setdefault(f"analyses.{analyses.index('code-size')}", NO_SIZES)
    return found, runs


def tables_of(value: Any) -> list[tuple[str, Any]]:
    """Names and content of what should be tables by name; nothing of what is none."""
    return list(value.items()) if isinstance(value, Mapping) else []


def kind_of(network: Any) -> str:
    """model.name of what may be no network at all; empty if there is none."""
    model = network.get("model") if isinstance(network, Mapping) else None
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


@cache
def _numbers() -> frozenset[str]:
    """Keys that take a number."""
    kinds: list[type[BaseModel]] = [CustomSettings, DataSettings, NetworkSettings, TrainingSettings, *MODELS.values()]
    nodes = [item for kind in kinds for item in kind.model_json_schema()["properties"].items()]
    return frozenset(name for name, node in nodes if re.search(r'"type": "(integer|number)"', json.dumps(node)))


def _possible(value: Any, path: tuple[str, ...], found: dict[str, str]) -> Any:
    """`value` without numbers that TOML does not have and truths in place of a number, which Python takes for 1 or 0:
    they go to `found`, and so does the whole list of one in a list."""
    if isinstance(value, Mapping):
        parts = {key: _possible(part, (*path, key), found) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part is not GONE}
    if isinstance(value, list | tuple):
        listed = [_possible(part, (*path, str(i)), found) for i, part in enumerate(value)]
        return GONE if GONE in listed else listed
    key = next((part for part in reversed(path) if not part.isdigit()), "")
    if isinstance(value, bool):
        if key not in _numbers():
            return value
        found[".".join(path)] = f"input should be a number (given {str(value).lower()})"
        return GONE
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        found[".".join(path)] = "is too large: whole numbers in TOML are below 2 to the power 63"
        return GONE
    return value


def _in_words(text: str) -> str:
    for before, after in WORDS.items():
        text = text.replace(before, after)
    return text


def _elsewhere(path: str, text: str, tree: Mapping[str, Any]) -> str:
    """Where an unknown key belongs, if it or one like it is known in another table; empty if it is not."""
    *place, key = path.split(".")
    if "no such setting" not in text or not place:
        return ""
    if key in CustomSettings.model_fields and key not in ("networks", "data"):
        return f"no such setting in a table; {key} stands at the top, before the first [table]"
    if len(place) < 2 or place[0] != "networks" or place[2:] not in ([], ["model"], ["training"]):
        return ""
    networks = dict(tables_of(tree.get("networks")))
    model = MODELS.get(kind_of(networks.get(place[1])))
    known = {"training": TrainingSettings.model_fields, "model": {} if model is None else model.model_fields}
    others = {f"{part}.{name}": name for part, fields in known.items() if [part] != place[2:] for name in fields}
    exact = [full for full, name in others.items() if name == key]
    near = difflib.get_close_matches(key, others.values(), n=1) if "did you mean" not in text else []
    meant = exact or [full for full, name in others.items() if name in near]
    return f"no such setting; did you mean {meant[0]!r}?" if meant else ""


def _further(tree: Mapping[str, Any]) -> dict[str, str]:
    """Mistakes that no type tells, by dotted path; what is of a wrong type is passed over, being found elsewhere."""
    networks = dict(tables_of(tree.get("networks")))
    found = dict(_missing(tree, networks))
    for name, network in networks.items():
        if not NAME.fullmatch(name):
            found[f"networks.{name}"] = "is no name for a folder: take letters, digits, - and _, at most 60"
        elif RESERVED.fullmatch(name):
            found[f"networks.{name}"] = "is a name that Windows keeps for itself; take another one"
        found |= {f"networks.{name}.{path}": text for path, text in _network_problems(name, networks)}
        found |= {f"networks.{name}.sweep.{path}": text for path, text in _sweep_problems(network)}
    found |= dict(_too_many(networks))
    found |= dict(_unsuited(tree, networks))
    for key in ("analyses", "degradations", "densities"):
        found |= {f"{key}.{i}": "stands here twice; once is enough" for i in _repeated(tree.get(key))}
    for i, text in enumerate(_texts(tree.get("degradations"))):
        try:
            parse_recipe(text)
        except InputError as error:
            found[f"degradations.{i}"] = str(error)
    return found


def _missing(tree: Mapping[str, Any], networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What has to be there and is not."""
    data = tree.get("data")
    if "data" not in tree or (isinstance(data, Mapping) and "name" not in data):
        hint = "give a folder of images, or a name from `isthmus data list`"
        yield "data.name" if "data" in tree else "data", f"is missing; {hint}"
    if "networks" not in tree:
        yield "networks", f"is missing; {ADD_ONE}"
    elif isinstance(tree["networks"], Mapping) and not networks:
        yield "networks", f"is empty; {ADD_ONE}"
    for name, network in networks.items():
        if isinstance(network, Mapping) and "model" not in network:
            others = [other for other in networks if other != name and kind_of(networks[other])]
            near = nearest(name, others) if others else ""
            meant = near if near.startswith("did you mean") else 'say which network it is, as model.name = "lab"'
            yield f"networks.{name}.model", f"is missing; {meant}"


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list | tuple) else []


def _repeated(value: Any) -> list[int]:
    texts = _texts(value)
    return [i for i, text in enumerate(texts) if text in texts[:i]]


def _unsuited(tree: Mapping[str, Any], networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Analyses that none of the networks is fit for; nothing where a network is not known itself."""
    kinds = {kind_of(network) for network in networks.values()}
    if not kinds or not kinds <= set(MODELS):
        return
    for i, name in enumerate(_texts(tree.get("analyses"))):
        wanted, words = NEEDS.get(name, (frozenset(kinds), ""))  # type: ignore[call-overload]  # any text may stand here
        if not kinds & wanted:
            yield f"analyses.{i}", f"{name} needs {words}; add one to the networks, or leave the analysis out"


def _network_problems(name: str, networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What does not fit the other networks, or its own kind."""
    network = networks[name]
    start = network.get("start") if isinstance(network, Mapping) else None
    for path in _where_frozen(network):
        if kind_of(network) in set(NETWORKS) - CODERS:
            yield path, f"a {kind_of(network)} has no decoder to keep as it is; leave it out"
        elif start is None:
            yield path, 'decoder keeps the decoder of another network: name that, as start = "vae"'
    if not isinstance(start, str):
        return
    if start not in networks:
        yield "start", f"there is no network {start!r} in this file; {nearest(start, networks)}"
    elif name in _ancestors(name, networks):
        yield "start", f"{name} would begin with its own weights; leave start out of one network of the circle"
    elif _lists(networks[start]):
        yield "start", f"{start} is swept, so it is several runs; start from a network without a sweep"
    elif kind_of(networks[start]) != kind_of(network):
        yield "start", f"{start} is a {kind_of(networks[start])}, this a {kind_of(network)}; start from one of its kind"


def _where_frozen(network: Any) -> list[str]:
    """Where it says that the decoder is to be kept."""
    training = network.get("training") if isinstance(network, Mapping) else None
    here = isinstance(training, Mapping) and training.get("frozen") == "decoder"
    swept = "decoder" in _lists(network).get("training.frozen", [])
    return [*(["training.frozen"] if here else []), *(["sweep.training.frozen"] if swept else [])]


def _lists(network: Any) -> dict[str, list[Any]]:
    """The swept values by dotted path, of what may be no network at all."""
    sweep = network.get("sweep") if isinstance(network, Mapping) else None
    tree = dict(tables_of(sweep))
    found = {f"{part}.{key}": values for part in ("model", "training") for key, values in tables_of(tree.get(part))}
    found |= {"seed": tree["seed"]} if "seed" in tree else {}
    return {path: values for path, values in found.items() if isinstance(values, list)}


def _ancestors(name: str, networks: Mapping[str, Any]) -> list[str]:
    """The networks that this one begins with, directly or by way of others."""
    found: list[str] = []
    at: Any = networks[name]
    while isinstance(at, Mapping) and isinstance(at.get("start"), str) and at["start"] not in found:
        found.append(at["start"])
        at = networks.get(at["start"])
    return found


def _sweep_problems(network: Any) -> Iterator[tuple[str, str]]:
    """Values that the swept settings cannot take."""
    for path, values in _lists(network).items():
        part, _, key = path.partition(".")
        base = network.get(part, {})
        if path == "model.name":
            yield path, "cannot be swept, since each network has settings of its own; give each a table"
        elif key and isinstance(base, Mapping):
            yield from _value_problems(path, values, base)
        yield from _list_problems(path, values)


def _value_problems(path: str, values: Sequence[Any], base: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    part, _, key = path.partition(".")
    tried = [problems(RunSettings, {part: {**base, key: value}}) for value in values]
    wrong = {i: _in_words(texts[path]) for i, texts in enumerate(tried) if path in texts}
    if values and len(wrong) == len(values) and len(set(wrong.values())) == 1:
        yield path, wrong[0]  # it is the key, not its values
    else:
        yield from ((f"{path}.{i}", text) for i, text in wrong.items())


def _list_problems(path: str, values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    texts = [in_a_name(value) for value in values]
    if not texts:
        yield path, "is an empty list; give the values to be tried, or leave it out"
    elif len(set(texts)) < len(texts):
        yield path, f"has a value twice ({', '.join(texts)}); each makes a run of its own"


def _too_many(networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts = {name: count_of(_lists(network)) for name, network in networks.items()}
    limit = f"a study takes {MOST_RUNS:,} at most, so give fewer values"
    large = {name: count for name, count in counts.items() if count > MOST_RUNS}
    for name, count in large.items():
        yield f"networks.{name}.sweep", f"asks for {count:,} runs; {limit}"
    if not large and sum(counts.values()) > MOST_RUNS:
        yield "networks", f"ask for {sum(counts.values()):,} runs together; {limit}"


def _sound_runs(tree: Mapping[str, Any], found: Mapping[str, str]) -> list[Planned]:
    """What the networks without a mistake would be trained as, on a thousand images."""
    wrong = [f"{path}." for path in found]
    networks = dict(tables_of(tree.get("networks")))
    sound = {
        name: network
        for name, network in networks.items()
        if not any(path.startswith(f"networks.{name}.") for path in wrong)
    }
    if not sound or "networks" in found:
        return []
    for name, network in sound.items():
        if network.get("start") not in sound:
            sound[name] = {key: value for key, value in network.items() if key != "start"}
    return planned(validate(CustomSettings, {"data": {"name": "any"}, "networks": sound}), images=1000)


def _run_problems(runs: Sequence[Planned]) -> Iterator[tuple[str, str]]:
    """Names of runs that no folders can have. They differ in more than capitals, which some file systems ignore."""
    names = [run.name.casefold() for run in runs]
    twice = sorted({run.name for run, name in zip(runs, names, strict=True) if names.count(name) > 1})
    if twice:
        yield "networks", f"two runs would be called {', '.join(twice)}; rename a network"
    for run in runs:
        if len(run.name) > LONGEST:
            text = f"would make a run whose name has {len(run.name)} characters, and {LONGEST} are the most"
            yield f"networks.{run.network}.sweep", f"{text}: give it fewer or shorter values, or a table for each"


def with_defaults(network: Any) -> Any:
    """A network as it stands in the file, its training on top of what its kind takes by default."""
    given = network.get("training", {}) if isinstance(network, Mapping) else None
    if kind_of(network) not in NETWORKS or not isinstance(given, Mapping):
        return network
    return {**network, "training": merge(NETWORKS[kind_of(network)].training.model_dump(exclude_none=True), given)}
