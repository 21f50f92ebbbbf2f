"""From noise to samples: drift, guidance, solvers, classes."""
