"""What a whole process costs: start-up time and peak memory. Each sample is a new process."""
import time

from ..registry import workload
from ..variants import COMPILED, Code
from .compiled_steps import classify
from .models import lenet, mlp


@workload("import", kind="process", ceiling=0.15)
def importing(library):
    """Seconds that the import statement takes."""
    start = time.perf_counter()
    __import__(library)
    return time.perf_counter() - start


@workload("process: import and 2-layer MLP forward", kind="process", goal=4.0)
def mlp_process(library):
    """Wall time of the whole process, which the parent measures."""
    torch = __import__(library)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    with torch.no_grad():
        float(model(torch.ones(32, 784)).sum())


def _status(field):
    """A field of /proc/self/status in megabytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise KeyError(field)


def _steps(torch, code, model_of, shape, batch):
    """Three training steps."""
    step = classify(torch, code, model_of(torch), (batch, *shape), batch)
    for _ in range(3):
        step()


def _memory(name, model_of, shape, **attributes):
    """List the peak of a process that makes training steps, and what a bigger batch adds."""
    @workload(f"{name} step B64: peak memory of the process", kind="memory", goal=1.0,
              **attributes)
    def peak(library, code=None):
        """Peak resident memory of a process that makes three training steps."""
        _steps(__import__(library), code or Code(library), model_of, shape, 64)
        return _status("VmHWM")

    @workload(f"{name} step B64: memory above a step of batch 1", kind="memory", goal=1.0,
              **attributes)
    def above(library, code=None):
        """Peak resident memory less what is there after steps of batch 1, libraries included."""
        torch, code = __import__(library), code or Code(library)
        _steps(torch, code, model_of, shape, 1)
        before = _status("VmRSS")
        _steps(torch, code, model_of, shape, 64)
        return max(0.0, _status("VmHWM") - before)


_memory("LeNet", lenet, (1, 28, 28))
for _name, _model, _shape in (("LeNet", lenet, (1, 28, 28)), ("MLP", mlp, (784,))):
    _memory(f"compiled {_name}", _model, _shape, compiled=True, variants=COMPILED[:3])
