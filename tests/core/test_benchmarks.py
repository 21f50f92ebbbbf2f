"""The benchmarks run, and what they compare computes the same."""

import os
import re
import subprocess
import sys

import pytest
from helpers.repository import ROOT

BENCHMARKS = ROOT / "benchmarks"

QUICKLY = "import train_step as one; one.CPU_SIZES, one.SUSTAINED = (64, 128), 0.02; one.main()"
"""The script, with matrix products that take no time."""


def test_plain_and_our_training_step_have_the_same_gradients():
    """Above four flow minibatches, where the plain step checkpoints its blocks."""
    command = ["-c", QUICKLY, "--preset", "shapes-tiny", "--no-lpips", "--draws", "5", "--batch", "2"]
    command += ["--repeats", "1", "--threads", "1", "--device", "cpu", "--no-memory", "--profile"]
    result = subprocess.run(
        [sys.executable, *command],
        cwd=BENCHMARKS,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    apart = re.search(r"gradients apart by (\S+)", result.stdout)
    assert apart is not None
    assert 0 <= float(apart[1]) < 1e-5
    assert len(re.findall(r"^ +(?:plain|ours) +(?:float32|bf16) +\d", result.stdout, re.MULTILINE)) == 4
    parts = re.findall(
        r"^ +(?:matrix products|convolutions|attention|the rest) +\S+ +(\S+)", result.stdout, re.MULTILINE
    )
    assert len(parts) == 4
    assert abs(sum(map(float, parts)) - 1) < 0.01
    assert re.search(r"share of the matmul rate if the rest took no time: \d+\.\d+ \(of", result.stdout)


def test_the_loader_of_shards_is_timed():
    pytest.importorskip("pyarrow")
    command = ["shard_loader.py", "--images", "24", "--size", "32", "--batch", "4", "--batches", "2", "--threads", "1"]
    result = subprocess.run(
        [sys.executable, *command],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    line = r", 1 threads: \d+ images/s .*; 400 images/s take \d+\.\d cores\n"
    assert re.fullmatch(f"tar{line}parquet{line}", result.stdout)
