"""Settings of the modality `signals`."""

from pydantic import Field, model_validator

from unite_mm_schemas.base import Schema


class SignalsConfig(Schema):
    """How signals are cut, encoded, decoded and weighed."""

    length: int = Field(256, ge=64, le=100_000)
    """Samples of a signal, at 100 a second."""
    patch: int = Field(16, ge=2, le=100_000, multiple_of=2)
    """Samples between two registers; must divide the length."""
    channels: int = Field(12, ge=1, le=4096)
    """Latent channels C of each register."""
    spectral_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the loss of the short-time spectra; that of the waveform itself is 1."""

    @model_validator(mode="after")
    def _patches_fit(self) -> "SignalsConfig":
        if self.length % self.patch:
            raise ValueError(f"signals.patch={self.patch} must divide signals.length={self.length}")
        return self
