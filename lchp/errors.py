"""What every floor may say to a person: a refusal."""

from __future__ import annotations


class Refusal(ValueError):
    """What the user asked for cannot be done, and nothing was started: exit code 2."""
