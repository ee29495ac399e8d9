"""Hook tables and the handles that remove from them."""
import itertools
import weakref

_ids = itertools.count()


class RemovableHandle:
    """What registering a hook returns; ``remove()`` takes the hook away, a ``with`` block too."""

    def __init__(self, table, extra_dict=None):
        self.table = weakref.ref(table) if hasattr(table, "__weakref__") else (lambda: table)
        self.id = next(_ids)

    def remove(self):
        """Remove the hook; harmless if it is gone."""
        table = self.table()
        if table is not None:
            table.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def register(table, hook):
    """Add ``hook`` to ``table`` (a dict by id) and return its handle."""
    handle = RemovableHandle(table)
    table[handle.id] = hook
    return handle
