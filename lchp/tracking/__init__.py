"""The only door to MLflow: the store, one true run per trial, the UI on loopback."""
