"""Studies: YAML to a frozen Study, its plan, its trials under Ray Tune, and the reproduction of one of them."""
