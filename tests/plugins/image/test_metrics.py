"""Image metrics: known answers, torch-fidelity's numbers on equal features, sets against themselves, missing weights.

Networks have random weights: no test needs a download.
"""

import hashlib
import math
import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_networks import pictures, random_inception, small_network
from PIL import Image

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.weights import find_weights
from unite_mm.progress import Silent
from unite_mm_image.config import ImageConfig, ImageMetrics
from unite_mm_image.metrics import features
from unite_mm_image.metrics.distances import frechet_distance, inception_score, moments, precision_recall, random_subset
from unite_mm_image.metrics.features import Extractor, open_extractor
from unite_mm_image.metrics.generation import score_generation
from unite_mm_image.metrics.image_sets import PictureSet
from unite_mm_image.metrics.inception import INCEPTION
from unite_mm_image.metrics.reconstruction import score_reconstruction
from unite_mm_image.metrics.references import ImageReference
from unite_mm_image.metrics.scoring import Scorer
from unite_mm_image.model.perceptual import VGG16, PerceptualLoss, build_lpips
from unite_mm_image.torchvision_import import import_torchvision
from unite_mm_schemas.metrics import Metric, Score


@pytest.fixture(autouse=True)
def no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args, **_kwargs):
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(INCEPTION.variable, raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network(tmp_path_factory.mktemp("networks") / "small.pt")


def scorer(network: Path | None = None, **settings) -> Scorer:
    named = None if network is None else str(network)
    return Scorer(ImageConfig(size=16, metrics=ImageMetrics(features=named, device="cpu", **settings)))


def by_name(score: Score) -> dict[str, Metric]:
    return {metric.name: metric for metric in score.metrics}


def flat(value: int, size: int = 16, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (size, size), (value,) * 3 if mode == "RGB" else value)


# ------------------------------------------------------------------------------------------- single images


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_reconstruction_of_flat_images_has_known_answers(mode: str) -> None:
    inputs = [flat(0, mode=mode), flat(51, mode=mode)]
    outputs = [flat(51, mode=mode), flat(153, mode=mode)]
    found = by_name(score_reconstruction(inputs, outputs, scorer(), Silent()))
    assert found["l1"].value == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)
    psnr = [-20 * math.log10(0.2), -20 * math.log10(0.4)]
    assert found["psnr"].value == pytest.approx(sum(psnr) / 2, abs=1e-4)
    assert found["psnr"].unit == "dB"
    # Flat images have no variance: what is left of SSIM is the term of the means, with c1 = 0.01 ** 2.
    ssim = [(2 * a * b + 1e-4) / (a * a + b * b + 1e-4) for a, b in ((0.0, 0.2), (0.2, 0.6))]
    assert found["ssim"].value == pytest.approx(sum(ssim) / 2, abs=1e-4)
    half = 1.959964 * abs(psnr[0] - psnr[1]) / 2  # two values: the deviation of the mean is half their distance
    assert found["psnr"].interval == pytest.approx((sum(psnr) / 2 - half, sum(psnr) / 2 + half), abs=1e-3)
    assert {found[name].total for name in ("l1", "psnr", "ssim")} == {2}


def test_equal_images_have_no_finite_psnr_and_say_so() -> None:
    same, other = flat(10), flat(61)
    score = score_reconstruction([same, same, same], [same, other, same], scorer(), Silent())
    found = by_name(score)
    assert (found["psnr"].value, found["psnr"].total) == (pytest.approx(-20 * math.log10(0.2), abs=1e-4), 1)
    assert found["l1"].total == 3
    assert any("leaves out 2 reconstructions that equal their input" in note for note in score.notes)
    only = by_name(score_reconstruction([same], [same], scorer(), Silent()))
    assert (only["psnr"].value, only["psnr"].total) == (None, 0)
    assert only["ssim"].value == pytest.approx(1.0, abs=1e-5)
    assert only["l1"].value == 0


def test_batches_and_extents_change_no_number() -> None:
    inputs = pictures(5, 0) + pictures(3, 1, size=24) + pictures(2, 2)
    outputs = pictures(5, 3) + pictures(3, 4, size=24) + pictures(2, 5)
    whole = by_name(score_reconstruction(inputs, outputs, scorer(batch_size=64), Silent()))
    parts = by_name(score_reconstruction(inputs, outputs, scorer(batch_size=2), Silent()))
    for name in ("l1", "psnr", "ssim"):
        assert parts[name].value == pytest.approx(whole[name].value, rel=1e-5)
        assert parts[name].total == 10


def test_images_too_small_for_a_window_are_left_out_with_a_note() -> None:
    score = score_reconstruction(pictures(3, 0, size=8), pictures(3, 1, size=8), scorer(), Silent())
    found = by_name(score)
    assert (found["ssim"].value, found["lpips"].value) == (None, None)
    assert found["psnr"].total == 3
    notes = " ".join(score.notes)
    assert "SSIM leaves out 3 images smaller than its window of 11 pixels" in notes
    assert "LPIPS leaves out 3 images smaller than the 16 pixels" in notes


def test_lpips_is_zero_for_equal_images_and_sees_the_signed_range() -> None:
    import_torchvision()
    from torchvision.models import vgg16

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            layout = vgg16().features.state_dict()
        weights = {f"features.{name}": 0.05 * torch.randn(value.shape) for name, value in layout.items()}
    loss = PerceptualLoss()
    loss.network = build_lpips(weights)  # random weights
    ready = scorer()
    ready._perceptual = loss
    one, two = pictures(2, 0), pictures(2, 1)
    same = by_name(score_reconstruction(one, one, ready, Silent()))["lpips"]
    assert same.value == pytest.approx(0, abs=1e-7)
    found = by_name(score_reconstruction(one, two, ready, Silent()))["lpips"]
    seen = [torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1 for images in (one, two)]
    with torch.no_grad():
        expected = float(loss.network(*seen).mean())
    assert expected > 0
    assert (found.value, found.total) == (pytest.approx(expected, rel=1e-4), 2)


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(UsageError, match="2 inputs and 1 reconstructions"):
        score_reconstruction([flat(0), flat(1)], [flat(0)], scorer(), Silent())
    with pytest.raises(UsageError, match="reconstruction 1 has 8 x 8 pixels, its input 16 x 16"):
        score_reconstruction([flat(0), flat(1)], [flat(0), flat(1, size=8)], scorer(), Silent())
    with pytest.raises(UsageError, match="no reconstruction"):
        score_reconstruction([], [], scorer(), Silent())


# --------------------------------------------------------------------------------- sets, on given features


def drawn(count: int, shift: float = 0.0, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int(100 * shift) + count)
    return torch.randn(count, size, generator=generator) @ torch.diag(torch.arange(1.0, size + 1)) + shift


def test_distances_are_those_of_torch_fidelity_on_the_same_features() -> None:
    import_torchvision()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    one, two = drawn(80), drawn(60, 0.5)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(two), False)
    assert frechet_distance(moments(one), moments(two)) == theirs["frechet_inception_distance"]
    score = isc_features_to_metric(one)
    assert inception_score(one) == (score["inception_score_mean"], score["inception_score_std"])
    shares = prc_features_to_metric(one, two, verbose=False)
    assert precision_recall(one, two, 3) == pytest.approx((shares["precision"], shares["recall"]))


def test_frechet_distance_follows_its_definition() -> None:
    one, two = drawn(80).double().numpy(), drawn(60, 0.5).double().numpy()
    covariances = [np.cov(part, rowvar=False) for part in (one, two)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(values) @ vectors.T
    middle = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root)).sum()
    gap = one.mean(0) - two.mean(0)
    expected = gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * middle
    assert frechet_distance(moments(drawn(80)), moments(drawn(60, 0.5))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [200, 5])  # also where the covariance is singular
def test_a_set_against_itself_is_at_distance_zero(count: int) -> None:
    one = drawn(count)
    assert frechet_distance(moments(one), moments(one)) == pytest.approx(0, abs=1e-4)
    assert precision_recall(one, one, 3) == (1.0, 1.0)


def test_statistics_of_double_precision_meet_features_of_single() -> None:
    one, two = moments(drawn(80)), moments(drawn(60, 0.5))
    read = type(two)(two.mu.astype(np.float64), two.sigma)
    assert one.mu.dtype == np.float32
    assert frechet_distance(one, read) == pytest.approx(frechet_distance(one, two), rel=1e-5)


def test_the_inception_score_of_known_predictions() -> None:
    certain = 100.0 * torch.eye(10).repeat(100, 1)  # ten classes, each certain and equally often
    assert inception_score(certain)[0] == pytest.approx(10, rel=0.05)
    assert inception_score(torch.zeros(100, 10)) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_a_random_choice_of_features_is_repeatable_and_distinct() -> None:
    features = torch.arange(100.0)[:, None]
    few = random_subset(features, 30)
    assert few.equal(random_subset(features, 30))
    assert len(few.unique()) == 30
    assert not few.equal(features[:30])
    assert random_subset(features, 100) is features


# -------------------------------------------------------------------------------------------- whole scores


def test_another_network_gives_its_name_and_never_fid(network: Path) -> None:
    samples, reference = pictures(30, 0), pictures(40, 1)
    score = score_generation(samples, ImageReference("folder/", PictureSet(reference)), scorer(network), Silent())
    found = by_name(score)
    assert set(found) == {"frechet_distance", "precision", "recall"}
    assert found["frechet_distance"].title == "Frechet distance (small.pt)"
    assert found["precision"].title == "precision (small.pt)"
    assert "30 images against 40 reference images (folder/)" in found["frechet_distance"].definition
    assert (found["precision"].total, found["recall"].total) == (30, 40)
    assert found["precision"].interval is not None
    rebuilt = by_name(score_reconstruction(samples, pictures(30, 2), scorer(network), Silent()))
    assert rebuilt["frechet_distance"].title == "Frechet distance (small.pt)"
    assert not any("FID" in metric.title for metric in [*found.values(), *rebuilt.values()])
    assert "the Inception Score is left out: small.pt has no classes of ImageNet" in score.notes


def test_equal_sets_score_zero_and_one(network: Path) -> None:
    samples = pictures(30, 0)
    found = by_name(score_generation(samples, ImageReference("same/", PictureSet(samples)), scorer(network), Silent()))
    assert found["frechet_distance"].value == pytest.approx(0, abs=1e-6)
    assert (found["precision"].value, found["recall"].value) == (1, 1)
    rebuilt = by_name(score_reconstruction(samples, samples, scorer(network), Silent()))
    assert rebuilt["frechet_distance"].value == pytest.approx(0, abs=1e-6)


def test_features_do_not_depend_on_the_batches(network: Path) -> None:
    images = PictureSet(pictures(5, 0) + pictures(4, 1, size=24) + pictures(3, 2, mode="L"))
    whole = open_extractor(scorer(network).config.metrics).features(images, Silent(), "")
    one = open_extractor(scorer(network, batch_size=1).config.metrics).features(images, Silent(), "")
    assert whole.pool.shape == (12, 12)
    assert torch.allclose(whole.pool, one.pool, atol=1e-6)


def test_only_a_batch_of_images_is_in_floating_point(monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    sizes = []
    extractor = open_extractor(scorer(network, batch_size=8).config.metrics)
    inner = extractor.network

    def watched(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        assert images.is_floating_point() and float(images.max()) <= 1
        return inner(images)

    monkeypatch.setattr(extractor, "network", watched)
    extractor.features(PictureSet(pictures(20, 0)), Silent(), "")
    assert sizes == [8, 8, 4]


def test_a_reference_is_measured_once(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = scorer(network)
    reference = ImageReference("folder/", PictureSet(pictures(20, 1)))
    titles = []
    inner = Extractor.features

    def watched(self, images, progress, title):
        titles.append(title)
        return inner(self, images, progress, title)

    monkeypatch.setattr(Extractor, "features", watched)
    scores = [score_generation(pictures(20, 0), reference, ready, Silent()) for _ in range(2)]
    assert scores[0] == scores[1]
    assert titles.count("Features of the reference") == 1


def test_few_images_are_measured_as_far_as_they_go(network: Path) -> None:
    reference = ImageReference("folder/", PictureSet(pictures(3, 1)))
    score = score_generation(pictures(3, 0), reference, scorer(network), Silent())
    found = by_name(score)
    assert found["frechet_distance"].value is not None
    assert found["precision"].value is None
    assert any("3 images for 12 features leave the covariance singular" in note for note in score.notes)
    alone = score_generation(pictures(1, 0), reference, scorer(network), Silent())
    assert by_name(alone)["frechet_distance"].value is None
    nothing = score_generation(pictures(3, 0), None, scorer(network), Silent())
    assert nothing.metrics == ()
    assert any("no reference" in note for note in nothing.notes)


def test_classes_stand_beside_those_of_the_reference(network: Path) -> None:
    samples = pictures(8, 0)
    for index, sample in enumerate(samples):
        sample.info["label"] = index % 2
    labels = torch.tensor([0, 0, 0, 1])
    reference = ImageReference("folder/", PictureSet(pictures(4, 1)), labels=labels, classes=("cat", "dog"))
    score = score_generation(samples, reference, scorer(network), Silent())
    (histogram,) = score.histograms
    assert histogram.samples == {"cat": 0.5, "dog": 0.5}
    assert histogram.reference == {"cat": 0.75, "dog": 0.25}
    assert histogram.total_variation == 0.25
    assert "classes of the samples: from 4 to 4 of each of 2" in score.notes


# ------------------------------------------------------------------------------------- networks and weights


def test_missing_weights_cost_no_other_number_and_say_which_file_goes_where(tmp_path: Path) -> None:
    ready = scorer()
    rebuilt = score_reconstruction(pictures(3, 0), pictures(3, 1), ready, Silent())
    found = by_name(rebuilt)
    assert {name for name, metric in found.items() if metric.value is not None} == {"psnr", "ssim", "l1"}
    (vgg,) = [note for note in rebuilt.notes if note.startswith("LPIPS is left out")]
    assert VGG16.name in vgg and str(tmp_path / "torch") in vgg and "image.metrics.vgg=FILE" in vgg
    (rfid,) = [note for note in rebuilt.notes if note.startswith("rFID is left out")]
    generated = score_generation(pictures(3, 0), None, ready, Silent())
    assert [metric.value for metric in generated.metrics] == [None] * 4
    for note in (rfid, generated.notes[0]):
        assert "weights of Inception: " in note and "could not be downloaded (github.com: no network in tests)" in note
        place = tmp_path / "torch" / "hub" / "checkpoints"
        assert f"put {INCEPTION.name} into {place}" in note
        assert INCEPTION.variable in note and "image.metrics.inception=FILE" in note and "--features FILE" in note
        assert "\n" not in note


def test_a_download_is_tried_once_for_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*_args, **_kwargs):
        tried.append(1)
        raise UniteError("gone")

    monkeypatch.setattr(features, "find_weights", refuse)
    ready = scorer()
    for _ in range(2):
        score_reconstruction(pictures(2, 0), pictures(2, 1), ready, Silent())
        score_generation(pictures(2, 0), None, ready, Silent())
    assert len(tried) == 1


def test_the_weights_are_those_that_their_packages_use() -> None:
    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torchvision.models import VGG16_Weights

    assert INCEPTION.url == URL_INCEPTION_V3 and INCEPTION.url.endswith(INCEPTION.name)
    assert VGG16.url == VGG16_Weights.IMAGENET1K_V1.url and VGG16.url.endswith(VGG16.name)


@pytest.mark.parametrize("how", ["setting", "variable", "cache"])
def test_another_file_is_not_taken_for_inception(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "torch" / "hub" / "checkpoints" / INCEPTION.aliases[0]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    if how == "variable":
        monkeypatch.setenv(INCEPTION.variable, str(file))
    with pytest.raises(UsageError, match="not the published weights of Inception"):
        find_weights(INCEPTION, str(file) if how == "setting" else None)


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"image\.metrics\.inception: .*absent\.pth does not exist"):
        find_weights(INCEPTION, str(tmp_path / "absent.pth"))
    with pytest.raises(UsageError, match=r"absent\.pt does not exist"):
        open_extractor(ImageMetrics(features=str(tmp_path / "absent.pt")))
    with pytest.raises(UsageError, match="cannot compute on abacus"):
        open_extractor(ImageMetrics(device="abacus"))


class Wrong(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.kind == "maps":
            return images
        if self.kind == "channels":
            return torch.nn.functional.conv2d(images, torch.ones(1, 5, 1, 1)).mean((2, 3))
        return images.mean((2, 3)) / 0


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("maps", UsageError, r"returns \(3, 3, 16, 16\) for images .* it must return features \(B, D\)"),
        ("channels", UsageError, r"wrong\.pt: fails on images \(3, 3, 16, 16\)"),
        ("infinite", UniteError, "not finite for 3 of 3 images"),
    ],
)
def test_networks_of_another_kind_are_refused(kind: str, error: type, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.pt"
    torch.jit.script(Wrong(kind)).save(str(file))
    extractor = open_extractor(ImageMetrics(features=str(file)))
    with pytest.raises(error) as caught:
        extractor.features(PictureSet([flat(5), flat(6), flat(7)]), Silent(), "")
    assert re.search(message, str(caught.value).replace("\n", " "))


def test_a_file_that_is_no_torchscript_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(UsageError, match="not a TorchScript file"):
        open_extractor(ImageMetrics(features=str(file)))
    file.write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"image\.metrics\.features: .* is not a TorchScript file"):
        open_extractor(ImageMetrics(features=str(file)))
    with pytest.raises(UsageError, match="holds weights without their network"):
        open_extractor(ImageMetrics(features=str(file.rename(tmp_path / "weights.safetensors"))))


@pytest.mark.slow
def test_inception_with_random_weights_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architecture with random weights, from its file to every number."""
    file = random_inception(tmp_path / INCEPTION.name)
    exact = replace(INCEPTION, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(features, "INCEPTION", exact)
    monkeypatch.setenv(INCEPTION.variable, str(file))
    ready = scorer()
    reference = ImageReference("folder/", PictureSet(pictures(6, 1)))
    score = score_generation(pictures(10, 0), reference, ready, Silent())
    found = by_name(score)
    assert [metric.title for metric in score.metrics] == [
        "FID", "Inception Score", "Inception Score, deviation", "precision", "recall",
    ]  # fmt: skip
    assert not any(parameter.requires_grad for parameter in ready.extractor.network.parameters())

    batch = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in pictures(10, 0)])
    pool, logits = ready.extractor.network(batch)
    real = reference.features(ready.extractor, Silent()).pool
    assert found["inception_score"].value == pytest.approx(inception_score(logits)[0], rel=1e-4)
    assert found["precision"].value == pytest.approx(precision_recall(pool, real, 3)[0])
    # Singular covariances: their product's trace of the root equals that of the small matrices of inner products.
    one, two = (part.double().numpy() - part.double().numpy().mean(0) for part in (pool, real))
    cross = one @ two.T / math.sqrt((len(one) - 1) * (len(two) - 1))
    middle = np.linalg.svd(cross, compute_uv=False).sum()
    gap = pool.double().mean(0) - real.double().mean(0)
    spread = (one**2).sum() / (len(one) - 1) + (two**2).sum() / (len(two) - 1)
    assert found["fid"].value == pytest.approx(float(gap @ gap) + spread - 2 * middle, rel=1e-2)
    assert found["fid"].total == 10
