"""A plain reading of the official image model, straight from its tensors by their official names; tests only.

Written from METHOD and the description of the official code, without any of our layers, so that the importer and the
model are checked against something else than themselves. Slow and for inference.

Run as a program, it writes tests/data/official-golden.safetensors.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.repository import ROOT

GOLDEN = ROOT / "tests" / "data" / "official-golden.safetensors"


@dataclass(frozen=True)
class Case:
    """Sizes of a model, in the order of the official configuration."""

    width: int = 24
    depth: int = 3
    heads: int = 2
    qk_norm: bool = True
    channels: int = 5
    side: int = 4
    patch: int = 4
    classes: int = 3
    context: int = 2
    start: int = 1
    features: int = 8
    input_width: int = 20
    decoder_width: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 2
    decoder_hidden: int = 40


def make_state(case: Case, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, none of them at a value that would hide a mistake, under the official names."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def add(name: str, *shape: int, scale: float | None = None, around: float = 0.0) -> None:
        scale = scale if scale is not None else 1 / math.sqrt(math.prod(shape[1:]) or 1)
        state[name] = around + scale * torch.randn(shape, generator=generator)

    def linear(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out, scale=0.1)

    def norm(name: str, width: int, bias: bool = True) -> None:
        add(f"{name}.weight", width, scale=0.1, around=1.0)
        if bias:
            add(f"{name}.bias", width, scale=0.1)

    w, d, n = case.width, case.decoder_width, case.side**2
    hidden = int(2 / 3 * 4 * w)
    add("latent_tokens", 1, n, w, scale=0.7)
    state["patch_embed.position_embeddings"] = torch.zeros(1, n + 1, w)
    add("patch_embed.patch_embeddings.projection.weight", w, 3, case.patch, case.patch)
    add("patch_embed.patch_embeddings.projection.bias", w, scale=0.1)
    add("encoder.pos_embed", 1, n, w)
    linear("encoder.up_sample", w, case.channels)
    add("encoder.t_embedder.W", case.features, scale=1.0)
    add("encoder.t_embedder.special_time_emb", w, scale=0.02)
    linear("encoder.t_embedder.mlp.0", w, 2 * case.features)
    linear("encoder.t_embedder.mlp.2", w, w)
    add("encoder.y_embedder.embedding_table.weight", case.classes + 2, w, scale=0.3)
    if case.context:
        add("encoder.in_context_posemb", 1, case.context, w, scale=0.3)
    for i in range(case.depth):
        block = f"encoder.blocks.{i}"
        for number in (1, 2, 3):
            norm(f"{block}.norm{number}", w, bias=False)
        linear(f"{block}.attn.qkv", 3 * w, w)
        if case.qk_norm:
            norm(f"{block}.attn.q_norm", w // case.heads, bias=False)
            norm(f"{block}.attn.k_norm", w // case.heads, bias=False)
        linear(f"{block}.attn.proj", w, w)
        linear(f"{block}.mlp.w12", 2 * hidden, w)
        linear(f"{block}.mlp.w3", w, hidden)
        linear(f"{block}.adaLN_modulation.1", 6 * w, w)
    norm("encoder.final_layer.norm_final", w, bias=False)
    linear("encoder.final_layer.adaLN_modulation.1", 2 * w, w)
    linear("encoder.final_layer.linear", case.channels, w)
    norm("encoder_layer_norm", case.channels)
    linear("up_sample_decoder", case.input_width, case.channels)
    linear("decoder.decoder_embed", d, case.input_width)
    add("decoder.trainable_cls_token", d, scale=0.5)
    state["decoder.decoder_pos_embed"] = torch.cat((torch.zeros(1, d), places(case.side, d)))[None]
    for i in range(case.decoder_depth):
        layer = f"decoder.decoder_layers.{i}"
        norm(f"{layer}.layernorm_before", d)
        norm(f"{layer}.layernorm_after", d)
        linear(f"{layer}.qkv", 3 * d, d)
        linear(f"{layer}.attn_proj", d, d)
        linear(f"{layer}.ffn_up", case.decoder_hidden, d)
        linear(f"{layer}.ffn_down", d, case.decoder_hidden)
    norm("decoder.decoder_norm", d)
    linear("decoder.decoder_pred", 3 * case.patch**2, d)
    return state


def places(side: int, width: int) -> Tensor:
    """Fixed positions of the decoder: the first half of the channels follows the column, the second the row."""
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows = []
    for row in range(side):
        for column in range(side):
            parts = [f(place * frequencies) for place in (column, row) for f in (torch.sin, torch.cos)]
            rows.append(torch.cat(parts))
    return torch.stack(rows).float()


class Plain:
    """The official model as functions of its tensors."""

    def __init__(self, state: dict[str, Tensor], case: Case) -> None:
        self.state, self.case = state, case
        self.tokens = case.side**2

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def rms(self, name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.state[f"{name}.weight"]

    def layer_norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Interleaved pairs: channels 2 i and 2 i + 1 of each head share a frequency."""
        width = x.shape[-1]
        frequencies = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = positions[:, None].double() * frequencies
        cosine, sine = angles.cos().float(), angles.sin().float()
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)

    def attention(self, qkv: Tensor, heads: int, norm: str | None, positions: Tensor | None) -> Tensor:
        outputs = []
        q, k, v = qkv.chunk(3, dim=-1)
        for q1, k1, v1 in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
            if norm is not None:
                q1, k1 = self.rms(f"{norm}.q_norm", q1), self.rms(f"{norm}.k_norm", k1)
            if positions is not None:
                q1, k1 = self.rotate(q1, positions), self.rotate(k1, positions)
            weights = (q1 @ k1.transpose(-1, -2) / math.sqrt(q1.shape[-1])).softmax(-1)
            outputs.append(weights @ v1)
        return torch.cat(outputs, dim=-1)

    def encode_raw(self, x: Tensor, time: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """The encoder without the latent norm; labels equal to the number of classes are the null ones."""
        s, case = self.state, self.case
        stream = self.linear("encoder.up_sample", x) + s["latent_tokens"]
        if images is not None:
            name = "patch_embed.patch_embeddings.projection"
            patches = F.unfold(images, case.patch, stride=case.patch).transpose(1, 2)
            tokens = patches @ s[f"{name}.weight"].flatten(1).T + s[f"{name}.bias"]
            stream = torch.cat((stream, tokens + s["patch_embed.position_embeddings"][:, 1:]), dim=1)
        angles = 2 * math.pi * time[:, None] * s["encoder.t_embedder.W"]
        embedded = self.linear("encoder.t_embedder.mlp.0", torch.cat((angles.sin(), angles.cos()), dim=-1))
        label = s["encoder.y_embedder.embedding_table.weight"][labels]
        condition = F.silu(self.linear("encoder.t_embedder.mlp.2", F.silu(embedded)) + label)
        positions = torch.arange(stream.shape[1])
        for i in range(case.depth):
            if case.context and i == case.start:
                context = label[:, None, :] + s["encoder.in_context_posemb"]
                stream = torch.cat((context, stream), dim=1)
                positions = torch.cat((torch.zeros(case.context, dtype=torch.long), positions))
            stream = self.block(f"encoder.blocks.{i}", stream, condition, positions)
        stream = stream[:, case.context :][:, : self.tokens]
        shift, scale = self.linear("encoder.final_layer.adaLN_modulation.1", condition)[:, None].chunk(2, dim=-1)
        normed = self.rms("encoder.final_layer.norm_final", stream)
        return self.linear("encoder.final_layer.linear", normed * (1 + scale) + shift)

    def block(self, name: str, x: Tensor, condition: Tensor, positions: Tensor) -> Tensor:
        parts = self.linear(f"{name}.adaLN_modulation.1", condition)[:, None].chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        qkv = self.linear(f"{name}.attn.qkv", self.rms(f"{name}.norm1", x) * (1 + scale_a) + shift_a)
        norm = f"{name}.attn" if self.case.qk_norm else None
        x = x + gate_a * self.linear(f"{name}.attn.proj", self.attention(qkv, self.case.heads, norm, positions))
        u, w = self.linear(f"{name}.mlp.w12", self.rms(f"{name}.norm2", x) * (1 + scale_m) + shift_m).chunk(2, dim=-1)
        x = x + gate_m * self.linear(f"{name}.mlp.w3", F.silu(u) * w)
        return self.rms(f"{name}.norm3", x)

    def encode(self, *arguments: Tensor) -> Tensor:
        return self.layer_norm("encoder_layer_norm", self.encode_raw(*arguments), 1e-5)

    def decode(self, z: Tensor) -> Tensor:
        s, case = self.state, self.case
        x = self.linear("decoder.decoder_embed", self.linear("up_sample_decoder", z))
        x = torch.cat((s["decoder.trainable_cls_token"].expand(len(x), 1, -1), x), dim=1)
        x = x + s["decoder.decoder_pos_embed"]
        for i in range(case.decoder_depth):
            name = f"decoder.decoder_layers.{i}"
            qkv = self.linear(f"{name}.qkv", self.layer_norm(f"{name}.layernorm_before", x, 1e-12))
            x = x + self.linear(f"{name}.attn_proj", self.attention(qkv, case.decoder_heads, None, None))
            up = self.linear(f"{name}.ffn_up", self.layer_norm(f"{name}.layernorm_after", x, 1e-12))
            x = x + self.linear(f"{name}.ffn_down", up * 0.5 * (1 + torch.erf(up / math.sqrt(2))))
        patches = self.linear("decoder.decoder_pred", self.layer_norm("decoder.decoder_norm", x, 1e-12))[:, 1:]
        images = torch.empty(len(z), 3, case.side * case.patch, case.side * case.patch)
        for index in range(self.tokens):
            row, column = divmod(index, case.side)
            patch = patches[:, index].view(-1, case.patch, case.patch, 3).permute(0, 3, 1, 2)
            top, left = row * case.patch, column * case.patch
            images[:, :, top : top + case.patch, left : left + case.patch] = patch
        return images

    def velocity(self, x: Tensor, time: float, labels: Tensor, scale: float) -> Tensor:
        """Guided drift in the interval (0.1, 1), both predictions normed."""
        times = torch.full((len(x),), time)
        prediction = self.encode(x, times, labels)
        if scale != 1.0 and 0.1 < time < 1.0:
            null = self.encode(x, times, torch.full_like(labels, self.case.classes))
            prediction = null + scale * (prediction - null)
        return (prediction - x) / max(1 - time, 0.05)

    def euler(self, noise: Tensor, labels: Tensor, scale: float, steps: int, shift: float) -> Tensor:
        times = [shift * t / (1 + (shift - 1) * t) for t in (i / steps for i in range(steps + 1))]
        x = noise
        for begin, end in pairwise(times):
            x = x + (end - begin) * self.velocity(x, begin, labels, scale)
        return x


@torch.no_grad()
def results(case: Case, state: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Inputs `in.*` and results `out.*` of a model for two images."""
    generator = torch.Generator().manual_seed(seed)
    size = case.side * case.patch
    latents = (2, case.side**2, case.channels)
    found = {
        "in.images": torch.rand(2, 3, size, size, generator=generator),
        "in.registers": torch.randn(latents, generator=generator),
        "in.noise": torch.randn(latents, generator=generator),
        "in.labels": torch.tensor([0, case.classes - 1]),
        "in.times": torch.tensor([0.004, 0.009]),
    }
    plain = Plain(state, case)
    null = torch.full((2,), case.classes)
    z = plain.encode(found["in.registers"], found["in.times"], null, found["in.images"])
    found["out.z"] = z
    found["out.image"] = plain.decode(z)
    found["out.denoised"] = plain.encode(found["in.noise"], torch.tensor([0.3, 0.8]), found["in.labels"])
    for name, scale in (("guided", 2.5), ("unguided", 1.0)):
        found[f"out.{name}"] = plain.euler(found["in.noise"], found["in.labels"], scale, 9, 0.5)
    return found


def main() -> None:
    """Write the golden file."""
    from safetensors.torch import save_file

    case = Case()
    state = make_state(case)
    GOLDEN.parent.mkdir(exist_ok=True)
    tensors = {f"state.{name}": value for name, value in state.items()} | results(case, state)
    save_file({name: value.contiguous() for name, value in tensors.items()}, GOLDEN)


if __name__ == "__main__":
    main()
