"""The network: one Generative Encoder that tokenizes inputs and denoises latents, and each modality's own parts.

Dimensions: B batch, L registers of the batch, T input tokens, N = L + T, W width, C latent channels, K registers of the
layout. Every modality has its own `Head` (projections of its latents, register positions, condition embedding) and its
`ModalityModules` (tokenizer, decoder); the trunk is shared by all of them and never learns which one it serves
(arXiv 2603.22283, section 3.1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, ConditionSpec, LatentLayout, ModalityModules, Registers, Teacher, Tokens
from unite_mm.model.condition import ConditionEmbedding
from unite_mm.model.latents import FeatureLatents, Standardisation
from unite_mm.model.layers import DecoderBlock, EncoderBlock, HiddenLinear, sincos_table
from unite_mm.model.trunk import Trunk
from unite_mm.utils.sharded import as_in
from unite_mm_schemas.config import LatentConfig, TrunkConfig
from unite_mm_schemas.regime import RegimeConfig, UniteRegime

COMPILED_VARIANTS = 64
"""Variants of one function that torch.compile may keep, by default 8. All blocks share theirs, and need one for every
combination of gradients or none, frozen weights or not, autocast or not, and a mask or none."""


class Head(nn.Module):
    """What the encoder owns for one modality: latents in and out, register positions, condition, latent norm."""

    positions: Tensor

    def __init__(
        self, layout: LatentLayout, spec: ConditionSpec, trunk: TrunkConfig, latent: LatentConfig, normed: bool
    ) -> None:
        super().__init__()
        self.project_in = HiddenLinear(layout.channels, trunk.width)
        self.registers = nn.Parameter(torch.empty(layout.registers, trunk.width))
        self.register_buffer("positions", layout.positions.clone(), persistent=False)
        self.condition = ConditionEmbedding(spec, trunk.width)
        self.project_out = nn.Linear(trunk.width, layout.channels)
        self.norm = nn.LayerNorm(layout.channels, elementwise_affine=latent.affine) if normed else nn.Identity()


class GenerativeEncoder(nn.Module):
    """Trunk and heads: latents of a timestep (and input tokens, or none) -> clean latents.

    Args:
        trunk: size of the transformer.
        latent: the latent norm.
        modules: the modalities' parts, for their layouts and conditions.
        normed: whether what it infers passes the latent norm.
    """

    def __init__(
        self, trunk: TrunkConfig, latent: LatentConfig, modules: Mapping[str, ModalityModules], normed: bool = True
    ) -> None:
        super().__init__()
        self.trunk = Trunk(trunk)
        self.heads = nn.ModuleDict(
            {name: Head(own.layout, own.condition, trunk, latent, normed) for name, own in modules.items()}
        )
        self.initialise(trunk)

    def initialise(self, trunk: TrunkConfig) -> None:
        """Start values: Xavier for matrices, zero for every modulation, so that blocks begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, EncoderBlock):
                nn.init.zeros_(module.modulation.weight)
                with torch.no_grad():
                    module.modulation.bias.view(6, -1)[[2, 5]] = trunk.gate_start
            elif isinstance(module, Trunk):
                nn.init.zeros_(module.final_modulation.weight)
                if module.context is not None:
                    nn.init.normal_(module.context, std=0.02)
            elif isinstance(module, Head):
                if trunk.register_start == "normal":
                    nn.init.normal_(module.registers, std=trunk.register_scale)
                else:
                    table = sincos_table(module.positions, trunk.width)
                    module.registers.data.copy_(trunk.register_scale * table)
                if module.condition.spec.kind != "classes":
                    nn.init.normal_(module.condition.null, std=0.02)

    def forward(
        self,
        modality: str,
        x: Tensor,
        time: Tensor,
        registers: Registers,
        tokens: Tokens | None = None,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        normalise: bool = True,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Infer clean latents: from noise and input tokens (tokenization) or from noisy latents alone (denoising).

        Args:
            modality: whose head to use.
            x: (B, L, C) noise or noisy latents.
            time: (B,) in [0, 1]; 0 is noise.
            registers: which registers each sample uses, (B, L).
            tokens: input tokens, or None when denoising.
            condition: classes (B,), numbers (B, M) or None.
            dropped: (B,) bool, conditions to replace by null.
            normalise: apply the latent norm, if there is one. The flow lives in the normed space; see
                `sampling.latent_norm`.
            states: gets the registers (B, L, W) after every block of the trunk.

        Returns:
            (B, L, C), zero at unused registers.
        """
        head = self.heads[modality]
        assert isinstance(head, Head)
        out = self.infer(modality, x, time, registers, tokens, condition, dropped, states)
        latents: Tensor = head.project_out(out).float()
        if normalise:
            latents = head.norm(latents)
        return latents * registers.mask[:, :, None] if registers.padded else latents

    def infer(
        self,
        modality: str,
        x: Tensor,
        time: Tensor,
        registers: Registers,
        tokens: Tokens | None = None,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """What `forward` projects to latents: the registers (B, L, W) as they leave the trunk; the same arguments."""
        head = self.heads[modality]
        assert isinstance(head, Head)
        batch, count, _ = x.shape
        stream = head.project_in(x) + head.registers[:count]
        positions = head.positions[:count]
        mask = registers.mask if registers.padded else None
        if tokens is not None:
            stream = torch.cat((stream, tokens.values.to(stream.dtype)), dim=1)
            positions = torch.cat((positions, tokens.positions))
            if mask is not None or tokens.mask is not None:
                real = tokens.mask
                if real is None:
                    real = torch.ones(tokens.values.shape[:2], dtype=torch.bool, device=x.device)
                mask = torch.cat((registers.mask, real), dim=1)
        embedded = head.condition(condition, dropped, batch)
        out: Tensor = self.trunk(stream, count, time, embedded, positions, mask, states)
        return out


class Network(nn.Module):
    """Encoder-denoiser and the parts of one or several modalities: tensors in, tensors out.

    It knows no files, plugins or samples; `unite_mm.api.UNITE` stands above it for users, and a training recipe for
    the trainer.

    Args:
        trunk: size of the transformer.
        latent: the latent norm.
        modules: the modalities' parts by name.
        regime: which networks there are, and what space the flow lives in.

    Attributes:
        end_time: timestep at which the flow ends and the decoder sees latents.
        teachers: make the modalities' teachers, where they are needed.
    """

    def __init__(
        self,
        trunk: TrunkConfig,
        latent: LatentConfig,
        modules: Mapping[str, ModalityModules],
        regime: RegimeConfig | None = None,
    ) -> None:
        super().__init__()
        self.regime = regime or UniteRegime()
        self.end_time = self.regime.end_time
        self.teachers: dict[str, Callable[[], Teacher]] = {}
        self._made: dict[str, Teacher] = {}
        self.modality_modules = nn.ModuleDict(modules)
        normed = self.regime.denoiser_norm or not self.regime.features
        self.encoder = GenerativeEncoder(trunk, latent, modules, normed)
        self._sizes = (trunk, latent)
        self.separate_denoiser = None if self.regime.shared_weights else self._new_denoiser()
        self.spaces: nn.ModuleDict | None = None
        self.features: nn.ModuleDict | None = None
        if self.regime.features:
            self.features = nn.ModuleDict({name: FeatureLatents(own.layout.channels) for name, own in modules.items()})
            for own in modules.values():
                own.tokenizer = nn.Identity()  # the teacher takes its place
        if self.regime.standardised:
            self.spaces = nn.ModuleDict({name: Standardisation(own.layout.channels) for name, own in modules.items()})

    @property
    def denoiser(self) -> GenerativeEncoder:
        """The network that denoises: the encoder itself unless the regime separates them."""
        return self.encoder if self.separate_denoiser is None else self.separate_denoiser

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def names(self) -> list[str]:
        """The modalities."""
        return list(self.modality_modules)

    def modules_of(self, modality: str) -> ModalityModules:
        """The parts of the model that belong to a modality."""
        modules = self.modality_modules[modality]
        assert isinstance(modules, ModalityModules)
        return modules

    def teacher(self, modality: str) -> Teacher:
        """The frozen teacher of a modality, which is no part of the network.

        Raises:
            UsageError: there is none.
        """
        if modality not in self._made:
            self._made[modality] = self.teachers[modality]()
        return self._made[modality]

    def tokenize(
        self, modality: str, batch: Batch, noise: Tensor, time: Tensor, states: list[Tensor] | None = None
    ) -> Tensor:
        """Clean latents z0 (B, L, C) of a batch.

        Args:
            modality: whose batch it is.
            batch: the plugin's batch, on the network's device.
            noise: (B, L, C) in the registers.
            time: (B,) near 0.
            states: gets the registers (B, L, W) after every block of the trunk; nothing where a teacher tokenizes.
        """
        if self.features is not None:
            with torch.no_grad():
                features: Tensor = self.features[modality](self.teacher(modality)(batch), batch.registers)
            return features
        tokens = self.modules_of(modality).tokenizer(batch)
        if self.regime.deterministic:
            noise, time = torch.zeros_like(noise), torch.zeros_like(time)
        latents: Tensor = self.encoder(modality, noise, time, batch.registers, tokens=tokens, states=states)
        return latents

    def denoise(
        self,
        modality: str,
        state: Tensor,
        time: Tensor,
        registers: Registers,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        normalise: bool = True,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Clean latents (B, L, C) predicted from noisy ones, both in the space of the flow.

        Arguments as for `GenerativeEncoder.forward`.
        """
        latents: Tensor = self.denoiser(
            modality, state, time, registers, condition=condition, dropped=dropped, normalise=normalise, states=states
        )
        return latents

    def fit_features(self) -> None:
        """Draw the projections of features as latents, where they are, for the teachers at hand.

        Raises:
            UsageError: a teacher is not at hand, or has too few features.
        """
        for name, own in (self.features or {}).items():
            assert isinstance(own, FeatureLatents)
            own.fit(self.teacher(name).width)

    def to_flow(self, modality: str, latents: Tensor, registers: Registers) -> Tensor:
        """Latents (B, L, C) in the space that the flow lives in."""
        space = self.space(modality)
        return latents if space is None else space.to_flow(latents, registers)

    def from_flow(self, modality: str, values: Tensor, registers: Registers) -> Tensor:
        """What the decoder sees of the end of a flow (B, L, C)."""
        space = self.space(modality)
        return values if space is None else space.from_flow(values, registers)

    def space(self, modality: str) -> Standardisation | None:
        """How the space of the flow differs from the latents; None: it does not."""
        if self.spaces is None:
            return None
        space = self.spaces[modality]
        assert isinstance(space, Standardisation)
        return space

    def renew_denoiser(self) -> None:
        """Give a separate denoiser fresh weights, from torch's global generator."""
        assert self.separate_denoiser is not None
        self.separate_denoiser.load_state_dict(as_in(self.separate_denoiser, self._new_denoiser().state_dict()))

    def _new_denoiser(self) -> GenerativeEncoder:
        modules = {name: self.modules_of(name) for name in self.names}
        return GenerativeEncoder(*self._sizes, modules, self.regime.denoiser_norm)

    def decode(self, modality: str, values: Tensor, registers: Registers) -> Any:
        """Decoder output, of the plugin's own type, for latents (B, L, C)."""
        return self.modules_of(modality).decoder(values, registers)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks of encoders and decoders."""
        return [module for module in self.modules() if isinstance(module, EncoderBlock | DecoderBlock)]

    def compile_for_training(self) -> None:
        """Compile every transformer block for any number of samples and tokens, and the losses that gain by it.

        The decoders' blocks are among them. Parameters keep their names. The first passes take a minute or so, and need
        a C++ compiler on a CPU.
        """
        import torch._dynamo.config as dynamo
        import torch._functorch.config as functorch

        functorch.donated_buffer = False  # a graph may be gone through twice, for losses that reach different parts
        dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_VARIANTS)
        for block in self.blocks():
            block.compile(dynamic=True)
        for modality in self.names:
            self.modules_of(modality).compile_losses()
