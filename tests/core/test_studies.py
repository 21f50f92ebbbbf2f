"""Studies: equal operations, intervals told apart, and the same table wherever a study was killed."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.commands import Command

from unite_mm.cli.main import run
from unite_mm.cli.study import resolve_words
from unite_mm.errors import UsageError
from unite_mm.kit.intervals import share, student, wilson
from unite_mm.progress import Silent
from unite_mm.studies.definition import Changes, Words, changed, read_study, shipped_studies
from unite_mm.studies.plan import steps_of, variant_costs
from unite_mm.studies.results import study_cell
from unite_mm.studies.study import Bench, run_study
from unite_mm.training.operations import step_cost
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm_schemas.metrics import Metric
from unite_mm_schemas.study import StudyConfig, StudyTable, VariantCost

STUDY: dict[str, Any] = {
    "title": "One or two?",
    "base": {
        "modality": "points",
        "settings": {"trunk.width": 16, "trunk.depth": 1, "trunk.heads": 2, "train.batch_size": 16, "sampling.steps": 4,
                     "train.log_every": 2, "train.checkpoint_every": 3, "modality.samples": 300},
    },
    "variants": {"unite": {}, "separate": {"settings": {"regime.kind": "separate"}, "description": "two networks"}},
    "seeds": [0],
    "length": {"steps": 10},
    "measure": {"samples": 30, "reconstructions": 20, "metrics": ["on_ring", "error"]},
}  # fmt: skip


def write(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------------ intervals


def test_students_interval_by_hand() -> None:
    low, high = student([1.0, 2.0, 3.0]) or (0, 0)  # t = 4.3027 of 2 degrees of freedom, standard error 1 / sqrt(3)
    assert (low, high) == pytest.approx((2 - 2.48416, 2 + 2.48416), abs=1e-4)
    assert student([1.0]) is None and student([2.0, 2.0]) == (2.0, 2.0)
    many = [float(number % 2) for number in range(41)]  # t = 2.0211 of 40 degrees of freedom
    deviation = torch.tensor(many).std().item() / 41**0.5
    assert ((student(many) or (0, 0))[1] - sum(many) / 41) / deviation == pytest.approx(2.0211, abs=2e-4)


def test_a_cell_tells_seeds_and_samples_apart() -> None:
    own = [share("valid", "valid", count, 100, "valid / all") for count in (80, 90, 100)]
    other = [share("valid", "valid", count, 100, "valid / all") for count in (70, 85, 85)]
    cell = study_cell("generation/valid", own, other)
    assert cell.mean == pytest.approx(0.9) and cell.seeds_interval == pytest.approx(student([0.8, 0.9, 1.0]))
    assert (cell.count, cell.total) == (270, 300) and cell.binomial_interval == wilson(270, 300)
    assert cell.difference == pytest.approx(0.1) and cell.difference_interval == pytest.approx(
        student([0.1, 0.05, 0.15])
    )
    lost = study_cell("generation/valid", [None, own[1], None], other)
    assert lost.values == (None, 0.9, None) and lost.mean == 0.9 and lost.seeds_interval is None
    plain = study_cell("a/b", [Metric(name="b", title="b", value=2.0, definition="")], None)
    assert not plain.share and plain.binomial_interval is None and plain.difference is None


# ----------------------------------------------------------------------------------------------------------- definition


def test_words_of_a_run() -> None:
    study = StudyConfig.model_validate(STUDY)
    words = Words(changed(study, Changes(data="ring", assignments=("train.batch_size=8",))), "points").train(
        "separate", 7, steps=5, seconds=None
    )
    config = resolve_words(words)
    assert config.regime.kind == "separate" and config.train.seed == 7 and config.train.max_steps == 5
    assert config.train.batch_size == 8 and config.trunk.width == 16
    assert config.modalities["points"].config["samples"] == 300 and config.modalities["points"].source == "ring"
    assert (config.train.devices, config.train.threads, config.train.compile) == (1, 1, False)
    timed = changed(study, Changes(seconds=90.0, seeds=2))
    assert timed.seeds == (0, 1) and timed.length.equal == "seconds"
    assert resolve_words(Words(timed, "points").train("unite", 0, steps=None, seconds=90.0)).train.max_time == 90


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, "variants"),
        ({"variants": {"Two Words": {}}}, "'Two Words' has other characters"),
        ({"seeds": [1, 1]}, "the same seed twice"),
        ({"length": {"seconds": 5}}, "length.equal=operations needs length.steps"),
        ({"length": {"equal": "seconds", "steps": 5}}, "length.equal=seconds needs length.seconds"),
        ({"lenght": {}}, "lenght"),
    ],
)
def test_a_wrong_study_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study\.yaml") as caught:
        read_study(str(write(tmp_path / "study.yaml", **changes)))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sharng"], "there is no study sharng"),
        (["STUDY"], "a study needs a folder"),
        (["STUDY", "--max-steps", "3", "--max-time", "3s"], "--max-steps and --max-time exclude each other"),
        (["STUDY", "--dry-run", "--set", "trunk.width"], "--set trunk.width: not of the form key=value"),
        (["STUDY", "--dry-run", "--set", "trunk.widht=3"], "variant unite: trunk.widht"),
        (["WRONG", "--dry-run"], "variant unite: flags: No such option"),
        (["PART", "-o", "OUT"], "measure.analyse: there is no part 'weight'"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "STUDY": write(tmp_path / "study.yaml"),
        "WRONG": write(tmp_path / "wrong.yaml", variants={"unite": {"flags": ["--no-such-flag"]}}),
        "PART": write(tmp_path / "part.yaml", measure={"analyse": ["weight"]}),
        "OUT": tmp_path / "out",
    }
    assert run(["study", *(str(files.get(word, word)) for word in words)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", shipped_studies())
@pytest.mark.parametrize(("modality", "preset"), [("qm9", "tiny-implicit"), ("image", "shapes-tiny")])
def test_every_variant_of_a_shipped_study_can_be_configured(name: str, modality: str, preset: str) -> None:
    study = changed(read_study(name), Changes(modality=modality, preset=preset))
    assert study.title and study.length.equal == "operations"
    configs = [
        resolve_words(Words(study, modality).train(variant, 0, steps=3, seconds=None)) for variant in study.variants
    ]
    assert len({config.model_dump_json() for config in configs}) == len(configs) > 3


# ----------------------------------------------------------------------------------------------------------- operations


def test_operations_of_a_step_grow_as_the_method_says(tmp_path: Path) -> None:
    base = ["--modality", "points", "--max-steps", "1", "--set", "trunk.width=32", "--set", "train.batch_size=16"]

    def cost(*more: str) -> float:
        return step_cost(
            resolve_words([*base, *(part for one in more for part in ("--set", one))]), tmp_path, Silent()
        ).operations

    one, two, three = (cost(f"flow.draws={draws}") for draws in (1, 2, 3))
    assert two - one == pytest.approx(three - two, rel=1e-6) and one > two - one > 0
    assert cost("regime.kind=separate") == pytest.approx(two)  # as many passes through networks of the same shape


def test_a_discriminator_counts_though_it_begins_after_a_warm_up(tmp_path: Path) -> None:
    small = ["--set", "trunk.width=16", "--set", "trunk.depth=2", "--set", "train.batch_size=16"]
    first = ["train", "--modality", "points", *small, "--set", "points.samples=100", "--max-steps", "1"]
    assert run([*first, "--out", str(tmp_path / "first")]) == 0
    base = ["--modality", "points", *small, "--set", "points.samples=100", "--max-steps", "1"]
    base += ["--set", f"recipe.init={tmp_path / 'first'}"]
    plain, late, early = (
        step_cost(resolve_words([*base, *own]), tmp_path, Silent()).operations
        for own in (
            ["--set", "recipe.kind=decoder"],
            ["--set", "recipe.kind=decoder-gan"],
            ["--set", "recipe.kind=decoder-gan", "--set", "recipe.warmup_steps=0"],
        )
    )
    assert late == early > 2 * plain > 0  # the discriminator is as large as the tokenizer


def test_steps_are_timed_with_the_threads_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = JointRecipe.backward
    monkeypatch.setattr(JointRecipe, "backward", lambda *given: seen.append(torch.get_num_threads()) or plain(*given))
    before = torch.get_num_threads()
    words = ["--modality", "points", "--max-steps", "1", "--set", "train.batch_size=8"]
    for own, expected in ((["--set", f"train.threads={before + 1}"], before + 1), ([], before)):
        seen.clear()
        step_cost(resolve_words([*words, *own]), tmp_path, Silent())
        assert set(seen) == {expected} and torch.get_num_threads() == before


def test_equal_operations_give_the_costlier_variant_fewer_steps() -> None:
    study = StudyConfig.model_validate(STUDY)
    costs = {
        name: VariantCost(train=(), operations=operations, seconds=1, parameters=1)
        for name, operations in (("unite", 100.0), ("separate", 250.0))
    }
    assert steps_of(study, costs) == {"unite": 10, "separate": 4}
    same = study.model_copy(update={"length": study.length.model_copy(update={"equal": "steps"})})
    assert steps_of(same, costs) == {"unite": 10, "separate": 10}
    assert steps_of(changed(study, Changes(seconds=5.0)), costs) == {"unite": None, "separate": None}


def test_what_was_counted_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyConfig.model_validate(STUDY)
    words = Words(study, "points")
    first = variant_costs(study, words, resolve_words, tmp_path, Silent(), tmp_path)
    monkeypatch.setattr("unite_mm.studies.plan.step_cost", lambda *_: pytest.fail("counted again"))
    assert variant_costs(study, words, resolve_words, tmp_path, Silent(), tmp_path) == first


def test_an_analysis_is_made_anew_where_what_it_is_of_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysed: list[list[str]] = []

    def analyse(subjects: list[str], folder: Path, plan: Any, labels: list[str]) -> None:
        assert not folder.exists()  # nothing of an earlier one is left
        folder.mkdir()
        (folder / "analysis.json").write_text("{}", encoding="utf-8")
        (folder / f"{plan.parts[-1]}.png").touch()
        analysed.append(labels)

    def learn(variant: str, seed: int, weights: str) -> None:
        folder = tmp_path / "out" / "runs" / variant / f"seed-{seed}" / "checkpoints" / "step-000000010"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(weights, encoding="utf-8")

    cost = VariantCost(train=(), operations=1, seconds=1, parameters=1)
    monkeypatch.setattr("unite_mm.studies.study.variant_costs", lambda study, *_: dict.fromkeys(study.variants, cost))
    monkeypatch.setattr("unite_mm.studies.study.Execution.run", lambda _: None)
    monkeypatch.setattr("unite_mm.studies.study._write", lambda *_: None)
    monkeypatch.setattr("unite_mm.studies.study.curves_picture", lambda *_: None)
    monkeypatch.setattr("unite_mm.studies.study.Subject.open", lambda folder, **_: str(folder))
    monkeypatch.setattr("unite_mm.studies.study.analyse", analyse)

    def repeat(*parts: str, **changes: Any) -> list[list[str]]:
        study = StudyConfig.model_validate({**STUDY, "measure": {"analyse": parts}, **changes})
        analysed.clear()
        run_study(study, "points", resolve_words, Bench(tmp_path / "out", tmp_path, 1, Silent()))
        return list(analysed)

    for seed in (0, 1):
        for variant in ("unite", "separate", "third"):
            learn(variant, seed, "first")
    two, three = ["unite", "separate"], ["unite", "separate", "third"]
    assert repeat("length") == [two] and repeat("length") == []
    assert repeat("length", "probes") == [two] and repeat("length", "probes") == []
    assert repeat("probes", "length") == [two]
    assert repeat("length") == [two]  # and no picture of probes is left
    assert {path.name for path in (tmp_path / "out" / "analysis").iterdir()} == {
        "analysis.json", "length.png", "made-of.json"
    }  # fmt: skip
    assert repeat("length", seeds=[0, 1]) == []  # the first seed alone is looked into
    assert repeat("length", seeds=[1, 0]) == [two] and repeat("length") == [two]
    more = {**STUDY["variants"], "third": {}}
    assert repeat("length", variants=more) == [three] and repeat("length", variants=more) == []
    learn("separate", 1, "again")
    assert repeat("length", variants=more) == []
    learn("separate", 0, "again")
    assert repeat("length", variants=more) == [three]
    (tmp_path / "out" / "analysis" / "analysis.json").unlink()
    assert repeat("length", variants=more) == [three] and repeat("length", variants=more) == []


def test_a_dry_run_says_what_it_would_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", str(write(tmp_path / "study.yaml", seeds=[0, 1])), "--dry-run", "--jobs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "operations per step" in printed and "4 runs, 2 at once" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


# ----------------------------------------------------------------------------------------------------------- whole ones


def start(study: Path, folder: Path) -> Command:
    return Command("study", str(study), "-o", str(folder), "--jobs", "2", output=folder.with_suffix(".txt"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nobody stopped."""
    folder = tmp_path_factory.mktemp("study")
    start(write(folder / "study.yaml"), folder / "whole").end(seconds=300)
    return folder / "whole"


def test_a_study_leaves_table_curves_and_runs(whole: Path) -> None:
    table = StudyTable.model_validate_json((whole / "table.json").read_text(encoding="utf-8"))
    assert [row.variant for row in table.rows] == ["unite", "separate"]
    assert table.rows[0].steps == (10,) and table.rows[1].description == "two networks"
    assert table.rows[1].operations == pytest.approx(table.rows[0].operations, rel=0.05)
    ring = next(cell for cell in table.rows[0].cells if cell.metric == "generation/on_ring")
    assert ring.share and ring.total and ring.binomial_interval and ring.seeds_interval is None
    text = (whole / "table.md").read_text(encoding="utf-8")
    assert "## Over seeds" in text and "## Shares over samples" in text and "Equal operations" in text
    assert (whole / "curves.png").stat().st_size > 1000
    assert (whole / "runs" / "separate" / "seed-0" / "evaluation" / "metrics.json").is_file()


@pytest.mark.slow  # every run is a process that loads torch, several times over
def test_killed_anywhere_it_ends_with_the_same_table(whole: Path, tmp_path: Path) -> None:
    """While its runs train, once one has a checkpoint, and when the first of them has been scored and not recorded."""
    study, folder = write(tmp_path / "study.yaml"), tmp_path / "killed"
    for pattern in ("runs/*/*/checkpoints/step-*", "runs/*/*/evaluation"):
        process = start(study, folder)
        process.wait_for(lambda pattern=pattern: any(folder.glob(pattern)))
        process.send(signal.SIGKILL)
        process.end(-signal.SIGKILL)
    start(study, folder).end(seconds=300)
    for name in ("table.json", "table.md"):
        assert (folder / name).read_text(encoding="utf-8") == (whole / name).read_text(encoding="utf-8")


def test_what_has_ended_is_not_repeated_and_other_settings_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unite_mm.studies.execute.CHILD", ("no-such-program",))
    before = {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("*") if path.is_file()}
    table = (whole / "table.json").read_text(encoding="utf-8")
    assert run(["study", str(write(tmp_path / "study.yaml")), "-o", str(whole)]) == 0
    assert "2 of 2 runs have ended already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (whole / "table.json").read_text(encoding="utf-8") == table
    other = write(tmp_path / "other.yaml", measure={"samples": 31})
    assert run(["study", str(other), "-o", str(whole)]) == 2
    assert "unite, seed 0 was begun with other settings of evaluate" in capsys.readouterr().err


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variants = {"unite": {}, "broken": {"settings": {"modality.nan_after": 0}}}
    study = write(tmp_path / "study.yaml", variants=variants, measure={"samples": 0, "reconstructions": 0})
    assert run(["study", str(study), "-o", str(tmp_path / "out"), "--jobs", "2"]) == 1
    error = capsys.readouterr().err
    assert "1 of 2 runs failed; broken, seed 0: the loss stopped being finite" in error
    table = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    assert [row["steps"] for row in table["rows"]] == [[10], [None]]
