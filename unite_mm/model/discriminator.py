"""A discriminator that starts as a trained tokenizer and reads what a decoder makes of its latents.

Dimensions: B batch, L registers of the batch, W width of the trunk.
"""

import copy

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch
from unite_mm.model.network import Head, Network


class Discriminator(nn.Module):
    """Tokenizers and encoder of a network, copied, and a score of every register in the place of its latent.

    Deterministic: registers start from zeros, at t = 0.

    Args:
        network: what is copied; it stays as it is.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        tokenizers = {name: network.modules_of(name).tokenizer for name in network.names}
        self.tokenizers = nn.ModuleDict(copy.deepcopy(tokenizers))
        self.encoder = copy.deepcopy(network.encoder)
        for head in self.encoder.heads.values():
            assert isinstance(head, Head)
            del head.project_out, head.norm  # nothing is projected to latents
        self.scores = nn.ModuleDict({name: nn.Linear(network.encoder.trunk.config.width, 1) for name in network.names})
        self.channels = {name: network.modules_of(name).layout.channels for name in network.names}
        self.requires_grad_(True)

    def take(self, network: Network) -> None:
        """Start from the weights that a network has now."""
        for name, own in self.tokenizers.items():
            own.load_state_dict(network.modules_of(name).tokenizer.state_dict())
        theirs = network.encoder.state_dict()
        self.encoder.load_state_dict({name: theirs[name] for name in self.encoder.state_dict()})

    def forward(self, modality: str, batch: Batch) -> Tensor:
        """Scores (B, L) of a batch, high where a register's part of it looks real; zero at unused registers."""
        mask = batch.registers.mask
        tokens = self.tokenizers[modality](batch)
        start = torch.zeros(*mask.shape, self.channels[modality], device=mask.device)
        time = torch.zeros(len(mask), device=mask.device)
        out = self.encoder.infer(modality, start, time, batch.registers, tokens=tokens)
        scores: Tensor = self.scores[modality](out).squeeze(-1).float()
        return scores * mask
