"""Whole training steps: forward, loss, backward, update. ntorch compiles the step, torch's users
compile the model and its loss."""
from ..registry import workload
from ..variants import COMPILED
from .models import lenet, lstm_classifier, mlp, residual_block, transformer_layer


def step_of(torch, code, model, loss_of, optimizer):
    """``step(x, target)`` of ``loss_of(model(x), target)``; returns the loss."""
    loss_of_batch = code.loss(lambda x, target: loss_of(model(x), target))

    def step(x, target):
        loss = loss_of_batch(x, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss
    return code.step(step)


def classify(torch, code, model, shape, batch):
    """A step of a classifier of 10 classes with Adam, on one batch of random numbers."""
    x, target = torch.randn(*shape), torch.randint(0, 10, (batch,))
    step = step_of(torch, code, model, torch.nn.functional.cross_entropy,
                   torch.optim.Adam(model.parameters(), lr=1e-3))
    return lambda: step(x, target)


def regress(torch, code, model, shape, optimizer):
    """A step of a model that gives tensors of its input's form, on random numbers."""
    x, target = torch.randn(*shape), torch.randn(*shape)
    step = step_of(torch, code, model, torch.nn.functional.mse_loss, optimizer)
    return lambda: step(x, target)


def _jax_mlp(jax):
    """The MLP with Adam (Kingma and Ba 2015) as its users write it: a pytree and its updates."""
    numpy, tree = jax.numpy, jax.tree
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = (784, 256, 256, 10)
    weights = [(jax.random.uniform(key, (n, m), minval=-1, maxval=1) / n ** 0.5, numpy.zeros(m))
               for key, n, m in zip(keys, sizes, sizes[1:], strict=False)]
    x, target = jax.random.normal(keys[3], (64, 784)), jax.random.randint(keys[4], (64,), 0, 10)

    def loss_of(weights, x, target):
        for weight, bias in weights[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        scores = jax.nn.log_softmax(x @ weights[-1][0] + weights[-1][1])
        return -scores[numpy.arange(64), target].mean()

    def step(state, x, target):
        weights, first, second, count = state
        loss, grads = jax.value_and_grad(loss_of)(weights, x, target)
        count = count + 1
        first = tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        rate = 1e-3 * numpy.sqrt(1 - 0.999 ** count) / (1 - 0.9 ** count)
        weights = tree.map(lambda w, m, v: w - rate * m / (numpy.sqrt(v) + 1e-8),
                           weights, first, second)
        return (weights, first, second, count), loss

    first, second = (tree.map(numpy.zeros_like, weights) for _ in range(2))
    state = (weights, first, second, numpy.zeros(()))
    compiled = jax.jit(step, donate_argnums=0)

    def run():
        nonlocal state
        state, loss = compiled(state, x, target)
        return loss.block_until_ready()
    return run


@workload("MLP 784-256-256-10 step B64", variants=COMPILED, compiled=True, jax=_jax_mlp,
          flops=3 * 2 * 64 * (784 * 256 + 256 * 256 + 2560), goals={"torch": 1.7})
def mlp_step(torch, code):
    return classify(torch, code, mlp(torch), (64, 784), 64)


@workload("LeNet step B64", variants=COMPILED, compiled=True, goals={"torch": 1.2},
          flops=3 * 2 * 64 * (6 * 25 * 784 + 16 * 150 * 100 + 400 * 120))
def lenet_step(torch, code):
    return classify(torch, code, lenet(torch), (64, 1, 28, 28), 64)


@workload("residual block step 16x64x28x28", variants=COMPILED, compiled=True,
          goals={"torch": 1.2}, flops=3 * 2 * 2 * 16 * 64 * 784 * 64 * 9)
def residual_step(torch, code):
    model = residual_block(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return regress(torch, code, model, (16, 64, 28, 28), optimizer)


# Dropout draws other numbers in each library: the losses agree only about so well.
@workload("transformer layer step B8 T128 256h4", variants=COMPILED, compiled=True, tolerance=0.02,
          goals={"torch": 1.1},
          flops=3 * 2 * 8 * 128 * (4 * 256 * 256 + 2 * 256 * 128 + 2 * 256 * 1024))
def transformer_step(torch, code):
    model = transformer_layer(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return regress(torch, code, model, (8, 128, 256), optimizer)


@workload("LSTM classifier step T50 B32 H128", variants=COMPILED, compiled=True,
          goals={"torch": 1.3}, flops=3 * 2 * 50 * 32 * 2 * 4 * 128 * 256)
def lstm_step(torch, code):
    return classify(torch, code, lstm_classifier(torch), (50, 32, 128), 32)


@workload("demo step B32", variants=("ntorch.compile", "ntorch"), compiled=True,
          goals={"ntorch": 2.0})
def demo_step(torch, code):
    from ntorch.demo.reader import Reader, loss_of
    from ntorch.demo.training import makers

    maker, _ = makers(0)
    batches = [tuple(map(torch.from_numpy, maker.make(32))) for _ in range(4)]
    model, turn = Reader(), 0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=10 ** 6)

    def update(pictures, targets, lengths):
        loss = loss_of(model(pictures), targets, lengths)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss
    compiled = code.step(update)

    def step():
        nonlocal turn
        turn += 1
        loss = compiled(*batches[turn % len(batches)])
        schedule.step()
        return loss
    return step
