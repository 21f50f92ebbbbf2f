"""Numbers of feature sets by torch-fidelity's own functions: Frechet distance, Inception Score, precision and recall.

Dimensions: N images, D features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unite_mm_image.torchvision_import import import_torchvision

INCEPTION_SCORE_SPLITS = 10
"""Parts of the samples over which the Inception Score is averaged (Salimans et al. 2016)."""

SHUFFLE_SEED = 2020
"""torch-fidelity's default for the shuffle before the split."""

_BLOCK = 10_000
"""Rows of a distance matrix at once."""


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, as `.npz` files of statistics hold them.

    Attributes:
        mu: (D,).
        sigma: (D, D).
    """

    mu: NDArray[np.floating]
    sigma: NDArray[np.floating]


def moments(features: Tensor) -> Moments:
    """Moments of features (N, D), N at least 2."""
    import_torchvision()
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(features)
    return Moments(found["mu"], found["sigma"])


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of two normal distributions (Heusel et al. 2017); equal dimensions."""
    import_torchvision()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    pair = []
    for one in (first, second):
        equal = first.mu.dtype == second.mu.dtype and first.sigma.dtype == second.sigma.dtype
        mu, sigma = (one.mu, one.sigma) if equal else (one.mu.astype(np.float64), one.sigma.astype(np.float64))
        pair.append({"mu": mu, "sigma": sigma})
    return float(fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID])


def inception_score(logits: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the Inception Score over `INCEPTION_SCORE_SPLITS` parts of logits (N, classes).

    N is at least the number of parts.
    """
    import_torchvision()
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    found = isc_features_to_metric(logits, INCEPTION_SCORE_SPLITS, shuffle=True, rng_seed=SHUFFLE_SEED)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]


def precision_recall(generated: Tensor, real: Tensor, neighbours: int) -> tuple[float, float]:
    """Shares of Kynkaanniemi et al. 2019; features (N, D) of more than `neighbours` images each.

    Returns:
        Share of the generated images in a real one's ball, share of the real ones in a generated one's; a ball reaches
        to the k-th nearest neighbour in its own set.
    """
    import_torchvision()
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    found = prc_features_to_metric(
        generated, real, prc_neighborhood=neighbours, prc_batch_size=_BLOCK, save_cpu_ram=True, verbose=False
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def random_subset(features: Tensor, count: int) -> Tensor:
    """`count` of the features (N, D) at random, always the same ones; all where there are no more."""
    if len(features) <= count:
        return features
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:count]]
