"""Which workflow ids are possible.

I1  An id is 1 to ``WORKFLOW_ID_CHARS_MAX`` characters, none of them a blank, a control, an
    invisible or an unpaired surrogate.  Everything else is allowed, dots, colons, slashes and
    braces included: whatever is built from an id puts numbers *behind* it and is split from the
    right, and the hash tag of a key stands before it.
"""

import unicodedata

from orchestrator.core.errors import InvalidWorkflowId
from orchestrator.core.limits import WORKFLOW_ID_CHARS_MAX

#: The workflow type of schedules; see `core.schedule`.
SCHEDULE_TYPE = "orc-schedule"
#: Controls, invisible format characters, surrogates, and the three kinds of separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def checked_workflow_id(workflow_id: object) -> str:
    """Return `workflow_id` if it can be one (I1).

    Raises:
        InvalidWorkflowId: It cannot; the text says which character, and where.
    """
    if not isinstance(workflow_id, str):
        raise InvalidWorkflowId(repr(workflow_id), "a workflow id is a str")
    if not workflow_id:
        raise InvalidWorkflowId(workflow_id, "it is empty")
    if len(workflow_id) > WORKFLOW_ID_CHARS_MAX:
        raise InvalidWorkflowId(
            workflow_id, f"{len(workflow_id)} characters; at most {WORKFLOW_ID_CHARS_MAX} fit"
        )
    for index, character in enumerate(workflow_id):
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            raise InvalidWorkflowId(
                workflow_id,
                f"character {index + 1} is {character!a}; "
                f"blanks, controls and invisible characters are refused",
            )
    return workflow_id
