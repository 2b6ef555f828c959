"""History in, commands out.

Rule of this layer: sans-IO.  No clock, no chance, no sockets, no threads, no logging of its own.
What the core needs of them arrives as an argument or as a recorded event; what it finds out it
returns, and others log it.  It loads without Redis, Celery or pydantic.
"""
