"""What was trained, put to use: models of trials, and what they say of images."""
