"""How good generated images are: FID, Inception Score, precision and recall, and which classes they are of."""

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from unite_mm.contract import Reference
from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.intervals import share
from unite_mm.progress import Progress
from unite_mm_image.data.native import labels_of
from unite_mm_image.metrics.distances import (
    INCEPTION_SCORE_SPLITS,
    inception_score,
    moments,
    precision_recall,
    random_subset,
)
from unite_mm_image.metrics.features import Extractor, Features
from unite_mm_image.metrics.image_sets import PictureSet
from unite_mm_image.metrics.references import ImageReference
from unite_mm_image.metrics.scoring import Scorer, error_note, few_images_note, frechet_metric, unmeasured
from unite_mm_schemas.metrics import Histogram, Metric, Score

MOST_CLASSES = 20
"""Classes up to which a report shows each one's share."""


def score_generation(
    samples: Sequence[Image], reference: Reference | None, scorer: Scorer, progress: Progress
) -> Score:
    """Metrics of generated images, all of them, as they come from the file or the model: 8 bits a channel.

    Where the network of features is not at hand, nothing is measured and a note says which file to put where.

    Args:
        samples: mode RGB or L.
        reference: what they are compared with; None: only what needs no comparison.
        scorer: settings and network.
        progress: where to show the work.

    Raises:
        UsageError: samples, reference and network do not fit together.
    """
    against = scorer.reference(reference)
    histograms, notes = _classes(samples, against)
    notes += [f"samples: {note}" for note in PictureSet(samples).check()]
    try:
        extractor = scorer.extractor
    except UsageError:
        raise
    except UniteError as error:
        names = [
            ("fid", "FID"),
            ("inception_score", "Inception Score"),
            ("precision", "precision"),
            ("recall", "recall"),
        ]
        metrics = unmeasured(names, "needs the weights of Inception")
        notes = [f"not measured: {error_note(error)}", *notes]
        return Score(kind="generation", metrics=tuple(metrics), histograms=histograms, notes=tuple(notes))
    found = extractor.features(PictureSet(samples), progress, "Features of the samples")
    metrics = []
    for own, noted in (
        _frechet(extractor, found, against, progress),
        _inception_score(extractor, found),
        _precision_recall(extractor, found, against, scorer, progress),
    ):
        metrics += own
        notes += noted
    return Score(kind="generation", metrics=tuple(metrics), histograms=histograms, notes=tuple(dict.fromkeys(notes)))


Part = tuple[list[Metric], list[str]]


def _frechet(extractor: Extractor, found: Features, against: ImageReference | None, progress: Progress) -> Part:
    title = extractor.frechet[1]
    if against is None:
        return [], [f"no reference: {title}, precision and recall are left out; name one with --data"]
    known, described = against.moments(extractor, progress)
    if known is None or len(found.pool) < 2:
        why = "fewer than two images" if known is not None else described
        return unmeasured([extractor.frechet], "needs two images on each side"), [f"{title} is left out: {why}"]
    if known.mu.shape[0] != found.pool.shape[1]:
        raise UsageError(
            f"{against.description}: statistics of {known.mu.shape[0]} features, but {extractor.described} are "
            f"{found.pool.shape[1]}",
            "they must come from the same network",
        )
    notes = few_images_note(extractor, len(found.pool), found.pool.shape[1])
    if against.given is not None:
        notes.append(f"{title}: the statistics of {against.description} are taken as given, of whichever network")
    metric = frechet_metric(extractor, moments(found.pool), len(found.pool), known, described)
    return [metric], notes + list(against.notes)


def _inception_score(extractor: Extractor, found: Features) -> Part:
    if found.logits is None:
        return [], [f"the Inception Score is left out: {extractor.file} has no classes of ImageNet"]
    names = [("inception_score", "Inception Score"), ("inception_score_std", "Inception Score, deviation")]
    count = len(found.logits)
    if count < INCEPTION_SCORE_SPLITS:
        return unmeasured(names[:1], f"needs {INCEPTION_SCORE_SPLITS} images"), []
    centre, spread = inception_score(found.logits)
    definition = (
        "exp of the mean KL divergence between an image's classes and those of all, by torch-fidelity's Inception: "
        f"mean over {INCEPTION_SCORE_SPLITS} parts of {count:,} images, shuffled"
    )
    return [
        Metric(name=names[0][0], title=names[0][1], value=centre, total=count, definition=definition),
        Metric(
            name=names[1][0], title=names[1][1], value=spread, total=count,
            definition=f"standard deviation of the Inception Score over the {INCEPTION_SCORE_SPLITS} parts",
        ),
    ], []  # fmt: skip


def _precision_recall(
    extractor: Extractor, found: Features, against: ImageReference | None, scorer: Scorer, progress: Progress
) -> Part:
    if against is None:
        return [], []
    real = against.features(extractor, progress)
    if real is None:
        return [], [f"precision and recall are left out: {against.description} holds statistics and no images"]
    neighbours, most = scorer.config.metrics.neighbours, scorer.config.metrics.neighbour_images
    ours, theirs = random_subset(found.pool, most), random_subset(real.pool, most)
    names = [("precision", extractor.titled("precision")), ("recall", extractor.titled("recall"))]
    if min(len(ours), len(theirs)) <= neighbours:
        return unmeasured(names, f"needs more than {neighbours} images on each side"), list(real.notes)
    shares = precision_recall(ours, theirs, neighbours)
    space = f"{extractor.described} (Kynkaanniemi et al. 2019, k = {neighbours})"
    words = (
        f"generated images nearer to some of {len(theirs):,} reference images than its k-th neighbour there is, in "
        f"{space} / generated images",
        f"reference images nearer to some of {len(ours):,} generated ones than its k-th neighbour there is, in "
        f"{space} / reference images",
    )
    metrics = [
        share(name, title, round(value * len(whose)), len(whose), definition)
        for (name, title), value, whose, definition in zip(names, shares, (ours, theirs), words, strict=True)
    ]
    return metrics, list(real.notes)


def _classes(samples: Sequence[Image], against: ImageReference | None) -> tuple[tuple[Histogram, ...], list[str]]:
    """Shares of the classes among the samples, beside the reference's; for many classes only their extremes."""
    labels = labels_of(samples)
    if labels is None:
        return (), []
    reference = None if against is None else against.labels
    names = () if against is None else against.classes
    size = max(int(part.max()) + 1 for part in (labels, reference) if part is not None)
    size = max(size, len(names))
    counts = labels.bincount(minlength=size)
    balance = f"classes of the samples: from {int(counts.min()):,} to {int(counts.max()):,} of each of {size:,}"
    if size > MOST_CLASSES:
        return (), [balance]
    titles = [names[index] if index < len(names) else str(index) for index in range(size)]
    shares = _shares(counts, titles)
    beside = None if reference is None else _shares(reference.bincount(minlength=size), titles)
    distance = None if beside is None else sum(abs(shares[title] - beside[title]) for title in titles) / 2
    histogram = Histogram(
        name="classes", title="classes asked for", samples=shares, reference=beside, total_variation=distance
    )
    return (histogram,), [balance]


def _shares(counts: Tensor, titles: Sequence[str]) -> dict[str, float]:
    whole = counts.to(torch.float64) / counts.sum()
    return dict(zip(titles, whole.tolist(), strict=True))
