"""Hugging Face models with merging inside (`merging`), for the known `architectures`, and batches for them."""
