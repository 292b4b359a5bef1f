"""One thread: the tests' tensors are small, and timings of other work stay out of the way."""

import torch

torch.set_num_threads(1)
