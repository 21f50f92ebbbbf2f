"""Training dynamics: what a run recorded, and how the gradients of its two losses meet on the weights they share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unite_mm.analysis.subject import Encoded, Subject
from unite_mm.api import UNITE
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.storage.runs import checkpoints_of
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.run_log import read_records
from unite_mm_schemas.analysis import Curve, GradientPoint

UNDRAWN = ("kind", "step", "seconds")
"""Keys of a record that are no figures."""


def curves(run: Path) -> list[Curve]:
    """Every scalar that a run recorded, over its steps; none where the folder holds no records."""
    found: dict[str, dict[int, float]] = {}
    for record in read_records(run):
        for name, value in record.items():
            if name not in UNDRAWN and isinstance(value, int | float):
                found.setdefault(f"{record.get('kind', '')}/{name}", {})[record["step"]] = float(value)
    return [Curve(name=name, steps=tuple(own), values=tuple(own.values())) for name, own in found.items()]


def gradient_points(subject: Subject) -> list[GradientPoint]:
    """Gradients of reconstruction and flow loss at every checkpoint that the run still has, or at the model itself.

    Raw weights, the subject's samples with the same noise at every checkpoint, gradients averaged over them. They are
    compared on the parameters of the encoder that both losses reach: all of it where weights are shared; where they
    are not, the tokenizer's where the flow loss reaches the latents, else none.
    """
    folders: Iterable[Path] = checkpoints_of(subject.run) or [subject.run]
    listed = list(folders)
    points = []
    with subject.progress.task("Comparing gradients", len(listed)) as advance:
        for folder in listed:
            model = UNITE.from_pretrained(folder, ema=False, device=str(subject.model.device))
            assert model.record is not None
            points.append(_point(subject, model, model.record.step))
            advance(1)
    return points


def _point(subject: Subject, model: UNITE, step: int) -> GradientPoint:
    shared = list(model.network.encoder.parameters())
    sums: list[list[Tensor]] = [[torch.zeros_like(parameter) for parameter in shared] for _ in range(2)]
    reached = [torch.zeros(len(shared), dtype=torch.bool) for _ in range(2)]
    for number, one in enumerate(subject.encoded):
        for which, loss in enumerate(_losses(subject, model, one, number)):
            found = _gradients(loss, shared)
            for place, gradient in enumerate(found):
                if gradient is not None:
                    sums[which][place] += gradient
                    reached[which][place] = True
    both = (reached[0] & reached[1]).tolist()
    first, second = (
        torch.cat(
            [gradient.flatten().double() for gradient, kept in zip(own, both, strict=True) if kept] or [_nothing()]
        )
        for own in sums
    )
    norms = [float(own.norm()) / len(subject.encoded) for own in (first, second)]
    product = float(first.norm() * second.norm())
    cosine = float(first @ second) / product if product > 0 else None
    return GradientPoint(step=step, cosine=cosine, reconstruction_norm=norms[0], flow_norm=norms[1])


def _nothing() -> Tensor:
    return torch.zeros(1, dtype=torch.float64)


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    if not loss.requires_grad:
        return (None,) * len(parameters)
    # Without stop-gradient both losses share the graph of the latents.
    return torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


def _losses(subject: Subject, model: UNITE, one: Encoded, number: int) -> tuple[Tensor, Tensor]:
    """The reconstruction loss of a batch, decoded without noise, and its flow loss, of one draw."""
    name, batch = subject.modality, one.batch
    network, config = model.network, model.config
    modules = network.modules_of(name)
    length = one.registers.mask.shape[1]
    generator = stream_generator(Stream.ANALYSIS_STEP, subject.seed, number, device=model.device)
    noise = StepNoise(generator, len(one.latents), modules.layout, Shard())
    latents = network.tokenize(name, batch, noise.normal(length), noise.tokenize_times(config.latent))
    terms: dict[str, Any] = modules.losses(network.decode(name, latents, one.registers), batch)
    reconstruction = torch.stack([term.weight * term.values.float().mean() for term in terms.values()]).sum()
    draw = noise.flow(config.flow, length)
    clean = network.to_flow(name, latents, one.registers)
    clean = clean.detach() if config.regime.stop_gradient else clean
    state = interpolate(clean, draw.noise, draw.time) * one.registers.mask[:, :, None]
    predicted = network.denoise(name, state, draw.time, one.registers, condition=batch.condition, dropped=draw.dropped)
    flow = flow_loss(predicted, clean, draw.time, one.registers, config.flow.min_remaining).mean()
    return reconstruction, flow
