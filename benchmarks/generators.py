"""Compares counter-based generators in plain tensor operations: eager on small and large tensors, and compiled.

Run it with ``python benchmarks/generators.py``. Every figure is a median in one process; read the ratios.
"""

import statistics
import time

import torch

from funcbio.rng import threefry2x32

SIZES = (16, 8_192, 131_072)


def squares(counter, key):
    """Squares64 of Widynski (2020): 64 bits for each counter."""
    swap = lambda x: (x << 32) | ((x >> 32) & 0xFFFFFFFF)
    y = counter * key
    z = y + key
    x = swap(y * y + y)
    x = swap(x * x + z)
    x = swap(x * x + y)
    last = x * x + z
    x = swap(last)
    return last ^ (((x * x + y) >> 32) & 0xFFFFFFFF)


def philox(low, high, key):
    """Philox-2x32 with the 7 rounds its authors report as enough, in 64-bit integers."""
    for _ in range(7):
        product = low * 0xD256D193
        low, high = ((product >> 32) & 0xFFFFFFFF) ^ key ^ high, product & 0xFFFFFFFF
        key = (key + 0x9E3779B9) & 0xFFFFFFFF
    return low, high


def median_us(call, repeats=15):
    """Median time of a call, in microseconds."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def candidates(size):
    """Each generator as a function of nothing, for one number of counters."""
    short = torch.arange(size, dtype=torch.int32)
    wide = torch.arange(size)
    key, wide_key = torch.tensor([3, 5], dtype=torch.int32), torch.tensor(0x548C9DECBCE65297)
    return {
        "threefry2x32-13": lambda: threefry2x32(key, short, short ^ 7, rounds=13),
        "threefry2x32-20": lambda: threefry2x32(key, short, short ^ 7, rounds=20),
        "squares64": lambda: squares(wide ^ 7, wide_key),
        "philox2x32-7": lambda: philox(wide ^ 7, wide, wide_key & 0xFFFFFFFF),
    }


def main():
    """Prints one line for each generator, relative to Threefry with 13 rounds."""
    eager = {size: {name: median_us(call) for name, call in candidates(size).items()} for size in SIZES}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; microseconds (ratio to threefry2x32-13)")
    torch.compile(lambda x: x + 1)(torch.ones(3))
    for name, call in candidates(SIZES[-1]).items():
        ratios = {size: times[name] / times["threefry2x32-13"] for size, times in eager.items()}
        cells = "  ".join(f"{size}: {eager[size][name]:6.0f} ({ratio:.2f})" for size, ratio in ratios.items())
        torch._dynamo.reset()
        start = time.perf_counter()
        compiled = torch.compile(call, fullgraph=True)
        compiled()
        compile_s = time.perf_counter() - start
        print(f"{name:16} eager {cells}  compiled {median_us(compiled):6.0f}  compile time {compile_s:.0f} s")


if __name__ == "__main__":
    main()
