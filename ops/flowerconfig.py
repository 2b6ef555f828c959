"""Settings of Flower: steps by name, arguments and id, and pages for workflows beside them.

    celery -A sagas flower --conf=ops/flowerconfig.py

Flower takes the names below from this file; what its command line says goes before it.  Who may
see Flower is the environment's to say: FLOWER_BASIC_AUTH, or one of Flower's other ways.
"""

import os

from orchestrator.flower import add_pages, hide_payloads

#: Set to anything: arguments, results and messages of exceptions are kept out of Flower.
HIDE_PAYLOADS = "FLOWER_HIDE_PAYLOADS"
#: Each of these lets nobody in without a sign of who they are.
_AUTHENTICATION = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")

# A step's id has its run in it, so that a search for a workflow id finds all its attempts.
tasks_columns = "name,uuid,state,args,result,received,runtime,worker"

# Flower is open to whoever reaches it unless it is told otherwise: then only from this machine.
if not any(os.environ.get(name) for name in _AUTHENTICATION):
    address = "127.0.0.1"

# No `format_task`: it changes two pages and neither the API nor the search, and costs the links
# from a task to its children.

add_pages()
if os.environ.get(HIDE_PAYLOADS):
    hide_payloads()
