"""Rectified flow: the schedule, classifier-free guidance, the Euler sampler, velocity forecasting."""
