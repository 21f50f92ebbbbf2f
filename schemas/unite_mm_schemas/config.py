"""The run configuration: everything that decides what a training run computes.

Defaults are the published method (arXiv 2603.22283) at a size for two CPU cores; presets and files change them.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from unite_mm_schemas.additions import AlignmentConfig, LatentGradientConfig, NoAlignment, NoLatentGradient
from unite_mm_schemas.base import LARGEST_SEED, MOST_STEPS, Finite, Schema
from unite_mm_schemas.combinations import SHARDED, disagreement, not_sharded
from unite_mm_schemas.recipe import JointRecipeConfig, RecipeConfig
from unite_mm_schemas.regime import RegimeConfig, UniteRegime

Share = Annotated[float, Field(ge=0, le=1)]
"""A share, or a timestep."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError(f"[{ends[0]:g}, {ends[1]:g}]: the lower end must not be above the upper one")
    return ends


Interval = Annotated[tuple[Share, Share], AfterValidator(_ordered)]
"""Two timesteps, the lower one first; equal ends hold no timestep between them."""


AUTO = "auto"
"""How a user writes that a run decides for itself; in Python and in files it is null."""


def _none_of_auto(value: Any) -> Any:
    return None if value == AUTO else value


Devices = Annotated[int, Field(ge=1, le=4096)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Auto = Literal["auto"]
Strategy = Literal["ddp", "fsdp", "hybrid"]


Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
Shift = Annotated[Factor | None, BeforeValidator(_none_of_auto, json_schema_input_type=Factor | Auto | None)]
"""a in t <- a t / (1 + (a - 1) t); null or `auto`: by the size of the latents, decided when a run begins."""


class TrunkConfig(Schema):
    """The weight-shared transformer, the Generative Encoder (paper, section 3)."""

    width: int = Field(128, ge=8, le=65_536)
    """Width W of the residual stream."""
    depth: int = Field(4, ge=1, le=1024)
    """Number of blocks."""
    heads: int = Field(4, ge=1, le=4096)
    """Attention heads; must divide the width into even parts."""
    qk_norm: bool = True
    """RMS-normalise queries and keys per head."""
    rope_base: float = Field(10_000.0, gt=1, le=1e12)
    """Base of the rotary frequencies."""
    rope_highest: float = Field(1.0, gt=0, le=1e6)
    """Highest rotary frequency, in radians per position."""
    pointer_bias: float = Field(0.0, ge=-1000, le=1000)
    """Constant added to part of every query and key after normalisation, so that a token starts by attending to the
    tokens of its own position; 0 switches it off. Use it where registers and input tokens stand for the same things."""
    in_context_tokens: int = Field(0, ge=0, le=4096)
    """Condition tokens prepended before block `in_context_start`; 0: none."""
    in_context_start: int = Field(4, ge=0, le=1024)
    """Block (0-based) before which the condition tokens enter; must be below the depth when there are any."""
    time_features: int = Field(256, ge=2, le=65_536)
    """Random Fourier features of the timestep."""
    gate_start: float = Field(0.0, ge=0, le=1000)
    """Initial gate of every block's branches: 0 starts blocks as the identity (published)."""
    register_start: Literal["normal", "sincos"] = "normal"
    """Initial register position embeddings: normal, or the sines and cosines of the positions (published)."""
    register_scale: float = Field(1.0, gt=0, le=1000)
    """Standard deviation of the normal initial register position embeddings, or factor of the sines and cosines. Small
    values drown in the register noise."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "TrunkConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"trunk.heads={self.heads} must divide trunk.width={self.width} into even parts")
        if self.in_context_tokens and self.in_context_start >= self.depth:
            raise ValueError(f"trunk.in_context_start={self.in_context_start} must be below trunk.depth={self.depth}")
        return self


class LatentConfig(Schema):
    """The latent space and how the tokenizer reaches it."""

    affine: bool = True
    """Whether the LayerNorm over the C channels has a learned scale and shift (published: yes). Without them the scale
    of the latents cannot drift against the noise of the flow."""
    tokenize_time_max: float = Field(0.01, ge=0, le=1)
    """Tokenization runs at a timestep uniform in [0, this)."""
    decoder_noise_probability: float = Field(0.5, ge=0, le=1)
    """Share of the samples whose latents are noised before decoding, in training only."""
    decoder_noise_start: float = Field(0.7, ge=0, le=1)
    """Lowest timestep of that noise: the decoder sees t z0 + (1 - t) eps with t uniform in [this, 1)."""


class FlowConfig(Schema):
    """Flow matching on the latents (paper, section 3.2); t = 0 is noise, t = 1 is data."""

    draws: int = Field(1, ge=1, le=10_000)
    """R, flow minibatches per reconstruction (published models: 14)."""
    chunk: int = Field(1, ge=1, le=10_000)
    """Draws computed in one pass. More is faster for small models or batches, and takes more memory."""
    reduction: Literal["sum", "mean"] = "sum"
    """Whether the losses of the R draws are summed (published) or averaged."""
    weight: float = Field(1.0, ge=0, le=1e6)
    """Factor of the flow loss. Where it shares weights with the reconstruction, it decides whom they serve more: Muon
    and AdamW do not see how large a loss is, only the ratio of two. With separate networks it means nothing."""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of the timestep before the shift."""
    time_mean: float = Field(0.0, ge=-100, le=100)
    """Mean of the normal inside the sigmoid."""
    time_std: float = Field(1.0, gt=0, le=100)
    """Standard deviation of the normal inside the sigmoid."""
    shift: Shift = 0.5
    """a in t <- a t / (1 + (a - 1) t); below 1 pulls toward noise, 1 leaves t as it is. `auto` or null:
    sqrt(4096 / (K C)) for K registers of C channels (arXiv 2510.11690), decided when the run begins."""
    min_remaining: float = Field(0.05, ge=1e-6, le=1)
    """Floor of 1 - t in the loss weight 1 / max(1 - t, floor)^2; larger floors weigh late timesteps less."""
    condition_drop: float = Field(0.1, ge=0, le=1)
    """Share of the conditions replaced by the null condition, for classifier-free guidance."""


DecayRate = Annotated[float, Field(ge=0, lt=1)]
"""Share that a moving average keeps at each step."""

Step = Annotated[int, Field(ge=0, le=MOST_STEPS)]
"""Number of an optimizer step."""


class OptimConfig(Schema):
    """Optimizers, schedule, clipping and EMA."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for the hidden matrices and AdamW for the rest, or AdamW for everything."""
    learning_rate: float = Field(1e-4, gt=0, le=1e6)
    """Peak rate of AdamW."""
    muon_learning_rate: float | None = Field(None, gt=0, le=1e6)
    """Peak rate of Muon; None: the same as AdamW's (published)."""
    weight_decay: float = Field(0.0, ge=0, le=1e6)
    """Decoupled weight decay of the hidden matrices."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999)
    """AdamW's decay rates, from 0 to below 1."""
    eps: float = Field(1e-6, ge=1e-30, le=1)
    """AdamW's and Muon's epsilon."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's momentum."""
    muon_precision: Literal["bfloat16", "float32"] = "bfloat16"
    """In which Muon makes matrices orthogonal. In bfloat16 (published) the last bit of a gradient may change the third
    digit of a step; float32 keeps runs of different numbers of processes together and takes about twice the time."""
    warmup_steps: int = Field(100, ge=0, le=MOST_STEPS)
    """Steps over which the rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine", "stages"] = "constant"
    """Shape of the decay after `decay_start`; or `stages`, which are counted in steps."""
    decay_start: float = Field(0.0, ge=0, le=1)
    """Share of the run after which the rate decays."""
    final_rate: float = Field(0.0, ge=0, le=1)
    """Rate at the end of the run as a share of the peak."""
    stages: tuple[tuple[Step, Step, Share], ...] = ()
    """With `schedule: stages`: decays [first step, last step, share of the peak reached there], cosine in shape, one
    after the other; between them the rate stays."""
    clip: float = Field(3.0, gt=0, le=1e12)
    """Global gradient norm above which gradients are scaled down."""
    ema: float = Field(0.9978, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, per step."""
    ema_ramp: bool = True
    """Use the smaller of `ema` and (1 + step) / (10 + step), so that short runs forget their start."""

    @model_validator(mode="after")
    def _stages_follow_each_other(self) -> "OptimConfig":
        if (self.schedule == "stages") != bool(self.stages):
            raise ValueError("optim.schedule=stages needs optim.stages, and optim.stages needs optim.schedule=stages")
        reached = 0
        for first, last, share in self.stages:
            if not reached <= first <= last or not 0 <= share <= 1:
                raise ValueError(
                    f"optim.stages: [{first}, {last}, {share}] must begin after the stage before it, end after its "
                    "beginning and reach a share between 0 and 1"
                )
            reached = last
        return self


class TrainConfig(Schema):
    """Length, batches, devices and records of a run."""

    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Samples per optimizer step over all devices, per modality."""
    max_steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    """Optimizer steps of the run."""
    max_time: float | None = Field(None, gt=0, le=1e9)
    """Seconds of training; the schedule then follows the clock. Exactly one of this and `max_steps` is set."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Seed of everything random."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the forward pass."""
    devices: Annotated[Devices | None, BeforeValidator(_none_of_auto, json_schema_input_type=Devices | Auto | None)] = (
        None
    )
    """Number of devices (or CPU processes); the batch is divided among them. `auto` or null: what is fastest on the
    machine for a run of this length, decided when it begins; `--resume` keeps it."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    strategy: Annotated[
        Strategy | None, BeforeValidator(_none_of_auto, json_schema_input_type=Strategy | Auto | None)
    ] = None
    """Where weights, optimizer state and average lie: `ddp`: whole on every device; `fsdp`: in rows over all devices;
    `hybrid`: in rows over the devices of a machine. `auto` or null: `ddp` where a device has room for it, else
    `fsdp`, or `hybrid` on several machines; decided when the run begins. Every device computes its part of the batch
    either way."""
    threads: Annotated[Threads | None, BeforeValidator(_none_of_auto, json_schema_input_type=Threads | Auto | None)] = (
        None
    )
    """CPU threads of each process. `auto` or null: the cores divided by the processes."""
    compile: Annotated[bool | None, BeforeValidator(_none_of_auto, json_schema_input_type=bool | Auto | None)] = None
    """Compile the transformer blocks, and losses that gain by it, with torch.compile. `auto` or null: where a compiler
    is found and the run is long enough to earn the time it takes."""
    cuda_graphs: bool = False
    """On CUDA, record the kernels of a step once for each shape of batch and replay them, so that the GPU does not wait
    for Python. No effect elsewhere, on weights in rows, and with alignment or adversarial losses."""
    augment: bool = True
    """Random augmentation of the training samples by the modality."""
    log_every: int = Field(50, ge=1, le=MOST_STEPS)
    """Steps between records in metrics.jsonl and TensorBoard."""
    validate_every: int = Field(2000, ge=1, le=MOST_STEPS)
    """Steps between validations."""
    validation_samples: int = Field(512, ge=1, le=1_000_000_000)
    """Validation samples used each time."""
    generate_every: int | None = Field(None, ge=1, le=MOST_STEPS)
    """Steps between scores of generated samples, which `metrics.jsonl` and TensorBoard keep as `generation`; null:
    never. Averaged weights and `sampling` are used, training stays the same; `--dry-run` says what it costs, and with
    `max_time` it counts as training."""
    generate_samples: int = Field(100, ge=1, le=1_000_000)
    """Samples generated each time."""
    generate_reference: bool = False
    """Compare them with the data, as `evaluate` does and Frechet distances need; that takes time, mostly at first."""
    checkpoint_every: int = Field(1000, ge=1, le=MOST_STEPS)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1, le=1_000_000)
    """Newest checkpoints kept."""
    timeout: float = Field(1800, ge=1, le=1e6)
    """Seconds that a process waits for another at the end of a step before it gives up; elsewhere at least 600."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.max_steps is not None and self.max_time is not None:
            raise ValueError("train.max_steps and train.max_time exclude each other: set one of them to null")
        if self.batch_size % (self.devices or 1):
            raise ValueError(f"train.batch_size={self.batch_size} must be a multiple of train.devices={self.devices}")
        return self


class SamplingConfig(Schema):
    """How samples are generated (paper, section 3.3)."""

    solver: Literal["euler", "midpoint", "heun2", "rk4", "dopri5"] = "heun2"
    """ODE solver of torchdiffeq; dopri5 controls its step for each sample on its own."""
    steps: int = Field(50, ge=1, le=100_000)
    """Steps of the fixed-step solvers."""
    shift: Shift = 0.5
    """Shift of the time grid, as in training; `auto` or null: as `flow.shift`, decided when the run begins."""
    rtol: float = Field(1e-3, ge=1e-12, le=1)
    """Relative tolerance of dopri5."""
    atol: float = Field(1e-6, ge=1e-12, le=1)
    """Absolute tolerance of dopri5."""
    joint_steps: bool = False
    """dopri5 controls its step for all samples of a batch together, as the official code does: faster where a batch
    fills the device, but what a sample becomes then depends a little (1e-2) on the samples beside it."""
    min_remaining: float = Field(0.05, ge=1e-6, le=1)
    """Floor of 1 - t in the velocity (z0_hat - x) / max(1 - t, floor)."""
    guidance: float = Field(1.0, ge=0, le=1000)
    """Scale w of classifier-free guidance: u + w (c - u); 1 is no guidance."""
    guidance_interval: Interval = (0.1, 1.0)
    """Guidance acts for t strictly inside; a lower end of 0 includes t = 0."""
    latent_norm: Literal["always", "guided", "unguided"] = "always"
    """When predictions pass the latent norm, which training always applies. The others reproduce the official code,
    which forgets it: `guided` (only with guidance above 1) is its norm_first, the default there; `unguided` (only
    without) its cfg_first."""
    churn: float = Field(0.0, ge=0, le=100_000)
    """Stochastic sampling: before each step of a fixed-step solver go back by this / steps in t and add fresh noise to
    match; 0 is the deterministic flow."""
    churn_interval: Interval = (0.0, 0.95)
    """Churn acts for t strictly inside. Early churn redraws the shape of a sample, late churn repairs its details."""
    temperature: float = Field(1.0, gt=0, le=1000)
    """Standard deviation of the initial noise."""
    hold_until: float = Field(1.0, ge=0, le=1)
    """Timestep up to which the registers of a given fragment are held to its noised latents; what is left of the flow
    changes them too, so that they can adapt to what has grown around them. 1: to the end."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic of the network; what it predicts is integrated in float32 either way. The rounding of bf16 varies with
    the batch, so now and then a sample becomes another one beside other samples; in float32 it stays the same."""
    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Most samples generated at once; changes speed and memory only."""


class ModalityRun(Schema):
    """One modality of a run."""

    source: str | None = Field(None, min_length=1)
    """Data source: a name the plugin knows or a path; None: the plugin's default."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """Weight of this modality's loss."""
    config: Annotated[dict[str, Any], Finite] = Field(default_factory=dict)
    """The plugin's own configuration; its own model validates it."""


class RunConfig(Schema):
    """A whole run."""

    schema_version: Literal[2] = 2
    """Version of this schema."""
    modalities: dict[str, ModalityRun] = Field(default_factory=dict)
    """The modalities of the run by name; one is the ordinary case."""
    trunk: TrunkConfig = TrunkConfig()
    """The shared transformer."""
    latent: LatentConfig = LatentConfig()
    """The latent space."""
    flow: FlowConfig = FlowConfig()
    """Flow matching."""
    regime: RegimeConfig = UniteRegime()
    """Which networks there are, and what space the flow lives in; the default is UNITE."""
    recipe: RecipeConfig = JointRecipeConfig()
    """What one training step is; the default trains all parts jointly."""
    alignment: AlignmentConfig = NoAlignment()
    """What the inside of the denoiser is aligned to, beside the flow loss."""
    latent_gradient: LatentGradientConfig = NoLatentGradient()
    """What data say of latents that are denoised, beside the flow loss."""
    optim: OptimConfig = OptimConfig()
    """Optimization."""
    train: TrainConfig = TrainConfig()
    """The training run."""
    sampling: SamplingConfig = SamplingConfig()
    """Defaults for generation."""

    @model_validator(mode="after")
    def _sections_go_together(self) -> "RunConfig":
        reason = disagreement(self.regime, self.recipe, self.alignment, self.latent_gradient)
        if reason is None and self.train.strategy in SHARDED:
            reason = not_sharded(self.recipe, self.alignment, self.latent_gradient)
            reason = reason and f"train.strategy={self.train.strategy}: {reason}; use train.strategy=ddp"
        if reason is not None:
            raise ValueError(reason)
        return self
