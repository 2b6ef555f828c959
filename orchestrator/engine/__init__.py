"""Inboxes and timers in, commits out: the owner's cycle.

Rule of this layer: it drives the core and the store through their ports.  It knows neither Redis
nor Celery; clock and chance reach it from the store and from one seeded generator.
"""
