"""One contestant in a process of its own, so that neither imports nor the state of another one count.

    python serve.py MODULE:FUNCTION FOLDER OPTIONS

FUNCTION(FOLDER, **OPTIONS) does all that is not timed and returns another function. For each line of JSON on standard
input that one is called with what the line says, and its answer, a dictionary, goes out as a line of JSON. Whatever
libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path[0] = str(Path(__file__).parent.parent)
    module, _, function = sys.argv[1].partition(":")
    options: dict[str, Any] = json.loads(sys.argv[3])
    contestant = getattr(importlib.import_module(module), function)(Path(sys.argv[2]), **options)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(contestant(**json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
