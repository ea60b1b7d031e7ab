"""The paper, equation by equation: pure torch, no I/O, no device choice; randomness only from a torch.Generator."""
