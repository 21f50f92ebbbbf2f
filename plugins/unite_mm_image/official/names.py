"""The official image model's tensors and ours: sizes read from shapes, names and shapes expected, values translated.

Only two things differ in more than the name. The official rotary embedding turns the channels (2 i, 2 i + 1) of a head,
ours (i, i + D / 2): the rows of queries and keys are reordered once, and the result is the same to the last bit of the
arithmetic. The official table of classes has a last row that nothing reads.

Dimensions: W width of the encoder, H its heads, D = W / H, C latent channels, K registers, n classes, p pixels of a
patch.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unite_mm.errors import UsageError
from unite_mm.kit.layers import rotary_table
from unite_mm_image.official.file import listed

ROPE_BASE = 10_000.0
Shape = tuple[int, ...]

UNUSED = re.compile(
    r"encoder\.(pos_embed|t_embedder\.special_time_emb|feat_rope(_incontext)?\.freqs_(cos|sin))"
    r"|patch_embed\.position_embeddings"
)
"""Tensors of the official model that change no output; they may be there or not."""

_SIZES: dict[str, int] = {
    "latent_tokens": 3,
    "encoder.up_sample.weight": 2,
    "encoder.y_embedder.embedding_table.weight": 2,
    "encoder.t_embedder.W": 1,
    "patch_embed.patch_embeddings.projection.weight": 4,
    "up_sample_decoder.weight": 2,
    "decoder.decoder_embed.weight": 2,
    "decoder.decoder_layers.0.ffn_up.weight": 2,
}
"""Tensors whose shapes tell the sizes, with their numbers of dimensions."""


@dataclass(frozen=True)
class Sizes:
    """What shapes tell of an official model.

    Attributes:
        width, depth: of the encoder.
        head_width: D, where something tells it; else None.
        qk_norm: whether queries and keys are normalised.
        channels: C.
        registers: K, one for each patch.
        classes: n.
        context: in-context tokens; 0: none.
        time_features: random frequencies of the time embedding.
        patch: p.
        colours: 3 or 1.
        input_width: between the two linear layers that lead into the decoder.
        decoder_width, decoder_depth, decoder_hidden: of the decoder.
    """

    width: int
    depth: int
    head_width: int | None
    qk_norm: bool
    channels: int
    registers: int
    classes: int
    context: int
    time_features: int
    patch: int
    colours: int
    input_width: int
    decoder_width: int
    decoder_depth: int
    decoder_hidden: int

    @property
    def heads(self) -> int | None:
        """H, where something tells it."""
        return None if not self.head_width else max(1, self.width // self.head_width)

    @property
    def side(self) -> int:
        """Patches on a side."""
        return math.isqrt(self.registers)


def read_sizes(tensors: Mapping[str, Tensor]) -> Sizes:
    """The sizes of the model that the tensors belong to.

    Raises:
        UsageError: tensors are missing or have impossible shapes; the message names them.
    """
    missing = [name for name in _SIZES if name not in tensors]
    if missing:
        raise UsageError(f"tensors are missing: {listed(missing)}", "give a checkpoint of the UNITE image model")
    shapes = {name: tuple(tensors[name].shape) for name in _SIZES}
    wrong = [f"{name} {shape}" for name, shape in shapes.items() if len(shape) != _SIZES[name] or 0 in shape]
    if wrong:
        raise UsageError(
            f"tensors have impossible shapes: {listed(wrong)}", "give a checkpoint of the UNITE image model"
        )
    width, channels = shapes["encoder.up_sample.weight"]
    registers = shapes["latent_tokens"][1]
    if math.isqrt(registers) ** 2 != registers:
        raise UsageError(f"latent_tokens holds {registers} registers, which form no square grid")
    _, colours, patch, _ = shapes["patch_embed.patch_embeddings.projection.weight"]
    if colours not in (1, 3):
        raise UsageError(f"the patches have {colours} colour channels", "grey (1) and RGB (3) are known")
    rows = shapes["encoder.y_embedder.embedding_table.weight"][0]
    if rows < 2:
        raise UsageError(
            f"encoder.y_embedder.embedding_table.weight has {rows} row", "it must have two more than classes"
        )
    context = tensors.get("encoder.in_context_posemb")
    return Sizes(
        width=width,
        depth=_count(tensors, "encoder.blocks."),
        head_width=_head_width(tensors),
        qk_norm="encoder.blocks.0.attn.q_norm.weight" in tensors,
        channels=channels,
        registers=registers,
        classes=rows - 2,
        context=0 if context is None or context.dim() != 3 else context.shape[1],
        time_features=shapes["encoder.t_embedder.W"][0],
        patch=patch,
        colours=colours,
        input_width=shapes["up_sample_decoder.weight"][0],
        decoder_width=shapes["decoder.decoder_embed.weight"][0],
        decoder_depth=_count(tensors, "decoder.decoder_layers."),
        decoder_hidden=shapes["decoder.decoder_layers.0.ffn_up.weight"][0],
    )


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many layers have a number."""
    return len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)})


def _head_width(tensors: Mapping[str, Tensor]) -> int | None:
    """D, from the norm of the queries or the tables of the rotary embedding."""
    for name in ("encoder.blocks.0.attn.q_norm.weight", "encoder.feat_rope.freqs_cos"):
        if name in tensors and tensors[name].dim() > 0:
            return int(tensors[name].shape[-1])
    return None


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        official: its name there.
        shape: its shape there.
        ours: its name here.
        translate: its value here from its value there.
    """

    official: str
    shape: Shape
    ours: str
    translate: Callable[[Tensor], Tensor] = lambda value: value


def entries(sizes: Sizes, heads: int, modality: str) -> Iterator[Entry]:
    """All tensors that the model of these sizes uses.

    Args:
        sizes: of the model.
        heads: H.
        modality: name of the modality in our model.
    """
    yield from _encoder(sizes, modality)
    for index in range(sizes.depth):
        yield from _encoder_block(sizes, heads, f"encoder.blocks.{index}.", f"encoder.trunk.blocks.{index}.")
    yield from _decoder(sizes, f"modality_modules.{modality}.")
    for index in range(sizes.decoder_depth):
        yield from _decoder_block(
            sizes, f"decoder.decoder_layers.{index}.", f"modality_modules.{modality}.decoder.blocks.{index}."
        )


def _linear(official: str, ours: str, out: int, into: int) -> Iterator[Entry]:
    yield Entry(f"{official}.weight", (out, into), f"{ours}.weight")
    yield Entry(f"{official}.bias", (out,), f"{ours}.bias")


def _norm(official: str, ours: str, width: int) -> Iterator[Entry]:
    yield Entry(f"{official}.weight", (width,), f"{ours}.weight")
    yield Entry(f"{official}.bias", (width,), f"{ours}.bias")


def _encoder(sizes: Sizes, modality: str) -> Iterator[Entry]:
    """All of the encoder but its blocks."""
    width, classes = sizes.width, sizes.classes
    head, trunk = f"encoder.heads.{modality}", "encoder.trunk"
    yield from _linear("encoder.up_sample", f"{head}.project_in", width, sizes.channels)
    yield Entry("latent_tokens", (1, sizes.registers, width), f"{head}.registers", lambda value: value[0])
    table = ("encoder.y_embedder.embedding_table.weight", (classes + 2, width))
    if classes:
        yield Entry(*table, f"{head}.condition.table.weight", lambda value: value[: classes + 1])
    else:
        yield Entry(*table, f"{head}.condition.null", lambda value: value[0])
    yield Entry("encoder.t_embedder.W", (sizes.time_features,), f"{trunk}.time.frequencies")
    yield from _linear("encoder.t_embedder.mlp.0", f"{trunk}.time.up", width, 2 * sizes.time_features)
    yield from _linear("encoder.t_embedder.mlp.2", f"{trunk}.time.down", width, width)
    if sizes.context:
        shape = (1, sizes.context, width)
        yield Entry("encoder.in_context_posemb", shape, f"{trunk}.context", lambda value: value[0])
    yield Entry("encoder.final_layer.norm_final.weight", (width,), f"{trunk}.final_norm.weight")
    yield from _linear("encoder.final_layer.adaLN_modulation.1", f"{trunk}.final_modulation", 2 * width, width)
    yield from _linear("encoder.final_layer.linear", f"{head}.project_out", sizes.channels, width)
    yield from _norm("encoder_layer_norm", f"{head}.norm", sizes.channels)


def _encoder_block(sizes: Sizes, heads: int, official: str, ours: str) -> Iterator[Entry]:
    width, head = sizes.width, sizes.width // heads
    hidden = int(2 / 3 * 4 * width)

    def reorder(value: Tensor) -> Tensor:
        """Rows of queries, keys and values (3 W, ...), those of queries and keys in our order."""
        q, k, v = value.chunk(3)
        return torch.cat((pairs_apart(q, head), pairs_apart(k, head), v))

    for number in (1, 2, 3):
        yield Entry(f"{official}norm{number}.weight", (width,), f"{ours}norm{number}.weight")
    yield Entry(f"{official}attn.qkv.weight", (3 * width, width), f"{ours}attention.qkv.weight", reorder)
    yield Entry(f"{official}attn.qkv.bias", (3 * width,), f"{ours}attention.qkv.bias", reorder)
    if sizes.qk_norm:
        for name in ("q_norm", "k_norm"):
            yield Entry(
                f"{official}attn.{name}.weight",
                (head,),
                f"{ours}attention.{name}.weight",
                lambda value: pairs_apart(value, head),
            )
    yield from _linear(f"{official}attn.proj", f"{ours}attention.out", width, width)
    yield from _linear(f"{official}mlp.w12", f"{ours}mlp.up", 2 * hidden, width)
    yield from _linear(f"{official}mlp.w3", f"{ours}mlp.down", width, hidden)
    yield from _linear(f"{official}adaLN_modulation.1", f"{ours}modulation", 6 * width, width)


def _decoder(sizes: Sizes, ours: str) -> Iterator[Entry]:
    """The patch embedding and all of the decoder but its layers."""
    width, patch, colours = sizes.decoder_width, sizes.patch, sizes.colours
    conv, target = "patch_embed.patch_embeddings.projection", f"{ours}tokenizer.project"
    yield Entry(f"{conv}.weight", (sizes.width, colours, patch, patch), f"{target}.weight")
    yield Entry(f"{conv}.bias", (sizes.width,), f"{target}.bias")
    yield from _linear("up_sample_decoder", f"{ours}decoder.up.0", sizes.input_width, sizes.channels)
    yield from _linear("decoder.decoder_embed", f"{ours}decoder.up.1", width, sizes.input_width)
    yield Entry("decoder.trainable_cls_token", (width,), f"{ours}decoder.extra")
    shape = (1, sizes.registers + 1, width)
    yield Entry("decoder.decoder_pos_embed", shape, f"{ours}decoder.places", lambda value: value[0, 1:])
    yield from _norm("decoder.decoder_norm", f"{ours}decoder.norm", width)
    yield from _linear("decoder.decoder_pred", f"{ours}decoder.pixels", patch**2 * colours, width)


def _decoder_block(sizes: Sizes, official: str, ours: str) -> Iterator[Entry]:
    width, hidden = sizes.decoder_width, sizes.decoder_hidden
    yield from _norm(f"{official}layernorm_before", f"{ours}norm1", width)
    yield from _norm(f"{official}layernorm_after", f"{ours}norm2", width)
    yield from _linear(f"{official}qkv", f"{ours}attention.qkv", 3 * width, width)
    yield from _linear(f"{official}attn_proj", f"{ours}attention.out", width, width)
    yield from _linear(f"{official}ffn_up", f"{ours}up", hidden, width)
    yield from _linear(f"{official}ffn_down", f"{ours}down", width, hidden)


def pairs_apart(value: Tensor, head: int) -> Tensor:
    """Rows (H D, ...) of heads of D = `head`, from pairs (2 i, 2 i + 1) to pairs (i, i + D / 2)."""
    rows = value.reshape(-1, head // 2, 2, *value.shape[1:])
    return rows.transpose(1, 2).reshape(value.shape)


def check_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Entry]) -> None:
    """Refuse tensors that are missing, unexpected or of another shape.

    Raises:
        UsageError: the message names them.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected and not UNUSED.fullmatch(name)]
    shaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {entry.shape}"
        for name, entry in expected.items()
        if name in tensors and tuple(tensors[name].shape) != entry.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shaped}
    found = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if found:
        raise UsageError(
            f"tensors are {'; '.join(found)}", "give a checkpoint of the UNITE image model, as it was saved"
        )


def check_values(tensors: Mapping[str, Tensor], expected: Mapping[str, Entry], sizes: Sizes, heads: int) -> None:
    """Refuse values that our model could not reproduce: not finite, or fixed tables other than the official ones.

    Raises:
        UsageError: the message names the tensor.
    """
    for name in expected:
        if not bool(torch.isfinite(tensors[name]).all()):
            raise UsageError(f"{name} holds values that are not finite", "get the file again")
    names = [name for name in ("patch_embed.position_embeddings",) if name in tensors]
    zero = {name: tensors[name] for name in names} | {
        "decoder.decoder_pos_embed": tensors["decoder.decoder_pos_embed"][0, 0]
    }
    for name, value in zero.items():
        if bool(value.abs().max() > 1e-4):
            raise UsageError(
                f"{name} is not zero, as it is in the official model", "this checkpoint cannot be imported"
            )
    head = sizes.width // heads
    cosine, sine = rotary_table(torch.arange(2 * sizes.registers), head, ROPE_BASE)
    for part, table in (("cos", cosine), ("sin", sine)):
        stored = tensors.get(f"encoder.feat_rope.freqs_{part}")
        wanted = table.repeat_interleave(2, dim=-1)
        if stored is not None and (stored.shape != wanted.shape or bool((stored.float() - wanted).abs().max() > 1e-2)):
            raise UsageError(
                f"encoder.feat_rope.freqs_{part} is not the official rotary table of {heads} heads",
                "this checkpoint cannot be imported",
            )
