"""The molecule's parts of the model: tokenizer, decoder, losses, prior."""
