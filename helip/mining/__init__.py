import torch  # noqa: F401  before faiss, whose GPU build finds the CUDA libraries that torch has loaded
