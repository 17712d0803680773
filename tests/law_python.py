"""What pages say of Python, held against the package: names, keywords, attributes. Part of law.py."""

from __future__ import annotations

import ast
import builtins
import difflib
import importlib
import inspect
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import isthmus

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/isthmus"
# First parts of names that are Python's or another package's.
OTHERS = {"torch", "np", "numpy", "pd", "pandas", "sklearn", "json", "Path", "file", "self", "plt", "found", "scipy"}
FOREIGN = {
    "cross_val_score",
    "GridSearchCV",
    "Pipeline",
    "KNeighborsClassifier",
    "ProcessPoolExecutor",
    "DataFrame",
    "GitHub",
    "LogisticRegression",
}


@cache
def defined() -> set[str]:
    """Every function, class, method and constant of the package, and every module."""
    found = set(dir(builtins))
    for path in PACKAGE.rglob("*.py"):
        found |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                of = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id for target in of if isinstance(target, ast.Name)}
    return found


@cache
def words() -> set[str]:
    """Every word in the code of the package and its benchmarks."""
    return set(re.findall(r"[A-Za-z_]\w*", code_of("src", "benchmarks")))


@cache
def code_of(*folders: str) -> str:
    """All Python in these folders, without this test's own."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    hidden = [path for path in found if any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    paths = [path for path in found if path.name != "test_docs.py" and path not in hidden]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def source_of(language: str, body: str) -> str:
    """The Python of a block, without what its doctests show; "" of other code."""
    if ">>>" in body:
        lines = [line[4:] for line in body.splitlines() if line.startswith((">>> ", "... "))]
        return "\n".join(lines)
    return body if language == "python" or (not language and re.match(r"(from|import) ", body)) else ""


def python(source: str) -> list[str]:
    """Imports, keywords and attributes that are not there, as far as the objects of a block are known."""
    tree = ast.parse(source)
    known: dict[str, Any] = {}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "isthmus":
            for name in node.names:
                missing = dotted(f"{node.module}.{name.name}")
                found += missing
                if not missing:
                    known[name.asname or name.name] = resolved(f"{node.module}.{name.name}")
    made: dict[str, type] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            kind = _kind(node.value, known)
            if kind is not None:
                made[node.targets[0].id] = kind
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and callable(known.get(node.func.id)):
            found += _keywords(node, known[node.func.id])
        if isinstance(node, ast.Attribute):
            found += _attribute(node, known, made)
    return found


def _kind(node: ast.expr, known: dict[str, Any]) -> type | None:
    """The class of what an expression makes: Class(...), Class.from_pretrained(...), or either with .fit(...)."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute):
        if node.func.attr in ("from_pretrained", "fit"):
            inner = node.func.value
            return (
                known.get(inner.id)
                if isinstance(inner, ast.Name) and inspect.isclass(known.get(inner.id))
                else _kind(inner, known)
            )
        return None
    found = known.get(node.func.id) if isinstance(node.func, ast.Name) else None
    return found if inspect.isclass(found) else None


def _keywords(node: ast.Call, function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return []
    given = [keyword.arg for keyword in node.keywords if keyword.arg]
    return [f"{function.__name__} takes no {name}{near(name, parameters)}" for name in given if name not in parameters]


def _attribute(node: ast.Attribute, known: dict[str, Any], made: dict[str, type]) -> list[str]:
    owner = (
        made.get(node.value.id) or known.get(node.value.id)
        if isinstance(node.value, ast.Name)
        else _kind(node.value, known)
    )
    if (
        not inspect.isclass(owner)
        or hasattr(owner, node.attr)
        or node.attr in getattr(owner, "__dataclass_fields__", ())
    ):
        return []
    if node.attr.endswith("_") and any(node.attr in getattr(base, "__annotations__", {}) for base in owner.__mro__):
        return []
    return [f"{owner.__name__} has no {node.attr}{near(node.attr, dir(owner))}"]


def dotted(code: str) -> list[str]:
    """Names as isthmus.networks.pca."""
    names = re.findall(r"(?<![\w/.-])isthmus(?:\.[A-Za-z_]\w*)+(?!\w*[/-])", code)
    return [f"there is no {name}" for name in names if resolved(name) is None]


@cache
def resolved(name: str) -> Any:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            value = getattr(value, part, None)
        return value
    return None


def name_in(code: str) -> list[str]:
    """A function or class in a line: `restore(...)`, `VAE.from_course`, `ConvAutoencoder`, `score_samples`."""
    call = re.fullmatch(r"([A-Za-z_][\w.]*)\(.*\)", code)
    name = call[1] if call else code
    if (
        name.startswith("isthmus.")
        or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name)
        or name.split(".")[0] in OTHERS
    ):
        return []
    first, *rest = name.split(".")
    owner = getattr(isthmus, first, None) if first in isthmus.__all__ else None
    if rest and inspect.isclass(owner):
        return [] if hasattr(owner, rest[0]) else [f"{first} has no {rest[0]}{near(rest[0], dir(owner))}"]
    camel = re.fullmatch(r"[A-Z][a-z]{2,}(?:[A-Z][a-z]*)+", name)
    if (call and not rest) or camel:
        known: Iterable[str] = defined()
        return [] if name in known or name in FOREIGN else [f"there is no {name}{near(name, known)}"]
    snake = re.fullmatch(r"[a-z]+(?:_[a-z0-9]+)+_?", name)
    unknown = snake and name not in words() and name not in FOREIGN
    return [f"nothing is called {name}{near(name, defined())}"] if unknown else []


def near(name: str, known: Iterable[str]) -> str:
    """The rest of a complaint: the nearest name that there is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; {found[0]}?" if found else ""
