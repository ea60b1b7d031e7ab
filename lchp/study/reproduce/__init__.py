"""Training one finished trial again, and comparing every number and every box."""
