"""What a GPU computes is what the CPU computes; skipped where there is none."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_models import STATISTICS, TINY, make_batch, make_model
from PIL import Image

from unite_mm.api import UNITE
from unite_mm.contract import DataRequest
from unite_mm.training.feed import BatchFeed
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.dataset import open_data
from unite_mm_image.model.perceptual import build_lpips
from unite_mm_image.torchvision_import import import_torchvision
from unite_mm_schemas.config import TrainConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper rather than in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


class DrawnOnTheCPU:
    """A step's random numbers, drawn by the CPU's generator wherever they are used."""

    def __init__(self, model: UNITE, size: int, device: torch.device) -> None:
        self.noise = StepNoise(torch.Generator().manual_seed(0), size, model.modules_of("image").layout, Shard())
        self.device = device

    def __getattr__(self, name: str) -> Any:
        def draw(*arguments: Any) -> Any:
            drawn = getattr(self.noise, name)(*arguments)
            values = {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}
            return type(drawn)(**{key: None if v is None else v.to(self.device) for key, v in values.items()})

        return draw


def image_model(device: torch.device, **image: Any) -> UNITE:
    """The same weights each time, LPIPS with a random VGG among them where its weight says so."""
    torch.manual_seed(0)
    model = make_model({"width": 64, "depth": 3, "heads": 4}, STATISTICS, **image).to(device)
    if image.get("lpips_weight"):
        import_torchvision()
        from torchvision.models import vgg16

        torch.manual_seed(1)
        weights = {k: v for k, v in vgg16(weights=None).state_dict().items() if k.startswith("features.")}
        model.modules_of("image").perceptual.network = build_lpips(weights)
    model.network.train()
    return model


def gradients(model: UNITE, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """The gradient of one step, in one vector on the CPU."""
    device, batch = model.device, make_batch(6, model.modules_of("image").config)
    noise: Any = DrawnOnTheCPU(model, 6, device)
    model.network.zero_grad(set_to_none=True)
    enabled = precision != torch.float32

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, precision, enabled=enabled)

    JointRecipe(model.config, model.network).backward("image", batch.to(device), noise, autocast)
    return torch.cat([p.grad.flatten().cpu() for p in model.network.parameters() if p.grad is not None])


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


LARGER = {"size": 32, "patch": 8, "channels": 8, "decoder_width": 64, "decoder_heads": 4, "lpips_weight": 1.0}


def test_gradients_of_a_step_are_those_of_the_cpu():
    expected, found = (gradients(image_model(device, **LARGER)) for device in (torch.device("cpu"), GPU))
    assert apart(found, expected) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)])
def test_compiled_gradients_are_those_of_the_cpu(precision, tolerance):
    """The blocks, those of the decoder and LPIPS compiled; bf16 is compared with the CPU's float32."""
    model = image_model(GPU, **LARGER)
    model.network.compile_for_training()
    expected = gradients(image_model(torch.device("cpu"), **LARGER))
    assert apart(gradients(model, precision), expected) < tolerance


def test_generated_and_reconstructed_images_are_those_of_the_cpu():
    pictures = {}
    for device in ("cpu", "cuda"):
        model = image_model(torch.device(device))
        model.network.eval()
        inputs = [Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)) for level in (10, 120, 250)]
        found = [*model.generate(5, seed=3, condition=[0, 1, 2, 0, 1]), *model.reconstruct(inputs)]
        pictures[device] = np.stack([np.asarray(picture, dtype=np.int16) for picture in found])
    assert pictures["cpu"].std() > 0
    assert np.abs(pictures["cpu"] - pictures["cuda"]).max() <= 1


def test_batches_prepared_ahead_are_those_of_their_step():
    """In order, again, and after a jump, each read late on the GPU while the next is on its way."""
    config = ImageConfig(**{**TINY, "size": 32, "patch": 8}, lpips_weight=0, flip=True)
    data = open_data(DataRequest("shapes", Path()), config)
    settings = TrainConfig(max_steps=1, batch_size=48)
    layout = image_model(GPU).modules_of("image").layout
    ahead, plain = (BatchFeed(settings, 0, data, layout, d, Shard()) for d in (GPU, torch.device("cpu")))
    busy = torch.randn(2048, 2048, device=GPU)
    steps, sums = [0, 1, 2, 2, 9, 10, 3], []
    for step in steps:
        pixels = ahead.batch(step).pixels
        assert pixels.device.type == "cuda"
        for _ in range(20):  # what reads the batch waits behind these
            busy = busy @ busy / busy.norm()
        sums.append(pixels.double().flatten(1).cumsum(1)[:, ::97].clone())
        del pixels
        torch.cuda.synchronize()  # once a step, as the trainer does
    for step, found in zip(steps, sums, strict=True):
        expected = plain.batch(step).pixels.double().flatten(1).cumsum(1)[:, ::97]
        assert torch.allclose(found.cpu(), expected, rtol=1e-9), step


def unite_mm(*arguments: str) -> str:
    """What a command prints."""
    result = subprocess.run(
        [sys.executable, "-m", "unite_mm.cli.main", *arguments], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if record["kind"] == "train" for key in ("reconstruction", "flow")]


def train(out: Path, *more: str) -> list[float]:
    """Train a few steps; the losses."""
    settings = ("train.log_every=1", "train.max_time=null", "optim.schedule=constant", "optim.warmup_steps=0")
    common = ["train", "--modality", "image", "--preset", "shapes-tiny", "--out", str(out)]
    unite_mm(*common, *(part for setting in settings for part in ("--set", setting)), *more)
    return losses(out)


@pytest.mark.slow
def test_a_resumed_run_has_the_losses_of_a_whole_one(tmp_path):
    """Up to what kernels that sum in any order make of it."""
    length = ("--precision", "32-true", "--max-steps", "6")
    whole = train(tmp_path / "whole", *length)
    parts = tmp_path / "parts"
    train(parts, *length, "--set", "train.checkpoint_every=3")
    older, newer = sorted((parts / "checkpoints").iterdir())
    shutil.rmtree(newer)
    assert "resuming from step-000000003" in unite_mm("train", "--resume", "--out", str(parts))
    assert older.is_dir() and newer.is_dir()
    assert len(whole) == 12
    assert losses(parts) == pytest.approx(whole, rel=1e-2)


@pytest.mark.slow
def test_a_recorded_run_has_the_losses_of_one_that_is_not(tmp_path):
    """The kernels are the same, whatever launches them; resumed in the middle it has them too."""
    length = ("--precision", "32-true", "--max-steps", "8", "--set", "train.checkpoint_every=4")
    plain = train(tmp_path / "plain", *length)
    recorded = tmp_path / "recorded"
    assert train(recorded, *length, "--set", "train.cuda_graphs=true") == pytest.approx(plain, rel=1e-2)
    shutil.rmtree(max((recorded / "checkpoints").iterdir()))
    unite_mm("train", "--resume", "--out", str(recorded))
    assert len(plain) == 16
    assert losses(recorded) == pytest.approx(plain, rel=1e-2)


@pytest.mark.slow
def test_a_compiled_run_of_the_gpu_serves_on_the_cpu(tmp_path):
    """With the same pictures."""
    run = tmp_path / "run"
    assert len(train(run, "--max-steps", "3", "--set", "train.compile=true")) == 6
    pictures = {}
    for device in ("cuda", "cpu"):
        file = tmp_path / f"{device}.npz"
        printed = unite_mm("sample", str(run), "-n", "8", "--device", device, "-o", str(file))
        assert "50 evaluations of the network each" in printed
        pictures[device] = np.load(file)["arr_0"].astype(int)
    assert np.abs(pictures["cuda"] - pictures["cpu"]).mean() < 1
    unite_mm("sample", str(run), "-n", "3", "-o", str(tmp_path / "few"))
    unite_mm("reconstruct", str(run), str(tmp_path / "few"), "-o", str(tmp_path / "again"))
    assert len(list((tmp_path / "again").glob("*.png"))) == 3
