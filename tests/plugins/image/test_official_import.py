"""Importing official checkpoints: results against a plain reading of the official model, and refusals.

The numbers of the official code itself are in tests/test_official_parity.py, where they are at hand; on them the plain
reading agrees to 1e-6.
"""

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.official_plain import GOLDEN, Case, Plain, make_state, results
from safetensors.torch import load_file, save_file

from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UsageError
from unite_mm.sampling.coding import Coder
from unite_mm.storage.importing import find_importer, import_checkpoint
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.official.importer import import_official
from unite_mm_schemas.config import SamplingConfig

ANSWERS = {"in_context_start": 1, "decoder_heads": 2, "time_shift": 0.5}


def save(path: Path, state: dict, **more: object) -> Path:
    torch.save({"step": 40, "epoch": 2, "model": {}, "ema": state, "current_best_cfg_scale": 2.4, **more}, path)
    return path


def load(folder: Path, state: dict, options: dict) -> UNITE:
    import_checkpoint(find_importer("official"), "official", save(folder / "a.pt", state), options, folder / "model")
    return UNITE.from_pretrained(folder / "model")


@torch.no_grad()
def compare(model: UNITE, stored: dict, classes: int, monkeypatch: pytest.MonkeyPatch, shift: float = 0.5) -> None:
    """Tokenize, decode, denoise and generate, each within 2e-5 of what is stored."""
    batch = ImageBatch.of(stored["in.images"], stored["in.registers"].shape[1])

    def near(name: str, value: torch.Tensor) -> None:
        wanted = stored[f"out.{name}"]
        error = float((value - wanted).norm() / wanted.norm())
        assert value.shape == wanted.shape and error < 2e-5, f"{name}: {error:.2e}"

    near("z", model.network.tokenize("image", batch, stored["in.registers"], stored["in.times"]))
    near("image", model.network.decode("image", stored["out.z"], batch.registers))
    labels = stored["in.labels"] if classes else None
    times = torch.tensor([0.3, 0.8])
    near("denoised", model.network.denoise("image", stored["in.noise"], times, batch.registers, condition=labels))
    kept = []
    monkeypatch.setattr("unite_mm.sampling.generate.normal_noise", lambda *_: stored["in.noise"])
    monkeypatch.setattr(Coder, "decode", lambda _, latents, options: kept.append(latents.values) or [None] * 2)
    for name, guidance in (("guided", 2.5), ("unguided", 1.0)):
        settings = SamplingConfig(solver="euler", steps=9, guidance=guidance, shift=shift)
        model.generate(2, condition=labels, sampling=settings)
        near(name, kept.pop())


def test_the_golden_file_is_reproduced(tmp_path, monkeypatch):
    stored = load_file(GOLDEN)
    state = {name.removeprefix("state."): value for name, value in stored.items() if name.startswith("state.")}
    model = load(tmp_path, state, ANSWERS)
    assert model.record.step == 40 and model.record.kind == "export"
    assert GOLDEN.stat().st_size < 300_000
    compare(model, stored, 3, monkeypatch)


CASES = {
    "no qk-norm, so the heads are asked for": (
        Case(width=32, depth=2, heads=4, qk_norm=False, start=0, channels=7, decoder_heads=4),
        {"heads": 4, "in_context_start": 0, "decoder_heads": 4, "time_shift": 0.5},
    ),
    "in-context tokens off": (
        Case(width=40, heads=2, context=0, classes=6, decoder_width=24, decoder_depth=1, decoder_hidden=96),
        {"decoder_heads": 2, "time_shift": 0.5},
    ),
    "late and many in-context tokens": (
        Case(depth=4, context=7, start=3, side=3, patch=5, input_width=33, features=5),
        {"in_context_start": 3, "decoder_heads": 2, "time_shift": 0.5},
    ),
    "another shift of the times": (Case(), ANSWERS | {"time_shift": 0.3}),
}


@pytest.mark.parametrize("name", CASES)
def test_other_configurations_equal_the_plain_reading(tmp_path, monkeypatch, name):
    case, options = CASES[name]
    state = make_state(case, seed=3)
    stored = results(case, state)
    if options["time_shift"] != 0.5:
        plain = Plain(state, case)
        for key, scale in (("guided", 2.5), ("unguided", 1.0)):
            arguments = (stored["in.noise"], stored["in.labels"], scale, 9, options["time_shift"])
            with torch.no_grad():
                stored[f"out.{key}"] = plain.euler(*arguments)
    model = load(tmp_path, state, options)
    if options["time_shift"] != 0.5:
        assert model.config.flow.shift == model.config.sampling.shift == options["time_shift"]
    compare(model, stored, case.classes, monkeypatch, options["time_shift"])


def test_rope_tables_tell_the_heads_where_there_is_no_qk_norm(tmp_path):
    case = Case(width=32, heads=4, qk_norm=False)
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    angles = (torch.arange(32)[:, None] * frequencies).repeat_interleave(2, dim=1)
    tables = {"encoder.feat_rope.freqs_cos": angles.cos(), "encoder.feat_rope.freqs_sin": angles.sin()}
    path = save(tmp_path / "a.pt", make_state(case) | tables)
    assert import_official(path, ANSWERS).config.trunk.heads == 4
    with pytest.raises(UsageError, match=r"--heads 2: the file says 4"):
        import_official(path, ANSWERS | {"heads": 2})
    save(path, make_state(case) | {name: value + 0.1 for name, value in tables.items()})
    with pytest.raises(UsageError, match=r"freqs_cos: not the official rotary table of 4 heads"):
        import_official(path, ANSWERS)


def test_classes_channels_and_names_with_compiled_parts_and_lpips(tmp_path):
    state = make_state(Case(classes=1))
    renamed = {name.replace("decoder.", "decoder._orig_mod.", 1) if name.startswith("decoder.") else name: value
               for name, value in state.items()}  # fmt: skip
    renamed["lpips_loss.net.slice1.0.weight"] = torch.zeros(64, 3, 3, 3)
    imported = import_official(save(tmp_path / "a.pt", renamed), ANSWERS)
    assert imported.statistics["image"] == {"classes": ["0"], "class_counts": [1]}
    assert not [name for name in imported.state if "lpips" in name or "_orig_mod" in name]
    assert imported.config.modalities["image"].config["lpips_range"] == "unit"
    assert any("special_time_emb" in note for note in imported.notes)


def test_raw_weights_safetensors_and_plain_dictionaries(tmp_path):
    raw, averaged = make_state(Case(), seed=1), make_state(Case(), seed=2)
    both = save(tmp_path / "both.pt", averaged, model=raw)
    name, ours = "encoder.final_layer.linear.bias", "encoder.heads.image.project_out.bias"
    assert torch.equal(import_official(both, ANSWERS).state[ours], averaged[name])
    assert torch.equal(import_official(both, ANSWERS | {"weights": "model"}).state[ours], raw[name])
    save_file(raw, tmp_path / "raw.safetensors")
    torch.save(raw, tmp_path / "raw.pt")
    for path in ("raw.safetensors", "raw.pt"):
        assert torch.equal(import_official(tmp_path / path, ANSWERS).state[ours], raw[name])
    torch.save({"model": raw}, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="holds no 'ema' weights") as error:
        import_official(tmp_path / "model.pt", ANSWERS)
    assert "--weights model" in error.value.hint
    half = {key: value.bfloat16() for key, value in raw.items()}
    assert import_official(save(tmp_path / "half.pt", half), ANSWERS).state[ours].dtype == torch.float32


def without(*names):
    return lambda state: [state.pop(name) for name in names]


def changed(name, value):
    return lambda state: state.update({name: value})


REFUSED = {
    "missing tensors: latent_tokens": without("latent_tokens"),
    "missing tensors: encoder.blocks.1.norm3.weight, decoder.decoder_norm.bias": without(
        "encoder.blocks.1.norm3.weight", "decoder.decoder_norm.bias"
    ),
    "missing tensors: encoder.blocks.1.attn.k_norm.weight": without("encoder.blocks.1.attn.k_norm.weight"),
    "unexpected tensors: discriminator.weight": changed("discriminator.weight", torch.zeros(2)),
    "missing tensors: encoder.blocks.3.norm1.weight, .*unexpected tensors: encoder.blocks.9.norm1.weight": changed(
        "encoder.blocks.9.norm1.weight", torch.ones(24)
    ),
    r"decoder.decoder_pred.bias \(7,\) instead of \(48,\)": changed("decoder.decoder_pred.bias", torch.zeros(7)),
    r"impossible shapes: encoder.t_embedder.W \(2, 4\)": changed("encoder.t_embedder.W", torch.zeros(2, 4)),
    "7 registers are not a square": changed("latent_tokens", torch.zeros(1, 7, 24)),
    "encoder_layer_norm.bias: values that are not finite": changed(
        "encoder_layer_norm.bias", torch.full((5,), torch.nan)
    ),
    "patch_embed.position_embeddings: not zero": changed("patch_embed.position_embeddings", torch.ones(1, 17, 24)),
    "latent_tokens is not a tensor of floats but str": changed("latent_tokens", "text"),
    "latent_tokens is not a tensor of floats but torch.int64": changed("latent_tokens", torch.zeros(1, 16, 24).long()),
    "holds encoder_layer_norm.bias twice": changed("encoder_layer_norm._orig_mod.bias", torch.zeros(5)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, message):
    state = make_state(Case())
    REFUSED[message](state)
    with pytest.raises(UsageError, match=message):
        import_official(save(tmp_path / "a.pt", state), ANSWERS)


def test_what_the_file_does_not_tell_is_asked_for_by_flags(tmp_path, capsys):
    path = save(tmp_path / "a.pt", make_state(Case(qk_norm=False)))
    assert run(["import-official", str(path), "-o", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 2 and not (tmp_path / "out").exists()
    for flag in ("--heads N", "--in-context-start N", "--decoder-heads N", "--time-shift A"):
        assert flag in message
    flags = ["--heads", "2", "--in-context-start", "1", "--decoder-heads", "2", "--time-shift", "0.5"]
    assert run(["import-official", str(path), "-o", str(tmp_path / "out"), *flags]) == 0
    assert "numbers imported" in capsys.readouterr().out
    assert run(["import-official", str(path), "-o", str(tmp_path / "out"), *flags]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (Case(), {"in_context_start": 3}, "--in-context-start 3: the encoder has the blocks 0 to 2"),
        (Case(), {"in_context_start": -1}, "--in-context-start -1"),
        (Case(context=0), {"in_context_start": 1}, "holds no in-context tokens"),
        (Case(), {"decoder_heads": 3}, "--decoder-heads 3 does not divide the decoder's width 16"),
        (Case(qk_norm=False), {"heads": 5}, "--heads 5 does not divide the encoder's width 24"),
        (Case(qk_norm=False), {"heads": 8}, "into even parts"),
        (Case(), {"time_shift": 0.0}, "--time-shift 0.0 must be above 0"),
    ],
)
def test_answers_that_do_not_fit_are_refused(tmp_path, case, options, message):
    with pytest.raises(UsageError, match=message):
        import_official(save(tmp_path / "a.pt", make_state(case)), ANSWERS | options)


def test_published_sizes_need_no_flags_where_everything_is_published(tmp_path):
    """The encoder Base says when its in-context tokens enter; no other published size does."""
    from unite_mm_image.official.importer import _answers
    from unite_mm_image.official.names import read_sizes

    sizes = read_sizes(make_state(Case()))
    base = replace(sizes, width=768, depth=12, head_width=64, decoder_width=768, decoder_depth=12, context=32)
    answers, assumed = _answers(base, {})
    assert answers == {"heads": 12, "in_context_start": 4, "decoder_heads": 12, "time_shift": 0.5}
    assert len(assumed) == 3
    with pytest.raises(UsageError) as error:
        _answers(replace(base, width=1024, depth=24), {})
    assert "--in-context-start" in error.value.hint and "--decoder-heads" not in error.value.hint


class Attack:
    """Unpickled by a careless reader, makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def tampered(folder: Path, how: str) -> Path:
    path, trap = folder / "bad.pt", Attack(folder / "pwned")
    if how == "in the dictionary":
        save(path, make_state(Case()), optimizer=trap)
    elif how == "beside the weights":
        save(path, make_state(Case()) | {"latent_tokens": trap})
    elif how == "as the whole file":
        torch.save(trap, path)
    elif how == "in the old format":
        torch.save({"ema": make_state(Case()), "x": trap}, path, _use_new_zipfile_serialization=False)
    elif how == "a plain pickle":
        path.write_bytes(pickle.dumps({"ema": trap}))
    else:  # "replaced"
        buffer = io.BytesIO()
        torch.save({"ema": make_state(Case())}, buffer)
        with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for entry in source.namelist():
                content = pickle.dumps(trap) if entry.endswith("data.pkl") else source.read(entry)
                target.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    "how",
    ["in the dictionary", "beside the weights", "as the whole file", "in the old format", "a plain pickle", "replaced"],
)
def test_a_file_that_tries_to_run_code_is_refused_and_runs_nothing(tmp_path, capsys, how):
    path = tampered(tmp_path, how)
    assert run(["import-official", str(path), "-o", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "out").exists()
    assert message.startswith("error: ") and message.count("\n") == 2
    if how in ("a plain pickle", "replaced"):  # these are refused before their call is even looked at
        assert "cannot be read as weights: " in message and "no code was run" in message
    else:
        assert "unsafe file: it asks for" in message and "no code was run" in message and "mkdir" in message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half an archive", b"\x80\x04."])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert run(["import-official", str(path), "-o", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}: ") and message.count("\n") <= 2
    for wrong in (tmp_path / "absent.pt", tmp_path):
        assert run(["import-official", str(wrong), "-o", str(tmp_path / "out")]) == 2
    whole = save(tmp_path / "whole.pt", make_state(Case())).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert run(["import-official", str(path), "-o", str(tmp_path / "out")]) == 2


TORCHS_OWN = ("PytorchStream", "npickl", "weights_only", "miniz", "inline_container", "central directory", "torch.load")


def odd_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Files that are no checkpoints, and what is said of them."""
    whole = save(folder / "whole.pt", make_state(Case())).read_bytes()
    script, zipped, squeezed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(script, "w") as target:
        for entry in ("net/data.pkl", "net/constants.pkl", "net/version"):
            target.writestr(entry, b"x")
    with zipfile.ZipFile(zipped, "w") as target:
        target.writestr("a/readme.txt", b"x")
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
        target.writestr("archive/data/99", bytes(9_000_000))
    damaged = bytearray(whole)
    damaged[whole.index(b"data.pkl") + 80] ^= 255
    return {
        "empty": (b"", "not a file that torch.save wrote"),
        "page": (b"<html>404</html>", "not a file that torch.save wrote"),
        "array": (b"\x93NUMPY\x01\x00", "not a file that torch.save wrote"),
        "cut": (whole[: len(whole) // 2], "cut off or damaged"),
        "script": (script.getvalue(), "a TorchScript file, not a checkpoint"),
        "zip": (zipped.getvalue(), "a zip file, but none that torch.save wrote"),
        "squeezed": (squeezed.getvalue(), "which torch.save never writes"),
        "flipped": (bytes(damaged), "damaged, or holds more than weights; no code was run"),
        "stub": (b"\x80\x02.", "damaged, or holds more than weights; no code was run"),
        "object": (pickle.dumps(Path("x")), "no code was run"),
    }


def test_refusals_are_in_our_own_words(tmp_path):
    for name, (content, message) in odd_files(tmp_path).items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=message) as error:
            import_official(path, ANSWERS)
        text = str(error.value).replace(str(path), "")
        assert not [word for word in TORCHS_OWN if word in text], text
        assert "\n" not in error.value.message and error.value.hint
    for content in (b"", b"{", b"\xff" * 99, (10**9).to_bytes(8, "little") + b"{}"):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match=r"damaged, or no safetensors file"):
            import_official(tmp_path / "a.safetensors", ANSWERS)


def test_damage_anywhere_in_a_checkpoint_is_refused_or_harmless(tmp_path):
    whole = save(tmp_path / "whole.pt", make_state(Case())).read_bytes()
    places = [*range(0, 400, 10), *range(len(whole) - 400, len(whole), 10), *range(500, len(whole), len(whole) // 30)]
    for number, place in enumerate(places):
        content = bytearray(whole)
        content[place] ^= 1 << number % 8
        (tmp_path / "a.pt").write_bytes(content)
        try:
            import_official(tmp_path / "a.pt", ANSWERS)
        except UsageError as error:
            assert "\n" not in error.message and not [word for word in TORCHS_OWN if word in str(error)], str(error)


def test_tensors_that_repeat_few_numbers_are_refused(tmp_path):
    state = make_state(Case())
    state["latent_tokens"] = torch.zeros(1).expand(1, 1024, 1_000_000)
    with pytest.raises(UsageError, match="its tensors hold more numbers than the file"):
        import_official(save(tmp_path / "a.pt", state), ANSWERS)


@pytest.mark.parametrize("content", [{"weights": {}}, {}, [1], torch.zeros(3), {"ema": 5}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="holds no"):
        import_official(tmp_path / "a.pt", ANSWERS)


def test_an_imported_folder_samples_and_reconstructs(tmp_path, capsys):
    """The commands that the documentation shows, on a tiny model; NFE is printed."""
    from PIL import Image

    path = save(tmp_path / "a.pt", make_state(Case()))
    flags = ["--in-context-start", "1", "--decoder-heads", "2", "--time-shift", "0.5"]
    assert run(["import-official", str(path), "-o", str(tmp_path / "model"), *flags]) == 0
    model, solver = str(tmp_path / "model"), ["--solver", "euler", "--steps", "4"]
    arguments = ["sample", model, "-n", "3", "--condition", "2", "--guidance", "2", *solver]
    assert run([*arguments, "-o", str(tmp_path / "made"), "--picture", str(tmp_path / "grid.png")]) == 0
    assert "4 evaluations of the network each" in capsys.readouterr().out
    assert len(list((tmp_path / "made").rglob("*.png"))) == 3 and Image.open(tmp_path / "grid.png").size[0] > 16
    again = ["reconstruct", model, str(tmp_path / "made"), "-o", str(tmp_path / "again")]
    assert run([*again, "--picture", str(tmp_path / "pairs.png")]) == 0
    assert len(list((tmp_path / "again").rglob("*.png"))) == 3
