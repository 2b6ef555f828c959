"""References to values that are too large for a history.

B1  A reference is the digest of the value's canonical JSON: equal values have equal references, so
    replay can compare a reference with a value.
"""

from dataclasses import dataclass

from orchestrator.core.values import Json

_MARK = "$blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """Where a value lies: the SHA-256 (hex) of its canonical JSON, and its size in bytes.

    `at` is the digest under which it lies, where that is another one: what lies there is sealed.
    """

    sha256: str
    size: int
    at: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return the JSON that stands in the value's place."""
        plain: dict[str, Json] = {_MARK: f"sha256:{self.sha256}", "bytes": self.size}
        return {**plain, "at": self.at} if self.at else plain


def find_blob_ref(value: Json) -> BlobRef | None:
    """Return the reference that `value` is, or None for any other value."""
    if not isinstance(value, dict) or value.keys() - {"at"} != {_MARK, "bytes"}:
        return None
    mark, size, at = value[_MARK], value["bytes"], value.get("at", "")
    if not isinstance(mark, str) or not mark.startswith("sha256:") or not isinstance(size, int):
        return None
    return BlobRef(sha256=mark.removeprefix("sha256:"), size=size, at=str(at))
