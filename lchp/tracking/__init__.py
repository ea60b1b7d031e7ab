"""The only door to MLflow, and the fingerprints that identify a configuration."""
