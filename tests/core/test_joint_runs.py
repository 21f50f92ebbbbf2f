"""Several modalities in one run, and a trained trunk for another modality."""

import json
from pathlib import Path

import pytest
import torch
from helpers.toy_models import gradients, make_batch, make_noise
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import Points

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UsageError
from unite_mm.registry.build import build_network
from unite_mm.storage.checkpoint import read_tensors
from unite_mm.storage.runs import newest_checkpoint
from unite_mm.training.data_order import BatchStream
from unite_mm.training.display import headlines
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm_schemas.config import FlowConfig, ModalityRun, RunConfig, TrunkConfig

STATISTICS = {"counts": [1, 1, 1]}
TRUNK = TrunkConfig(width=32, depth=2, heads=2, time_features=16, gate_start=0.5)
TOY = ["train", "--modality", "points"]
JOINT = ["--modality", "image", "--set", "image.size=16", "--set", "optim.schedule=constant"]


def build(weights: dict[str, float] | None = None, **channels: int) -> JointRecipe:
    """A recipe for several modalities, all of points, each with its own number of latent channels."""
    runs = {name: ModalityRun(weight=(weights or {}).get(name, 1.0)) for name in channels}
    config = RunConfig(modalities=runs, trunk=TRUNK, flow=FlowConfig(draws=2))
    modalities = {name: Points(PointsConfig(channels=size), name) for name, size in channels.items()}
    return JointRecipe(config, build_network(config, modalities, dict.fromkeys(channels, STATISTICS)))


def test_gradients_of_a_joint_step_are_the_weighted_sum_of_the_separate_ones():
    weights = {"points": 1.0, "dots": 0.3}

    def noise(recipe, name, number):
        made = make_noise(recipe.network, 8, step=number)
        made.layout = recipe.network.modules_of(name).layout
        return made

    joint, summed = build(weights, points=4, dots=6), None
    for number, (name, weight) in enumerate(weights.items()):
        joint.backward(name, make_batch(8), noise(joint, name, number))
        alone = build(points=4, dots=6)
        alone.backward(name, make_batch(8), noise(alone, name, number))
        own = gradients(alone.network)
        summed = {key: weight * value + (summed or {}).get(key, 0) for key, value in own.items()}
    found = gradients(joint.network)
    assert found["encoder.trunk.blocks.0.mlp.up.weight"].norm() > 0
    for key, value in found.items():
        assert torch.allclose(value, summed[key], rtol=1e-4, atol=1e-6), key


def test_the_trunk_does_not_grow_with_the_number_of_modalities():
    trunks = [build(**channels).network.encoder.trunk for channels in ({"a": 4}, {"a": 4, "b": 6})]
    sizes = [sum(p.numel() for p in trunk.parameters()) for trunk in trunks]
    assert sizes[0] == sizes[1]


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points and drawn shapes on one trunk, six steps."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    assert run([*TOY, *JOINT, "--max-steps", "6", "--set", "train.batch_size=4", "--out", str(folder)]) == 0
    return folder


def test_commands_work_for_each_modality_of_a_joint_run(joint_run: Path, tmp_path: Path, capsys) -> None:
    assert (joint_run / "samples-points.png").is_file() and (joint_run / "samples-image.png").is_file()
    records = [json.loads(line) for line in (joint_run / "metrics.jsonl").read_text().splitlines()]
    assert {"points/reconstruction", "image/reconstruction"} <= records[0].keys()
    assert run(["sample", str(joint_run), "-n", "3", "-o", str(tmp_path / "none.csv")]) == 2
    assert "several modalities" in capsys.readouterr().err
    assert run(["sample", str(joint_run), "--modality", "points", "-n", "3", "-o", str(tmp_path / "some.csv")]) == 0
    assert run(["sample", str(joint_run), "--modality", "image", "-n", "2", "-o", str(tmp_path / "images")]) == 0
    into = ["--modality", "image", "-o", str(tmp_path / "again")]
    assert run(["reconstruct", str(joint_run), str(tmp_path / "images"), *into]) == 0
    assert len(list((tmp_path / "again").glob("*.png"))) == 2
    model = UNITE.from_pretrained(joint_run)
    assert [len(model.generate(2, modality=name)) for name in ("points", "image")] == [2, 2]


def test_a_modality_without_training_data_is_an_error_not_a_silent_skip() -> None:
    with pytest.raises(UsageError, match="no training samples"):
        BatchStream(0, None, 4, seed=0)


def test_evaluate_asks_for_the_modality_and_scores_it(joint_run: Path, capsys) -> None:
    for modality, count in (("points", 20), ("image", 2)):
        wanted = ["--modality", modality, "--samples", str(count), "--reconstructions", str(count)]
        assert run(["evaluate", str(joint_run), *wanted]) == 0
    assert "image" in capsys.readouterr().out
    for modality in ("points", "image"):
        report = json.loads((joint_run / "evaluation" / modality / "metrics.json").read_text())
        assert report["modality"] == modality


def test_a_joint_run_resumes_exactly(joint_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    flags = ["--set", "train.batch_size=4", "--out", str(folder)]
    assert run([*TOY, *JOINT, "--max-steps", "3", *flags]) == 0
    assert run(["train", "--resume", "--max-steps", "6", "--out", str(folder)]) == 0
    whole, stopped = (read_tensors(newest_checkpoint(path)[0], "weights") for path in (joint_run, folder))
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_another_modality_starts_from_a_trained_trunk(joint_run: Path, tmp_path: Path) -> None:
    flags = ["--init-trunk", str(joint_run), "--set", "train.batch_size=4", "--max-steps", "2"]
    trained = UNITE.from_pretrained(joint_run).network.encoder.trunk.state_dict()
    kept = {}
    for frozen in (True, False):
        folder = tmp_path / f"frozen-{frozen}"
        assert run([*TOY, *flags, *["--freeze-trunk"] * frozen, "--out", str(folder)]) == 0
        kept[frozen] = UNITE.from_pretrained(folder).network.encoder.trunk.state_dict()
    assert all(torch.equal(kept[True][name], trained[name]) for name in trained)
    assert not all(torch.equal(kept[False][name], trained[name]) for name in trained)
    distance = max(float((kept[False][name] - trained[name]).abs().max()) for name in trained)
    assert distance < 0.1  # it started there
    assert run(["train", "--resume", "--out", str(tmp_path / "frozen-True"), "--max-steps", "3"]) == 0
    resumed = UNITE.from_pretrained(tmp_path / "frozen-True").network.encoder.trunk.state_dict()
    assert all(torch.equal(resumed[name], trained[name]) for name in trained)


def test_a_trunk_that_does_not_fit_is_refused(joint_run: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert run([*TOY, "--init-trunk", str(joint_run), "--set", "trunk.depth=5", *out]) == 2
    assert "trunk.depth is 2 there and 5 here" in capsys.readouterr().err
    assert run([*TOY, "--init-trunk", str(tmp_path / "nothing"), *out]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert run([*TOY, "--freeze-trunk", *out]) == 2
    assert "needs recipe.init_trunk" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_progress_bar_names_the_losses_of_each_modality() -> None:
    losses = {"qm9/reconstruction": 1.0, "qm9/bonds": 2.0, "qm9/flow": 3.0, "points/reconstruction": 4.0}
    losses |= {"gradient_norm": 5.0, "validation qm9/reconstruction": 6.0, "validation qm9/flow": 7.0}
    shown = "qm9/reconstruction 1.000, qm9/flow 3.000, points/reconstruction 4.000, validation qm9/reconstruction 6.000"
    assert headlines(losses) == shown
    assert headlines({"reconstruction": 1.0, "flow": 2.0, "l1": 3.0}) == "reconstruction 1.000, flow 2.000"
