"""From finished runs to tables and figures; rebuilds without torch."""
