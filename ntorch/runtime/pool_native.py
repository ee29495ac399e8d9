"""The thread pool's loops, compiled like any kernel: what workers run, and what a launch runs.

State is one table of int64 words, each hot word on cache lines of its own:

=========  =====================================================================================
EPOCH      number of launches so far; workers spin on it, then sleep on it
GATE       OPEN while chunks may be taken, plus the number of workers taking some
THREADS    how many threads there are, the launching one included; set once
KERNEL..   the launch: kernel address, items a chunk, table address, items, flush-denormal mode,
           spans in use
SLEEPERS   workers asleep
WAITER     1 while the launching thread sleeps until GATE is zero
STOP       1 when workers shall return
SPANS..    one word a thread, on lines of their own: the chunks of its part that nobody has taken,
           ``last << 32 | first``
=========  =====================================================================================

A worker joins a launch by adding 1 to an open GATE, so after the launching thread has closed the
gate it waits for those who joined and for nobody else; a worker that wakes late finds it closed.
The words of the launch are written, and the spans filled, only while GATE is zero.

Each thread has a span of adjacent chunks and takes them from the front: its reads and writes stay
one stream for the prefetchers, and launches over the same data find it in the same core's cache.
Who is done takes from the back of the others' spans, so that a thread that came late, or not at
all, costs one chunk. Chunks are cut by size alone; only who runs them differs.
"""
from ..kernels.stubs import stub

LINE = 16                       # words: two cache lines, because they are fetched in pairs
EPOCH, GATE, KERNEL, SLEEPERS, WAITER, STOP, SPANS = (LINE * i for i in range(7))
CHUNK, TABLE, ITEMS, FLUSH, PARTS = (KERNEL + i for i in range(1, 6))
FUTEX_NUMBER, THREADS = STOP + 1, STOP + 2      # the system call's number on this architecture
OPEN = 1 << 32
LAST = 1 << 32                  # one chunk at the back of a span
FIRST_BITS = LAST - 1
# A worker that is asleep costs the next launch about 100 microseconds, so it spins (28 ns a turn)
# for longer than an operation's Python takes, which is slow after a kernel that emptied the caches.
WORKER_SPINS = 20_000
LAUNCH_SPINS = 4000             # a worker this late has lost its processor, perhaps to the spinning


@stub
def atomic_load(table, index):
    """Atomic load of a word."""
    return table[index]


@stub
def atomic_store(table, index, value):
    """Atomic store of a word."""
    table[index] = value


@stub
def atomic_add(table, index, value):
    """Atomic ``table[index] += value``; returns the value before."""
    before = table[index]
    table[index] = before + value
    return before


@stub
def atomic_swap_if(table, index, expected, value):
    """Atomic compare and swap; whether it took place."""
    if table[index] != expected:
        return False
    table[index] = value
    return True


@stub
def cpu_pause(table):
    """Tell the processor that this is a spinning loop."""


@stub
def futex_wait(number, table, index, value):
    """Sleep while the low 32 bits of the word equal those of ``value``."""


@stub
def futex_wake(number, table, index, count):
    """Wake at most ``count`` sleepers of the word."""


@stub
def as_table(address):
    """The table at ``address``."""
    return address


@stub
def table_address(table):
    """The address of a table."""
    return table


@stub
def call_range(kernel, table, begin, end):
    """Call the range kernel at address ``kernel`` with the table at address ``table``."""


@stub
def read_clock(unused):
    """Ticks of a clock that runs at one speed on all cores; 0 where there is none to be read."""
    return 0


@stub
def flush_denormal(mode):
    """Make this thread flush denormals (1) or keep them (0); returns the mode before, -1 where the
    processor has none."""
    return -1


def words(threads):
    """How many words the state of a crew has that serves ``threads`` threads."""
    return SPANS + LINE * threads


def take_first(state, span):
    """The number of the first chunk of a span, taken off it; -1 if it is empty."""
    left = atomic_load(state, span)
    while left & FIRST_BITS < left >> 32:
        if atomic_swap_if(state, span, left, left + 1):
            return left & FIRST_BITS
        left = atomic_load(state, span)
    return -1


def take_last(state, span):
    """The number of the last chunk of a span, taken off it; -1 if it is empty."""
    left = atomic_load(state, span)
    while left & FIRST_BITS < left >> 32:
        if atomic_swap_if(state, span, left, left - LAST):
            return (left >> 32) - 1
        left = atomic_load(state, span)
    return -1


def run_chunk(state, number):
    """Run the kernel over one chunk."""
    begin = number * state[CHUNK]
    end = min(begin + state[CHUNK], state[ITEMS])
    call_range(state[KERNEL], state[TABLE], begin, end)


def take_chunks(state, thread):
    """Take chunks of the present launch until none is left: the own span's, then the others'."""
    parts = state[PARTS]
    if thread < parts:
        number = take_first(state, SPANS + LINE * thread)
        while number >= 0:
            run_chunk(state, number)
            number = take_first(state, SPANS + LINE * thread)
    for step in range(parts):       # once round is enough: spans only shrink
        span = SPANS + LINE * ((thread + step) % parts)
        number = take_last(state, span)
        while number >= 0:
            run_chunk(state, number)
            number = take_last(state, span)


def join(state):
    """Enter an open launch; whether it was open."""
    gate = atomic_load(state, GATE)
    while gate >= OPEN:
        if atomic_swap_if(state, GATE, gate, gate + 1):
            return True
        gate = atomic_load(state, GATE)
    return False


def leave(state, number):
    """Leave a launch, and wake the launching thread if it sleeps and this was the last worker."""
    if atomic_add(state, GATE, -1) == 1 and atomic_load(state, WAITER) == 1:
        futex_wake(number, state, GATE, 1)


def wait_for_epoch(state, seen):
    """Spin a while until EPOCH differs from ``seen``; whether it did."""
    for _ in range(WORKER_SPINS):
        if atomic_load(state, EPOCH) != seen:
            return True
        cpu_pause(state)
    return False


def worker(state, seen, thread):
    """The life of worker ``thread`` (from 1): wait for a launch, help with it, until STOP. Sleeps
    on the futex."""
    number = state[FUTEX_NUMBER]
    mode = 0
    while True:
        if not wait_for_epoch(state, seen):
            atomic_add(state, SLEEPERS, 1)
            while atomic_load(state, EPOCH) == seen:
                futex_wait(number, state, EPOCH, seen)
            atomic_add(state, SLEEPERS, -1)
        seen = atomic_load(state, EPOCH)
        if atomic_load(state, STOP) != 0:
            break
        if join(state):
            if state[FLUSH] != mode:
                mode = state[FLUSH]
                flush_denormal(mode)
            take_chunks(state, thread)
            leave(state, number)


def worker_step(state, seen, thread):
    """Where there is no futex: help until nothing has come for a while, then return to be put to
    sleep by the caller."""
    while wait_for_epoch(state, seen):
        seen = atomic_load(state, EPOCH)
        if atomic_load(state, STOP) != 0:
            break
        if join(state):
            flush_denormal(state[FLUSH])
            take_chunks(state, thread)
            atomic_add(state, GATE, -1)


def _open(table, address, items):
    state = as_table(address)
    chunks = (items + state[CHUNK] - 1) // state[CHUNK]
    parts = min(chunks, state[THREADS])
    first = 0
    for part in range(parts):
        last = chunks * (part + 1) // parts
        atomic_store(state, SPANS + LINE * part, (last << 32) | first)
        first = last
    atomic_store(state, PARTS, parts)
    atomic_store(state, TABLE, table_address(table))
    atomic_store(state, ITEMS, items)
    atomic_store(state, GATE, OPEN)
    atomic_add(state, EPOCH, 1)
    return state


def launch(table, address, items):
    """Run a launch: publish it, wake sleepers, take chunks, wait for the workers that joined.

    ``address`` is that of the state, where KERNEL, CHUNK and FLUSH are set already.
    """
    state = _open(table, address, items)
    number = state[FUTEX_NUMBER]
    if atomic_load(state, SLEEPERS) > 0:
        chunks = (items + state[CHUNK] - 1) // state[CHUNK]
        futex_wake(number, state, EPOCH, chunks - 1)
    take_chunks(state, 0)
    if atomic_add(state, GATE, -OPEN) == OPEN:
        return
    for _ in range(LAUNCH_SPINS):
        if atomic_load(state, GATE) == 0:
            return
        cpu_pause(state)
    atomic_store(state, WAITER, 1)
    gate = atomic_load(state, GATE)
    while gate != 0:
        futex_wait(number, state, GATE, gate)
        gate = atomic_load(state, GATE)
    atomic_store(state, WAITER, 0)


def launch_spinning(table, address, items):
    """``launch`` where there is no futex: sleepers are woken by the caller, waiting is spinning."""
    state = _open(table, address, items)
    take_chunks(state, 0)
    atomic_add(state, GATE, -OPEN)
    while atomic_load(state, GATE) != 0:
        cpu_pause(state)


def set_flush_denormal(result, mode, unused):
    """Set the calling thread's mode; ``result[0]`` becomes the mode before, -1 for unsupported."""
    result[0] = flush_denormal(mode)


def stop(state, unused, unused_too):
    """Make every worker return."""
    atomic_store(state, STOP, 1)
    atomic_add(state, EPOCH, 1)
    futex_wake(state[FUTEX_NUMBER], state, EPOCH, 1 << 30)


def stop_spinning(state, unused, unused_too):
    """``stop`` where there is no futex."""
    atomic_store(state, STOP, 1)
    atomic_add(state, EPOCH, 1)
