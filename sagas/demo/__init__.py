"""The guided tour: what the product promises, shown on this machine with real processes and kills.

Rule of this part: it looks on from outside.  What it claims it asks of the shop's database by SQL
and of the histories, never of the code that made them; the exit code tells whether all of it held.

Run    python -m sagas.demo            two acts, under a minute; all that it started ends with it
       python -m sagas.demo --keep     leaves all of it running until Ctrl-C, to look around
"""
