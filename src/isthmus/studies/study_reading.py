"""A study file read and checked: every mistake in it at once, each with its dotted path and what to write instead.

The types tell most of them; what no type tells is looked for in what stands in the file, so that one mistake does not
hide another.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.degrade import parse_recipe
from isthmus.errors import InputError, SettingsError
from isthmus.networks.catalog import NETWORKS
from isthmus.settings import MODELS, RunSettings, merge, nearest, problems, refusal, validate
from isthmus.studies.study_file import (
    ANALYSES,
    FEWEST_SIZES,
    NAME,
    NEEDS,
    CustomSettings,
    families,
    in_a_name,
    planned,
)

NO_SIZES = (
    f"code-size needs {FEWEST_SIZES} sizes of one network or more; sweep them, as sweep.model.latent_dim = [2, 4, 8], "
    f"or leave the analysis out"
)


def read_study_file(path: Path) -> dict[str, Any]:
    """What stands in a study file, unchecked. Raises: InputError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; `isthmus study --init {path}` writes a study file to start from."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a study file ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}. Texts stand in quotes, tables begin with [NAME].") from error


def study_settings(tree: Mapping[str, Any]) -> CustomSettings:
    """The settings of a study file with all defaults filled in.

    Raises: SettingsError with every mistake, by dotted path, with the nearest known name for an unknown one.
    """
    tree = _with_defaults(tree)
    found = problems(CustomSettings, tree) | _further(tree)
    if found:
        raise SettingsError(refusal(found))
    settings = validate(CustomSettings, tree)
    runs = planned(settings, images=1000)
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(refusal({"networks": f"two runs would be called {', '.join(twice)}; rename a network"}))
    if "code-size" in settings.analyses and not families(runs):
        path = f"analyses.{settings.analyses.index('code-size')}"
        raise SettingsError(refusal({path: NO_SIZES}))
    return settings


def _with_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Each network's training on top of its own defaults, and the analyses that suit the networks."""
    networks = {name: _with_training(network) for name, network in _tables(tree.get("networks"))}
    kinds = {_kind(network) for network in networks.values()}
    swept = [_lists(network, "model").get("latent_dim") for network in networks.values()]
    sized = any(isinstance(values, list) and len(values) >= FEWEST_SIZES for values in swept)
    suited = [name for name in ANALYSES if kinds & NEEDS[name][0] and (sized or name != "code-size")]
    return {"analyses": suited, **tree, **({"networks": networks} if isinstance(tree.get("networks"), Mapping) else {})}


def _with_training(network: Any) -> Any:
    given = network.get("training", {}) if isinstance(network, Mapping) else None
    if _kind(network) not in NETWORKS or not isinstance(given, Mapping):
        return network
    return {**network, "training": merge(NETWORKS[_kind(network)].training.model_dump(exclude_none=True), given)}


def _kind(network: Any) -> str:
    """model.name of what may be no network at all; empty if there is none."""
    model = network.get("model") if isinstance(network, Mapping) else None
    return str(model.get("name", "")) if isinstance(model, Mapping) else ""


def _tables(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _lists(network: Any, part: str) -> Mapping[str, Any]:
    """sweep.model or sweep.training of what may be no network at all."""
    sweep = network.get("sweep") if isinstance(network, Mapping) else None
    lists = sweep.get(part) if isinstance(sweep, Mapping) else None
    return lists if isinstance(lists, Mapping) else {}


def _further(tree: Mapping[str, Any]) -> dict[str, str]:
    """Mistakes that no type tells, by dotted path; what is of a wrong type is passed over, being found elsewhere."""
    found: dict[str, str] = {}
    networks = dict(_tables(tree.get("networks")))
    if isinstance(tree.get("networks"), Mapping) and not networks:
        found["networks"] = 'is empty; add one, as [networks.conv] with model.name = "lab"'
    for name, network in networks.items():
        if not NAME.fullmatch(name):
            found[f"networks.{name}"] = "is no name for a folder: take letters, digits, - and _, at most 60"
        found |= {f"networks.{name}.{path}": text for path, text in _network_problems(name, networks)}
        found |= {f"networks.{name}.sweep.{path}": text for path, text in _sweep_problems(network)}
    found |= dict(_unsuited(tree, networks))
    for key in ("analyses", "degradations", "densities"):
        found |= {f"{key}.{i}": "stands here twice; once is enough" for i in _repeated(tree.get(key))}
    for i, text in enumerate(_texts(tree.get("degradations"))):
        try:
            parse_recipe(text)
        except InputError as error:
            found[f"degradations.{i}"] = str(error)
    return found


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list | tuple) else []


def _repeated(value: Any) -> list[int]:
    texts = _texts(value)
    return [i for i, text in enumerate(texts) if text in texts[:i]]


def _unsuited(tree: Mapping[str, Any], networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Analyses that none of the networks is fit for; nothing where a network is not known itself."""
    kinds = {_kind(network) for network in networks.values()}
    if not kinds or not kinds <= set(MODELS):
        return
    for i, name in enumerate(_texts(tree.get("analyses"))):
        wanted, words = NEEDS.get(name, (frozenset(kinds), ""))  # type: ignore[call-overload]  # any text may stand here
        if not kinds & wanted:
            yield f"analyses.{i}", f"{name} needs {words}; add one to the networks, or leave the analysis out"


def _network_problems(name: str, networks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What does not fit the other networks."""
    network = networks[name]
    start = network.get("start") if isinstance(network, Mapping) else None
    training = network.get("training") if isinstance(network, Mapping) else None
    if isinstance(training, Mapping) and training.get("frozen") == "decoder" and start is None:
        yield "training.frozen", 'decoder keeps the decoder of another network: name that, as start = "vae"'
    if not isinstance(start, str):
        return
    if start not in networks:
        yield "start", f"there is no network {start!r} in this file; {nearest(start, networks)}"
    elif name in _ancestors(name, networks):
        yield "start", f"{name} would begin with its own weights; leave start out of one network of the circle"
    elif any(_lists(networks[start], part) for part in ("model", "training")) or _has_seeds(networks[start]):
        yield "start", f"{start} is swept, so it is several runs; start from a network without a sweep"
    elif _kind(networks[start]) != _kind(network):
        yield "start", f"{start} is a {_kind(networks[start])}, this a {_kind(network)}; start from one of its kind"


def _has_seeds(network: Any) -> bool:
    sweep = network.get("sweep") if isinstance(network, Mapping) else None
    return isinstance(sweep, Mapping) and bool(sweep.get("seed"))


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
    if not isinstance(network, Mapping):
        return
    for part in ("model", "training"):
        base = network.get(part, {})
        for key, values in _lists(network, part).items():
            if key == "name" and part == "model":
                yield "model.name", "cannot be swept, since each network has settings of its own; give each a table"
            elif isinstance(values, list) and isinstance(base, Mapping):
                yield from _value_problems(f"{part}.{key}", values, base)
    sweep = network.get("sweep")
    seeds = sweep.get("seed") if isinstance(sweep, Mapping) else None
    if isinstance(seeds, list):
        yield from _list_problems("seed", seeds)


def _value_problems(path: str, values: Sequence[Any], base: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    part, _, key = path.partition(".")
    wrong = {
        i: text
        for i, value in enumerate(values)
        if (text := problems(RunSettings, {part: {**base, key: value}}).get(path)) is not None
    }
    if values and len(wrong) == len(values) and len(set(wrong.values())) == 1:
        yield path, wrong[0]  # it is the key, not its values
    else:
        yield from ((f"{path}.{i}", text) for i, text in wrong.items())
    yield from _list_problems(path, values)


def _list_problems(path: str, values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    texts = [in_a_name(value) for value in values]
    if not texts:
        yield path, "is an empty list; give the values to be tried, or leave it out"
    elif len(set(texts)) < len(texts):
        yield path, f"has a value twice ({', '.join(texts)}); each makes a run of its own"
