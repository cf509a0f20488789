"""Sweeps that a TOML file describes; ``docs/experiment.toml`` shows all that it may hold."""
