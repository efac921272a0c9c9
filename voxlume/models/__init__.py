"""The networks: structure VAE, SC-VAE, flow transformers, image encoder, and their published names."""
