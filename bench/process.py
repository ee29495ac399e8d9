"""Worker processes, and the directories that compilers keep their work in."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

STORES = ("NTORCH_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NTORCH_NUM_THREADS", "NPROC")     # NPROC: JAX


class Process:
    """A worker process for one variant, started when it is first asked."""

    def __init__(self, variant, threads, store=None):
        self.variant, self.threads, self.store = variant, threads, store
        self.process = None

    def _environment(self):
        variables = dict.fromkeys(THREADS, str(self.threads))
        if self.store is not None:
            variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
            variables |= {name: os.path.join(self.store, name.lower()) for name in STORES}
        # a library runs as installed, its bytecode kept: a setting that forbids to write it would
        # have a checkout compiled anew by every process, and the libraries beside it not
        kept = {name: value for name, value in os.environ.items()
                if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **variables}

    def _start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", self.variant, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment())

    def ask(self, **request):
        """The worker's answer, a dict with "ok"."""
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            self.process = None
            return {"ok": False, "error": f"the process ended with status {status}"}
        return json.loads(line)

    def close(self):
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(timeout=60)
            self.process = None


class Stores:
    """A store per workload and variant: emptied for cold starts, left filled for warm ones."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="bench-stores-")
        self.known = {}

    def empty(self, *key):
        """A new directory with nothing in it; the one before is removed."""
        if key in self.known:
            shutil.rmtree(self.known[key], ignore_errors=True)
        self.known[key] = tempfile.mkdtemp(dir=self.root)
        return self.known[key]

    def filled(self, *key):
        """The directory that a process has filled before, or None."""
        return self.known.get(key)

    def close(self):
        """Remove them all."""
        shutil.rmtree(self.root, ignore_errors=True)
