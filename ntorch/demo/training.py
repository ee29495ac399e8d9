"""Train the reader on lines made on the fly, test it on lines of images it has never seen."""
import dataclasses
import time

import ntorch as torch

from .lines import LineMaker, load_digits, split
from .reader import Reader, loss_of, spelled


@dataclasses.dataclass
class Options:
    """How long and with what the reader is trained."""
    steps: int = 600
    batch: int = 32
    rate: float = 1e-2
    test_lines: int = 500
    seed: int = 0


@dataclasses.dataclass
class Result:
    """What a run gave: the model, the test lines and what was read, errors and times."""
    model: Reader
    pictures: object
    truths: list
    readings: list
    losses: list
    seconds: float

    @property
    def right(self):
        """How many test lines were read without any error."""
        return sum(a == b for a, b in zip(self.truths, self.readings, strict=True))

    @property
    def share(self):
        """The share of test lines read without any error."""
        return self.right / len(self.truths)


def makers(seed):
    """``(training lines, test lines)``: two line makers that share no image."""
    train, test = split(*load_digits())
    return LineMaker(train, seed), LineMaker(test, seed + 1)


def truths_of(targets, lengths):
    """The digits of each line as text."""
    return ["".join(map(str, row[:length])) for row, length in zip(targets, lengths, strict=True)]


def train(options, progress):
    """Train a reader; ``progress(loss, lines)`` is called after each step. ``(model, losses)``."""
    torch.manual_seed(options.seed)
    maker, _ = makers(options.seed)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=options.rate,
                                                   total_steps=options.steps)

    @torch.compile
    def step(pictures, targets, lengths):
        loss = loss_of(model(pictures), targets, lengths)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss.detach()

    losses = []
    for _ in range(options.steps):
        losses.append(step(*map(torch.from_numpy, maker.make(options.batch))).item())
        schedule.step()
        progress(losses[-1], options.batch)
    return model, losses


@torch.no_grad()
def read(model, pictures, batch=100):
    """What ``model`` reads in ``pictures`` (N, 1, 12, W), as a list of texts."""
    model.eval()
    readings = []
    for start in range(0, len(pictures), batch):
        readings += spelled(model(pictures[start:start + batch]))
    return readings


def run(options, progress):
    """Train and test; returns a ``Result``."""
    start = time.perf_counter()
    model, losses = train(options, progress)
    _, maker = makers(options.seed)
    pictures, targets, lengths = maker.make(options.test_lines)
    readings = read(model, torch.from_numpy(pictures))
    return Result(model, pictures, truths_of(targets, lengths), readings, losses,
                  time.perf_counter() - start)


def save(model, path):
    """Write the model's parameters and statistics to ``path``."""
    torch.save({"model": model.state_dict()}, path)


def load(path):
    """A fresh reader with what ``save`` wrote."""
    model = Reader()
    model.load_state_dict(torch.load(path)["model"])
    return model
