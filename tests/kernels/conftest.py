"""What the tests of the kernels set up."""

import pytest

from pixelrnn.kernels import choice
from tests.kernels.helpers import threads


@pytest.fixture(autouse=True)
def fresh_choice():
    choice.forget()
    yield
    choice.forget()


@pytest.fixture
def thread_count(request):
    """Run the test with so many threads of PyTorch: parametrise it, with `indirect=True`."""
    with threads(request.param):
        yield request.param
