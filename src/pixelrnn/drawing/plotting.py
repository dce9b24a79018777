"""How plots look: panels, colours, colour bars. Colours are Okabe and Ito's, which the colour-blind can tell apart."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from pixelrnn.drawing.pictures import INK

__all__ = ["BLUE", "FAINT", "MUTED", "PALETTE", "SKY", "VERMILLION", "colour_bar", "make_panels", "rendered"]

BLUE, SKY, VERMILLION = "#0072b2", "#56b4e9", "#d55e00"
MUTED, FAINT = "#777777", "#dddddd"
PALETTE = (BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", SKY)


def make_panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels, each so wide and high in inches."""
    figure = Figure(figsize=(columns * width, rows * height), dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.tick_params(labelsize=8, color=MUTED, labelcolor=INK)
        axes.spines[:].set_color(MUTED)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def colour_bar(figure: Figure, heat: AxesImage, panels: list[Axes], label: str) -> None:
    """A scale beside the panels."""
    bar = figure.colorbar(heat, ax=panels, fraction=0.04, pad=0.02)
    bar.set_label(label, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, color=MUTED, labelcolor=INK)


def rendered(figure: Figure) -> Image.Image:
    """A figure in pixels."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")
