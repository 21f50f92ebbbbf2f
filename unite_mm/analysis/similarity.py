"""Measures of how alike two representations of the same things are: linear CKA, CKNNA, mean cosine.

Dimensions: N things, W and V features.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

NEIGHBOURS = 10
"""k of CKNNA."""


def _centred(features: Tensor) -> Tensor:
    features = features.double()
    return features - features.mean(0)


def _quotient(product: Tensor, first: Tensor, second: Tensor) -> float:
    """product / sqrt(first second); NaN where a representation does not vary at all."""
    scale = math.sqrt(max(float(first), 0.0)) * math.sqrt(max(float(second), 0.0))
    return float(product) / scale if scale > 0 else math.nan


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear CKA (Kornblith et al. 2019): ||Y^T X||^2 / (||X^T X|| ||Y^T Y||) of centred features, Frobenius norms.

    1 for a rotated, shifted or scaled copy. For independent noise it is not 0 but about sqrt(W V) / N.

    Args:
        first: X (N, W).
        second: Y (N, V), of the same things in the same order.

    Returns:
        A number in [0, 1]; NaN where X or Y is constant.
    """
    x, y = _centred(first), _centred(second)
    own = [(z.T @ z).square().sum() for z in (x, y)]
    return _quotient((y.T @ x).square().sum(), *own)


def cknna(first: Tensor, second: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Alignment of centred kernels over mutual nearest neighbours (Huh et al. 2024, "CKNNA").

    Rows are scaled to unit length. With k(i, j) the inner product of centred rows, Align(X, Y) is the sum of
    k_X(i, j) k_Y(i, j) over pairs where j is among the `neighbours` nearest of i in X and in Y; what is returned is
    Align(X, Y) / sqrt(Align(X, X) Align(Y, Y)). Time and memory grow with N^2.

    Args:
        first: X (N, W).
        second: Y (N, V), of the same things in the same order.
        neighbours: k, below N.

    Returns:
        1 for a rotated or scaled copy; NaN where X or Y is constant.

    Raises:
        ValueError: N is not above `neighbours`.
    """
    if len(first) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {len(first)} rows")
    kernels, near = [], []
    for features in (first, second):
        rows = normalize(features.double(), dim=1)
        similar = (rows @ rows.T).fill_diagonal_(-math.inf)
        chosen = similar.topk(neighbours, dim=1).indices
        near.append(torch.zeros_like(similar, dtype=torch.bool).scatter_(1, chosen, True))
        centred = rows - rows.mean(0)
        kernels.append(centred @ centred.T)
    (x, y), (near_x, near_y) = kernels, near
    both = (x * y)[near_x & near_y].sum()
    return _quotient(both, x[near_x].square().sum(), y[near_y].square().sum())


def mean_cosine(first: Tensor, second: Tensor) -> float:
    """Mean over the rows of the cosine of X (N, W) and Y (N, W); means little between unrelated bases."""
    return float(cosine_similarity(first.double(), second.double(), dim=1).mean())
