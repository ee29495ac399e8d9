"""The command line and the parts of the demo that need no training."""
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from ntorch import cli
from ntorch.demo import lines, pictures
from ntorch.runtime import store

MANY = 400      # more lines than any chance pattern survives


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A kernel store with three entries, the first of them old."""
    monkeypatch.setenv("NTORCH_CACHE_DIR", str(tmp_path / "kernels"))
    for index, name in enumerate(("first", "second", "third")):
        store.put(f"{index}" * 40, "symbol", b"x" * 1000,
                  {"name": name, "params": ["i"], "T": "f4"})
    paths = {header["name"]: path for _, path, header, _ in store.entries()}
    long_ago = time.time() - 90 * 86400
    os.utime(paths["first"], (long_ago, long_ago))
    return paths


def output(capsys, *arguments):
    status = cli.main(["cache", *arguments])
    return status, capsys.readouterr()


def test_cache_list_and_info(kept, capsys):
    status, told = output(capsys, "list")
    assert status == 0 and "3 kernels" in told.out
    assert all(f"{name}(i) T=f4" in told.out for name in kept)
    _, told = output(capsys, "list", "--name", "sec")
    assert "1 kernels" in told.out and "first" not in told.out
    status, told = output(capsys, "info")
    assert status == 0 and "3 (3.6 kB, 0 damaged)" in told.out


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data[:-1] + b"y", lambda data: b"no header",
    lambda data: b"[]\n" + data, lambda data: b"{}\n" + data, lambda data: b""])
def test_cache_verify_finds_damage(kept, capsys, damage):
    assert output(capsys, "verify")[0] == 0
    with open(kept["second"], "rb") as file:
        data = file.read()
    with open(kept["second"], "wb") as file:
        file.write(damage(data))
    status, told = output(capsys, "verify")
    assert status == 1
    assert "2 kernels intact, 1 damaged" in told.out and "1" * 40 in told.err
    assert store.get("1" * 40) is None
    output(capsys, "prune")
    assert output(capsys, "verify")[0] == 0


def test_use_makes_a_kernel_young_again(kept, capsys):
    assert store.get("0" * 40) is not None
    output(capsys, "prune", "--days", "60")
    assert len(list(store.entries())) == 3


def test_cache_prune_by_age_and_size(kept, capsys):
    output(capsys, "list")                      # looking at a kernel is no use of it
    output(capsys, "prune", "--days", "60")
    assert store.get("0" * 40) is None and store.get("1" * 40) is not None
    output(capsys, "prune", "--max-megabytes", "0.002")
    assert len(list(store.entries())) == 1


def test_cache_clear(kept, capsys):
    status, told = output(capsys, "clear")
    assert status == 0 and "removed 3 files" in told.out
    assert not list(store.entries())


def test_wrong_commands_end_with_usage(capsys):
    for arguments in ([], ["nonsense"], ["cache"], ["cache", "burn"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
        assert "usage: ntorch" in capsys.readouterr().err


def test_module_runs(tmp_path):
    result = subprocess.run([sys.executable, "-m", "ntorch", "cache", "info"], check=True,
                            text=True,
                            capture_output=True, timeout=60,
                            env={**os.environ, "NTORCH_CACHE_DIR": str(tmp_path)})
    assert str(tmp_path) in result.stdout


def test_digits_are_whole():
    images, labels = lines.load_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_no_test_image_is_in_training():
    images, labels = lines.load_digits()
    tagged = np.arange(len(labels))
    train, test = lines.split(images, tagged)
    assert not set(train[1]) & set(test[1])
    assert len(train[1]) + len(test[1]) == 1797
    assert np.array_equal(images[test[1]], test[0])


def test_lines_hold_their_digits():
    maker = lines.LineMaker(lines.load_digits(), seed=3)
    made, targets, lengths = maker.make(MANY)
    assert made.shape == (MANY, 1, lines.HEIGHT, lines.WIDTH) and made.dtype == np.float32
    assert set(lengths) == set(range(lines.SHORTEST, lines.LONGEST + 1))
    beyond = np.arange(lines.LONGEST) >= lengths[:, None]
    assert (targets[beyond] == 0).all() and targets.min() >= 0 and targets.max() <= 9
    ink = (made[:, 0] > 0.5).sum(axis=(1, 2))
    assert np.corrcoef(ink, lengths)[0, 1] > 0.8        # longer lines have more ink
    again = lines.LineMaker(lines.load_digits(), seed=3).make(MANY)
    assert np.array_equal(made, again[0])


def test_pictures_in_text():
    picture = np.zeros((4, 3), np.float32)
    picture[0, 0] = picture[3, 1] = picture[2, 2] = picture[3, 2] = 1
    assert pictures.as_text(picture, blocks=True) == "▀\n ▄█"
    assert pictures.as_text(picture, blocks=False) == "+\n +@"
    assert pictures.verdict("123", "123") == "read 123"
    assert pictures.verdict("123", "") == "read (nothing), written 123"


@pytest.mark.slow
def test_demo_runs(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "ntorch", "demo", "--quick", "--out", str(tmp_path)], text=True,
        capture_output=True, timeout=600, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "test lines" in result.stdout and "as before" in result.stdout
    assert "loss" in result.stderr and "lines/s" in result.stderr
    assert (tmp_path / "reader.pt").exists()


@pytest.mark.slow
def test_bench_measures(tmp_path):
    target = tmp_path / "bench.json"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--against", "none", "--only", "add 1000",
         "--json", str(target)], text=True, capture_output=True, timeout=600, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(target.read_text())["rows"]
    assert [row["workload"] for row in rows] == [
        "add 1000", "add 1000 with grad", "add 1000 out="]
    assert all(1e-8 < row["results"]["ntorch"]["median"] < 1e-2 for row in rows)
