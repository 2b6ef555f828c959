"""The static check of workflow code: what replay could not repeat, found before it runs.

Rule of this layer: it reads source, and runs none of it.  It knows the core alone.  What it cannot
see (a call through a variable, a library's inside) `core.guard` refuses at run time.
"""
