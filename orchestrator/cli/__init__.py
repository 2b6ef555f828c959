"""Commands: under ``celery -A …`` for those who have an app, and ``orchestrator`` for one machine.

Rule of this layer: it words what the client and the engine do.  An error is one line on standard
error; the exit code is 2 where the command line or the configuration is wrong, and 1 where the
answer is no.
"""
