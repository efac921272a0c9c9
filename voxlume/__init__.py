"""Voxlume."""
