"""The store of results: one folder a stage, named by what made it; its files are known, written and checked here."""
