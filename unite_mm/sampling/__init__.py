"""From noise to samples: drift and guidance, solvers, generation, classes of whole sets."""
