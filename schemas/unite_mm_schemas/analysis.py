"""The analysis report: what was found inside trained models, run by run."""

from pydantic import Field

from unite_mm_schemas.base import Schema
from unite_mm_schemas.metrics import Measured, Metric


class BlockAlignment(Measured):
    """How alike a block's outputs are when the trunk tokenizes and when it denoises."""

    block: int
    """Number of the block, from 1."""
    time: float
    """Timestep of the denoised latents."""
    cka: float
    """Linear CKA on centred features: 1 for a rotated and scaled copy."""
    cknna: float
    """CKNNA: the same over pairs that are mutual nearest neighbours."""
    cosine: float
    """Mean cosine of the two outputs of the same register."""


class LatentPoint(Measured):
    """How near predicted clean latents are to the true ones."""

    time: float
    """Timestep of the noisy latents."""
    cosine: float
    """Mean cosine of prediction and clean latent over the registers."""
    error: float
    """Mean squared error of the prediction per channel."""
    noisy_cosine: float
    """The same cosine of the noisy latents themselves."""
    noisy_error: float
    """The same error of the noisy latents themselves."""


class DescriptionLength(Measured):
    """Entropy of the weights' histograms times their number, of one part of a network."""

    part: str
    """`normalisation`, `attention and MLP`, `other` of the encoder-denoiser; the plugin's `tokenizer`, `decoder`."""
    numbers: int = Field(ge=0)
    """Weights in it."""
    start: float | None = None
    """Megabytes with the weights that the run started from; None where these cannot be made again."""
    end: float
    """Megabytes with the trained weights."""


class Probe(Schema):
    """What a linear map reads out of mean-pooled features."""

    features: str
    """`latents`, or `tokenizing block N`, `denoising block N`."""
    found: tuple[Metric, ...]
    """Held-out accuracy of a class, or R^2 of each number."""
    control: tuple[Metric, ...]
    """The same with the training targets in random order: means over several orders, with intervals over these."""


class GradientPoint(Measured):
    """The gradients of the two losses on the weights that both reach, at one checkpoint."""

    step: int
    """Optimizer steps of the checkpoint."""
    cosine: float | None
    """Cosine of the gradients of reconstruction and flow loss; None where no weight gets both."""
    reconstruction_norm: float
    """Norm of the first over those weights."""
    flow_norm: float
    """Norm of the second over those weights."""


class Curve(Measured):
    """A recorded scalar over a run."""

    name: str
    """Such as `train/flow`, `validation/reconstruction` or `generation/validity`."""
    steps: tuple[int, ...]
    """Optimizer steps."""
    values: tuple[float, ...]
    """Its value at each of them."""


class RunAnalysis(Schema):
    """What was found in one run; parts that were not asked for are empty."""

    run: str
    """Folder or name of the model."""
    label: str
    """What tables and pictures call it."""
    modality: str
    """The modality that was looked into."""
    step: int
    """Optimizer steps of the model."""
    data: str
    """Description of the data."""
    split: str
    """Whose samples they are."""
    samples: int
    """How many were encoded."""
    seed: int
    """Of everything random in the analysis."""
    shared_weights: bool
    """Whether one network tokenizes and denoises."""
    alignment: tuple[BlockAlignment, ...] = ()
    """Per block and timestep."""
    latents: tuple[LatentPoint, ...] = ()
    """Over timesteps."""
    lengths: tuple[DescriptionLength, ...] = ()
    """Per part of the network."""
    probes: tuple[Probe, ...] = ()
    """Per kind of features."""
    gradients: tuple[GradientPoint, ...] = ()
    """Per checkpoint."""
    curves: tuple[Curve, ...] = ()
    """What the run recorded."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what could not be measured, and why."""


class AnalysisReport(Schema):
    """The content of `analysis.json`."""

    schema_version: int = 1
    """Version of this schema."""
    runs: tuple[RunAnalysis, ...]
    """The runs in the order named."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python, torch and unite-mm."""
