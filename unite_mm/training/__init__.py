"""Training: the loop, the run folder, several devices, optimizers, data order and noise; recipes apart."""
