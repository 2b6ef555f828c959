"""The row of a run, as far as both stores work it out alike."""

from collections.abc import Mapping

from orchestrator.core.search_attributes import attribute_indexes
from orchestrator.core.start_policies import IdReusePolicy, blocking_statuses
from orchestrator.core.states import RunState
from orchestrator.core.values import Json, canonical, loads

#: What a run's status may be.
STATUSES = (*(state.value for state in RunState), "blocked")

#: Fields of the row by the parts of a START's body that they come from; each is JSON.
_FIELDS = {
    "search_attributes": "attributes",
    "memo": "memo",
    "summary": "summary",
    "details": "details",
}


def fields_of_start(body: Mapping[str, Json]) -> dict[str, str]:
    """Return the fields of a new row that a START's body asks for: attributes, memo, texts."""
    return {
        field: canonical(body[name]).decode() for name, field in _FIELDS.items() if body.get(name)
    }


def barred_by(body: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the statuses of an ended run that a START with this body must not follow."""
    policy = body.get("id_reuse_policy")
    return blocking_statuses(IdReusePolicy(policy)) if policy else ()


def indexes_in(attributes: str) -> str:
    """Return the indexes of a row's ``attributes``, as the row keeps them: a JSON list."""
    data = loads(attributes)
    assert isinstance(data, dict)
    return canonical(list(attribute_indexes(data))).decode()
