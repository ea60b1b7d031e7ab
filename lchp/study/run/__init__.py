"""A study from its specification to its tables: preparing, training under Ray Tune, recording."""
