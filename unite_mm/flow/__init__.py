"""Flow matching as small pure parts: path, timesteps, loss, guidance, solvers. No model inside."""
