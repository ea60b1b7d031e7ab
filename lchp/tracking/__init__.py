"""All that speaks to MLflow: the store, one true run per trial, the UI on loopback."""
