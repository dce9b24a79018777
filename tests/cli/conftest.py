"""Models and data of the tests of commands, each of which runs in a folder of its own."""

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run each test in a folder of its own, where defaults like samples.png may be written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def saved(small_model, small_data, tmp_path_factory):
    """Make the folder of an untrained model of small random images."""

    def save(network="row_lstm", *, levels=2, colours=1, **fields):
        data = small_data(levels, colours)
        model = small_model(network, levels=levels, colours=colours, **fields)
        model.provenance = {"data": str(data), "height": 5, "width": 6, "recipe": "none"}
        folder = tmp_path_factory.mktemp("models") / f"{network}-{levels}"
        model.save(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def binary(saved):
    return saved()


@pytest.fixture(scope="session")
def colour(saved):
    return saved("pixelcnn", levels=8, colours=3)


@pytest.fixture(scope="session")
def data(small_data):
    return small_data()
