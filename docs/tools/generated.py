"""Pages of the site that are made from the program itself: its commands, its settings, its public names.

No file keeps what they say, so that none of it can be out of date. `pages` gives them as Markdown, each under the place
where it lies on the site; hooks.py hands them to MkDocs.
"""

from __future__ import annotations

from command_pages import commands, commands_page, list_of_commands
from isthmus.studies.study_text import schema_text
from name_pages import list_of_modules, list_of_names, names_page, topics
from setting_pages import settings_page


def pages() -> dict[str, str]:
    """Every generated page or file by its place on the site."""
    return {
        "commands/index.md": list_of_commands(),
        **{f"commands/{name}.md": commands_page(name) for name in dict.fromkeys(c.split()[0] for c in commands())},
        "settings.md": settings_page(),
        "study.schema.json": schema_text(),
        "python/index.md": list_of_names(),
        **{f"python/{topic}.md": names_page(topic) for topic in topics()},
        "python/modules.md": list_of_modules(),
    }
