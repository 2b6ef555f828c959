"""Whether a sample was trained on, asked on the walk from a model to its seed.

LS1  "Used" is proved by batches that lead to recorded roots, wherever else the walk met damage.
LS2  "Not used" is proved only by a walk that arrived at the seed and found every ledger whole.
LS3  An id is that of a dataset: stages with other data may give it to another sample.  A digest is
     the sample's own.
"""

import base64
import hashlib
from dataclasses import dataclass, field

from orchestrator.core.values import Json
from orchestrator.training import floats
from orchestrator.training.evidence import Committed, Proof, Sample, named, verify_used
from orchestrator.training.ledger import BatchRecord, Ledger
from orchestrator.training.lineage import Lineage, Link
from orchestrator.training.lineage_proof import FORMAT
from orchestrator.training.manifest import Manifest, encode
from orchestrator.training.merkle import inclusion_proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One batch that holds the sample, and that it leads to the root has been verified."""

    storage: str
    branch: str
    dataset: str
    manifest_sha256: str
    root: str
    proof: Proof

    def as_json(self) -> dict[str, Json]:
        """Return it as `lineage_proof` reads it."""
        shown = self.proof.as_json()
        assert isinstance(shown, dict), shown
        return {**shown, "manifest": self.manifest_sha256}


@dataclass(slots=True)
class Inquiry:
    """Looks for a sample in every batch on the way; see `lineage.Look`."""

    sample: Sample
    uses: list[Use] = field(default_factory=list)
    batches: int = 0
    samples: int = 0
    #: Checkpoints whose batches could not be looked at.
    unseen: list[str] = field(default_factory=list)
    datasets: dict[str, str] = field(default_factory=dict)
    _manifests: list[str] = field(default_factory=list)
    _ledgers: dict[str, bytes] = field(default_factory=dict)

    def see(self, link: Link, ledger: Ledger | None, stored: bytes | None) -> None:
        """See `Look`."""
        digest, manifest = link.ref.manifest_sha256, link.checked.manifest
        if manifest is None or ledger is None or stored is None:
            self.unseen.append(digest)
            return
        self._manifests.append(inner_text(manifest))
        self._ledgers[digest] = stored
        name, fingerprint = str(manifest.data.get("name")), str(manifest.data.get("dataset"))
        self.datasets[fingerprint] = name
        self.batches += len(ledger)
        leaves = ledger.leaves
        for index, batch in enumerate(ledger):
            self.samples += len(batch.ids)
            if not _holds(batch, self.sample):
                continue
            path = inclusion_proof(leaves, index)
            proof = Proof(batch=batch, index=index, size=len(leaves), path=path)
            root = str(manifest.data.get("merkle"))
            verify_used(proof, self.sample, Committed(root=root, batches=len(leaves)))
            self.uses.append(
                Use(
                    storage=link.storage,
                    branch=manifest.branch,
                    dataset=name,
                    manifest_sha256=digest,
                    root=root,
                    proof=proof,
                )
            )

    def was_used(self, lineage: Lineage) -> bool | None:
        """Return whether it was; None where neither can be proved (LS1, LS2)."""
        if self.uses:
            return True
        return False if lineage and not self.unseen else None

    def says(self, lineage: Lineage) -> str:
        """Return the answer in words."""
        who = named(self.sample)
        match self.was_used(lineage):
            case True:
                return f"{who} was trained on, in {len(self.uses)} of {self.batches} batches"
            case False:
                return (
                    f"{who} was not trained on: it is in none of {self.batches} batches "
                    f"({self.samples} samples), which are all there were"
                )
            case None:
                return (
                    f"whether {who} was trained on cannot be proved: it is in none of "
                    f"{self.batches} batches, but these are not known to be all"
                )

    def document(self, lineage: Lineage) -> dict[str, Json] | None:
        """Return the proof for `lineage_proof`; None where there is none to be given."""
        used = self.was_used(lineage)
        if used is None or self.unseen or not lineage.is_complete:
            return None
        manifests: list[Json] = [*self._manifests]
        sample: dict[str, Json] = (
            {"sha256": self.sample.hex()} if isinstance(self.sample, bytes) else {"id": self.sample}
        )
        model = lineage.links[0].ref.manifest_sha256
        head: dict[str, Json] = {"format": FORMAT, "sample": sample, "model": model}
        if used:
            batches: list[Json] = [use.as_json() for use in self.uses]
            return {**head, "claim": "used", "manifests": manifests, "batches": batches}
        ledgers: dict[str, Json] = {
            digest: base64.b64encode(data).decode() for digest, data in self._ledgers.items()
        }
        return {**head, "claim": "unused", "manifests": manifests, "ledgers": ledgers}


def inner_text(manifest: Manifest) -> str:
    """Return the text of a manifest that its digest is of."""
    data, digest = encode(manifest)
    envelope = floats.decode(data)
    assert isinstance(envelope, dict), envelope
    inner = floats.encode(envelope["manifest"])
    assert hashlib.sha256(inner).hexdigest() == digest, digest
    return inner.decode()


def _holds(batch: BatchRecord, sample: Sample) -> bool:
    return sample in (batch.digests if isinstance(sample, bytes) else batch.ids)
