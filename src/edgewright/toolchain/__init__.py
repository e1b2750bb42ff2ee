"""From a model and a contract to a bundle with its evidence.

In flow order: ``ir`` loads and checks a graph, ``techniques`` change it, ``targets``
write it for an engine, ``measure`` finds out what that came to, ``planner`` decides,
``report`` shows it, and ``recipe``, ``pack`` and ``publish`` are what is called.
"""
