"""Datasets: readers of the original layouts, splits, true boxes for evaluation, images as uint8."""

import warnings

# Pillow warns of pictures of 90 megapixels (DecompressionBombWarning, told here by its words, as nothing is to be
# imported for it); of twice as many it makes an error, which names the file.
warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit", RuntimeWarning)
