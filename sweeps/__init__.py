"""Which trials to do: Hydra multiruns over the trials that `scaling` trains."""
