"""Evaluation: likelihoods, baselines, the laws of a likelihood, and what a network sees and costs."""
