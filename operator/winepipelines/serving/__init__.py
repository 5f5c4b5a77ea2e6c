"""Serving models: the port that every serving platform implements, endpoint probing, and workloads."""
