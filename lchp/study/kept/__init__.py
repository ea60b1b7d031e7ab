"""What studies keep on disk: how much that is, what of it nobody needs any more, and a study as one file."""
