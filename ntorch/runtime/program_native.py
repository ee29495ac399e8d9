"""The runner of compiled programs: fills in one working table, then makes launch after launch.

``args``:

====  ==========================================================================================
0, 1  addresses of the template of all tables and of its working copy
2     how many words they have
3, 4  relocations, and how many: triples (word, base, bytes): ``copy[word] = bases[base] + bytes``
5     the bases
6, 7  steps, and how many: (operation, kernel address, first word of its table, items, chunk,
      spare)
8     address of the thread pool's state, 0 to run everything here
9     address of one word: the first step that failed, -1 if none
10    address of the numbers of this run: pairs (word, value)
11    how many
12    for a timed run: address of as many words as steps, and one more, for the clock
====  ==========================================================================================
"""
from .pool_native import CHUNK, KERNEL, as_table, call_range, launch, launch_spinning, read_clock

STEP = 6
SERIAL, PARALLEL, ZERO, CHECK = range(4)


def fill_tables(args):
    """Make the working copy: the template, with addresses and this run's numbers put in."""
    template, table = as_table(args[0]), as_table(args[1])
    for i in range(args[2]):
        table[i] = template[i]
    moves, bases = as_table(args[3]), as_table(args[5])
    for i in range(args[4]):
        table[moves[3 * i]] = bases[moves[3 * i + 1]] + moves[3 * i + 2]
    numbers = as_table(args[10])
    for i in range(args[11]):
        table[numbers[2 * i]] = numbers[2 * i + 1]


def zero_words(address, count):
    """Set ``count`` words to zero."""
    words = as_table(address)
    for i in range(count):
        words[i] = 0


def read_time(args, begin, end):
    """``args[0]``, an address, gets the time."""
    as_table(args[0])[0] = read_clock(begin)


def note_time(args, step):
    """Note when a step begins, or after the last one, when it ended."""
    as_table(args[12])[step] = read_clock(step)


def note_nothing(args, step):
    """The step of a run that is not timed begins."""


def runner(parallel, note=note_nothing):
    """The kernel that runs a program's steps; ``parallel`` makes a launch on the pool, ``note`` is
    called between steps."""
    def run_program(args, begin, end):
        fill_tables(args)
        steps, failed, crew = as_table(args[6]), as_table(args[9]), args[8]
        failed[0] = -1
        for step in range(args[7]):
            note(args, step)
            at = STEP * step
            operation = steps[at]
            table = args[1] + 8 * steps[at + 2]
            if operation == PARALLEL and crew != 0:
                state = as_table(crew)
                state[KERNEL] = steps[at + 1]
                state[CHUNK] = steps[at + 4]
                parallel(as_table(table), crew, steps[at + 3])
            elif operation <= PARALLEL:
                call_range(steps[at + 1], table, 0, steps[at + 3])
            elif operation == ZERO:
                zero_words(as_table(table)[0], steps[at + 3])
            elif as_table(as_table(table)[0])[0] >= 0:
                failed[0] = step
                return
        note(args, args[7])
    return run_program


run_sleeping = runner(launch)
run_spinning = runner(launch_spinning)
time_sleeping = runner(launch, note_time)
time_spinning = runner(launch_spinning, note_time)
