"""What lasts: histories, inboxes, timers, claims, leases.

Rule of this layer: it stores bytes and checks rights (leases, claims, heads).  It does not know
what an event means, and it never decides.
"""
