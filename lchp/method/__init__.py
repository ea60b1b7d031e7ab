"""The paper, equation by equation: pure torch, no I/O, no device choice; randomness only from a torch.Generator.

"Method notes" in docstrings are the numbered answers in README.md beside this file to what the paper leaves open.
"""
