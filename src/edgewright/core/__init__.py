"""Values, errors and durable files: what every other floor agrees on.

Standard library only, so that the resident process of a device can stand on it.
"""
