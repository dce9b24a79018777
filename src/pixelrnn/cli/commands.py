"""What each command does: it joins the parts of the package, and reports."""

from pixelrnn.cli.archives import compress as compress
from pixelrnn.cli.archives import decompress as decompress
from pixelrnn.cli.archives import inspect as inspect
from pixelrnn.cli.common import USER_ERRORS as USER_ERRORS
from pixelrnn.cli.common import Stopped as Stopped
from pixelrnn.cli.common import explain as explain
from pixelrnn.cli.reproduce import check_model as check_model
from pixelrnn.cli.reproduce import reproduce as reproduce
from pixelrnn.cli.show import draw_contexts as draw_contexts
from pixelrnn.cli.show import draw_softmax as draw_softmax
from pixelrnn.cli.show import info as info
from pixelrnn.cli.show import list_models as list_models
from pixelrnn.cli.show import list_recipes as list_recipes
from pixelrnn.cli.show import prepare_photos as prepare_photos
from pixelrnn.cli.train import Request as Request
from pixelrnn.cli.train import train as train
from pixelrnn.cli.use import complete as complete
from pixelrnn.cli.use import evaluate_model as evaluate_model
from pixelrnn.cli.use import join as join
from pixelrnn.cli.use import sample as sample
from pixelrnn.cli.use import score as score
from pixelrnn.cli.use import surprise as surprise

__all__ = [
    "USER_ERRORS",
    "Request",
    "Stopped",
    "check_model",
    "complete",
    "compress",
    "decompress",
    "draw_contexts",
    "draw_softmax",
    "evaluate_model",
    "explain",
    "info",
    "inspect",
    "join",
    "list_models",
    "list_recipes",
    "prepare_photos",
    "reproduce",
    "sample",
    "score",
    "surprise",
    "train",
]
