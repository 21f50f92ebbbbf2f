"""The importer and the model against numbers of the official code: every result, gradient and count of evaluations.

The official weights, inputs and results are not part of the repository; these tests skip where they are absent.
tests/test_official_golden.py checks the same path against a small file of our own making.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from helpers.repository import ROOT
from safetensors.torch import load_file

from unite_mm.api import UNITE
from unite_mm.contract import Registers
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.flow.times import shift_time, time_grid
from unite_mm.model.layers import rotary_table
from unite_mm.sampling.coding import Coder
from unite_mm.sampling.drift import Drift, NetworkDenoiser
from unite_mm.storage.importing import find_importer, import_checkpoint
from unite_mm.training.noise import DecoderView, FlowNoise, ReconstructionNoise
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.model.losses import reconstruction_terms
from unite_mm_image.official.importer import MODALITY
from unite_mm_image.official.names import check_names, entries, pairs_apart, read_sizes
from unite_mm_schemas.config import SamplingConfig

SHARED = Path(os.environ.get("UNITE_MM_SHARED", ROOT.parent / "shared"))
CASE = SHARED / "parity" / "a"
HEADS = 4

pytestmark = pytest.mark.skipif(
    not (CASE / "vectors.safetensors").is_file(),
    reason="the numbers of the official model are not here (shared/parity)",
)


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return load_file(CASE / "state.safetensors")


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(CASE / "vectors.safetensors")


@pytest.fixture(scope="module")
def case() -> dict:
    return json.loads((CASE / "config.json").read_text())


@pytest.fixture(scope="module")
def tolerances() -> dict:
    return json.loads((CASE / "tolerances.json").read_text())


@pytest.fixture(scope="module")
def model(official, tmp_path_factory) -> UNITE:
    """The official weights through a `.pt` file as the official code writes it, imported and loaded again."""
    folder = tmp_path_factory.mktemp("official")
    compiled = {name.replace("decoder.", "decoder._orig_mod.", 1) if name.startswith("decoder.") else name: value
                for name, value in official.items()}  # fmt: skip
    lpips = {"lpips_loss.scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    torch.save(
        {"step": 7, "epoch": 0, "model": lpips, "ema": compiled | lpips, "optimizer": {"state": {}}}, folder / "a.pt"
    )
    options = {"in_context_start": 4, "decoder_heads": 4, "time_shift": 0.5}
    import_checkpoint(find_importer("official"), "official", folder / "a.pt", options, folder / "a")
    return UNITE.from_pretrained(folder / "a")


@pytest.fixture(scope="module")
def check(vectors, tolerances):
    """Compares a value with the stored one: relative L2 error within its tolerance.

    UNITE_MM_PARITY_ERRORS names a file for the errors found (scripts/reference_numbers.py).
    """
    errors: dict[str, float] = {}

    def compare(name: str, value: torch.Tensor, stored: str | None = None) -> None:
        wanted = vectors[stored or name]
        error = float((value.detach() - wanted).norm() / wanted.norm())
        errors[f"{name} {len(errors)}"] = error
        assert value.shape == wanted.shape and error <= tolerances[name]["rel_l2"], f"{name}: {error:.2e}"

    yield compare
    if os.environ.get("UNITE_MM_PARITY_ERRORS"):
        Path(os.environ["UNITE_MM_PARITY_ERRORS"]).write_text(json.dumps(errors))


@pytest.fixture(scope="module")
def batch(model, vectors) -> ImageBatch:
    return ImageBatch.of(vectors["in.imgs"], 256, vectors["in.labels"])


def head(model: UNITE):
    return model.network.encoder.heads[MODALITY]


@torch.no_grad()
def test_tokenization(model, vectors, batch, check):
    z = model.network.tokenize(MODALITY, batch, vectors["in.tok.z_noise"], vectors["in.tok.flow_t"])
    check("out.tok.z", z)
    tokens = model.modules_of(MODALITY).tokenizer(batch)
    arguments = (MODALITY, vectors["in.tok.z_noise"], vectors["in.tok.flow_t"], batch.registers, tokens)
    check("out.tok.enc_raw", model.network.encoder(*arguments, normalise=False))


@torch.no_grad()
def test_decoding(model, vectors, batch, check):
    image = model.network.decode(MODALITY, vectors["out.tok.z"], batch.registers)
    check("out.dec.image", image)
    modules = model.modules_of(MODALITY)
    config = modules.config.model_copy(update={"lpips_weight": 0.0})
    terms = reconstruction_terms(image, batch, config, modules.perceptual, modules.squeezenet)
    check("out.rec.l1", terms["l1"].values.mean())


@torch.no_grad()
def test_denoising_and_flow_loss(model, vectors, batch, check):
    x1, x0, time = vectors["out.tok.z"], vectors["in.flow.x0"], vectors["in.flow.t"]
    x_t = interpolate(x1, x0, time)
    check("out.flow.x_t", x_t)
    arguments = (MODALITY, x_t, time, batch.registers)
    predicted = model.network.denoise(*arguments, condition=batch.condition)
    check("out.flow.x_pred", predicted)
    check("out.flow.model_raw", model.network.denoise(*arguments, condition=batch.condition, normalise=False))
    losses = flow_loss(predicted, x1, time, batch.registers, 0.05)
    check("out.flow.loss_per_sample", losses)
    check("out.flow.loss", losses.mean())


@torch.no_grad()
def test_the_flow_loss_of_three_draws_is_their_sum(model, vectors, batch, check):
    repeated = vectors["out.tok.z"].repeat(3, 1, 1)
    time = vectors["in.flow3.t"]
    state = interpolate(repeated, vectors["in.flow3.x0"], time)
    predicted = model.network.denoise(
        MODALITY, state, time, batch.registers.repeat(3), condition=batch.condition.repeat(3)
    )
    assert model.config.flow.reduction == "sum"
    check("out.flow3.loss", flow_loss(predicted, repeated, time, batch.registers.repeat(3), 0.05).sum() / 2)


@torch.no_grad()
def test_decoder_noise(vectors, check):
    clean = vectors["in.noising.mask_u"] >= 0.5
    time = torch.where(clean, 1.0, 0.7 + 0.3 * vectors["in.noising.t_u"])
    check("out.noising.z_noised", interpolate(vectors["out.tok.z"], vectors["in.noising.x0"], time))


def field(model: UNITE, state: torch.Tensor, time: torch.Tensor, labels: torch.Tensor, settings: SamplingConfig):
    """The drift of sampling with a timestep of its own for each sample."""
    registers = Registers(torch.ones(1, 256, dtype=torch.bool), padded=False)

    def one(index: int) -> torch.Tensor:
        row = slice(index, index + 1)
        denoiser = NetworkDenoiser(model.network, MODALITY, registers, labels[row], settings)
        return Drift(denoiser, settings)(time[index], state[row])

    return torch.cat([one(index) for index in range(len(state))])


@pytest.mark.parametrize(
    ("name", "guidance", "latent_norm"),
    [
        ("out.cfg.velocity", 2.5, "guided"),
        ("out.cfg.velocity", 2.5, "always"),
        ("out.cfg.velocity_cfg_first", 2.5, "unguided"),
        ("out.cfg1.velocity_norm_first", 1.0, "guided"),
        ("out.cfg1.velocity_cfg_first", 1.0, "unguided"),
        ("out.cfg1.velocity_cfg_first", 1.0, "always"),
    ],
)
@torch.no_grad()
def test_velocity_with_and_without_guidance(model, vectors, check, name, guidance, latent_norm):
    settings = SamplingConfig(guidance=guidance, latent_norm=latent_norm)
    labels = vectors["in.labels"]
    check(name, field(model, vectors["out.flow.x_t"], vectors["in.flow.t"], labels, settings))


@torch.no_grad()
def test_guidance_acts_strictly_inside_its_interval(model, vectors, check):
    settings = SamplingConfig(guidance=2.5)
    probes = [
        field(model, vectors["out.flow.x_t"], probe.expand(2), vectors["in.labels"], settings)
        for probe in vectors["in.cfg.t_probe"]
    ]
    check("out.cfg.velocity_probe", torch.stack(probes))


GENERATION = {
    "cfg2p5": {"guidance": 2.5, "solver": "dopri5", "latent_norm": "guided"},
    "cfg1": {"guidance": 1.0, "solver": "dopri5", "latent_norm": "guided"},
    "cfg1_cfg_first": {"guidance": 1.0, "solver": "dopri5", "latent_norm": "unguided"},
    "euler_cfg2p5": {"guidance": 2.5, "solver": "euler", "steps": 49, "latent_norm": "guided"},
    "euler_cfg1": {"guidance": 1.0, "solver": "euler", "steps": 49, "latent_norm": "guided"},
}


@pytest.mark.parametrize("name", GENERATION)
@torch.no_grad()
def test_generation_through_the_core(model, vectors, case, check, monkeypatch, name):
    """`generate` with the official noise and labels; what it decodes is kept instead of made into pictures.

    Step control amplifies rounding, so a processor's own matrix products can add or save one step (six evaluations of
    dopri5), and so can the last bit of the noise; the numbers are those of the exact noise. Euler's steps are fixed.
    """
    kept = {}

    def keep(_, latents, options=None):
        kept["latents"] = latents.values
        if f"out.gen.{name}.image_crop" in vectors:
            kept["image"] = model.network.decode(MODALITY, latents.values, latents.registers)
        return [None] * len(latents.values)

    monkeypatch.setattr(Coder, "decode", keep)
    settings = SamplingConfig(joint_steps=True, batch_size=2, **GENERATION[name])
    evaluations = []
    for bit in (1, 0) if settings.solver == "dopri5" else (0,):
        noise = vectors["in.gen.noise"] * (1 + bit * 2**-23)
        monkeypatch.setattr("unite_mm.sampling.generate.normal_noise", lambda *_, noise=noise: noise)
        found = model.generate(2, condition=vectors["in.labels"], sampling=settings)
        evaluations.append(found.evaluations)
    wanted = case["meta"]["gen"][name]["nfe"]
    step = 6 if settings.solver == "dopri5" else 0
    assert all(abs(found - wanted) <= step for found in evaluations), evaluations
    check(f"out.gen.{name}.latents", kept["latents"])
    if "image" in kept:
        check(f"out.gen.{name}.image", kept["image"][..., 96:160, 96:160], f"out.gen.{name}.image_crop")


@pytest.mark.parametrize(("name", "context"), [("feat_rope", 0), ("feat_rope_incontext", 32)])
def test_rotary_tables_round_as_the_official_ones(official, name, context):
    """At positions up to 511 a frequency that rounds otherwise is 1.5e-5 off; sines of other processors are not."""
    positions = torch.cat((torch.zeros(context), torch.arange(512)))
    for part, found in zip(("cos", "sin"), rotary_table(positions, 24, 10_000.0), strict=True):
        torch.testing.assert_close(found, official[f"encoder.{name}.freqs_{part}"][:, ::2], rtol=0, atol=1e-6)


def test_times(vectors, check):
    check("out.shift.t", shift_time(vectors["in.shift.t_raw"], 0.5))
    check("out.grid.t", time_grid(49, 0.5))


@torch.no_grad()
def test_single_norms_and_embeddings(model, vectors, check):
    trunk, decoder = model.network.encoder.trunk, model.modules_of(MODALITY).decoder
    block = trunk.blocks[0]
    check("out.unit.latent_norm", head(model).norm(vectors["in.unit.lat"]))
    check("out.unit.rms_norm1", block.norm1(vectors["in.unit.enc"]))
    check("out.unit.rms_norm_final", trunk.final_norm(vectors["in.unit.enc"]))
    check("out.unit.dec_layernorm_before", decoder.blocks[0].norm1(vectors["in.unit.dec"]))
    check("out.unit.dec_norm", decoder.norm(vectors["in.unit.dec"]))
    check("out.unit.t_emb", trunk.time(vectors["in.unit.t"]))
    check("out.unit.y_emb_null", head(model).condition(None, None, 1))
    normed = block.attention.q_norm(pairs_apart(vectors["in.unit.head"].T, 24).T)
    check("out.unit.q_norm", normed.view(4, 2, 12).transpose(1, 2).reshape(4, 24))  # back to the official order


class StoredNoise:
    """The random numbers of the stored training step."""

    def __init__(self, vectors) -> None:
        self.vectors, self.draw = vectors, 0

    def reconstruction(self, config, length):
        times = self.vectors["in.tok.flow_t"]
        clean = DecoderView.at(torch.ones_like(times), torch.zeros_like(self.vectors["in.tok.z_noise"]))
        return ReconstructionNoise(self.vectors["in.tok.z_noise"], times, clean)

    def flow(self, config, length, parts=0):
        rows = slice(2 * self.draw, 2 * self.draw + 2)
        self.draw += 1
        return FlowNoise(self.vectors["in.flow3.t"][rows], self.vectors["in.flow3.x0"][rows], torch.zeros(2).bool())


@pytest.mark.parametrize("chunk", [1, 3])
def test_gradients_of_the_joint_step(model, official, vectors, batch, tolerances, chunk):
    """Every stored gradient, and the norm of every parameter's, from the trainer's own objective."""
    network = model.network
    modules = model.modules_of(MODALITY)
    plain = modules.config
    modules.config = plain.model_copy(update={"lpips_weight": 0.0})
    flow = model.config.flow.model_copy(update={"draws": 3, "chunk": chunk})
    network.zero_grad()
    try:
        recipe = JointRecipe(model.config.model_copy(update={"flow": flow}), network)
        losses = recipe.backward(MODALITY, batch, StoredNoise(vectors))
    finally:
        modules.config = plain
    stored = json.loads((CASE / "grad_norms.json").read_text())
    assert float(losses["l1"]) == pytest.approx(stored["loss"]["rec_l1"], rel=2e-5)
    assert float(losses["flow"]) == pytest.approx(stored["loss"]["flow"], rel=2e-5)
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    sizes = read_sizes(official)
    squares = 0.0
    for entry in entries(sizes, HEADS, MODALITY):
        norm = stored["l2_norm_per_parameter"].get(entry.official)
        if norm is None:  # a fixed table
            assert entry.ours not in gradients
            continue
        own = gradients.pop(entry.ours)
        squares += float(own.square().sum())
        assert float(own.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-12), entry.official
        name = f"grad.{entry.official}"
        if name in vectors:
            wanted = entry.translate(vectors[name])
            assert float((own - wanted).norm() / wanted.norm()) <= tolerances[name]["rel_l2"], name
    assert not gradients, "parameters of ours that the official model lacks"
    assert squares**0.5 == pytest.approx(stored["global_grad_norm"], rel=1e-4)


def test_the_optimizers_share_the_parameters_as_published(model, official):
    from unite_mm.training.optim import parameter_groups

    stored = json.loads((CASE / "partition.json").read_text())
    ours = {entry.official: entry.ours for entry in entries(read_sizes(official), HEADS, MODALITY)}
    groups = parameter_groups(model.network, "muon")
    assert {name for name, _ in groups.muon} == {ours[name] for name in stored["muon"] if name in ours}
    assert {name for name, _ in groups.adamw} == {ours[name] for name in stored["adamw"] if name in ours}


@pytest.mark.parametrize(("name", "trained"), [("UNITE-B", 217_643_616), ("UNITE-L", 545_528_384)])
def test_the_tensors_of_the_published_models_are_those_expected(name, trained):
    """Names and shapes, and how many numbers of each are trained, unused or fixed."""
    listed = json.loads((SHARED / "parity" / "official_shapes.json").read_text())
    tensors = {
        name: torch.empty(shape, device="meta", requires_grad=learned)
        for name, (shape, _, learned) in listed[name]["tensors"].items()
        if not name.startswith("lpips_loss.")
    }
    sizes = read_sizes(tensors)
    assert (sizes.classes, sizes.context, sizes.side * sizes.patch) == (1000, 32, 256)
    expected = {entry.official: entry for entry in entries(sizes, sizes.heads, MODALITY)}
    check_names(tensors, expected)
    learned = {name: tensor.numel() for name, tensor in tensors.items() if tensor.requires_grad}
    assert sum(learned.values()) == trained
    assert set(learned) - set(expected) == {"encoder.t_embedder.special_time_emb"}


def test_every_stored_result_has_its_test_here(vectors, official):
    text = Path(__file__).read_text()
    expanded = {f"out.gen.{name}.{kind}" for name in GENERATION for kind in ("latents", "image_crop")}
    gradients = {f"grad.{entry.official}" for entry in entries(read_sizes(official), HEADS, MODALITY)}
    for name in vectors:
        if name.startswith("out."):
            assert f'"{name}"' in text or name in expanded, name
        assert not name.startswith("grad.") or name in gradients, name
