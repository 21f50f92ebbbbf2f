"""The image's parts of the model: patches, decoder, losses."""
