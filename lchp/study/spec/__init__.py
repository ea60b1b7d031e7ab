"""What a study file says: its keys, its YAML with places, what is wrong with it, and what varies."""
