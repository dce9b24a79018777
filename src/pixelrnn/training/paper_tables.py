"""The paper's tables, as runs that can be done here: what `pixelrnn reproduce` trains.

Figures of tables that the paper prints beside its text, of depth and of connections, are quoted from memory of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pixelrnn.training.catalogue import recipes
from pixelrnn.training.recipe import Recipe
from pixelrnn.training.settings import with_settings

__all__ = ["QUICK", "Row", "Table", "all_paper_tables"]

QUICK = 0.02
"""The part of a run's time that is left of it for a first look."""


@dataclass(frozen=True)
class Row:
    """One run of a table.

    Attributes:
        title: what the paper calls it.
        recipe: name of the recipe that is trained.
        settings: fields of it that are changed.
        paper: the paper's figure, in the table's unit; None where it has none.
    """

    title: str
    recipe: str
    settings: Mapping[str, str] = field(default_factory=dict)
    paper: float | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join([self.recipe, *(f"{key}={value}" for key, value in self.settings.items())])

    def changed(self) -> Recipe:
        """The recipe with its settings."""
        return with_settings(recipes()[self.recipe], self.settings)


@dataclass(frozen=True)
class Table:
    """Runs that are compared.

    Attributes:
        name: what the command line calls it.
        title: of the results.
        rows: the runs; all have data of the same kind.
        minutes: length of each run by the clock.
        note: what has to be said of the comparison.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    minutes: float
    note: str


def all_paper_tables() -> dict[str, Table]:
    """All tables by name."""
    known = [_mnist(), _photographs(), _connections(), _depth(), _heads()]
    return {table.name: table for table in known}


def _mnist() -> Table:
    rows = (
        Row("PixelCNN", "mnist-pixelcnn", paper=81.30),
        Row("Row LSTM", "mnist-row-lstm", paper=80.54),
        Row("Diagonal BiLSTM, 1 layer, h = 32", "mnist-diagonal-bilstm-1", paper=80.75),
        Row("Diagonal BiLSTM, 7 layers, h = 16", "mnist-diagonal-bilstm", paper=79.20),
    )
    note = "The paper does not give the sizes of its PixelCNN and Row LSTM for MNIST: those here are ours."
    return Table("mnist", "Binary MNIST (Table 4), nats an image", rows, 150, note)


def _photographs() -> Table:
    sizes = {"layers": "3", "hidden": "36", "head": "72"}
    rows = tuple(
        Row(title, f"photos-{network}", sizes, paper)
        for title, network, paper in (
            ("PixelCNN", "pixelcnn", 3.14),
            ("Row LSTM", "row-lstm", 3.07),
            ("Diagonal BiLSTM", "diagonal-bilstm", 3.00),
        )
    )
    note = "Small networks; the paper's figures are of CIFAR-10 and large ones: only their order compares."
    return Table("photographs", "32 × 32 photographs (after Table 5), bits/dim", rows, 60, note)


def _connections() -> Table:
    base = {"layers": "6", "hidden": "24", "head": "48"}
    rows = tuple(
        Row(title, "photos-row-lstm", {**base, "residual": residual, "skip": skip}, paper)
        for title, residual, skip, paper in (
            ("neither", "false", "false", 3.22),
            ("skip alone", "false", "true", 3.09),
            ("residual alone", "true", "false", 3.07),
            ("residual and skip", "true", "true", 3.06),
        )
    )
    note = "Row LSTM; the paper's figures are of CIFAR-10, 12 layers, validation."
    return Table("connections", "Residual and skip connections, 32 × 32 photographs, bits/dim", rows, 30, note)


def _depth() -> Table:
    base = {"hidden": "24", "head": "48"}
    paper = {1: 3.30, 2: 3.20, 3: 3.17, 6: 3.09}
    rows = tuple(
        Row(f"{layers} layer{'s' * (layers > 1)}", "photos-row-lstm", {"layers": str(layers), **base}, figure)
        for layers, figure in paper.items()
    )
    note = (
        "Row LSTM; in equal time deep networks do fewer steps, with --steps as many; "
        "the paper's figures are of CIFAR-10, validation."
    )
    return Table("depth", "Number of layers, 32 × 32 photographs, bits/dim", rows, 30, note)


def _heads() -> Table:
    base = {"layers": "3", "hidden": "36", "head": "72"}
    rows = tuple(
        Row(title, "photos-row-lstm", {**base, "head_kind": kind}, paper)
        for title, kind, paper in (
            ("softmax", "softmax", 3.06),
            ("discretised logistic mixture", "logistic_mixture", None),
            ("mixture of Gaussian scale mixtures", "gaussian_mixture", 3.22),
        )
    )
    note = "Row LSTM; the last is a density of dequantised values; the paper's figures are of CIFAR-10, validation."
    return Table("heads", "Discrete and continuous distributions, 32 × 32 photographs, bits/dim", rows, 30, note)
