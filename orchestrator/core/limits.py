"""Every bound in the system, with its unit, its reason and its relations.

A queue, loop, payload or time-out without a line here has no place in the code.
Names put the unit and ``max``/``min`` last, so related bounds sort together.
"""

#: Layout of the keys in Redis.  A store written by another layout refuses to start.
LAYOUT_VERSION = 1
#: Partitions of a namespace unless chosen otherwise at its first start; recorded, then fixed.
PARTITIONS_DEFAULT = 16

#: A workflow id is part of keys, task ids and log lines.
WORKFLOW_ID_CHARS_MAX = 200
#: Input, signal payload or published state as JSON.  Larger data goes to a blob or an own store.
PAYLOAD_BYTES_MAX = 256 * 1024
#: Lists and objects inside each other: whoever reads or writes a value stays far from the depth at
#: which Python gives up.
JSON_DEPTH_MAX = 200
#: Names of signals, updates and queries, types of failures, and the ids that senders give: each
#: stands in events and in lines for people.
NAME_CHARS_MAX = 400
#: Why somebody cancels, pauses or decides, and who it was.
REASON_CHARS_MAX = 4_000
#: A step's arguments or result up to this size lie in the history, larger ones in the blob store.
INLINE_BYTES_MAX = 64 * 1024
#: A larger result fails the step: memory of worker and orchestrator holds it whole.
BLOB_BYTES_MAX = 64 * 1024 * 1024
#: Encoded size of one event: the largest is a start with all that it may carry; see below.
EVENT_BYTES_MAX = 3 * PAYLOAD_BYTES_MAX
#: Characters of a failure's message and of its traceback that history keeps (the tail of it).
FAILURE_MESSAGE_CHARS_MAX = 4_000
FAILURE_TRACEBACK_CHARS_MAX = 16_000
#: The failure of an earlier run that a start carries; beyond, its details and causes are left out.
LAST_FAILURE_BYTES_MAX = 64 * 1024
#: Depth of a chain of causes that a failure records.
FAILURE_CAUSES_MAX = 5

#: A seed of a run, and one that a reseed brings: as many bits as a run is born with.
SEED_BITS_MAX = 128

#: Search attributes of one run, and the size of one: each is an entry in two indexes or more.
SEARCH_ATTRIBUTES_MAX = 64
SEARCH_ATTRIBUTE_NAME_CHARS_MAX = 64
SEARCH_ATTRIBUTE_BYTES_MAX = 1_024
#: Texts in an attribute that is a list; each is an index entry.
SEARCH_ATTRIBUTE_ITEMS_MAX = 32
#: A memo as JSON: every listing carries it.
MEMO_BYTES_MAX = 64 * 1024
#: What people read of a run, a step or a timer: one line, and a page.
SUMMARY_BYTES_MAX = 400
DETAILS_BYTES_MAX = 20_000
#: Characters of a filter, and the comparisons in it.
FILTER_CHARS_MAX = 8_000
FILTER_TERMS_MAX = 200
#: Runs on one page of a listing; also rows looked at between two answers of the store.
LIST_PAGE_MAX = 1_000
#: Requests a batch operation sends in a second unless told otherwise.
BATCH_RPS_DEFAULT = 50

#: Headers of a start, a step or a child as JSON: they travel with every message of the run.
HEADERS_BYTES_MAX = 8 * 1024

#: Events in one history.  Replay is O(events); beyond it the run is parked, never ended.
HISTORY_EVENTS_MAX = 50_000
#: Events beyond that for what arrives while it is parked; then mail stays in the inbox.
HISTORY_EVENTS_RESERVED = 10_000
#: Events beyond that for a run that ends, goes on as new, or unwinds as it was asked to.
HISTORY_EVENTS_UNWINDING = 10_000
#: Events from which a workflow is advised to continue as new: a replay of that many is a matter of
#: tens of milliseconds, and a steady run of it costs one more start in four thousand events.
HISTORY_EVENTS_SUGGESTED = 4_000
#: Events from which an orchestrator warns, once for each history.
HISTORY_EVENTS_WARNED = 10_000
#: Signals and updates remembered over the end of a run, so that one sent again is known: a thousand
#: a second for as long as a client waits for an answer before it repeats.  Each takes 19 bytes of a
#: start.
CARRIED_SIGNAL_IDS_MAX = 5_000
#: What nobody has taken goes over with a start, which is one argument of one script: some hundred
#: thousand ordinary signals.  With more the run is parked, and they stay in its history.
CARRIED_BYTES_MAX = 32 * 1024 * 1024
#: Events that are copied into a run that goes on from them; one commit, so that Redis is blocked
#: meanwhile.  Measured: docs/adr, 0030.
COPIED_BYTES_MAX = 64 * 1024 * 1024
#: Commands one activation may issue: keeps the commit script short, as Redis is blocked meanwhile.
COMMANDS_PER_ACTIVATION_MAX = 2_000
#: Steps of one `workflow.map` under way at a time, unless said otherwise, and at most: all of them
#: can be ordered, or asked to stop, in one activation.
MAP_PARALLEL_DEFAULT = 100
MAP_PARALLEL_MAX = 1_000
#: Callbacks one activation may run: a loop that never waits ends here at the latest.
CALLBACKS_PER_ACTIVATION_MAX = 1_000_000
#: One activation may hold the owner's thread this long; then it is interrupted, and its run parked.
ACTIVATION_MS_MAX = 2_000

#: Renewals in the lifetime of a lease or claim: two may be missed, the third comes too late.
RENEWALS_PER_TTL = 3


def renew_interval_ms(ttl_ms: int) -> int:
    """Return how often what lives so long is renewed: the one place that decides it."""
    return max(1, ttl_ms // RENEWALS_PER_TTL)


#: A partition's lease; a killed orchestrator's runs rest this long.  Measured: docs/adr, 0008.
LEASE_TTL_MS = 6_000
LEASE_RENEW_INTERVAL_MS = renew_interval_ms(LEASE_TTL_MS)
#: How often an orchestrator looks for free partitions and for its fair share of them.  What is
#: handed over rests half of it on average, and as long in the blocked read of whoever hands over.
BALANCE_INTERVAL_MS = 250
#: An orchestrator that has not reported for this long no longer counts for the fair share.  Taken
#: for dead by mistake it loses nothing: its leases are still its own.
ORCHESTRATOR_TTL_MS = 3_000

#: A running step's claim.  A killed worker's step rests this long.  Measured: docs/adr, 0008.
CLAIM_TTL_MS = 6_000
#: A running step hears of its cancellation with a renewal, without any heartbeat: at the latest
#: after so long.  A renewal is one short script, for many claims in one round trip.
CANCEL_HEARD_MS_MAX = 1_000
CLAIM_RENEW_INTERVAL_MS = min(renew_interval_ms(CLAIM_TTL_MS), CANCEL_HEARD_MS_MAX)
#: How often an owner looks for expired claims and for timers that workers set.
SWEEP_INTERVAL_MS = 500
#: A step nobody claimed for this long is sent again; then twice as long, up to the cap.
RESEND_AFTER_MS = 10_000
RESEND_AFTER_MS_MAX = 300_000
#: How long a worker tries to hand over an outcome while the store does not answer.
OUTCOME_POST_MS_MAX = 120_000

#: Inbox entries an owner takes per partition and cycle; timers, and claims, of all its partitions.
INBOX_TAKE_MAX = 500
DUE_TAKE_MAX = 500
#: Runs worked on between two commits, and how long: what is lost with a lease is small, and between
#: two commits leases are renewed and a stop is heard, however long the histories to be replayed.
RUNS_PER_COMMIT_MAX = 100
WORK_PER_COMMIT_MS_MAX = 500
#: Longest wait for an inbox entry; also the longest a stop request waits for an idle cycle.
INBOX_BLOCK_MS = 250
#: With so many steps on their way an owner collects arrivals for a moment before each cycle: what
#: a cycle costs beside its commits is then shared by many.  Fewer steps are never made to wait.
GATHER_IN_FLIGHT_MIN = 16
GATHER_MS = 5
#: Runs kept in memory by one orchestrator; the log has them all.
RUN_CACHE_MAX = 1_000
#: Local steps of one orchestrator that run at a time, in threads.
LOCAL_THREADS_MAX = 16

#: A patch's name stands in its marker, once per run.
PATCH_ID_CHARS_MAX = 200
#: Instants of a schedule that are asked for at a time.
SCHEDULE_TIMES_MAX = 50
#: Starts that wait in one schedule for a run to end.
SCHEDULE_BUFFER_MAX = 1_000
#: How far a calendar is searched for its next instant, and how many excluded or missed ones are
#: counted: the owner computes them between two renewals of its lease.
SCHEDULE_SEARCH_YEARS_MAX = 40
SCHEDULE_SEARCH_MAX = 10_000

#: The longest time-out of a run, and the longest delay of one: beyond, it is a slip of units.
RUN_TIMEOUT_MS_MAX = 10 * 366 * 24 * 3_600_000
#: Characters of a key of permits or of a rate: it is part of keys of the store.
PERMIT_KEY_CHARS_MAX = 200
#: Permits of one key at a time: every request of the key looks at all that hold one.
PERMITS_MAX = 1_000
#: Slots of a rate in one stretch of time, which are kept for as long, and the stretch: 31 days.
RATE_MAX = 10_000
RATE_PER_MS_MAX = 31 * 86_400_000
#: A slot is remembered so long, so that a request that is delivered twice takes one: more than an
#: orchestrator takes to deliver a second time what another one has delivered.
RATE_REMEMBERED_MS = 60_000

#: A query's answer waits this long for its reader.
ANSWER_TTL_MS = 60_000
#: Requests that were told "a run is open, your message is in": kept to know a repetition again.
JOINED_REQUESTS_MAX = 100
#: Starts of an id, beside its latest, that know their request again when it is sent again.  Client
#: and letters resend within minutes; so many starts of one id in that time are a loop.
STARTS_REMEMBERED_MAX = 10
#: Rejected signals kept for people to look at.
REJECTED_SIGNALS_MAX = 10_000

assert MAP_PARALLEL_DEFAULT <= MAP_PARALLEL_MAX < COMMANDS_PER_ACTIVATION_MAX
assert RENEWALS_PER_TTL * LEASE_RENEW_INTERVAL_MS <= LEASE_TTL_MS
assert RATE_REMEMBERED_MS > 2 * LEASE_TTL_MS
assert RENEWALS_PER_TTL * CLAIM_RENEW_INTERVAL_MS <= CLAIM_TTL_MS
#: What an owner may do between two chances to renew, when a renewal has just become due.
assert (
    WORK_PER_COMMIT_MS_MAX + ACTIVATION_MS_MAX + INBOX_BLOCK_MS
    < LEASE_TTL_MS - LEASE_RENEW_INTERVAL_MS
), "one activation must not cost a lease"
assert BALANCE_INTERVAL_MS < LEASE_RENEW_INTERVAL_MS, "leases are renewed when there is balancing"
assert renew_interval_ms(ORCHESTRATOR_TTL_MS) > BALANCE_INTERVAL_MS
assert ORCHESTRATOR_TTL_MS <= LEASE_TTL_MS - LEASE_RENEW_INTERVAL_MS, (
    "a killed orchestrator is out of the shares before its leases expire"
)
assert INBOX_BLOCK_MS + BALANCE_INTERVAL_MS < 1_000, "a clean stop hands over within a second"
assert HISTORY_EVENTS_SUGGESTED < HISTORY_EVENTS_WARNED < HISTORY_EVENTS_MAX
assert COMMANDS_PER_ACTIVATION_MAX < HISTORY_EVENTS_UNWINDING
assert INLINE_BYTES_MAX <= PAYLOAD_BYTES_MAX < EVENT_BYTES_MAX
assert INLINE_BYTES_MAX < BLOB_BYTES_MAX
assert (
    PAYLOAD_BYTES_MAX
    + MEMO_BYTES_MAX
    + SEARCH_ATTRIBUTES_MAX * (SEARCH_ATTRIBUTE_NAME_CHARS_MAX + SEARCH_ATTRIBUTE_BYTES_MAX)
    + DETAILS_BYTES_MAX
    + CARRIED_SIGNAL_IDS_MAX * 19
    + HEADERS_BYTES_MAX
    + INLINE_BYTES_MAX  # the last result
    + LAST_FAILURE_BYTES_MAX
    < EVENT_BYTES_MAX
), "a start with all that it may carry is one event"
assert SUMMARY_BYTES_MAX < DETAILS_BYTES_MAX < PAYLOAD_BYTES_MAX
