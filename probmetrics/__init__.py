"""Distances between probability distributions, and how sure we are of them."""
