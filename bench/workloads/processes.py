"""What a whole process costs: start-up time and peak memory. Each sample is a new process."""
import time

from ..registry import workload
from ..variants import COMPILED, Code
from .compiled_steps import classify, regress
from .models import lenet, mlp, residual_block, transformer_layer


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


def _lenet(torch, code, batch):
    return classify(torch, code, lenet(torch), (batch, 1, 28, 28), batch)


def _mlp(torch, code, batch):
    return classify(torch, code, mlp(torch), (batch, 784), batch)


def _residual(torch, code, batch):
    model = residual_block(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return regress(torch, code, model, (batch, 64, 28, 28), optimizer)


def _transformer(torch, code, batch):
    model = transformer_layer(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return regress(torch, code, model, (batch, 128, 256), optimizer)


def _steps(torch, code, step_of, batch):
    """Three training steps."""
    step = step_of(torch, code, batch)
    for _ in range(3):
        step()


def _memory(name, step_of, batch, **attributes):
    """List the peak of a process that makes training steps, and what a bigger batch adds."""
    @workload(f"{name} step B{batch}: peak memory of the process", kind="memory", goal=1.0,
              **attributes)
    def peak(library, code=None):
        """Peak resident memory of a process that makes three training steps."""
        _steps(__import__(library), code or Code(library), step_of, batch)
        return _status("VmHWM")

    @workload(f"{name} step B{batch}: memory above a step of batch 1", kind="memory", goal=1.0,
              **attributes)
    def above(library, code=None):
        """Peak resident memory less what is there after steps of batch 1, libraries included."""
        torch, code = __import__(library), code or Code(library)
        _steps(torch, code, step_of, 1)
        before = _status("VmRSS")
        _steps(torch, code, step_of, batch)
        return max(0.0, _status("VmHWM") - before)


_memory("LeNet", _lenet, 64)
for _name, _step_of, _batch in (("LeNet", _lenet, 64), ("MLP", _mlp, 64),
                                ("residual block", _residual, 16),
                                ("transformer layer", _transformer, 8)):
    _memory(f"compiled {_name}", _step_of, _batch, compiled=True, variants=COMPILED[:3])
