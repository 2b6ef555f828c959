"""Messages of steps, taken without being listed.

To give back what a dead worker had taken, kombu's Redis transport lists every message it hands out
(``unacked``) and strikes it off when it is acknowledged: two round trips, in the main process of
the worker, which is the first to be busy.  The message of a step needs no list: the log knows what
was sent, and sends it again.

UL1  Other tasks' messages are listed as ever, on the same queue and connection.
UL2  Unlisted messages count against the prefetch limit.
UL3  What is not acknowledged when the worker stops cleanly goes back to its queue, once.
UL4  A worker that dies keeps nothing: the step's claim, or the time within which it is to be
     claimed, expires (DESIGN: "not claimed by").
"""

from typing import Any

from kombu.transport import redis, virtual

from orchestrator.worker.header import find_key


def leave_steps_unlisted(channel: Any) -> None:
    """Have `channel`, which has handed out nothing yet, keep steps off its list.

    Does nothing to a channel that lists nothing: of another broker, or without ``ack_emulation``.
    """
    if getattr(channel, "QoS", None) is redis.QoS:
        channel.QoS = StepQoS


# kombu has no types.
_Listing: Any = redis.QoS
_Counting: Any = virtual.QoS


class StepQoS(_Listing):
    """See `kombu.transport.redis.QoS`."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._unlisted: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was handed out."""
        if find_key(message.headers) is None:
            super().append(message, delivery_tag)
            return
        self._unlisted.add(delivery_tag)
        _Counting.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Note that a message is done with; from any thread."""
        if delivery_tag in self._unlisted:
            self._unlisted.discard(delivery_tag)
            _Counting.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Refuse a message; with `requeue` it goes back to its queue."""
        if delivery_tag not in self._unlisted:
            super().reject(delivery_tag, requeue=requeue)
            return
        if requeue:
            with self.channel.conn_or_acquire() as client:
                self._give_back(delivery_tag, client, leftmost=True)
        self.ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Give a message back that was not acknowledged."""
        if tag not in self._unlisted:
            super().restore_by_tag(tag, client, leftmost)
            return
        with self.channel.conn_or_acquire(client) as connected:
            self._give_back(tag, connected, leftmost=leftmost)
        self._unlisted.discard(tag)

    def _give_back(self, tag: str, client: Any, *, leftmost: bool) -> None:
        message = self._delivered[tag]
        place = message.delivery_info
        self.channel._do_restore_message(
            message._raw, place["exchange"], place["routing_key"], client, leftmost
        )
