"""Names of every key in Redis or Valkey.  No other module builds a key.

With the default prefix ``orc``, for partition p:

    orc:{p}:inbox                        stream  kind, workflow, run, body: arrived, not yet history
    orc:{p}:log:<workflow>:<run>         stream  history; entry "<seq>-0", fields event and head
    orc:{p}:wf:<workflow>                hash    the id's latest run: run, status, type, head, …
    orc:{p}:past:<workflow>:<run>        hash    the row of a run that a later one replaced
    orc:{p}:idx:<index>                  zset    start ms → <workflow>.<run> (`index_ports`)
    orc:{p}:steps:<workflow>:<run>       hash    outstanding steps: "<step>.attempt",
                                                 "<step>.state", "<step>.claim", …; "open";
                                                 "<step>.said.<attempt>" of what came by a token
    orc:{p}:timers                       zset    due ms → timer (`ports.TimerKey`)
    orc:{p}:claims                       zset    expiry ms → attempt (`ports.AttemptKey`)
    orc:{p}:lease                        string  "<owner>/<token>", with expiry
    orc:{p}:open, orc:{p}:closed         zset    start or end ms → <workflow> or <workflow>.<run>
    orc:{p}:blocked                      set     <workflow>.<run>
    orc:{p}:outbox                       stream  queue, body: for a broker that is elsewhere
    orc:{p}:letters                      stream  kind, workflow, run, request, body: for other runs
    orc:{p}:keys                         hash    scope → wrapped data key, where payloads are sealed
    orc:{p}:permits:<key>                hash    "limit"; <workflow>.<run>.<permit> → "<fence>
                                                 <since ms>", and " new" until the run was told
    orc:{p}:waiting:<key>                zset    place → <workflow>.<run>.<permit>
    orc:{p}:rate:<key>                   zset    instant of a slot → <workflow>.<run>.<permit>
    orc:{p}:fence                        string  the last fence, and place, of the partition's keys
    orc:{p}:answer:<id>                  list    one reply to a query, with expiry
    orc:signals                          stream  the door for people
    orc:signals:rejected                 stream  signals no run could take, with the reason
    orc:meta                             hash    layout version, partition count, indexed
    orc:orchestrators                    zset    expiry ms → owner id

The braces are a cluster hash tag: the keys that one script touches share a slot.
"""

import binascii
from dataclasses import dataclass


def partition_of(workflow_id: str, partitions: int) -> int:
    """Return the partition of an id: CRC-16/XMODEM of its UTF-8 bytes, as Redis Cluster hashes.

    Part of the stored layout: it never changes for a namespace.
    """
    return binascii.crc_hqx(workflow_id.encode(), 0) % partitions


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one namespace."""

    prefix: str
    partitions: int
    #: Whether every run of the namespace is in the indexes; see `layout`.
    is_indexed: bool = True

    def of_workflow(self, workflow_id: str) -> int:
        """Return the partition of an id."""
        return partition_of(workflow_id, self.partitions)

    def _at(self, partition: int, name: str) -> str:
        return f"{self.prefix}:{{{partition}}}:{name}"

    def inbox(self, partition: int) -> str:
        """Stream: arrived, not yet history."""
        return self._at(partition, "inbox")

    def log(self, workflow_id: str, run: int) -> str:
        """Stream: one history."""
        return self._at(self.of_workflow(workflow_id), f"log:{workflow_id}:{run}")

    def row(self, workflow_id: str) -> str:
        """Hash: an id's latest run."""
        return self._at(self.of_workflow(workflow_id), f"wf:{workflow_id}")

    def past(self, workflow_id: str, run: int | str) -> str:
        """Hash: the row of a run that a later one replaced; "" for what all begin with."""
        return self._at(self.of_workflow(workflow_id), f"past:{workflow_id}:{run}")

    def index(self, partition: int, index: str) -> str:
        """Sorted set: the runs in an index by start; "" for what all such names begin with."""
        return self._at(partition, f"idx:{index}")

    def steps(self, workflow_id: str, run: int) -> str:
        """Hash: a run's outstanding steps."""
        return self._at(self.of_workflow(workflow_id), f"steps:{workflow_id}:{run}")

    def timers(self, partition: int) -> str:
        """Sorted set: instants of timers."""
        return self._at(partition, "timers")

    def claims(self, partition: int) -> str:
        """Sorted set: expiry of claims."""
        return self._at(partition, "claims")

    def lease(self, partition: int) -> str:
        """String: who owns the partition."""
        return self._at(partition, "lease")

    def open(self, partition: int) -> str:
        """Sorted set: open workflow ids by start."""
        return self._at(partition, "open")

    def closed(self, partition: int) -> str:
        """Sorted set: closed runs by end."""
        return self._at(partition, "closed")

    def blocked(self, partition: int) -> str:
        """Set: blocked runs."""
        return self._at(partition, "blocked")

    def outbox(self, partition: int) -> str:
        """Stream: messages for a broker that is elsewhere."""
        return self._at(partition, "outbox")

    def letters(self, partition: int) -> str:
        """Stream: what runs have to say to other runs."""
        return self._at(partition, "letters")

    def data_keys(self, partition: int) -> str:
        """Hash: wrapped data keys by scope."""
        return self._at(partition, "keys")

    def permits(self, key: str) -> str:
        """Hash: who holds permits of a key."""
        return self._at(self.of_workflow(key), f"permits:{key}")

    def waiting(self, key: str) -> str:
        """Sorted set: who waits for a permit of a key."""
        return self._at(self.of_workflow(key), f"waiting:{key}")

    def rate(self, key: str) -> str:
        """Sorted set: the slots of a key's rate."""
        return self._at(self.of_workflow(key), f"rate:{key}")

    def fence(self, partition: int) -> str:
        """String: the last number of a partition's permits."""
        return self._at(partition, "fence")

    def answer(self, partition: int, reply_to: str) -> str:
        """List: one reply to a query."""
        return self._at(partition, f"answer:{reply_to}")

    @property
    def door(self) -> str:
        """Stream: signals that people write."""
        return f"{self.prefix}:signals"

    @property
    def rejected(self) -> str:
        """Stream: signals no run could take."""
        return f"{self.prefix}:signals:rejected"

    @property
    def meta(self) -> str:
        """Hash: layout version, partition count, and whether every run is indexed."""
        return f"{self.prefix}:meta"

    @property
    def orchestrators(self) -> str:
        """Sorted set: live orchestrators."""
        return f"{self.prefix}:orchestrators"
