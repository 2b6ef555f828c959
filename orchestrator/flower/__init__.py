"""Workflows in Flower: pages, an API, and a way to keep payloads out of it.

Rule of this layer: it looks and never touches.  It reads the store through the client's calls and
changes neither runs nor what Celery does; without it, Flower shows steps as it shows any task.

FL1  A store that does not answer costs these pages alone, and they say so.
FL2  Where payloads are hidden, neither Flower's pages and API nor ours have them.
"""

from orchestrator.flower.hiding import hide_payloads
from orchestrator.flower.pages import add_pages

__all__ = ["add_pages", "hide_payloads"]
