"""Trajectories with their log-densities, and SPO's step-wise resampler."""
