"""Images as data sets: sources, decoding, the prepared cache, batches."""
