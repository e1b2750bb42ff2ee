"""What a written model comes to: right answers, bytes, time and memory.

Everything here runs the files themselves on the engine a device runs, never the graph
in memory. This package imports nothing, so that ``process`` weighs what a device does.
"""
