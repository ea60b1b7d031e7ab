"""Studies, in four rooms: ``spec`` (what the file says), ``plan``, ``run`` and ``reproduce``."""
