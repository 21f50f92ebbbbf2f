"""Reading what every block puts out changes nothing, and gives the registers of every block."""

import pytest
import torch
from helpers.toy_models import make_batch, make_model

from unite_mm.model.taps import block_taps


@pytest.mark.parametrize("context", [0, 2])
def test_taps_read_every_block_of_both_uses(context: int) -> None:
    model = make_model(trunk={"in_context_tokens": context, "in_context_start": 1})
    network, batch = model.network, make_batch(4)
    plain = model.tokenize(batch)
    time = torch.full((4,), 0.5)
    with block_taps(network.encoder) as taps:
        tokenized = model.tokenize(batch)
        while_tokenizing = taps.registers
        denoised = model.denoise(tokenized, time)
        while_denoising = taps.registers
    assert torch.equal(tokenized.values, plain.values)
    assert torch.equal(model.denoise(plain, time).values, denoised.values)
    shape = (4, plain.values.shape[1], 32)
    assert [found.shape for found in while_tokenizing] == [shape] * 3 == [found.shape for found in while_denoising]
    assert not torch.allclose(while_tokenizing[-1], while_denoising[-1])
    assert taps.registers is while_denoising  # nothing is recorded once the context is closed

    # The last block's registers are what the latents are made of.
    head, trunk = network.encoder.heads["points"], network.encoder.trunk
    modulation = torch.nn.functional.silu(trunk.time(time) + head.condition(None, None, 4))
    shift, scale = trunk.final_modulation(modulation)[:, None, :].chunk(2, dim=-1)
    latents = head.norm(head.project_out(trunk.final_norm(while_denoising[-1]) * (1 + scale) + shift).float())
    mask = plain.registers.mask
    assert torch.allclose(latents[mask], denoised.values[mask], atol=1e-5)


def test_taps_keep_the_graph_of_a_pass_that_has_one() -> None:
    model = make_model()
    batch = make_batch(2, padded=False)
    noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    with block_taps(model.network.encoder) as taps:
        model.network.tokenize("points", batch, noise, torch.zeros(2))
    taps.registers[0].square().sum().backward()
    first, last = model.network.encoder.trunk.blocks[0], model.network.encoder.trunk.blocks[-1]
    assert first.mlp.up.weight.grad is not None and last.mlp.up.weight.grad is None
