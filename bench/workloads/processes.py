"""What a whole process costs: start-up time and peak memory. Each sample is a new process."""
import time

from ..registry import workload
from .models import lenet


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


def _lenet_step(torch, batch):
    model = lenet(torch)
    optimizer = torch.optim.Adam(model.parameters())
    x, target = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()


def _status(field):
    """A field of /proc/self/status in megabytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise KeyError(field)


@workload("LeNet step B64: peak memory of the process", kind="memory", goal=1.0)
def lenet_peak(library):
    """Peak resident memory of a process that makes three training steps."""
    _lenet_step(__import__(library), 64)
    return _status("VmHWM")


@workload("LeNet step B64: memory above a step of batch 1", kind="memory", goal=1.0)
def lenet_above(library):
    """Peak resident memory less what is there after steps of batch 1, libraries included."""
    torch = __import__(library)
    _lenet_step(torch, 1)
    before = _status("VmRSS")
    _lenet_step(torch, 64)
    return max(0.0, _status("VmHWM") - before)
