"""Reading what every block puts out changes nothing, and gives the registers of every block."""

import pytest
import torch
from helpers.toy_models import make_batch, make_model


@pytest.mark.parametrize("context", [0, 2])
def test_states_are_the_registers_after_every_block_of_both_uses(context: int) -> None:
    network = make_model(trunk={"in_context_tokens": context, "in_context_start": 1}).network
    batch = make_batch(4)
    mask = batch.registers.mask
    noise = torch.randn(*mask.shape, 4, generator=torch.Generator().manual_seed(0))
    start, half = torch.zeros(4), torch.full((4,), 0.5)
    plain = network.tokenize("points", batch, noise, start)
    tokenizing: list[torch.Tensor] = []
    denoising: list[torch.Tensor] = []
    tokenized = network.tokenize("points", batch, noise, start, tokenizing)
    denoised = network.denoise("points", tokenized, half, batch.registers, states=denoising)
    assert torch.equal(tokenized, plain)
    assert torch.equal(network.denoise("points", plain, half, batch.registers), denoised)
    shape = (4, plain.shape[1], 32)
    assert [found.shape for found in tokenizing] == [shape] * 3 == [found.shape for found in denoising]
    assert not torch.allclose(tokenizing[-1], denoising[-1])

    # The last block's registers are what the latents are made of.
    head, trunk = network.encoder.heads["points"], network.encoder.trunk
    modulation = torch.nn.functional.silu(trunk.time(half) + head.condition(None, None, 4))
    shift, scale = trunk.final_modulation(modulation)[:, None, :].chunk(2, dim=-1)
    latents = head.norm(head.project_out(trunk.final_norm(denoising[-1]) * (1 + scale) + shift).float())
    assert torch.allclose(latents[mask], denoised[mask], atol=1e-5)


def test_states_keep_the_graph_of_a_pass_that_has_one() -> None:
    network = make_model().network
    batch = make_batch(2, padded=False)
    noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    states: list[torch.Tensor] = []
    network.tokenize("points", batch, noise, torch.zeros(2), states)
    states[0].square().sum().backward()
    first, last = network.encoder.trunk.blocks[0], network.encoder.trunk.blocks[-1]
    assert first.mlp.up.weight.grad is not None and last.mlp.up.weight.grad is None
