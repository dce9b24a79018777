"""Draw docs/images/fronts.png: which cells the recurrent layers compute together, and what a cell sees."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from pixelrnn.kernels.geometry import Geometry, diagonals, rows

HEIGHT, WIDTH = 5, 7
INK, BORDER, MARK = "#22303c", "#b9c2cc", "#c8442b"


def draw(axes: Axes, geometry: Geometry, title: str, cell: tuple[int, int], seen: list[tuple[int, int]]) -> None:
    """Draw the front of every cell, the learned states around the image, and the neighbours of one cell."""
    front_of = torch.empty(HEIGHT * WIDTH, dtype=torch.int64)
    front_of[geometry.order] = torch.arange(len(geometry.fronts)).repeat_interleave(
        torch.tensor([front.cells for front in geometry.fronts])
    )
    colours = plt.get_cmap("YlGnBu")
    for row in range(-1, HEIGHT):
        for col in range(-1, WIDTH + 1):
            inside = row >= 0 and 0 <= col < WIDTH
            if inside:
                front = int(front_of[row * WIDTH + col])
                face = colours(0.08 + 0.5 * front / len(geometry.fronts))
                axes.add_patch(Rectangle((col, row), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5))
                axes.text(col + 0.86, row + 0.74, str(front), ha="right", va="center", fontsize=9, color=INK)
            elif (row, col) in border_of(geometry):
                axes.add_patch(
                    Rectangle(
                        (col + 0.06, row + 0.06), 0.88, 0.88, fill=False, edgecolor=BORDER, linestyle=":", linewidth=1.2
                    )
                )
    axes.add_patch(Rectangle(cell[::-1], 1, 1, fill=False, edgecolor=MARK, linewidth=2.2, zorder=3))
    for row, col in seen:
        arrow = FancyArrowPatch(
            (col + 0.5, row + 0.4),
            (cell[1] + 0.5, cell[0] + 0.4),
            arrowstyle="-|>",
            mutation_scale=11,
            color=MARK,
            linewidth=1.6,
            zorder=4,
        )
        axes.add_patch(arrow)
    axes.set(xlim=(-1.1, WIDTH + 1.1), ylim=(HEIGHT + 0.1, -1.1), aspect="equal")
    axes.set_title(title, fontsize=11, color=INK)
    axes.axis("off")


def border_of(geometry: Geometry) -> set[tuple[int, int]]:
    """Positions outside the image whose learned states some cell sees."""
    above = {(-1, col) for col in range(WIDTH)}
    if geometry.neighbours == 2:
        return above | {(row, -1) for row in range(HEIGHT)}
    sides = {(row, col) for row in range(-1, HEIGHT - 1) for col in (-1, WIDTH)}
    return above | sides


def main() -> None:
    """Draw both layers side by side."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
    cpu = torch.device("cpu")
    draw(left, rows(HEIGHT, WIDTH, 3, cpu), "Row LSTM: a front is a row", (3, 3), [(2, 2), (2, 3), (2, 4)])
    draw(right, diagonals(HEIGHT, WIDTH, cpu), "Diagonal LSTM: a front is a diagonal", (3, 3), [(2, 3), (3, 2)])
    figure.tight_layout()
    out = Path(__file__).parent.parent / "docs" / "images" / "fronts.png"
    figure.savefig(out, dpi=130, facecolor="white")
    print(out)


if __name__ == "__main__":
    main()
