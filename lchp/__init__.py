"""LCHP: learning consistency from high-quality pseudo-labels (Sun & Zhu 2022), and a study platform around it."""

__version__ = "0.3.0"
