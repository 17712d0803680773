"""Isthmus learns compact representations of images, shows what they kept, and puts them to use."""

__version__ = "0.1.0"
