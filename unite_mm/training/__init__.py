"""Joint training: objective, data stream, optimizers, EMA, trainer."""
