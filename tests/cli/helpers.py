"""What tests of commands share."""

import csv

from PIL import Image

import pixelrnn

TINY = ["--set=layers=1", "--set=hidden=3", "--set=head=4", "--set=batch=4", "--set=validations=2", "--set=warmup=1"]
"""Of a network that is trained in a moment."""


def data_of(folder):
    return pixelrnn.load_dataset(pixelrnn.load(folder).provenance["data"])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_picture(path, array):
    Image.fromarray(array).save(path)
    return path
