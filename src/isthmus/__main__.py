"""`python -m isthmus`."""

from isthmus.cli.main import run

run()
