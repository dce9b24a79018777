"""The tests themselves: whatever they draw at random is the same each time they run."""

import random
import zlib

import numpy as np
import pytest
import torch
from hypothesis import settings


def draws():
    """A number from each source of randomness of the process."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def seeded_draws(name):
    number = zlib.crc32(name.encode())
    generator = torch.Generator().manual_seed(number)
    return (
        random.Random(number).random(),
        float(np.random.RandomState(number).rand()),
        float(torch.rand((), generator=generator)),
    )


WHILE_COLLECTED = draws()


@pytest.fixture(scope="module")
def module_fixture():
    return draws()


@pytest.fixture
def function_fixture():
    return draws()


def test_draws_depend_on_the_name_of_the_test_alone(request):
    assert draws() == seeded_draws(request.node.nodeid)


def test_draws_of_fixtures_depend_on_their_names_and_scopes_alone(request, function_fixture, module_fixture):
    assert module_fixture == seeded_draws(f"{request.path.relative_to(request.config.rootpath)}::module_fixture")
    assert function_fixture == seeded_draws(f"{request.node.nodeid}::function_fixture")
    assert draws() == seeded_draws(request.node.nodeid)


def test_draws_while_a_file_is_collected_depend_on_its_name_alone(request):
    assert seeded_draws(str(request.path.relative_to(request.config.rootpath))) == WHILE_COLLECTED


def test_examples_of_hypothesis_are_the_same_each_time():
    assert settings.default.derandomize
    assert settings.default.database is None
    assert settings.default.deadline is None
