"""Measurements that anybody can repeat: ``python -m benchmarks steps``.

Each prints JSON lines: name, value, unit, settings, ratio.  A figure without its settings is none.
"""
