"""Assets to train on and to judge by: real ones, procedural ones, and the voxel samples made of them."""
