"""What the checks look at: one plugin, opened step by step on a few samples with a tiny trunk.

Every step is made when it is first asked for and kept. A step that failed, or that a check has found wrong, blocks all
that build on it: its own check has named the cause, and others would only repeat it less clearly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unite_mm.api import UNITE, Latents
from unite_mm.conformance.opened import OpenedPlugin
from unite_mm.conformance.other_process import start
from unite_mm.conformance.report import calling
from unite_mm.conformance.step import Step
from unite_mm.contract import LossTerm, Tokens
from unite_mm.registry.build import build_network
from unite_mm_schemas.checkpoint import CheckpointRecord, ModalityRecord


class Subject(OpenedPlugin):
    """A plugin under test, with a tiny model and what that computes; takes what `OpenedPlugin` takes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        start()

    @Step
    def model(self) -> UNITE:
        """A tiny model in training mode, its parameters disturbed: parts that begin at zero would hide mistakes."""
        _ = self.modules
        with calling("build_modules()"):
            modalities, statistics = {self.name: self.modality}, {self.name: self.statistics}
            model = UNITE(build_network(self.config, modalities, statistics), self.config, modalities, statistics)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.network.parameters():
                if parameter.is_floating_point():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.network.train()
        return model

    @Step
    def exported(self) -> Path:
        """A folder with the model, written from configuration, statistics and weights alone."""
        model, manifest = self.model, self.plugin.manifest
        modality = ModalityRecord(
            distribution=self.plugin.distribution, contract=manifest.contract, statistics=self.statistics
        )
        modalities = {self.name: modality}
        model.record = CheckpointRecord(kind="export", step=0, config=self.config, modalities=modalities, files={})
        folder = self.scratch / "model"
        model.save_pretrained(folder)
        return folder

    @Step
    def tokens(self) -> Tokens:
        """The input tokens of the batch."""
        return self.tokenize_input(self.batch)

    def tokenize_input(self, batch: Any) -> Tokens:
        """The input tokens of any batch."""
        model = self.model
        with calling("tokenizer()"), torch.no_grad():
            tokens: Tokens = model.modules_of(self.name).tokenizer(batch)
        return tokens

    @Step
    def latents(self) -> Latents:
        """The latents of the batch."""
        batch, _ = self.batch, self.tokens
        with calling("the trunk, on these tokens"):
            return self.model.tokenize(batch, self.name)

    def decode(self, latents: Tensor, batch: Any) -> Any:
        """The decoder's output for latents (B, L, C)."""
        model = self.model
        with calling("decoder()", called="it takes latents (B, L, C) and the registers of the batch"):
            return model.network.decode(self.name, latents, batch.registers)

    def losses(self, output: Any, batch: Any) -> dict[str, LossTerm]:
        """The terms of the reconstruction loss."""
        model = self.model
        with calling("losses()"):
            return model.modules_of(self.name).losses(output, batch)

    @Step
    def output(self) -> Any:
        """The decoder's output for the latents of the batch."""
        return self.decode(self.latents.values.clone().requires_grad_(True), self.batch)

    @Step
    def terms(self) -> dict[str, LossTerm]:
        """The reconstruction losses of the batch."""
        return self.losses(self.output, self.batch)

    @Step
    def outputs(self) -> list[Any]:
        """Reconstructions of the batch as native objects."""
        self.need("output")
        with torch.no_grad():
            output = self.decode(self.latents.values, self.batch)
        return self.natives(output, self.batch.registers)

    @Step
    def unpadded(self) -> bool:
        """Whether padding leaks nowhere: there is nothing to make, its check provides it."""
        return True

    @Step
    def trainable(self) -> bool:
        """Whether all that is trained is registered: there is nothing to make, its check provides it."""
        return True

    @Step
    def marked(self) -> bool:
        """Whether samples can be told their condition: there is nothing to make, its check provides it."""
        return True

    @Step
    def prior(self) -> bool:
        """Whether the prior is sound: there is nothing to make, its check provides it."""
        return True

    @Step
    def written(self) -> bool:
        """Whether samples survive files: there is nothing to make, its check provides it."""
        return True

    @Step
    def generated(self) -> Sequence[Any]:
        """Three generated samples."""
        self.need("prior", "outputs", "marked")
        model = self.model
        with calling("generating samples (prior, decoder, modules.samples)"):
            return model.generate(3, modality=self.name)

    def natives(self, output: Any, registers: Any) -> list[Any]:
        """Native objects of a decoder output."""
        model = self.model
        with calling("modules.samples()"), torch.no_grad():
            return model.modules_of(self.name).samples(output, registers)
