"""The plugin's own configuration; the manifest names it."""

from typing import Literal

from pydantic import Field, model_validator

from unite_mm_schemas.base import Schema

SMALLEST_FOR_LPIPS = 16
"""VGG halves an image four times before its last features."""

SMALLEST_FOR_SQUEEZENET = 17
"""SqueezeNet halves an image four times, and pools over windows of 3 pixels."""

MOST_REGISTERS = 65_536
"""Attention looks at all pairs of them."""


class ImageMetrics(Schema):
    """How images are scored; `--set image.metrics.KEY=VALUE` changes it for a trained model too."""

    inception: str | None = None
    """File with the published weights of Inception (weights-inception-2015-12-05-6726825d.pth). None: the environment
    variable UNITE_MM_INCEPTION, torch's cache of models, or a download."""
    features: str | None = None
    """Another network in the place of Inception, whose numbers carry its name: `efficientnet-lite0`, which works
    offline (extra `features`), or a TorchScript file, from RGB images (B, 3, H, W) in [0, 1] to features (B, D)."""
    vgg: str | None = None
    """File with torchvision's weights of VGG16 (vgg16-397923af.pth) for LPIPS; None: that of the loss, torch's cache of
    models, or a download."""
    reference_split: Literal["train", "validation", "test"] = "train"
    """Split of the data that generated images are compared with."""
    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Images that a network sees at once; changes speed and memory only."""
    device: str = "auto"
    """Where the networks compute: auto, cpu, cuda, cuda:1, mps."""
    neighbours: int = Field(3, ge=1, le=1000)
    """k of precision and recall: the ball around an image reaches to its k-th nearest neighbour."""
    neighbour_images: int = Field(10_000, ge=4, le=1_000_000)
    """Images of each set, drawn at random, that precision and recall are computed on; their cost grows with the square
    of the number."""


class ImageConfig(Schema):
    """How images are prepared, encoded, decoded and weighed."""

    size: int = Field(32, ge=1, le=4096)
    """Pixels on each side; other images are scaled and cut to this square."""
    patch: int = Field(4, ge=1, le=4096)
    """Pixels on each side of a patch; must divide the size. There is one register for every patch."""
    colours: Literal["rgb", "grey"] = "rgb"
    """Colour channels of the model; images of the other kind are converted."""
    condition: Literal["class", "none"] = "class"
    """What generation is conditioned on. `class` needs data with classes; without them it is as `none`."""
    channels: int = Field(32, ge=1, le=65_536)
    """Latent channels C of each register."""
    patch_positions: Literal["after", "aligned"] = "after"
    """Rotary positions of the patches: after the registers (published), or each at that of the register of its number,
    so that `trunk.pointer_bias` can point at it."""
    decoder_width: int = Field(192, ge=8, le=65_536)
    """Width of the decoder; a multiple of 4."""
    decoder_depth: int = Field(4, ge=1, le=1024)
    """Blocks of the decoder."""
    decoder_heads: int = Field(3, ge=1, le=4096)
    """Attention heads of the decoder."""
    decoder_hidden: int | None = Field(None, ge=1, le=1_000_000)
    """Hidden width of the decoder's MLPs; None: four times its width."""
    decoder_input_width: int | None = Field(None, ge=1, le=65_536)
    """Width between the two linear layers that lead from the latents into the decoder (published: 768); None: a single
    layer."""
    l1_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the mean absolute error of the pixels."""
    lpips_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the perceptual loss LPIPS (VGG); 0 switches it off, and then no weights of VGG are needed."""
    lpips_range: Literal["signed", "unit"] = "signed"
    """Range of the images that LPIPS sees: [-1, 1], which it was made for, or [0, 1], which the official code gives it;
    meant for imported models only."""
    lpips_vgg: str | None = None
    """File with torchvision's weights of VGG16 (vgg16-397923af.pth); None: torch's cache of models, or a download."""
    teacher: str = "efficientnet-lite0"
    """Frozen network that describes images where a regime or an alignment needs one: efficientnet-lite0, from its
    package (extra `features`), or a TorchScript file, from RGB images (B, 3, S, S) in [0, 1] to feature maps
    (B, F, h, w) or tokens (B, N, F) of a square grid."""
    teacher_size: int = Field(128, ge=32, le=4096, multiple_of=32)
    """S, pixels on each side of the images that the teacher sees; larger ones tell more, and take longer."""
    laplace_scale: float = Field(0.05, gt=0, le=1e3)
    """Scale of the Laplace distribution as whose logarithm the regime unified-latents counts errors of pixels: how
    large an error of a pixel in [0, 1] costs one nat."""
    squeezenet_weight: float = Field(0.0, ge=0, le=1e6)
    """Weight of a perceptual loss in the features of SqueezeNet 1.1, every channel alike: small enough for a CPU. It is
    not LPIPS."""
    squeezenet: str | None = None
    """File with weights of SqueezeNet 1.1 by torchvision's names (squeezenet1_1-b8a52dc0.pth, or .safetensors); None:
    torch's cache of models, or a download."""
    squeezenet_input: Literal["torchvision", "caffe"] = "torchvision"
    """What those weights were trained on: RGB scaled by ImageNet's mean and deviation, or BGR from 0 to 255 less its
    means, as the authors' own weights, converted from Caffe."""
    flip: bool = True
    """Flip training images left to right at random."""
    max_unreadable: float = Field(0.01, ge=0, le=1)
    """Share of unreadable images above which the preparation of the data, or training on shards, stops."""
    parquet_image: str | None = Field(None, min_length=1)
    """Column of parquet files that holds the images; None: the first of image, img, jpg, jpeg, png, webp, bytes."""
    parquet_label: str | None = Field(None, min_length=1)
    """Column of parquet files that holds the classes; None: the first of label, labels, cls, class, fine_label, if any
    is there."""
    metrics: ImageMetrics = ImageMetrics()
    """How images are scored; `--set image.metrics.KEY=VALUE` also changes it for a trained model."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ImageConfig":
        if self.size % self.patch:
            raise ValueError(f"image.patch={self.patch} must divide image.size={self.size}")
        if self.registers > MOST_REGISTERS:
            raise ValueError(
                f"image.patch={self.patch} makes {self.registers:,} registers of image.size={self.size}: at most "
                f"{MOST_REGISTERS:,} can be"
            )
        if self.decoder_width % 4:
            raise ValueError(f"image.decoder_width={self.decoder_width} must be a multiple of 4")
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"image.decoder_heads={self.decoder_heads} must divide image.decoder_width={self.decoder_width}"
            )
        if self.lpips_weight and self.size < SMALLEST_FOR_LPIPS:
            raise ValueError(
                f"image.size={self.size} is too small for LPIPS, which needs {SMALLEST_FOR_LPIPS} pixels: "
                "set image.lpips_weight=0"
            )
        if self.squeezenet_weight and self.size < SMALLEST_FOR_SQUEEZENET:
            raise ValueError(
                f"image.size={self.size} is too small for SqueezeNet, which needs {SMALLEST_FOR_SQUEEZENET} pixels: "
                "set image.squeezenet_weight=0"
            )
        return self

    @property
    def side(self) -> int:
        """Patches on each side."""
        return self.size // self.patch

    @property
    def registers(self) -> int:
        """K, registers of an image: one for every patch."""
        return self.side**2

    @property
    def colour_channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return 3 if self.colours == "rgb" else 1
