"""What every model of the package can do: score, sample, complete, save and load.

Shape letters: `B` batch, `C` colours, `K` levels, `P` numbers for a symbol, `H` rows, `W` columns.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pixelrnn.config import ModelConfig, MultiScaleConfig
from pixelrnn.errors import ModelError
from pixelrnn.heads import Head
from pixelrnn.model import hub, store
from pixelrnn.model.initialisation import TooLargeError, unfilled
from pixelrnn.model.names import find_folder
from pixelrnn.model.scale import Scale
from pixelrnn.model.weight_names import version_1_name
from pixelrnn.scanning import sampling
from pixelrnn.scanning.loop import Stage

__all__ = ["ImageModel"]


class ImageModel(nn.Module, ABC):
    """An exact probability of images, and the ways to use it.

    p(x) is a product of the probability of each symbol given those before it, in an order that `stages` tells.
    `forward` computes all factors at once; `pixelrnn.scan` goes through them one at a time. Symbols are integers
    0 … K - 1 everywhere; they are centred and scaled to [-1, 1] once, in `encode`.

    Attributes:
        config: what defines the model.
        provenance: where the weights come from, as JSON can hold it, saved beside them; `height` and `width`, if there,
            are the size of the training images.
    """

    config: ModelConfig | MultiScaleConfig

    def __init__(self) -> None:
        super().__init__()
        self.provenance: dict[str, Any] = {}

    @property
    @abstractmethod
    def scales(self) -> Sequence[Scale]:
        """The networks of the model, from the smallest size."""

    @property
    def head(self) -> Head:
        """How what the networks give is read as distributions."""
        return self.scales[-1].network.head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def stages(self, height: int, width: int) -> tuple[Stage, ...]:
        """The scans that fill in an image of H rows and W columns, one after the other: one for each scale.

        Raises:
            ValueError: images of another size than the model's, or a model that has not all sizes.
        """
        self.config.check_size(height, width)
        self.check_whole()
        spacings = [0, *(scale.spacing for scale in self.scales)]
        return tuple(
            Stage(
                scale.network.start_scan,
                scale.spacing,
                before,
                scale.condition if scale.upsampling is not None else None,
            )
            for scale, before in zip(self.scales, spacings, strict=False)
        )

    def check_whole(self) -> None:
        """Refuse what needs all scales.

        Raises:
            ValueError: this model has one of them alone.
        """

    def encode(self, images: Tensor) -> Tensor:
        """Centre and scale symbols: 0 … K - 1 to -1 … 1, in the dtype of the weights."""
        return self.scales[-1].network.encode(images)

    def outputs(self, encoded: Tensor) -> Tensor:
        """Run the model on encoded images; what is given for a pixel is of the smallest scale that has it.

        Args:
            encoded: (B, C, H, W).

        Returns:
            (B, C·P, H, W), which `head` reads.
        """
        self.check_whole()
        smallest, *others = self.scales
        outputs = smallest.outputs(smallest.of(encoded))
        for scale in others:
            larger = scale.outputs(scale.of(encoded)).clone()
            larger[..., :: scale.factor, :: scale.factor] = outputs
            outputs = larger
        return outputs

    @classmethod
    @abstractmethod
    def from_config(cls, fields: Mapping[str, Any]) -> Self:
        """An untrained model from what `saved_config` gave.

        Raises:
            TypeError, ValueError: it describes no such model.
        """

    def saved_config(self) -> dict[str, Any]:
        """What defines the model, as JSON can hold it."""
        return dataclasses.asdict(self.config)

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
        return self.distributions(self.encode(self._checked(images)))

    def distributions(self, encoded: Tensor) -> Tensor:
        """As `forward`, of encoded images, (B, C, H, W) → (B, C, K, H, W): what gradients can go through."""
        return self.head.logits(self.outputs(encoded), encoded)

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
        terms = self.log_terms(images)
        return terms if per_pixel else terms.flatten(1).sum(1)

    def log_density(self, images: Tensor, noise: Tensor) -> Tensor:
        """Compute the log-density of images that are dequantised by uniform noise (Sec. 5.1), which is what is trained.

        In a level, that of a softmax or of discretised logistics is constant, and equal to `log_prob`. Of a mixture of
        Gaussians it is no more than `log_prob`, on average over the noise.

        Args:
            images: (B, C, H, W) integers 0 … K - 1.
            noise: (B, C, H, W), from 0 to 1: levels are one unit wide.

        Returns:
            (B,) nats.

        Raises:
            TypeError, ValueError: as `forward`; noise of another type, shape or range.
        """
        images = self._checked(images)
        if not isinstance(noise, Tensor) or not noise.is_floating_point():
            what = noise.dtype if isinstance(noise, Tensor) else type(noise).__name__
            raise TypeError(f"noise is {what}: must be a tensor of floats")
        if noise.shape != images.shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}: must be that of images, {tuple(images.shape)}")
        if noise.numel() and not (noise.min() >= 0 and noise.max() <= 1):
            raise ValueError(f"noise is from {float(noise.min())} to {float(noise.max())}: must be from 0 to 1")
        noise = noise.to(images.device, torch.promote_types(noise.dtype, torch.float32))
        return self.log_terms(images, noise).flatten(1).sum(1)

    def check_symbols(self, images: Tensor) -> None:
        """Refuse what are not images (B, C, H, W) of this model's colours and levels, of any size.

        Raises:
            TypeError: not a tensor of integers.
            ValueError: not of that shape, or a symbol out of range.
        """
        self._check_layout(images)
        if images.dtype in (torch.uint16, torch.uint32, torch.uint64):  # which have no order in PyTorch
            images = images.to(torch.int64)
        if images.numel() and not 0 <= int(images.min()) <= int(images.max()) < self.config.levels:
            raise ValueError(
                f"images has symbols {int(images.min())} … {int(images.max())}: must be 0 … {self.config.levels - 1}"
            )

    def log_terms(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-probability of each symbol, or log-density of each that noise is added to.

        Args:
            images: (B, C, H, W) int64 that are known to be right.
            noise: (B, C, H, W), from 0 to 1; None for probabilities.

        Returns:
            (B, C, H, W) nats, of the smallest scale that has the symbol; zero if the model has no such scale.
        """
        terms = list(self.scale_terms(images, noise))
        if len(terms) == 1 and self.scales[0].spacing == 1:
            return terms[0]
        whole = terms[0].new_zeros(images.shape)
        for scale, scale_terms in zip(self.scales, terms, strict=True):
            scale.of(whole).add_(scale_terms)
        return whole

    def scale_terms(self, images: Tensor, noise: Tensor | None = None) -> Iterator[Tensor]:
        """As `log_terms`, of each scale: (B, C, n, n), zero for symbols that the scale before has."""
        for scale in self.scales:
            symbols = scale.of(images)
            encoded = scale.network.encode(symbols)
            read = scale.outputs(encoded), encoded, symbols
            head = scale.network.head
            terms = head.log_prob(*read) if noise is None else head.log_density(*read, scale.of(noise))
            yield terms if scale.upsampling is None else terms.masked_fill(scale.filled(terms), 0)

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
            watch: called after each row with all images so far, and which pixels are filled in, (B, H, W).

        Returns:
            (B, C, H, W) int64 symbols. The same seed gives the same images, however a batch is split.

        Raises:
            ValueError: a negative count, a size below 1 or not known, or a temperature that is not positive.
        """
        height, width = self._size(height, width)
        if count < 0:
            raise ValueError(f"count={count}: must be at least 0")
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

        Exact, from one scan, if the known part comes first (see `completes_exactly`). Otherwise a scan does not see
        the known pixels that are still to come: it is corrected with particles (see `posterior`), and the result tends
        to an exact draw as their number grows. Each image is a draw of its own: repeat it for several completions.

        Args:
            images: (B, C, H, W) integers; what is not known is ignored and may hold anything.
            known: (H, W) or (B, H, W) bool.
            particles: copies of each image, if they are needed; 1 only clamps the known pixels.
            generator: source of all randomness; None is PyTorch's own.
            temperature: logits are divided by it.
            watch: called after each row with all images (or particles) so far, and which pixels are filled in.

        Returns:
            (B, C, H, W) int64 symbols; known pixels are those of `images`.

        Raises:
            TypeError: `images` does not hold integers, or `known` not booleans.
            ValueError: shapes that do not fit, a known symbol out of range, or less than one particle.
        """
        images, known = self._checked_known(images, known, particles)
        if particles == 1 or self.completes_exactly(known):
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

        Sequential Monte Carlo in the order of the model: see `pixelrnn.scanning.particles.posterior`.

        Args:
            images, known, particles, generator, temperature, watch: as of `complete`.

        Returns:
            Particles, their weights, how many of them count, and the log-probability of the known pixels, estimated.

        Raises:
            TypeError, ValueError: as `complete`.
        """
        images, known = self._checked_known(images, known, particles)
        return sampling.posterior(self, images, known, particles, generator, temperature, watch)

    def completes_exactly(self, known: Tensor) -> bool:
        """Whether one scan completes images exactly: none of the known pixels comes after an unknown one.

        Args:
            known: (H, W) or (B, H, W) bool.

        Raises:
            TypeError, ValueError: another type, or shape.
        """
        if not isinstance(known, Tensor) or known.dtype != torch.bool or known.ndim not in (2, 3):
            what = f"{known.dtype} of shape {tuple(known.shape)}" if isinstance(known, Tensor) else type(known).__name__
            raise TypeError(f"known is {what}: must be bool (H, W) or (B, H, W)")
        return sampling.begins_in_order(known, self.stages(*known.shape[-2:]))

    def save(self, path: str | Path) -> None:
        """Write a model folder: `model.safetensors`, and `config.json` for people; see `pixelrnn.load`."""
        store.save(path, self.saved_config(), self.state_dict(), self.provenance)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Load a model of this class; `pixelrnn.load` loads one of any.

        Args:
            name: a folder, the name of a bundled model, or hf:USER/MODEL; see `pixelrnn.load`.

        Raises:
            ModelError: there is no such model, it is of another class, or it is damaged, foreign or newer.
        """
        return cls.from_folder(store.open_folder(find_folder(name)))

    @classmethod
    def from_folder(cls, folder: store.ModelFolder) -> Self:
        """Make the model of a folder that was opened.

        Raises:
            ModelError: as `load`.
        """
        try:
            model = unfilled(lambda: cls.from_config(folder.config), folder.most_weights)
        except TooLargeError as error:
            raise folder.misfit(str(error)) from None
        except (TypeError, ValueError, RuntimeError) as error:  # of PyTorch, where a size overflows
            raise ModelError(f"{folder.source}: the config does not describe a network: {error}") from None
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        weights = folder.weights(shapes, version_1_name if folder.version == 1 else str)
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

        Args:
            save_directory: the folder; made if it does not exist.
            repo_id: its name on the Hub; None is that of the folder.
            push_to_hub: send it.
            model_card_kwargs: metadata of the model card, as `license`; see `huggingface_hub.ModelCardData`.
            options: as of `push_to_hub`.

        Returns:
            The address of the commit on the Hub, or None.
        """
        folder = Path(save_directory)
        hub.save_with_card(self, folder, repo_id or folder.name, model_card_kwargs or {})
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **options)

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        """Send a model folder and a model card to the Hugging Face Hub, in one commit.

        Args:
            repo_id: its name on the Hub, as "user/model"; made if it does not exist.
            model_card_kwargs: metadata of the model card, as `license`; see `huggingface_hub.ModelCardData`.
            options: `private`, `token`, `branch`, and those of `huggingface_hub.HfApi.upload_folder`.

        Returns:
            The address of the commit on the Hub.
        """
        return hub.upload(self, repo_id, model_card_kwargs or {}, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a model as `load` does; a name that is not of a folder or a bundled model is one on the Hub.

        Args:
            pretrained_model_name_or_path: a folder, the name of a bundled model, or a name as "user/model".
            options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` of `huggingface_hub`.

        Raises:
            ModelError: as `load`.
        """
        return cls.from_folder(store.open_folder(find_folder(pretrained_model_name_or_path, ask_hub=True, **options)))

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """The size of images to draw, if only some of it is given."""
        height = self.provenance.get("height") if height is None else height
        width = self.provenance.get("width") if width is None else width
        if height is None or width is None:
            raise ValueError("height and width must be given: this model does not know the size of its training images")
        for name, value in (("height", height), ("width", width)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.config.check_size(height, width)
        return height, width

    def _checked_known(self, images: Tensor, known: Tensor, particles: int) -> tuple[Tensor, Tensor]:
        """Images, zero where they are not known, and the known pixels of each: (B, H, W)."""
        self._check_layout(images)
        self.config.check_size(*images.shape[2:])
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
        self.check_symbols(images)
        self.config.check_size(*images.shape[2:])
        return images.to(self.device, torch.int64)
