"""Linear probes: what a linear map, fitted by ridge regression in closed form, reads out of mean-pooled features.

Dimensions: N samples, D features, P targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unite_mm.analysis.subject import Subject, blocks_denoising, blocks_tokenizing, pooled
from unite_mm.contract import Targets, Teacher
from unite_mm.errors import UsageError
from unite_mm.evaluation.plan import chosen_indices
from unite_mm.kit.intervals import Z_95, share, student
from unite_mm.random_streams import Stream, stream_generator
from unite_mm_schemas.analysis import Probe
from unite_mm_schemas.metrics import Metric

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties that are tried, for standardised features and per sample."""

PROBE_TIME = 0.75
"""Timestep from which latents are denoised for the probes of the denoiser's blocks."""

SHUFFLES = 10
"""Random orders of the targets that the control is a mean of."""

FEWEST = 20
"""Samples that a probe is fitted on at least."""


class Standardised:
    """Features scaled by the mean and standard deviation of those that a probe is fitted on.

    A feature that does not vary among these is zero for all samples: it tells nothing, and its scale is rounding.
    """

    def __init__(self, features: Tensor) -> None:
        features = features.double()
        self.mean, deviation = features.mean(0), features.std(0)
        self.scale = torch.where(deviation > 1e-9, deviation, torch.inf)

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, D), float64."""
        return (features.double() - self.mean) / self.scale


def ridge(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Weights (D, P) of ridge regression of centred targets (N, P) on standardised features (N, D), in closed form."""
    gram = features.T @ features / len(features)
    gram.diagonal().add_(penalty)
    weights: Tensor = torch.linalg.solve(gram, features.T @ targets / len(features))
    return weights


def predictions(features: Tensor, targets: Tensor, others: Tensor) -> Tensor:
    """Predictions (M, P) for other features (M, D) by a probe fitted to features (N, D) and targets (N, P).

    The penalty is, for each target, the one with the least error on the last fifth of the samples of a probe fitted to
    the rest; the probe is then fitted to all.
    """
    cut = len(features) - len(features) // 5
    scale = Standardised(features[:cut])
    inner, mean = scale(features[:cut]), targets[:cut].mean(0)
    errors = torch.stack(
        [
            (scale(features[cut:]) @ ridge(inner, targets[:cut] - mean, penalty) + mean - targets[cut:])
            .square()
            .mean(0)
            for penalty in PENALTIES
        ]
    )
    scale, mean = Standardised(features), targets.mean(0)
    whole, best = scale(features), errors.argmin(0)
    found = torch.empty(len(others), targets.shape[1], dtype=torch.float64)
    for place in best.unique().tolist():
        columns = best == place
        weights = ridge(whole, (targets - mean)[:, columns], PENALTIES[place])
        found[:, columns] = scale(others) @ weights + mean[columns]
    return found


def r_squared(name: str, predicted: Tensor, true: Tensor) -> Metric:
    """R^2 of predictions (M,) with an interval by the delta method over the samples; no value where all are alike."""
    definition = "R^2 on held-out samples of a linear map of mean-pooled features (ridge regression)"
    if bool((true == true[0]).all()):
        return Metric(name=name, title=name, value=None, total=len(true), definition=definition)
    residual, spread = (predicted - true).square(), (true - true.mean()).square()
    ratio = float(residual.mean() / spread.mean())
    half = Z_95 * float((residual - ratio * spread).std() / spread.mean()) / len(true) ** 0.5
    return Metric(
        name=name,
        title=name,
        value=1 - ratio,
        total=len(true),
        interval=(1 - ratio - half, 1 - ratio + half),
        definition=definition,
    )


@dataclass(frozen=True)
class _Question:
    """What a probe is fitted to and judged by, of the samples whose target is known.

    Attributes:
        name: of the target.
        known: (N,) bool, samples to fit on.
        values: (known, P) of these: indicators of P classes, or one column of numbers.
        asked: (M,) bool, samples to judge by.
        goal: (asked,) of these: classes or numbers.
    """

    name: str
    known: Tensor
    values: Tensor
    asked: Tensor
    goal: Tensor


def _questions(fit_targets: Targets, true: Targets) -> Iterator[_Question]:
    """All classes as one question, or one for each number.

    Raises:
        UsageError: too few targets are known.
    """
    if fit_targets.kind == "classes":
        known, asked = fit_targets.values >= 0, true.values >= 0
        _enough(int(known.sum()), int(asked.sum()), "class")
        indicators = one_hot(fit_targets.values[known], len(true.names)).double()
        yield _Question("accuracy", known, indicators, asked, true.values[asked])
        return
    for column, name in enumerate(true.names):
        own, other = fit_targets.values[:, column].double(), true.values[:, column].double()
        known, asked = ~own.isnan(), ~other.isnan()
        _enough(int(known.sum()), int(asked.sum()), name)
        yield _Question(name, known, own[known, None], asked, other[asked])


def probe(fit: Tensor, fit_targets: Targets, held_out: Tensor, true: Targets) -> tuple[Metric, ...]:
    """Held-out figures of linear probes.

    Args:
        fit: features (N, D) that probes are fitted on.
        fit_targets: theirs.
        held_out: features (M, D) of other samples.
        true: theirs.

    Returns:
        The share of right classes (least squares on indicators, the largest wins), or R^2 of each number. Samples
        whose target is unknown are left out; numbers that are alike for all held-out samples have no R^2.

    Raises:
        UsageError: too few targets are known.
    """
    metrics = []
    for one in _questions(fit_targets, true):
        guessed = predictions(fit[one.known], one.values, held_out[one.asked])
        if fit_targets.kind == "classes":
            right = int((guessed.argmax(1) == one.goal).sum())
            definition = "right classes on held-out samples by a linear map of mean-pooled features (least squares)"
            metrics.append(share(one.name, one.name, right, len(one.goal), definition))
        else:
            metrics.append(r_squared(one.name, guessed[:, 0], one.goal))
    return tuple(metrics)


def _enough(fitted: int, asked: int, name: str) -> None:
    if fitted < FEWEST or asked < 2:
        raise UsageError(
            f"only {fitted} samples to fit and {asked} to test have a known {name}",
            f"{FEWEST} and 2 are needed: take more samples",
        )


def control(fit: Tensor, fit_targets: Targets, held_out: Tensor, true: Targets, seed: int) -> tuple[Metric, ...]:
    """The same figures of probes that are fitted to targets in random order: they must find chance.

    Means over `SHUFFLES` orders, with Student's interval over them: where features fall into a few clumps, a single
    order is a matter of luck.

    Args:
        fit: features (N, D) that probes are fitted on.
        fit_targets: theirs.
        held_out: features (M, D) of other samples.
        true: theirs.
        seed: of the orders.

    Raises:
        UsageError: too few targets are known.
    """
    generators = [stream_generator(Stream.PROBE_SHUFFLE, seed, number) for number in range(SHUFFLES)]
    metrics = []
    for one in _questions(fit_targets, true):
        orders = [torch.randperm(len(one.values), generator=generator) for generator in generators]
        columns = torch.cat([one.values[order] for order in orders], 1)
        guessed = predictions(fit[one.known], columns, held_out[one.asked]).unflatten(1, (SHUFFLES, -1))
        if fit_targets.kind == "classes":
            right = (guessed.argmax(2) == one.goal[:, None]).double()
            metrics.append(_of_orders(one.name, right.mean(0).tolist(), int(right.sum()), right.numel()))
        else:
            found = [r_squared(one.name, column, one.goal).value for column in guessed[:, :, 0].T]
            values = [value for value in found if value is not None]
            metrics.append(_of_orders(one.name, values, None, len(one.goal)))
    return tuple(metrics)


def _of_orders(name: str, values: Sequence[float], count: int | None, total: int) -> Metric:
    return Metric(
        name=name,
        title=name,
        value=sum(values) / len(values) if values else None,
        count=count,
        total=total,
        interval=student(values),
        definition=f"the same by probes fitted to the targets in random order, mean of {SHUFFLES} orders",
    )


def chance(true: Targets) -> float | None:
    """The share of the most frequent class, which a probe reaches that knows nothing; None for numbers (R^2 0)."""
    if true.kind != "classes":
        return None
    known = true.values[true.values >= 0]
    return float(known.bincount().max() / len(known))


def teacher_at_hand(subject: Subject) -> tuple[Teacher | None, str]:
    """The modality's frozen teacher, or why there is none."""
    try:
        return subject.model.network.teacher(subject.modality), ""
    except UsageError as error:
        return None, error.message


def linear_probes(subject: Subject, fit_samples: int = 2000, time: float = PROBE_TIME) -> list[Probe]:
    """Probes of mean-pooled latents and of every block, when tokenizing and when denoising, each with a control.

    Latents are denoised without their condition, which may hold what is probed for.

    Beside them what they are to be compared with: `inputs`, the tokens of the input before the first block, and
    `teacher`, the features of the modality's frozen teacher where it is at hand. They are fitted on samples of the
    training split and judged on the subject's samples; see `control`.

    Args:
        subject: what is looked at.
        fit_samples: training samples to fit on.
        time: timestep of the denoised latents; where the flow ends before it, its end.

    Raises:
        UsageError: the data know no targets, or too few of them.
    """
    data, split = subject.data, subject.split
    fit_targets, true = data.targets("train"), data.targets(split)
    if fit_targets is None or true is None:
        raise UsageError(f"{data.card.name} knows no targets to probe for", "use data with classes or properties")
    time = min(time, subject.model.network.end_time)
    chosen = chosen_indices(data.size("train"), fit_samples, subject.seed)
    fit_targets = Targets(fit_targets.kind, fit_targets.values[chosen], fit_targets.names)
    true = Targets(true.kind, true.values[subject.indices], true.names)
    fitted = dict(_features(subject, "train", chosen, time))
    return [
        Probe(
            features=name,
            found=probe(fitted[name], fit_targets, features, true),
            control=control(fitted[name], fit_targets, features, true, subject.seed),
        )
        for name, features in _features(subject, split, subject.indices, time)
    ]


@torch.no_grad()
def _features(subject: Subject, split: str, indices: Tensor, time: float) -> Iterator[tuple[str, Tensor]]:
    """Names and mean-pooled features (N, D) of the samples."""
    found: dict[str, list[Tensor]] = {}
    network, teacher = subject.model.network, teacher_at_hand(subject)[0]
    for one in subject.encode(split, indices):
        mask = one.registers.mask
        if network.features is None:  # otherwise there is no tokenizer but the teacher
            tokens = subject.model.modules_of(subject.modality).tokenizer(one.batch)
            found.setdefault("inputs", []).append(pooled(tokens.values, tokens.mask))
        if teacher is not None:
            found.setdefault("teacher", []).append(pooled(teacher(one.batch), mask))
        found.setdefault("latents", []).append(pooled(one.latents, mask))
        for use, blocks in (
            ("tokenizing", blocks_tokenizing(subject, one)),
            # Its condition may hold the very target.
            ("denoising", blocks_denoising(subject, one, time, conditioned=False)),
        ):
            for number, block in enumerate(blocks, 1):
                found.setdefault(f"{use} block {number}", []).append(pooled(block, mask))
    return ((name, torch.cat(parts)) for name, parts in sorted(found.items(), key=_order))


def _order(item: tuple[str, list[Tensor]]) -> tuple[int, int]:
    """What others are compared with, latents, then the blocks of tokenizing, then those of denoising."""
    use, _, number = item[0].partition(" block ")
    return ("inputs", "teacher", "latents", "tokenizing", "denoising").index(use), int(number or 0)
