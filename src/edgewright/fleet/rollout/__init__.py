"""Staged delivery: a gate that judges, a controller that acts, documents devices trust."""
