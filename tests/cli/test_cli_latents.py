"""`encode`, `decode`, `interpolate` and `sample --start-from` as commands, for the toy modality and for molecules."""

from pathlib import Path

import pytest

from unite_mm.cli.main import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy modality, two steps long."""
    folder = tmp_path_factory.mktemp("runs") / "points"
    flags = ["--max-steps", "2", "--set", "sampling.steps=3", "--set", "sampling.solver=euler"]
    assert run(["train", "--modality", "points", "--out", str(folder), *flags]) == 0
    return folder


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Four sets of points, one of them too large for the model."""
    path = tmp_path / "points.csv"
    path.write_text("1,0\n0,1,-1,0\n" + ",".join(["0"] * 8) + "\n0.5,0.5,1,0\n")
    return path


def test_encode_and_decode_give_what_reconstruct_gives(
    trained: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents, decoded, expected = (tmp_path / name for name in ("l.safetensors", "decoded.csv", "expected.csv"))
    assert run(["encode", str(trained), str(points), "-o", str(latents), "--seed", "2"]) == 0
    out, err = capsys.readouterr()
    assert "latents of 3 samples, up to 2 x 4" in out and "1 of 4 samples do not fit the model" in err
    assert run(["decode", str(trained), str(latents), "-o", str(decoded), "--picture", str(tmp_path / "p.png")]) == 0
    assert run(["reconstruct", str(trained), str(points), "-o", str(expected), "--seed", "2"]) == 0
    assert decoded.read_bytes() == expected.read_bytes()
    assert (tmp_path / "p.png").stat().st_size > 0


def test_an_export_decodes_what_its_run_encoded(trained: Path, points: Path, tmp_path: Path) -> None:
    latents, export = tmp_path / "latents.safetensors", tmp_path / "export"
    assert run(["encode", str(trained), f"{points}#2", "-o", str(latents)]) == 0
    assert run(["export", str(trained), "-o", str(export)]) == 0
    for model, name in ((trained, "a.csv"), (export, "b.csv")):
        assert run(["decode", str(model), str(latents), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_latents_of_another_model_are_refused(
    trained: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents, other = tmp_path / "latents.safetensors", tmp_path / "other"
    assert run(["encode", str(trained), f"{points}#1", "-o", str(latents)]) == 0
    assert run(["train", "--modality", "points", "--out", str(other), "--max-steps", "1"]) == 0
    capsys.readouterr()
    assert run(["decode", str(other), str(latents), "-o", str(tmp_path / "x.csv")]) == 2
    assert "latents of another model" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("path", ["latent", "flow"])
def test_interpolate_writes_a_path(trained: Path, points: Path, tmp_path: Path, path: str) -> None:
    out = tmp_path / "path.csv"
    command = ["interpolate", str(trained), f"{points}#2", f"{points}#4", "-n", "4", "-o", str(out), "--path", path]
    assert run([*command, "--condition", "1"]) == 0
    assert [len(line.split(",")) for line in out.read_text().splitlines()] == [4] * 4


def test_sample_starts_from_given_samples(
    trained: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    command = ["sample", str(trained), "-o", str(out), "--start-from", f"{points}#2", "--time"]
    assert run([*command, "0.5", "-n", "3"]) == 0
    assert len(out.read_text().splitlines()) == 3 and "3 samples" in capsys.readouterr().out
    assert run([*command, "1"]) == 0
    expected = tmp_path / "expected.csv"
    (tmp_path / "one.csv").write_text(points.read_text().splitlines()[1] + "\n")
    assert run(["reconstruct", str(trained), str(tmp_path / "one.csv"), "-o", str(expected)]) == 0
    assert out.read_text() == expected.read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["encode", "RUN", "POINTS", "-o", "x.csv"], "latents are written as .safetensors"),
        (["encode", "RUN", "none.csv", "-o", "x.safetensors"], "none.csv does not exist"),
        (["encode", "RUN", "POINTS#9", "-o", "x.safetensors"], "#9: there is no such sample"),
        (["encode", "RUN", "POINTS#0", "-o", "x.safetensors"], "#0: there is no such sample"),
        (["encode", "RUN", "POINTS#3", "-o", "x.safetensors"], "none of 1 samples fits the model"),
        (["decode", "RUN", "POINTS", "-o", "x.csv"], "cannot be read"),
        (["decode", "RUN", "none.safetensors", "-o", "x.csv"], "none.safetensors does not exist"),
        (["interpolate", "RUN", "POINTS", "POINTS#1", "-o", "x.csv"], "holds 4 samples"),
        (["interpolate", "RUN", "POINTS#1", "POINTS#2", "-o", "x.csv"], "the first sample uses 1 and the second 2"),
        (["interpolate", "RUN", "POINTS#1", "POINTS#1", "-n", "1", "-o", "x.csv"], "--number"),
        (["sample", "RUN", "-o", "x.csv", "--time", "0.5"], "--time: there is nothing to start from"),
        (["sample", "RUN", "-o", "x.csv", "--start-from", "POINTS#1"], "--start-from needs --time"),
        (["sample", "RUN", "-o", "x.csv", "--start-from", "POINTS#1", "--time", "2"], "no timestep from 0 to 1"),
        (["sample", "RUN", "-o", "x.csv", "--start-from", "POINTS#1", "--time", "0", "--size", "2"], "--size and"),
        (["sample", "RUN", "-o", "x.csv", "--start-from", "POINTS", "--time", "0"], "4 points"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_said_in_a_line(
    words: list[str], text: str, trained: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("RUN", str(trained)).replace("POINTS", str(points)) for word in words]
    words = [str(tmp_path / word) if word.startswith("x.") else word for word in words]
    assert run(words) == 2
    err = capsys.readouterr().err
    assert text in err and len(err.strip().splitlines()) <= 2
    assert not list(tmp_path.glob("x.*"))


QUICK = ["--steps", "4", "--churn", "0"]


def test_molecules_may_be_written_down_as_smiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latents, decoded = tmp_path / "latents.safetensors", tmp_path / "decoded.smi"
    assert run(["encode", "qm9-tiny", "CCO", "-o", str(latents)]) == 0
    assert run(["decode", "qm9-tiny", str(latents), "-o", str(decoded)]) == 0
    assert decoded.read_text().split()[0] == "CCO"
    for path in ("latent", "flow"):
        out = tmp_path / f"{path}.smi"
        assert run(["interpolate", "qm9-tiny", "CCO", "C#N", "-o", str(out)]) == 2  # three registers and two
        assert run(["interpolate", "qm9-tiny", "CCO", "CC#N", "-n", "3", "--path", path, "-o", str(out), *QUICK]) == 0
        ends = [line.split()[0] for line in out.read_text().splitlines()]
        assert len(ends) == 3 and ends[0] == "CCO" and ends[-1] == "CC#N"
    out = tmp_path / "varied.sdf"
    command = ["sample", "qm9-tiny", "-o", str(out), "--start-from", "CCO", "--time"]
    assert run([*command, "0.6", "-n", "3", *QUICK]) == 0
    assert out.read_text().count("$$$$") == 3
    capsys.readouterr()
    assert run(["encode", "qm9-tiny", "no molecule", "-o", str(latents)]) == 2
    assert "no molecule is neither a file nor a SMILES" in capsys.readouterr().err
