"""Models that several workloads use."""


def mlp(torch):
    """Three linear layers for 784 inputs and 10 classes."""
    nn = torch.nn
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                         nn.Linear(256, 10))


def lenet(torch):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, for 28x28 pictures."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def residual_block(torch):
    """Two 3x3 convolutions with batch normalisation beside the identity (He et al. 2015)."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64))

        def forward(self, x):
            return nn.functional.relu(self.body(x) + x)

    return Block()


def transformer_layer(torch):
    """An encoder layer of 256 features and 4 heads (Vaswani et al. 2017), with dropout."""
    return torch.nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)


def lstm_classifier(torch):
    """Two LSTM layers over (T, B, 128); the last step's state gives 10 classes."""
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.LSTM(128, 128, num_layers=2)
            self.tell = nn.Linear(128, 10)

        def forward(self, x):
            return self.tell(self.read(x)[0][-1])

    return Classifier()
