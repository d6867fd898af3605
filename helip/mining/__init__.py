import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]  before faiss, whose GPU build finds the CUDA libraries that torch has loaded
