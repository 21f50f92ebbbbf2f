"""How alike the two uses of the trunk are, block by block, and how near predicted latents are to the true ones."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unite_mm.analysis.similarity import NEIGHBOURS, cknna, linear_cka, mean_cosine
from unite_mm.analysis.subject import Encoded, Subject, blocks_denoising, blocks_tokenizing, used
from unite_mm.errors import UsageError
from unite_mm_schemas.analysis import BlockAlignment, LatentPoint

ALIGNMENT_TIMES = (0.25, 0.5, 0.75, 0.95)
"""Timesteps from which latents are denoised."""

LATENT_TIMES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)

NEIGHBOUR_ROWS = 2048
"""Rows of CKNNA at most; its time grows with their square."""


def reached(subject: Subject, times: Sequence[float]) -> list[float]:
    """The timesteps up to the end of the flow: the denoiser has never seen later ones.

    Raises:
        UsageError: there are none.
    """
    end = subject.model.network.end_time
    kept = [time for time in times if time <= end]
    if not kept:
        raise UsageError(
            f"no timestep to denoise from: the flow of this model ends at t = {end:.4g}", "name earlier timesteps"
        )
    return kept


def block_alignment(subject: Subject, times: Sequence[float] = ALIGNMENT_TIMES) -> list[BlockAlignment]:
    """Alignment of every block's outputs between tokenizing inputs and denoising their noised latents.

    Rows are the used registers of all samples, `subject.MOST_ROWS` of them at random where there are more. The same
    registers, noise and conditions are used at every timestep.

    Args:
        subject: what is looked at.
        times: timesteps of the noised latents; those beyond the end of the flow are left out, see `reached`.

    Raises:
        UsageError: no trunk tokenizes, or all timesteps are beyond the end of the flow.
    """
    times = reached(subject, times)
    if subject.model.network.features is not None:
        raise UsageError("the latents are a teacher's features: no trunk tokenizes, so there is nothing to compare")
    tokenizing = _compared(subject, partial(blocks_tokenizing, subject))
    found = []
    with subject.progress.task("Comparing blocks", len(times) * len(tokenizing)) as advance:
        for time in times:
            denoising = _compared(subject, partial(blocks_denoising, subject, time=time))
            for number, (first, second) in enumerate(zip(tokenizing, denoising, strict=True), 1):
                near = min(NEIGHBOURS, len(first) - 1)
                found.append(
                    BlockAlignment(
                        block=number,
                        time=time,
                        cka=linear_cka(first, second),
                        cknna=cknna(first[:NEIGHBOUR_ROWS], second[:NEIGHBOUR_ROWS], near),
                        cosine=mean_cosine(first, second),
                    )
                )
                advance(1)
    return found


def _compared(subject: Subject, blocks_of: Callable[[Encoded], list[Tensor]]) -> list[Tensor]:
    """The rows of every block that are compared, over all batches: (N, W) each."""
    batches = [
        [block[rows] for block in used(blocks_of(one), one)]
        for one, rows in zip(subject.encoded, subject.rows, strict=True)
    ]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


@torch.no_grad()
def latents_over_time(subject: Subject, times: Sequence[float] = LATENT_TIMES) -> list[LatentPoint]:
    """Cosine and error of predicted clean latents to the true ones over timesteps, beside those of the noisy latents.

    Means over the used registers of all samples; the error is per channel.

    Args:
        subject: what is looked at.
        times: timesteps; those beyond the end of the flow are left out, see `reached`.

    Raises:
        UsageError: all of them are.
    """
    times = reached(subject, times)
    points = []
    with subject.progress.task("Denoising", len(times)) as advance:
        for time in times:
            sums, count = torch.zeros(4, dtype=torch.float64), 0
            for one in subject.encoded:
                mask = one.registers.mask
                clean = one.latents[mask].double()
                for place, values in enumerate((subject.predicted(one, time), one.noisy(time))):
                    other = values[mask].double()
                    sums[2 * place] += cosine_similarity(other, clean, dim=1).sum().cpu()
                    sums[2 * place + 1] += (other - clean).square().mean(1).sum().cpu()
                count += len(clean)
            cosine, error, noisy_cosine, noisy_error = (sums / count).tolist()
            points.append(
                LatentPoint(time=time, cosine=cosine, error=error, noisy_cosine=noisy_cosine, noisy_error=noisy_error)
            )
            advance(1)
    return points
