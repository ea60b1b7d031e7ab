"""One trial: initialization, refinement and evaluation, from a frozen config to scores; no Ray, no MLflow."""
