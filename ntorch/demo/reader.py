"""The model that reads a line: it looks with convolutions, reads with an LSTM, spells with CTC."""
import ntorch as torch
from ntorch import nn

BLANK = 10                      # the class that means "nothing new here"


class Reader(nn.Module):
    """Pictures (N, 1, 12, W) to log probabilities (W / 2, N, 11) of the digits and of blank."""

    def __init__(self, channels=(32, 64), hidden=64):
        super().__init__()
        first, second = channels
        self.look = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1, bias=False), nn.BatchNorm2d(second), nn.ReLU(),
            nn.MaxPool2d((2, 1)))
        self.read = nn.LSTM(second * 3, hidden, bidirectional=True)
        self.spell = nn.Linear(2 * hidden, BLANK + 1)

    def forward(self, pictures):
        seen = self.look(pictures)                              # (N, C, 3, W / 2)
        columns = seen.flatten(1, 2).permute(2, 0, 1)           # (W / 2, N, 3 C)
        states, _ = self.read(columns)
        return nn.functional.log_softmax(self.spell(states), dim=-1)


def loss_of(log_probabilities, targets, lengths):
    """Connectionist temporal classification (Graves et al. 2006), mean over the lines."""
    steps, count, _ = log_probabilities.shape
    every_step = torch.full((count,), steps, dtype=torch.long)
    return nn.functional.ctc_loss(log_probabilities, targets, every_step, lengths, blank=BLANK)


def spelled(log_probabilities):
    """The reading of each line: best class of each step, repeats joined, blanks dropped."""
    readings = []
    for best in log_probabilities.argmax(dim=-1).t().tolist():
        digits = [now for before, now in zip([BLANK, *best], best, strict=False)
                  if now != before and now != BLANK]
        readings.append("".join(map(str, digits)))
    return readings
