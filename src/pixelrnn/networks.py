"""The networks of Table 1: PixelCNN, Row LSTM and Diagonal BiLSTM, from one builder.

Shape letters: `B` batch, `C` colours, `K` levels, `F` features, `h` features of a layer, `H` rows, `W` columns,
`N` positions visited together.
"""

import dataclasses
from pathlib import Path
from typing import Any, Self, final

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from pixelrnn import kernels, sampling, store
from pixelrnn.config import ModelConfig
from pixelrnn.layers import (
    Apply,
    Block,
    Bottleneck,
    Cache,
    Composite,
    DiagonalBiLSTM,
    Layer,
    MaskedConv2d,
    RowLSTM,
    gather_taps,
)
from pixelrnn.likelihood import log_likelihood, logits_from_outputs, outputs_per_colour
from pixelrnn.masks import colour_groups
from pixelrnn.native_scan import NativeScan, profitable_slope, record
from pixelrnn.scan import Scan, Steps

__all__ = ["PixelRNN", "Trunk"]


@final
class Trunk(Composite):
    """All that follows the first convolution: blocks, skip connections and output layers, (B, 2h, …) → (B, C·K, …).

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Sec. 3.3, Table 1.

    The output layers are two of ReLU and 1 × 1 convolution, and (ours) one more to the logits.
    """

    joins_only = True

    def __init__(self, config: ModelConfig) -> None:
        wide = colour_groups(2 * config.hidden, config.colours)
        head = colour_groups(config.head, config.colours)
        out = torch.arange(config.colours).repeat_interleave(outputs_per_colour(config.levels))
        parts: dict[str, Layer] = {}
        for number in range(config.layers):
            parts[f"block{number}"] = Block(
                _core(config),
                config.hidden,
                config.colours,
                residual=config.residual,
                rectify=config.network == "pixelcnn",
            )
        if config.skip:
            for number in range(config.layers):
                parts[f"skip{number}"] = MaskedConv2d("B", (1, 1), wide, wide)
        parts["head0"] = MaskedConv2d("B", (1, 1), wide, head)
        parts["head1"] = MaskedConv2d("B", (1, 1), head, head)
        parts["logits"] = MaskedConv2d("B", (1, 1), head, out)
        super().__init__(parts)
        self.layers, self.skip = config.layers, config.skip

    def compose(self, apply: Apply, x: Tensor) -> Tensor:
        """Join the parts."""
        skips = None
        for number in range(self.layers):
            x = apply(f"block{number}", x)
            if self.skip:
                x, skips = apply.beside(f"skip{number}", x, onto=skips)
        if skips is not None:
            x = x + skips
        for name in ("head0", "head1", "logits"):
            x = apply(name, x, rectify=True)
        return x


def _core(config: ModelConfig) -> Layer:
    match config.network:
        case "pixelcnn":
            return Bottleneck(config.hidden, config.colours, config.kernel)
        case "row_lstm":
            return RowLSTM(
                colour_groups(2 * config.hidden, config.colours), config.hidden, config.colours, config.kernel
            )
        case "diagonal_bilstm":
            return DiagonalBiLSTM(colour_groups(2 * config.hidden, config.colours), config.hidden, config.colours)


@final
class PixelRNN(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="pixelrnn",
    tags=["pixelrnn"],
    license="mit",
    paper_url="https://arxiv.org/abs/1601.06759",
):
    """An exact probability of images, and the ways to use it.

    Reference: Pixel Recurrent Neural Networks (2016), arXiv:1601.06759, Eq. 1 and 2, Table 1.

    p(x) is the product, over pixels in raster order and the colours of each, of the probability of a symbol given all
    symbols before it. `forward` computes all factors at once; `scan` goes through them one at a time. Symbols are
    integers 0 … K - 1 everywhere; they are centred and scaled to [-1, 1] once, in `encode`.

    Example:
        >>> import torch, pixelrnn
        >>> model = pixelrnn.PixelRNN(pixelrnn.ModelConfig(network="row_lstm", layers=1, hidden=4, head=8))
        >>> images = model.sample(2, height=4, width=5, generator=torch.Generator().manual_seed(0))
        >>> model.log_prob(images).shape
        torch.Size([2])

    Attributes:
        config: what defines the network.
        provenance: where the weights come from, as JSON can hold it, saved beside them; `height` and `width`, if there,
            are the size of the training images.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config is a {type(config).__name__}: must be a ModelConfig (a recipe's is recipe.model)")
        self.config = config
        self.provenance: dict[str, Any] = {}
        kernel = (config.first_kernel, config.first_kernel)
        wide = colour_groups(2 * config.hidden, config.colours)
        self.first = MaskedConv2d("A", kernel, torch.arange(config.colours), wide)
        self.trunk = Trunk(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.first.weight.device

    @property
    def wave_slope(self) -> int | None:
        """Positions with equal col + slope · row do not depend on each other; None for the Diagonal BiLSTM."""
        if self.first.slope is None or self.trunk.slope is None:
            return None
        return max(self.first.slope, self.trunk.slope)

    def encode(self, images: Tensor) -> Tensor:
        """Centre and scale symbols: 0 … K - 1 to -1 … 1, in the dtype of the weights."""
        return images.to(self.first.weight.dtype) * (2 / (self.config.levels - 1)) - 1

    def outputs(self, encoded: Tensor) -> Tensor:
        """Run the network on encoded images: (B, C, H, W) → (B, C·K, H, W), or (B, C, H, W) for two levels."""
        outputs: Tensor = self.trunk(self.first(encoded))
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """Compute the distributions of all symbols, each given the symbols before it.

        Args:
            images: (B, C, H, W) integers 0 … K - 1.

        Returns:
            (B, C, K, H, W), log-probabilities up to a constant for each symbol.

        Raises:
            TypeError: not a tensor of integers.
            ValueError: not of that shape, or a symbol out of range.
        """
        return logits_from_outputs(self.outputs(self.encode(self._checked(images))), self.config.colours)

    def log_prob(self, images: Tensor, *, per_pixel: bool = False) -> Tensor:
        """Compute the exact log-probability of images (Eq. 1).

        Args:
            images: (B, C, H, W) integers 0 … K - 1.
            per_pixel: give the term of each symbol instead of their sum.

        Returns:
            (B,), or (B, C, H, W) if `per_pixel`: nats.

        Raises:
            TypeError, ValueError: as `forward`.
        """
        images = self._checked(images)
        terms = log_likelihood(self.outputs(self.encode(images)), images)
        return terms if per_pixel else terms.flatten(1).sum(1)

    def sample(
        self,
        count: int,
        *,
        height: int | None = None,
        width: int | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        watch: sampling.Watch | None = None,
    ) -> Tensor:
        """Draw images from the model, exactly (for temperature 1).

        Args:
            count: B.
            height: H; None for that of the training images.
            width: W; None for that of the training images.
            generator: source of all randomness; None is PyTorch's own.
            temperature: logits are divided by it: below 1 is more likely and less varied.
            watch: called after each row with all images so far, (B, C, H, W), and the rows done of each, (B,).

        Returns:
            (B, C, H, W) int64 symbols. The same seed gives the same images, however a batch is split.

        Raises:
            ValueError: a negative count, a size below 1 or not known, or a temperature that is not positive.
        """
        height = self.provenance.get("height") if height is None else height
        width = self.provenance.get("width") if width is None else width
        if height is None or width is None:
            raise ValueError("height and width must be given: this model does not know the size of its training images")
        for name, value, low in (("count", count, 0), ("height", height, 1), ("width", width, 1)):
            if value < low:
                raise ValueError(f"{name}={value}: must be at least {low}")
        shape = (count, self.config.colours, height, width)
        return sampling.sample(self, shape, self.device, generator, temperature, watch)

    def complete(
        self,
        images: Tensor,
        known: Tensor,
        *,
        particles: int = 64,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        watch: sampling.Watch | None = None,
    ) -> Tensor:
        """Draw the unknown part of images, given the known one.

        Exact, from one scan, if the known part comes first in raster order. Otherwise a scan does not see the known
        pixels that are still to come: it is corrected with particles (see `posterior`), and the result tends to an
        exact draw as their number grows. Each image is a draw of its own: repeat it for several completions.

        Args:
            images: (B, C, H, W) integers; what is not known is ignored and may hold anything.
            known: (H, W) or (B, H, W) bool.
            particles: copies of each image, if they are needed; 1 only clamps the known pixels.
            generator: source of all randomness; None is PyTorch's own.
            temperature: logits are divided by it.
            watch: called after each row with all images (or particles) so far, and the rows done of each.

        Returns:
            (B, C, H, W) int64 symbols; known pixels are those of `images`.

        Raises:
            TypeError: `images` does not hold integers, or `known` not booleans.
            ValueError: shapes that do not fit, a known symbol out of range, or less than one particle.
        """
        images, known = self._checked_known(images, known, particles)
        if particles == 1 or sampling.begins_in_raster_order(known):
            return sampling.complete(self, images, known, generator, temperature, watch)
        found = sampling.posterior(self, images, known, particles, generator, temperature, watch)
        return found.draw(generator)

    def posterior(
        self,
        images: Tensor,
        known: Tensor,
        *,
        particles: int = 64,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        watch: sampling.Watch | None = None,
    ) -> sampling.Posterior:
        """Approximate the distribution of the unknown part of images, given the known one, by weighted particles.

        Sequential Monte Carlo along the raster: see `pixelrnn.sampling.posterior`.

        Args:
            images, known, particles, generator, temperature, watch: as of `complete`.

        Returns:
            Particles, their weights, how many of them count, and the log-probability of the known pixels, estimated.

        Raises:
            TypeError, ValueError: as `complete`.
        """
        images, known = self._checked_known(images, known, particles)
        return sampling.posterior(self, images, known, particles, generator, temperature, watch)

    def start_scan(self, height: int, width: int, batch: int = 1) -> Scan:
        """Steps for images of H rows and W columns: in C++ for float32 on the CPU, elsewhere in PyTorch.

        Args:
            height: H.
            width: W.
            batch: images at a time, about; of many, the steps in C++ visit positions one by one, which is then faster.
        """
        size = (self.config.colours, height, width)
        if kernels.chosen(self.first.weight.dtype, self.device) == "reference":
            return Steps(self, *size, self.wave_slope)
        program = record(self.first, self.trunk)
        slope = profitable_slope(program, self.wave_slope, height, width, batch)
        return NativeScan(program, self.config.levels, *size, slope)

    def init_cache(self, batch: int, colours: int, height: int, width: int) -> Cache:
        """Make the state of a scan before the first position (the contract of `scan`)."""
        if colours != self.config.colours:
            raise ValueError(f"colours={colours}: this model has {self.config.colours}")
        return self.trunk.init_cache(batch, height, width)

    def step(self, cache: Cache, images: Tensor, rows: Tensor, cols: Tensor, colour: int) -> Tensor:
        """Compute the distribution of one colour at some positions.

        The first convolution reads what it needs from the images themselves, so that nothing has to be told when a
        symbol is chosen.

        Args:
            cache: see `init_cache`.
            images: (B, C, H, W) integers, right in all symbols before these.
            rows: (N,) int64.
            cols: (N,) int64.
            colour: 0 … C - 1.

        Returns:
            (B, K, N), log-probabilities up to a constant.
        """
        taps, inside = gather_taps(images, rows, cols, self.first.offsets)
        outputs = self.trunk.step(cache, self.first.apply_taps(self.encode(taps) * inside), rows, cols)
        return logits_from_outputs(outputs, self.config.colours)[:, colour]

    def finish_row(self, cache: Cache, row: int) -> None:
        """Do what can be done only when a row is complete (the contract of `scan`)."""
        self.trunk.finish_row(cache, row)

    def save(self, path: str | Path) -> None:
        """Write a model folder: `config.json` and `model.safetensors`; see `pixelrnn.load`."""
        store.save(path, dataclasses.asdict(self.config), self.state_dict(), self.provenance)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model folder.

        Raises:
            ModelError: not a model folder, or a damaged, foreign or newer one.
        """
        folder = store.open_folder(path)
        try:
            config = ModelConfig(**folder.config)
        except (TypeError, ValueError) as error:
            raise store.ModelError(f"{path}: config.json does not describe a network: {error}") from None
        with torch.device("meta"):
            shapes = {name: tuple(value.shape) for name, value in cls(config).state_dict().items()}
        weights = folder.weights(shapes)
        with torch.random.fork_rng():
            model = cls(config)
        model.load_state_dict(weights, strict=True)
        model.provenance = folder.provenance
        return model

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str | None:
        """Write a model folder and a model card; `push_to_hub` also sends it to the Hugging Face Hub.

        Unlike that of `huggingface_hub`, this never removes what is there before the new is written.

        Args:
            save_directory: the folder; made if it does not exist.
            repo_id: its name on the Hub; None is that of the folder.
            push_to_hub: send it.
            model_card_kwargs: for the template of the model card.
            options: as of `push_to_hub`.

        Returns:
            The address of the commit on the Hub, or None.
        """
        folder = Path(save_directory)
        self.save(folder)
        if not (folder / "README.md").exists():
            self.generate_model_card(**(model_card_kwargs or {})).save(folder / "README.md")
        if not push_to_hub:
            return None
        return str(self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **options))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Read a model folder, or fetch one from the Hugging Face Hub.

        Args:
            pretrained_model_name_or_path: a folder, or a name as "user/model".
            options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` of `huggingface_hub`.

        Raises:
            ModelError: as `load`.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            return cls.load(pretrained_model_name_or_path)
        return cls.load(store.download(str(pretrained_model_name_or_path), **options))

    def _checked_known(self, images: Tensor, known: Tensor, particles: int) -> tuple[Tensor, Tensor]:
        """Images, zero where they are not known, and the known pixels of each: (B, H, W)."""
        self._check_layout(images)
        if isinstance(particles, bool) or not isinstance(particles, int) or particles < 1:
            raise ValueError(f"particles={particles}: must be a whole number, at least 1")
        if not isinstance(known, Tensor):
            raise TypeError(f"known is a {type(known).__name__}: must be a tensor of booleans")
        known = known.to(self.device).expand(len(images), -1, -1) if known.ndim == 2 else known.to(self.device)
        if known.dtype != torch.bool:
            raise TypeError(f"known has dtype {known.dtype}: must be bool")
        if known.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"known has shape {tuple(known.shape)}: must be (H, W) or (B, H, W) of images {tuple(images.shape)}"
            )
        return self._checked(torch.where(known[:, None], images.to(self.device), 0)), known

    def _check_layout(self, images: Tensor) -> None:
        colours = self.config.colours
        if not isinstance(images, Tensor):
            raise TypeError(f"images is a {type(images).__name__}: must be a tensor (torch.from_numpy makes one)")
        if images.is_floating_point() or images.is_complex() or images.dtype == torch.bool:
            raise TypeError(f"images has dtype {images.dtype}: must be integers 0 … {self.config.levels - 1}")
        if images.ndim != 4 or images.shape[1] != colours or 0 in images.shape[2:]:
            raise ValueError(
                f"images has shape {tuple(images.shape)}: must be (B, {colours}, H, W), batch, colours, rows, columns"
            )

    def _checked(self, images: Tensor) -> Tensor:
        self._check_layout(images)
        images = images.to(self.device, torch.int64)
        if images.numel() and not 0 <= int(images.min()) <= int(images.max()) < self.config.levels:
            raise ValueError(
                f"images has symbols {int(images.min())} … {int(images.max())}: must be 0 … {self.config.levels - 1}"
            )
        return images
