"""The decoder fine-tune: reconstruction alone, on latents of a trained model whose other parts stay as they are.

Tokenizer and denoiser keep the averaged weights of the trained model, so that latents and generation in latent space
stay the same; what is decoded from them gets nearer to the data. `decoder_gan.py` adds an adversarial loss.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, Statistics
from unite_mm.errors import UniteError, UsageError
from unite_mm.storage.checkpoint import load_state
from unite_mm.storage.pretrained import load_weights
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe
from unite_mm_schemas.recipe import DecoderGanRecipeConfig, DecoderRecipeConfig

FIXED = ("trunk", "latent.affine", "regime")
"""Settings that a fine-tune cannot change: the weights are those of the trained model."""


class DecoderRecipe(Recipe):
    """Trains the decoders of the modalities, and nothing else."""

    def trained(self) -> Iterable[nn.Parameter]:
        for modality in self.network.names:
            yield from self.network.modules_of(modality).decoder.parameters()

    def start(self, statistics: Mapping[str, Statistics]) -> None:
        """From the averaged weights of the trained model.

        Raises:
            UsageError: there is no model, settings that decide its shape were changed, or the data are not of the kind
                that it was trained on.
            UniteError: its files are damaged.
        """
        assert isinstance(self.config.recipe, DecoderRecipeConfig | DecoderGanRecipeConfig)
        folder = Path(self.config.recipe.init)
        where, record, weights = load_weights(folder)
        if missing := sorted(set(self.config.modalities) - set(record.modalities)):
            raise UsageError(f"--init {folder}: that model has no modality {missing[0]!r}", "leave --modality out")
        old, new = record.config.model_dump(), self.config.model_dump()
        for key in FIXED:
            section, _, name = key.partition(".")
            before, now = (found[section][name] if name else found[section] for found in (old, new))
            if before != now:
                raise UsageError(f"{key} cannot change in a decoder fine-tune", f"leave it as it is in {folder}")
        for name, own in statistics.items():
            if json.loads(json.dumps(dict(own))) != record.modalities[name].statistics:
                raise UsageError(
                    f"the {name} data have other statistics than those that {folder} was trained on",
                    "fine-tune on the same data: leave --data out",
                )
        try:
            load_state(self.network, weights, str(where))
        except UniteError as error:
            changed = [
                f"{name}.{key}"
                for name, run in self.config.modalities.items()
                for key, value in run.config.items()
                if record.config.modalities[name].config.get(key) != value
            ]
            if not changed:
                raise
            raise UsageError(
                f"the network of {folder} does not fit {' and '.join(changed)}",
                "a decoder fine-tune keeps its sizes: leave them out",
            ) from error

    @property
    def repeatable(self) -> bool:
        return True

    def backward(
        self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast = nullcontext
    ) -> dict[str, Tensor]:
        """`reconstruction` and every reconstruction term."""
        drawn = noise.reconstruction(self.config, batch.registers.mask.shape[1])
        with autocast():
            with torch.no_grad():
                latents = self.tokenize(modality, batch, drawn)
            reconstruction, terms = self.reconstruction_losses(modality, batch, latents, drawn.view)
        (self.weight(modality) * reconstruction).backward()
        return {"reconstruction": reconstruction.detach(), **terms}

    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """`reconstruction` of latents as a trained model decodes them, and every reconstruction term."""
        return self.validate_reconstruction(modality, batch, noise)[1]
