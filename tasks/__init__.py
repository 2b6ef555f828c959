"""The shop: what happens to stock, money, parcels and mail.

Rule of this layer: plain Celery tasks on a SQL database.  A task knows its order and the key of the
step it carries out; of workflows it knows nothing.  Each effect is recorded with its key in the
transaction that makes it, so that a task may run any number of times.
"""
