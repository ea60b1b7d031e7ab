"""Datasets: readers of the original layouts, splits, true boxes for evaluation, images as uint8."""
