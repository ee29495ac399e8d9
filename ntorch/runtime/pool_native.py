"""The thread pool's loops, compiled like any kernel: what workers run, and what a launch runs.

State is one table of int64 words, each hot word on cache lines of its own:

=========  =====================================================================================
EPOCH      number of launches so far; workers spin on it, then sleep on it
GATE       OPEN while chunks may be taken, plus the number of workers taking some
NEXT       first item that nobody has taken
KERNEL..   the launch: kernel address, table address, items, items a chunk, flush-denormal mode
SLEEPERS   workers asleep
WAITER     1 while the launching thread sleeps until GATE is zero
STOP       1 when workers shall return
=========  =====================================================================================

A worker joins a launch by adding 1 to an open GATE, so after the launching thread has closed the
gate it waits for those who joined and for nobody else; a worker that wakes late finds it closed.
The words of the launch change only while GATE is zero.
"""
from ..kernels.stubs import stub

LINE = 16                       # words: two cache lines, because they are fetched in pairs
EPOCH, GATE, NEXT, KERNEL, SLEEPERS, WAITER, STOP = (LINE * i for i in range(7))
TABLE, ITEMS, CHUNK, FLUSH = (KERNEL + i for i in range(1, 5))
WORDS = LINE * 7
FUTEX_NUMBER = STOP + 1         # the system call's number on this architecture
OPEN = 1 << 32
SPINS = 4000


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
def flush_denormal(mode):
    """Make this thread flush denormals (1) or keep them (0); returns the mode before, -1 where the
    processor has none."""
    return -1


def take_chunks(state):
    """Take chunks of the present launch until none is left."""
    kernel, table = state[KERNEL], state[TABLE]
    items, chunk = state[ITEMS], state[CHUNK]
    while True:
        begin = atomic_add(state, NEXT, chunk)
        if begin >= items:
            break
        end = begin + chunk
        if end > items:
            end = items
        call_range(kernel, table, begin, end)


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
    for _ in range(SPINS):
        if atomic_load(state, EPOCH) != seen:
            return True
        cpu_pause(state)
    return False


def worker(state, seen, unused):
    """A worker's life: wait for a launch, help with it, until STOP. Sleeps on the futex."""
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
            take_chunks(state)
            leave(state, number)


def worker_step(state, seen, unused):
    """Where there is no futex: help until nothing has come for a while, then return to be put to
    sleep by the caller."""
    while wait_for_epoch(state, seen):
        seen = atomic_load(state, EPOCH)
        if atomic_load(state, STOP) != 0:
            break
        if join(state):
            flush_denormal(state[FLUSH])
            take_chunks(state)
            atomic_add(state, GATE, -1)


def _open(table, address, items):
    state = as_table(address)
    atomic_store(state, TABLE, table_address(table))
    atomic_store(state, ITEMS, items)
    atomic_store(state, NEXT, 0)
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
    take_chunks(state)
    if atomic_add(state, GATE, -OPEN) == OPEN:
        return
    for _ in range(SPINS):
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
    take_chunks(state)
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
