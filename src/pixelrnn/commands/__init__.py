"""What each command does: it joins the parts of the package, and reports."""

from pixelrnn.commands.archives import compress as compress
from pixelrnn.commands.archives import decompress as decompress
from pixelrnn.commands.archives import inspect as inspect
from pixelrnn.commands.common import USER_ERRORS as USER_ERRORS
from pixelrnn.commands.common import Stopped as Stopped
from pixelrnn.commands.common import explain as explain
from pixelrnn.commands.reproduce import check_model as check_model
from pixelrnn.commands.reproduce import reproduce as reproduce
from pixelrnn.commands.show import draw_contexts as draw_contexts
from pixelrnn.commands.show import draw_softmax as draw_softmax
from pixelrnn.commands.show import info as info
from pixelrnn.commands.show import list_models as list_models
from pixelrnn.commands.show import list_recipes as list_recipes
from pixelrnn.commands.show import prepare_photos as prepare_photos
from pixelrnn.commands.train import train as train
from pixelrnn.commands.use import complete as complete
from pixelrnn.commands.use import evaluate_model as evaluate_model
from pixelrnn.commands.use import join as join
from pixelrnn.commands.use import sample as sample
from pixelrnn.commands.use import score as score
from pixelrnn.commands.use import surprise as surprise

__all__ = [
    "USER_ERRORS",
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
