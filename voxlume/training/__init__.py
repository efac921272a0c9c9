"""Training of every network: stages, one loop for all of them, checkpoints, the finished model folder."""
