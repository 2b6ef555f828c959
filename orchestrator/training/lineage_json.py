"""A lineage as JSON, for programs: everything that the table shows, uncut."""

from orchestrator.core.values import Json
from orchestrator.training.lineage import Lineage, Link
from orchestrator.training.lineage_log import OrderTaken, TrainingLog
from orchestrator.training.lineage_samples import Inquiry
from orchestrator.training.records import plain


def lineage_json(lineage: Lineage, inquiry: Inquiry | None = None) -> dict[str, Json]:
    """Return what was found, and the answer about a sample if one was asked for."""
    evaluated = lineage.evaluated
    found: dict[str, Json] = {
        "workflow_id": lineage.run.name.workflow_id,
        "run": lineage.run.name.run,
        "verified": bool(lineage),
        "complete": lineage.is_complete,
        "seed": lineage.seed,
        "model": None
        if evaluated is None
        else {
            "sha256": evaluated.model_sha256,
            "manifest_sha256": evaluated.manifest_sha256,
            "metrics": dict(evaluated.metrics),
            "event": evaluated.seq,
            "registered": lineage.run.registered,
        },
        "histories": [_history(log) for log in lineage.runs],
        "stores": dict(lineage.stores),
        "checkpoints": [_link(link) for link in lineage.links],
        "problems": [
            {"subject": one.subject, "found": one.found, "wanted": one.wanted}
            for one in lineage.problems
        ],
        "notes": [*lineage.notes],
    }
    if inquiry is not None:
        found["sample"] = {
            "used": inquiry.was_used(lineage),
            "says": inquiry.says(lineage),
            "batches_seen": inquiry.batches,
            "samples_seen": inquiry.samples,
            "datasets": dict(inquiry.datasets),
            "batches": [
                {
                    **use.as_json(),
                    "storage": use.storage,
                    "branch": use.branch,
                    "root": use.root,
                    "dataset": use.dataset,
                }
                for use in inquiry.uses
            ],
        }
    return found


def _history(log: TrainingLog) -> Json:
    return {
        "workflow_id": log.name.workflow_id,
        "run": log.name.run,
        "events": log.chain.events,
        "head": log.chain.head,
        "broken": log.chain.broken,
        "orders": [_order(order) for order in log.orders],
        "rejected": [*log.rejected],
    }


def _link(link: Link) -> Json:
    manifest, recorded = link.checked.manifest, link.recorded
    found: dict[str, Json] = {
        "storage": link.storage,
        **plain(link.ref),
        "collected": link.checked.is_collected,
        "ends_stage": link.ends_stage,
        "verified": [*link.checked.verified],
        "changes": [*link.changes],
        "orders": [order.seq for order in link.orders],
    }
    if recorded is not None:
        found |= {
            "recorded": {"run": str(recorded.run), "event": recorded.seq},
            "attempt": recorded.attempt,
            "interval": dict(recorded.interval),
        }
    if manifest is not None:
        found |= {
            "step": manifest.step,
            "merkle_root": manifest.data.get("merkle"),
            "batches": manifest.data.get("batches"),
            "ledger": manifest.data.get("ledger"),
            "data": dict(manifest.data),
            "code": dict(manifest.code),
            "hparams": dict(manifest.hparams),
            "seed": manifest.cursor.get("seed"),
            "environment": dict(manifest.env),
        }
    return found


def _order(order: OrderTaken) -> Json:
    return {
        "event": order.seq,
        "signal": order.signal,
        "by": order.by,
        "reason": order.reason,
        "wants": dict(order.wants),
        "branch": order.branch,
        "at": plain(order.at) if order.at is not None else None,
        "effect": order.effect,
    }
