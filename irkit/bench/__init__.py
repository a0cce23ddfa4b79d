"""Measuring: latency and memory in processes of their own, steps against the machine's limits, results as JSON.

``irkit bench`` (irkit/cli/bench.py) is the way in; the developers' tools in the folder bench/ of the sources use the
same parts. How time is taken: irkit/bench/worker.py; what spread means: irkit/bench/stats.py.
"""
