"""The image's parts of the model: patches, pixels, losses, classes, sizes, and the published architectures."""

import math
import urllib.request
from pathlib import Path

import pytest
import torch
from helpers.image_models import STATISTICS, TINY, make_batch, make_model
from PIL import Image
from pydantic import ValidationError

from unite_mm.config import RunOptions, resolve
from unite_mm.contract import Registers
from unite_mm.errors import UniteError, UsageError
from unite_mm.registry import discover
from unite_mm.registry.build import build_network
from unite_mm.training.optim import Optimizers, parameter_groups
from unite_mm.training.schedule import rate_factor
from unite_mm_image.config import ImageConfig
from unite_mm_image.modality import Images
from unite_mm_image.model.decoder import grid_table
from unite_mm_image.model.modules import ImageModules
from unite_mm_image.model.perceptual import PerceptualLoss, build_lpips
from unite_mm_image.model.tokenizer import PatchTokenizer
from unite_mm_schemas.config import OptimConfig

# ------------------------------------------------------------------------------------------------- tokens and pixels


def test_patches_are_tokens_row_by_row_after_the_registers():
    config = ImageConfig(**TINY, lpips_weight=0)
    tokenizer = PatchTokenizer(config, 48)
    with torch.no_grad():  # each token is its patch, flattened
        tokenizer.project.weight.copy_(torch.eye(48).view(48, 3, 4, 4))
        tokenizer.project.bias.zero_()
    batch = make_batch(2, config)
    tokens = tokenizer(batch)
    assert tokens.values.shape == (2, 4, 48) and tokens.mask is None
    assert torch.allclose(tokens.values[1, 2].view(3, 4, 4), batch.pixels[1, :, 4:, :4])  # second row, first column
    assert tokens.positions.tolist() == [4, 5, 6, 7]
    aligned = PatchTokenizer(config.model_copy(update={"patch_positions": "aligned"}), 48)
    assert aligned.positions.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("colours", ["rgb", "grey"])
def test_unpatchify_is_the_inverse_of_cutting_patches(colours):
    model = make_model(colours=colours, size=12)
    config = model.modules_of("image").config
    decoder = model.modules_of("image").decoder
    pixels = make_batch(2, config).pixels
    patches = [
        pixels[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(0, 2, 3, 1).flatten(1)
        for row in range(3)
        for column in range(3)
    ]
    assert torch.equal(decoder.unpatchify(torch.stack(patches, dim=1)), pixels)


def test_the_places_of_the_decoder_follow_column_then_row():
    table = grid_table(3, 8)
    assert table.shape == (9, 8)
    assert torch.equal(table[1, 4:], table[0, 4:]) and torch.equal(table[3, :4], table[0, :4])  # same row, same column
    assert table[5].tolist() == pytest.approx(
        [
            math.sin(2),
            math.sin(0.02),
            math.cos(2),
            math.cos(0.02),
            math.sin(1),
            math.sin(0.01),
            math.cos(1),
            math.cos(0.01),
        ]
    )


@pytest.mark.parametrize(
    ("size", "patch", "colours"), [(8, 4, "rgb"), (12, 3, "grey"), (10, 10, "rgb"), (6, 1, "grey")]
)
def test_any_square_size_that_the_patch_divides(size, patch, colours):
    model = make_model(size=size, patch=patch, colours=colours)
    config = model.modules_of("image").config
    batch = make_batch(3, config)
    latents = model.tokenize(batch)
    assert latents.values.shape == (3, (size // patch) ** 2, 6)
    decoded = model.network.decode("image", latents.values, latents.registers)
    assert decoded.shape == batch.pixels.shape and decoded.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 10}, "image.patch=4 must divide image.size=10"),
        ({"decoder_width": 18}, "image.decoder_width=18 must be a multiple of 4"),
        ({"decoder_heads": 3}, "image.decoder_heads=3 must divide image.decoder_width=16"),
        ({"lpips_weight": 1.0}, "too small for LPIPS"),
        ({"colours": "cmyk"}, "'rgb' or 'grey'"),
    ],
)
def test_configurations_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        ImageConfig(**{**TINY, "lpips_weight": 0, **change})


def test_a_size_that_the_patch_does_not_divide_is_refused_with_its_origin():
    options = RunOptions(modalities=("image",), assignments=("image.size=30",))
    with pytest.raises(UsageError, match=r"^image.patch=8 must divide image.size=30"):
        resolve(options, discover())


# ------------------------------------------------------------------------------------------------------------ classes


def test_generated_images_know_their_class_and_the_prior_draws_classes_as_often_as_trained():
    model = make_model()
    given = model.generate(3, condition=torch.tensor([2, 1, 0]), seed=1)
    assert [image.info["label"] for image in given] == [2, 1, 0]
    assert {(image.size, image.mode) for image in given} == {((8, 8), "RGB")}
    drawn = [image.info["label"] for image in model.generate(12)]
    assert set(drawn) == {0, 2}  # no training image has class 1
    assert "label" not in model.decode(model.tokenize(make_batch(1, model.modules_of("image").config)))[0].info


def test_without_classes_generation_takes_no_condition():
    model = make_model(statistics={"classes": [], "class_counts": []})
    assert "label" not in model.generate(1)[0].info
    with pytest.raises(UsageError, match="takes no condition"):
        model.generate(1, condition=0)
    assert make_model(condition="none").modules_of("image").condition.kind == "none"


def test_classes_outside_the_range_are_refused():
    model = make_model()
    with pytest.raises(UsageError, match="is no class"):
        model.generate(1, condition=3)
    picture = Image.new("RGB", (8, 8))
    picture.info["label"] = 7
    with pytest.raises(UsageError, match=r"image 0 has the class 7, but the model knows 0 to 2"):
        model.tokenize([picture])


def test_guidance_changes_what_is_generated_and_dropped_conditions_are_null():
    model = make_model()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    state = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    registers = Registers(torch.ones(2, 4, dtype=torch.bool), padded=False)
    arguments = ("image", state, torch.tensor([0.3, 0.6]), registers)
    labels = torch.tensor([0, 2])
    with torch.no_grad():
        with_class, null = model.network.encoder(*arguments, condition=labels), model.network.encoder(*arguments)
        mixed = model.network.encoder(*arguments, condition=labels, dropped=torch.tensor([True, False]))
    assert not torch.allclose(with_class, null, atol=1e-3)
    assert torch.allclose(mixed[0], null[0], atol=1e-6) and torch.allclose(mixed[1], with_class[1], atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- LPIPS


@pytest.fixture(scope="module")
def lpips():
    """LPIPS on random features: the weights of VGG cannot be part of the tests, and what is tested needs none."""
    generator = torch.Generator().manual_seed(0)
    layers = {
        0: 64,
        2: 64,
        5: 128,
        7: 128,
        10: 256,
        12: 256,
        14: 256,
        17: 512,
        19: 512,
        21: 512,
        24: 512,
        26: 512,
        28: 512,
    }
    features, into = {}, 3
    for number, out in layers.items():
        features[f"features.{number}.weight"] = (
            torch.randn(out, into, 3, 3, generator=generator) * (2 / 9 / into) ** 0.5
        )
        features[f"features.{number}.bias"] = torch.zeros(out)
        into = out
    return features, build_lpips(features)


@pytest.fixture
def perceptual(lpips) -> PerceptualLoss:
    loss = PerceptualLoss()
    loss.network = lpips[1]
    return loss


@pytest.mark.parametrize("colours", [1, 3])
def test_lpips_is_zero_for_equal_images_symmetric_and_one_value_per_image(perceptual, colours):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, colours, 16, 16, generator=generator) for _ in range(2))
    assert torch.equal(perceptual(a, a), torch.zeros(2))
    assert torch.allclose(perceptual(a, b), perceptual(b, a), rtol=1e-5)
    assert perceptual(a, b).shape == (2,) and bool((perceptual(a, b) > 0).all())
    assert torch.allclose(perceptual(a[1:], b[1:]), perceptual(a, b)[1:], rtol=1e-4)


def test_lpips_gives_gradients_to_the_image_and_to_no_weight(perceptual):
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    perceptual(image, torch.rand(1, 3, 16, 16)).sum().backward()
    assert float(image.grad.abs().sum()) > 0
    assert all(not p.requires_grad and p.grad is None for p in perceptual.network.parameters())


def test_a_run_that_compiles_its_blocks_compiles_lpips_loaded_or_not(lpips, monkeypatch):
    """Asked of torch's own mark: whether the compiled network computes the same is a matter for a GPU's test."""
    for loaded in (True, False):
        model = make_model(size=16, lpips_weight=1.0)
        perceptual = model.modules_of("image").perceptual
        network = build_lpips(lpips[0])
        monkeypatch.setattr("unite_mm_image.model.perceptual.load_lpips", lambda _file, network=network: network)
        perceptual.network = network if loaded else None
        assert network._compiled_call_impl is None
        model.network.compile_for_training()
        if not loaded:
            monkeypatch.setattr(type(network), "forward", lambda _self, a, b: (a - b).mean((1, 2, 3)))
            with torch.compiler.set_stance("force_eager"):
                perceptual(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
        assert network._compiled_call_impl is not None


def test_lpips_sees_images_in_the_range_it_was_made_for_unless_told_otherwise(lpips, perceptual):
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.rand(2, 3, 16, 16, generator=generator) for _ in range(2))
    assert torch.allclose(perceptual(a, b), lpips[1](a, b, normalize=True).flatten(), rtol=1e-5)
    official = PerceptualLoss(scale="unit")
    official.network = lpips[1]
    assert torch.allclose(official(a, b), lpips[1](a, b).flatten(), rtol=1e-5)
    assert not torch.allclose(official(a, b), perceptual(a, b), rtol=1e-2)


def test_the_heads_of_lpips_are_the_published_ones(lpips):
    import lpips as package

    published = torch.load(Path(package.__file__).parent / "weights" / "v0.1" / "vgg.pth", "cpu", weights_only=True)
    own = lpips[1].state_dict()
    assert len(published) == 5
    assert all(torch.equal(own[name], value) for name, value in published.items())
    assert own["scaling_layer.shift"].flatten().tolist() == pytest.approx([-0.030, -0.088, -0.188])
    assert own["scaling_layer.scale"].flatten().tolist() == pytest.approx([0.458, 0.448, 0.450])


def test_the_frozen_network_is_neither_trained_nor_saved_nor_put_into_training_mode(perceptual):
    model = make_model(size=16, lpips_weight=1.0)
    end = model.modules_of("image")
    assert isinstance(end, ImageModules)
    end.perceptual = perceptual
    network = model.network
    names = {name for name, _ in network.named_parameters()} | set(network.state_dict())
    network.train()
    batch = make_batch(2, end.config)
    latents = model.tokenize(batch)
    terms = end.losses(model.network.decode("image", latents.values, latents.registers), batch)
    assert set(terms) == {"l1", "lpips"} and terms["lpips"].values.shape == (2,)
    assert not perceptual.network.training
    assert {name for name, _ in network.named_parameters()} | set(network.state_dict()) == names
    frozen = {id(parameter) for parameter in perceptual.network.parameters()}
    assert not frozen & {
        id(parameter) for parameter in Optimizers(parameter_groups(network, "muon"), OptimConfig()).parameters
    }


def test_without_weights_of_vgg_a_run_stops_before_its_data_and_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    modality = Images(ImageConfig(lpips_weight=1.0), "image")
    with pytest.raises(UniteError) as error:
        modality.check_training()
    assert "weights of VGG16: vgg16-397923af.pth could not be downloaded" in error.value.message
    assert "no network" in error.value.message
    assert f"put vgg16-397923af.pth into {tmp_path / 'checkpoints'}" in error.value.hint
    assert "--set image.lpips_vgg=FILE" in error.value.hint and "image.lpips_weight=0" in error.value.hint
    absent = ImageConfig(lpips_weight=1.0, lpips_vgg=str(tmp_path / "absent.pth"))
    with pytest.raises(UsageError, match=r"^image\.lpips_vgg: .*absent.pth does not exist"):
        Images(absent, "image").check_training()
    Images(ImageConfig(lpips_weight=0.0), "image").check_training()


def test_a_local_file_of_vgg_is_used(lpips, tmp_path, perceptual):
    path = tmp_path / "vgg.pth"
    torch.save(lpips[0] | {"classifier.0.bias": torch.zeros(3)}, path)
    a, b = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    assert torch.allclose(PerceptualLoss(str(path))(a, b), perceptual(a, b))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(UniteError, match=r"not the weights of VGG16: .* is missing"):
        PerceptualLoss(str(path))(a, b)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UniteError, match="cannot be read as weights"):
        PerceptualLoss(str(path))(a, b)


# ----------------------------------------------------------------------------------- presets and published schedules

UNUSED = 2
"""Rows of the encoder's width that the official model has and nothing reads: `special_time_emb` and the last row of the
table of classes. Ours leaves them out."""

PUBLISHED = {"imagenet256-base": 217_643_616, "imagenet256-large": 545_528_384}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_sizes(preset):
    config = resolve(RunOptions(modalities=("image",), preset=preset), discover())
    own = ImageConfig(**config.modalities["image"].config)
    statistics = {"classes": [str(number) for number in range(1000)], "class_counts": [1] * 1000}
    with torch.device("meta"):
        model = build_network(config, {"image": Images(own, "image")}, {"image": statistics})
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained + UNUSED * config.trunk.width == PUBLISHED[preset]


SIZES = {"shapes-tiny": (1e6, 4e6), "cifar10": (3e6, 12e6), "imagenet256-xl": (7e8, 9e8)}


def test_every_preset_is_known_here():
    assert set(discover().get("image").presets()) == {*SIZES, *PUBLISHED}


@pytest.mark.parametrize("preset", SIZES)
def test_presets_build_models_of_their_size(preset):
    config = resolve(RunOptions(modalities=("image",), preset=preset), discover())
    own = ImageConfig(**config.modalities["image"].config)
    with torch.device("meta"):
        model = build_network(config, {"image": Images(own, "image")}, {"image": STATISTICS})
    low, high = SIZES[preset]
    assert low < sum(parameter.numel() for parameter in model.parameters()) < high
    assert (own.lpips_weight == 0) == (not preset.startswith("imagenet"))  # presets for the CPU need no weights of VGG


def test_the_published_schedule_at_chosen_steps():
    """Learning rates that the official code shows, at batch 1024 and 1,251 steps an epoch."""
    config = resolve(RunOptions(modalities=("image",), preset="imagenet256-base"), discover())
    published = {
        1: 5.329070077271517e-09,
        100: 5.329070077271517e-07,
        25020: 0.00013333333333333334,
        50040: 0.0002666666666666667,
        75060: 0.0002666666666666667,
        87570: 0.0002471404520791032,
        100080: 0.0002,
        112590: 0.00015285954792089684,
        125100: 0.00013333333333333334,
        250200: 0.00013333333333333334,
    }
    for step, rate in published.items():
        ours = config.optim.learning_rate * rate_factor(config.optim, step, step / config.train.max_steps)
        assert ours == pytest.approx(rate, rel=1e-9), step
    assert config.flow.draws == 14 and config.flow.reduction == "sum" and not config.optim.ema_ramp


def test_stages_of_a_schedule_follow_each_other():
    config = OptimConfig(warmup_steps=0, schedule="stages", stages=((10, 20, 0.5), (30, 30, 0.1)))
    assert [rate_factor(config, step, 0.0) for step in (1, 10, 20, 29, 30, 99)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]
    assert rate_factor(config, 15, 0.0) == pytest.approx(0.75)
    for wrong in ({"stages": ((5, 9, 0.5),)}, {"schedule": "stages"}):
        with pytest.raises(ValidationError, match=r"optim\.stages needs"):
            OptimConfig(**wrong)
    for stages in (((9, 5, 0.5),), ((1, 5, 0.5), (3, 9, 0.1)), ((1, 5, 1.5),)):
        with pytest.raises(ValidationError, match=r"stages"):
            OptimConfig(schedule="stages", stages=stages)


def test_sines_and_cosines_start_the_registers_as_published():
    model = make_model({"register_start": "sincos"})
    start = model.network.encoder.heads["image"].registers.detach()
    assert start[3, 0] == pytest.approx(math.sin(3)) and start[3, 8] == pytest.approx(math.cos(3))
    assert start[3, 9] == pytest.approx(math.cos(3 * 10000 ** (-1 / 8)))
