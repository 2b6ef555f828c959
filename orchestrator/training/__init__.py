"""Training that cannot be lost: states, checkpoints, trainers and what they were trained on.

Knows bytes, arrays, files and object stores; nothing of Redis, Celery or workflows.
"""
