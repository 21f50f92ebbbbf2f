"""References and pairs from files, and evaluation by command: two folders, statistics, a sweep on a tiny run."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_networks import Small, pictures, save_all, small_network
from PIL import Image

from unite_mm.cli.main import run
from unite_mm.config import RunOptions, resolve_resumed
from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm_image.config import ImageConfig, ImageMetrics
from unite_mm_image.files.pairs import read_pairs
from unite_mm_image.metrics.distances import moments
from unite_mm_image.metrics.features import open_extractor
from unite_mm_image.metrics.image_sets import ArraySet, FolderSet, PictureSet, SplitSet
from unite_mm_image.metrics.references import open_reference
from unite_mm_image.torchvision_import import import_torchvision
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.metrics import MetricsReport


@pytest.fixture(autouse=True)
def no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args, **_kwargs):
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network(tmp_path_factory.mktemp("networks") / "small.pt")


Ask = Callable[..., DataRequest]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    return lambda source: DataRequest(str(source), tmp_path / "cache")


# ----------------------------------------------------------------------------------------------- references


def test_a_folder_of_the_same_extent_is_taken_as_it_is(tmp_path: Path, ask: Ask) -> None:
    images = pictures(5, 0)
    folder = save_all(images, tmp_path / "real")
    found = open_reference(ask(folder), ImageConfig(size=32), pictures(2, 1))
    assert isinstance(found.images, FolderSet)
    (batch,) = found.images.batches(64)
    assert batch.equal(next(PictureSet(images).batches(64)))
    assert found.images.check() == []
    assert found.description == "real/"


def test_a_folder_of_another_extent_is_cut_to_that_of_the_samples(tmp_path: Path, ask: Ask) -> None:
    folder = save_all(pictures(3, 0, size=40), tmp_path / "real")
    found = open_reference(ask(folder), ImageConfig(), pictures(2, 1, size=16))
    (batch,) = found.images.batches(64)
    assert batch.shape == (3, 3, 16, 16)
    assert found.images.check() == [f"3 of 3 images of {folder} were scaled and cut to 16 pixels"]


def test_a_folder_with_splits_and_classes_gives_the_split_asked_for(tmp_path: Path, ask: Ask) -> None:
    for split, number in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            save_all(pictures(number, number), tmp_path / "set" / split / name)
    found = open_reference(ask(tmp_path / "set"), ImageConfig(), pictures(1, 0))
    assert (len(found.images), found.classes, found.labels.tolist()) == (8, ("cat", "dog"), [0] * 4 + [1] * 4)
    assert found.description == "set/, train split"
    held_out = ImageConfig(metrics=ImageMetrics(reference_split="validation"))
    assert len(open_reference(ask(tmp_path / "set"), held_out, pictures(1, 0)).images) == 4


def test_grey_samples_meet_a_grey_reference(tmp_path: Path, ask: Ask) -> None:
    folder = save_all(pictures(3, 0), tmp_path / "real")
    found = open_reference(ask(folder), ImageConfig(), pictures(2, 1, mode="L"))
    (batch,) = found.images.batches(64)
    assert batch[:, 0].equal(batch[:, 1])


def test_unreadable_references_are_counted_and_many_refused(tmp_path: Path, ask: Ask) -> None:
    folder = save_all(pictures(9, 0), tmp_path / "real")
    (folder / "bad.png").write_bytes(b"no image")
    found = open_reference(ask(folder), ImageConfig(max_unreadable=0.2), pictures(2, 1))
    assert sum(len(batch) for batch in found.images.batches(4)) == 9
    assert found.images.check()[0].startswith(f"1 of 10 images of {folder} cannot be used (bad.png cannot be read")
    strict = open_reference(ask(folder), ImageConfig(), pictures(2, 1))
    list(strict.images.batches(4))
    with pytest.raises(UsageError, match=r"1 of 10 images of .* cannot be used"):
        strict.images.check()


def test_named_data_are_prepared_at_the_extent_of_the_samples(ask: Ask) -> None:
    found = open_reference(ask("shapes"), ImageConfig(size=32), pictures(2, 1, size=8))
    assert isinstance(found.images, SplitSet)
    assert found.images.rows(0, 3)[2].shape == (8, 8, 3)
    assert len(found.classes) == 10
    with pytest.raises(UsageError, match="not squares of one size"):
        open_reference(ask("shapes"), ImageConfig(), pictures(1, 0, size=8) + pictures(1, 0, size=16))


def test_arrays_hold_statistics_images_or_both(tmp_path: Path, ask: Ask, network: Path) -> None:
    images = PictureSet(pictures(20, 0))
    extractor = open_extractor(ImageMetrics(features=str(network)))
    known = moments(extractor.features(images, Silent(), "").pool)
    pixels = np.stack(images.rows(0, 20))
    cases = {
        "statistics": {"mu": known.mu, "sigma": known.sigma},
        "images": {"arr_0": pixels, "arr_1": np.arange(20) % 3},
        "both": {"arr_0": pixels, "mu": known.mu, "sigma": known.sigma, "mu_s": known.mu},
    }
    for name, arrays in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = open_reference(ask(tmp_path / f"{name}.npz"), ImageConfig(), pictures(2, 1))
        read, _ = found.moments(extractor, Silent())
        assert np.allclose(read.mu, known.mu, atol=1e-6) and np.allclose(read.sigma, known.sigma, atol=1e-6)
        assert (found.images is None) == (name == "statistics")
        assert isinstance(found.images, ArraySet | None)


@pytest.mark.parametrize(
    ("mean", "covariance", "suffix"),
    [("mu", "sigma", ".npz"), ("ref_mean", "ref_cov", ".npz"), ("mean", "cov", ".npz"), ("mu", "sigma", ".NPZ")],
)
def test_statistics_of_other_programs_give_the_numbers_of_ours(
    mean: str, covariance: str, suffix: str, tmp_path: Path, ask: Ask, network: Path
) -> None:
    extractor = open_extractor(ImageMetrics(features=str(network)))
    pool = extractor.features(PictureSet(pictures(20, 0)), Silent(), "").pool
    known = moments(pool)
    path = tmp_path / f"stats{suffix}"
    with path.open("wb") as file:
        np.savez(file, **{mean: known.mu, covariance: known.sigma, "step": np.array(3)})
    read, _ = open_reference(ask(path), ImageConfig()).moments(extractor, Silent())
    assert np.array_equal(read.mu, known.mu) and np.array_equal(read.sigma, known.sigma)
    for name in ("feats", "features", "activations"):  # clean-fid's for its kernel distance
        np.savez(tmp_path / "feats.npz", **{name: pool.numpy()})
        read, _ = open_reference(ask(tmp_path / "feats.npz"), ImageConfig()).moments(extractor, Silent())
        assert np.array_equal(read.mu, known.mu) and np.array_equal(read.sigma, known.sigma)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, "holds neither statistics nor images, but: other"),
        (
            {"mu": np.zeros(3), "sigma": np.zeros((2, 2))},
            r"sigma is float64 \(2, 2\), not .*\(D, D\) with D = 3",
        ),
        ({"mu": np.full(2, np.nan), "sigma": np.zeros((2, 2))}, "not finite"),
        ({"mu": np.zeros(2, dtype=int), "sigma": np.zeros((2, 2))}, "floating-point"),
        ({"mu": np.array([None, 1]), "sigma": np.zeros((2, 2))}, "cannot be read"),
        ({"ref_mean": np.zeros(3), "ref_cov": np.zeros((2, 2))}, r"ref_cov is float64 \(2, 2\), not .*with D = 3"),
        ({"ref_mean": np.zeros(3)}, "holds neither statistics nor images, but: ref_mean"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 5.0], [0.0, 1.0]])}, "sigma is no covariance"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "sigma is no covariance"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "holds nothing"),
        ({"mu": np.zeros(9000), "sigma": np.zeros((1, 1))}, "mu is of more than 8,192 features"),
        ({"feats": np.zeros((1, 4))}, "two images are needed"),
        ({"feats": np.full((3, 4), np.inf)}, "feats holds values that are not finite"),
        ({f"a{i}": np.zeros(1) for i in range(99)}, r"but: a0, a1, .*a7, \.\.\."),
    ],
)
def test_wrong_arrays_are_refused(arrays: dict, message: str, tmp_path: Path, ask: Ask) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        open_reference(ask(tmp_path / "wrong.npz"), ImageConfig())
    (tmp_path / "torn.npz").write_bytes((tmp_path / "wrong.npz").read_bytes()[:40])
    with pytest.raises(UsageError, match="cannot be read"):
        open_reference(ask(tmp_path / "torn.npz"), ImageConfig())


# ---------------------------------------------------------------------------------------------------- pairs


def test_pairs_go_by_name_whatever_the_suffix_and_the_order(tmp_path: Path) -> None:
    images = pictures(3, 0)
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    (inputs / "sub").mkdir(parents=True)
    (outputs / "sub").mkdir(parents=True)
    for name, image in zip(("b", "a", "sub/a"), images, strict=True):
        image.save(inputs / f"{name}.png")
        image.save(outputs / f"{name}.bmp")
    originals, results = read_pairs(inputs, outputs)
    assert [image.tobytes() for image in originals] == [image.tobytes() for image in results]
    assert originals[0].tobytes() == images[1].tobytes()


def test_images_without_partner_are_named(tmp_path: Path) -> None:
    inputs, outputs = save_all(pictures(3, 0), tmp_path / "in"), save_all(pictures(2, 0), tmp_path / "out")
    with pytest.raises(UsageError, match=r"in: 1 images have no partner in .*out: 002"):
        read_pairs(inputs, outputs)
    with pytest.raises(UsageError, match=r"in: 1 images have no partner in .*out: 002"):
        read_pairs(outputs, inputs)
    pictures(1, 0)[0].save(outputs / "000.bmp")
    with pytest.raises(UsageError, match="several images are named 000"):
        read_pairs(inputs, outputs)


# -------------------------------------------------------------------------------------------------- commands


def report_of(path: Path, *flags: str) -> MetricsReport:
    assert run(["evaluate", *flags, "--report", str(path)]) == 0
    return MetricsReport.model_validate_json(path.read_text())


def test_two_folders_give_the_numbers_of_torch_fidelity(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, real = save_all(pictures(12, 0), tmp_path / "samples"), save_all(pictures(15, 1), tmp_path / "real")
    flags = ["--modality", "image", "--samples", str(samples), "--data", str(real), "--features", str(network)]
    report = report_of(tmp_path / "report.json", *flags)
    out = capsys.readouterr().out
    assert "Frechet distance (small.pt)" in out
    assert report.data == "real/"
    found = {metric.name: metric for metric in report.scores[0].metrics}

    import_torchvision()
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Same(FeatureExtractorBase):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)
            self.inner = Small()
            self.inner.load_state_dict(torch.jit.load(network).state_dict())

        @staticmethod
        def get_provided_features_list():
            return ("pool",)

        def forward(self, images):
            return (self.inner(images.float() / 255),)

    torch_fidelity.register_feature_extractor("same", Same)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(samples), input2=str(real), fid=True, prc=True, feature_extractor="same", feature_layer_fid="pool",
        feature_layer_prc="pool", cuda=False, cache=False, verbose=False,
    )  # fmt: skip
    assert found["frechet_distance"].value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert found["precision"].value == pytest.approx(theirs["precision"])
    assert found["recall"].value == pytest.approx(theirs["recall"])


def test_two_folders_of_pairs_are_scored_without_a_model(tmp_path: Path, network: Path) -> None:
    inputs = save_all([Image.new("RGB", (16, 16), (shade,) * 3) for shade in (0, 51)], tmp_path / "in")
    outputs = save_all([Image.new("RGB", (16, 16), (shade,) * 3) for shade in (51, 102)], tmp_path / "out")
    flags = ["--modality", "image", "--samples", str(outputs), "--reconstructions-of", str(inputs)]
    report = report_of(tmp_path / "report.json", *flags)  # no weights anywhere: what needs none is measured
    (score,) = report.scores
    found = {metric.name: metric for metric in score.metrics}
    assert (found["l1"].value, found["l1"].total) == (pytest.approx(0.2, abs=1e-6), 2)
    assert found["psnr"].value == pytest.approx(13.9794, abs=1e-3)
    assert (found["rfid"].value, found["lpips"].value) == (None, None)
    both = report_of(tmp_path / "both.json", *flags, "--data", str(inputs), "--features", str(network))
    assert [score.kind for score in both.scores] == ["reconstruction", "generation"]


def test_without_weights_nothing_is_claimed_and_the_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_all(pictures(12, 0), tmp_path / "samples")
    assert run(["evaluate", "--modality", "image", "--samples", str(folder), "--data", str(folder)]) == 1
    err = capsys.readouterr().err
    assert "nothing could be measured" in err
    assert "weights-inception-2015-12-05-6726825d.pth" in err
    assert "UNITE_MM_INCEPTION" in err
    assert "Traceback" not in err


def test_statistics_of_another_network_are_refused(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_all(pictures(12, 0), tmp_path / "samples")
    np.savez(tmp_path / "adm.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    flags = ["--samples", str(folder), "--data", str(tmp_path / "adm.npz"), "--features", str(network)]
    assert run(["evaluate", "--modality", "image", *flags]) == 2
    assert "adm.npz: statistics of 2048 features, but the features of small.pt are 12" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rendered shapes of 8 pixels, a few steps long."""
    folder = tmp_path_factory.mktemp("runs") / "image"
    settings = {
        "image.size": 8, "image.patch": 4, "image.lpips_weight": 0, "image.channels": 4, "image.decoder_width": 32,
        "image.decoder_depth": 1, "image.decoder_heads": 2, "trunk.width": 32, "trunk.depth": 2, "trunk.heads": 2,
        "trunk.in_context_tokens": 0, "train.batch_size": 32, "train.validation_samples": 16,
    }  # fmt: skip
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = ["train", "--modality", "image", "--data", "shapes", "--max-steps", "4", "--out", str(folder), *flags]
    assert run(command) == 0
    return folder


def test_a_sweep_on_a_trained_model(trained: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--samples", "40", "--reconstructions", "20", "--steps", "2", "--labels", "balanced"]
    flags += ["--sweep", "1.0:3.0:1.0", "--features", str(network), "--set", "image.metrics.neighbours=2"]
    flags += ["--set", "image.metrics.reference_split=test"]
    assert run(["evaluate", str(trained), *flags]) == 0
    folder = trained / "evaluation"
    report = MetricsReport.model_validate_json((folder / "metrics.json").read_text())
    sweep = report.sweep
    assert sweep is not None
    assert (sweep.metric, sweep.title, sweep.lower_is_better) == (
        "frechet_distance",
        "Frechet distance (small.pt)",
        True,
    )
    values = [point.score.metrics[0].value for point in sweep.points]
    assert sweep.best == [1.0, 2.0, 3.0][values.index(min(values))]
    reconstruction, generation = report.scores
    assert generation.metrics[0].value == min(values)
    assert generation.metrics[0].total == 40
    assert ", test split" in generation.metrics[0].definition
    (histogram,) = generation.histograms
    assert set(histogram.samples.values()) == {0.1}  # exact balance, over ten classes
    assert {metric.name for metric in reconstruction.metrics} >= {"psnr", "l1", "frechet_distance"}
    assert len(list((folder / "samples").glob("*.png"))) == 40
    assert not (folder / "samples-candidate").exists()
    assert len(json.loads((folder / "sweep.json").read_text())["points"]) == 3
    assert "sweep of guidance by Frechet distance (small.pt) (lower is better)" in capsys.readouterr().out

    # The samples that were kept, scored as files against the same split, give the same numbers.
    again = [
        "--modality", "image", "--samples", str(folder / "samples"), "--data", "shapes", "--features", str(network),
        "--set", "image.metrics.neighbours=2", "--set", "image.metrics.reference_split=test",
    ]  # fmt: skip
    found = report_of(trained / "again.json", *again)
    assert found.scores[0].metrics == generation.metrics


def test_a_model_can_be_compared_with_statistics(trained: Path, network: Path, tmp_path: Path) -> None:
    extractor = open_extractor(ImageMetrics(features=str(network)))
    known = moments(extractor.features(PictureSet(pictures(30, 0, size=8)), Silent(), "").pool)
    np.savez(tmp_path / "known.npz", mu=known.mu, sigma=known.sigma)
    flags = ["--samples", "10", "--reconstructions", "0", "--steps", "1", "--features", str(network), "--no-pictures"]
    assert run(["evaluate", str(trained), *flags, "--reference", str(tmp_path / "known.npz")]) == 0
    report = MetricsReport.model_validate_json((trained / "evaluation" / "metrics.json").read_text())
    (score,) = report.scores
    assert [metric.name for metric in score.metrics] == ["frechet_distance"]
    assert "known.npz" in score.metrics[0].definition


def test_without_weights_a_sweep_stops_before_any_work(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (
        sorted(path.name for path in (trained / "evaluation").rglob("*")) if (trained / "evaluation").exists() else []
    )
    assert run(["evaluate", str(trained), "--sweep", "1:4:0.2", "--samples", "10"]) == 1
    err = capsys.readouterr().err
    assert "weights of Inception: weights-inception-2015-12-05-6726825d.pth could not be downloaded" in err
    assert "Generating" not in err and "Reconstructing" not in err
    after = (
        sorted(path.name for path in (trained / "evaluation").rglob("*")) if (trained / "evaluation").exists() else []
    )
    assert after == before


def test_a_report_without_weights_keeps_the_other_numbers(trained: Path) -> None:
    flags = ["--samples", "10", "--reconstructions", "10", "--steps", "1", "--no-pictures"]
    assert run(["evaluate", str(trained), *flags]) == 0
    report = MetricsReport.model_validate_json((trained / "evaluation" / "metrics.json").read_text())
    reconstruction, generation = report.scores
    assert {metric.name for metric in reconstruction.metrics if metric.value is not None} == {"psnr", "l1"}
    assert all(metric.value is None for metric in generation.metrics)
    assert any("weights-inception" in note for note in generation.notes)
    assert len(list((trained / "evaluation" / "samples").glob("*.png"))) == 10


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "image.size=16"], "only image.metrics.KEY=VALUE can be set here"),
        (["--set", "image.metrics.neighbors=4"], "did you mean 'neighbours'?"),
        (["--set", "image.metrics.neighbours=0"], "image.config.metrics.neighbours"),
        (["--reference", "absent"], "absent"),
    ],
)
def test_settings_that_do_not_belong_are_refused(
    flags: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(trained), *flags]) == 2
    assert message in capsys.readouterr().err


def test_settings_of_the_metrics_may_change_when_a_run_resumes(trained: Path) -> None:
    saved = RunConfig.model_validate_json((trained / "config.json").read_text())
    config = resolve_resumed(saved, RunOptions(assignments=("image.metrics.batch_size=8",)), discover())
    assert config.modalities["image"].config["metrics"]["batch_size"] == 8
    with pytest.raises(UsageError, match="cannot change on --resume"):
        resolve_resumed(saved, RunOptions(assignments=("image.channels=8",)), discover())
