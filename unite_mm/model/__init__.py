"""The network: encoder-denoiser, heads, blocks."""
