"""A run as a folder that any browser opens: the page is built from ../../../explorer, the networks run in it."""
