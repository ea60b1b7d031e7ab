"""What a study will train, and roughly what that costs."""
