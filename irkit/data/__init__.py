"""Data that commands use."""

from importlib.resources import files


def imagenet_classes() -> list[str]:
    """Names of the 1,000 ImageNet classes, in order: the first word of each WordNet synset."""
    return (files("irkit.data") / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
