"""Lines of handwritten digits: single images joined with random gaps, shifts and noise."""
import pathlib

import numpy as np

HEIGHT, WIDTH = 12, 104         # pixels of a line
SHORTEST, LONGEST = 3, 8        # digits in a line
SIZE = 8                        # pixels of a digit, each way
GAP = 3                         # most empty columns between two digits
NOISE = 0.05                    # standard deviation of the noise, where ink is 0 .. 1


def load_digits():
    """``(images, labels)``: 1,797 real digits, float32 (N, 8, 8) in 0 .. 1 and int64 (N,)."""
    with np.load(pathlib.Path(__file__).with_name("digits.npz")) as data:
        return data["images"].astype(np.float32) / 16, data["labels"].astype(np.int64)


def split(images, labels, test_share=0.2, seed=0):
    """Part the images in two: ``((images, labels) to train, (images, labels) to test)``.

    No image is in both parts.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    count = int(len(labels) * test_share)
    test, train = order[:count], order[count:]
    return (images[train], labels[train]), (images[test], labels[test])


class LineMaker:
    """Makes lines from a set of digit images: an endless supply, no two alike."""

    def __init__(self, digits, seed):
        self.images, self.labels = digits
        self.random = np.random.default_rng(seed)

    def make(self, count):
        """``count`` lines as ``(pictures, targets, lengths)``.

        pictures: float32 (count, 1, HEIGHT, WIDTH); targets: int64 (count, LONGEST), the digits and
        then zeros; lengths: int64 (count,), digits in each line.
        """
        random = self.random
        lengths = random.integers(SHORTEST, LONGEST + 1, count)
        chosen = random.integers(0, len(self.labels), (count, LONGEST))
        gaps = random.integers(0, GAP + 1, (count, LONGEST))
        columns = np.cumsum(gaps + SIZE, axis=1) - SIZE
        room = WIDTH - (columns[np.arange(count), lengths - 1] + SIZE)
        columns += (random.random(count) * (room + 1)).astype(np.int64)[:, None]
        rows = random.integers(0, HEIGHT - SIZE + 1, (count, LONGEST))
        pictures = np.zeros((count, HEIGHT, WIDTH), np.float32)
        ink = random.uniform(0.7, 1.1, (count, LONGEST, 1, 1)).astype(np.float32)
        for place in range(LONGEST):
            lines = np.flatnonzero(lengths > place)
            pictures[lines[:, None, None],
                     rows[lines, place, None, None] + np.arange(SIZE)[:, None],
                     columns[lines, place, None, None] + np.arange(SIZE)] = (
                self.images[chosen[lines, place]] * ink[lines, place])
        pictures += random.normal(0, NOISE, pictures.shape).astype(np.float32)
        targets = np.where(np.arange(LONGEST) < lengths[:, None], self.labels[chosen], 0)
        return pictures[:, None], targets, lengths
