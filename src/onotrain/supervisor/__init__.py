"""Launches a training, and launches it again when it has failed: outside of MPI."""
