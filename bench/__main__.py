"""One table of what is claimed to be fast, beside its goal: `make bench`, or `python bench`.

Everything is measured side by side in one process, on the same inputs. Repetitions alternate, so that whatever else
the machine does falls on both sides; the median of the ratios of neighbours is printed, with its quartiles. Run it
while nothing else runs. The rows on training need CIFAR-10.
"""

import os
from collections.abc import Iterator

import measuring
import torch
import training
from rows import Row, line

from deformlib.training import fast_bfloat16


def rows() -> Iterator[Row]:
    yield from measuring.rows()
    yield from training.rows()


def load() -> str:
    return "load of the machine {:.1f}, {:.1f}, {:.1f} (1, 5, 15 minutes)".format(*os.getloadavg())


if __name__ == "__main__":
    print(f"threads {torch.get_num_threads()}, {torch.backends.cpu.get_cpu_capability()}, PyTorch {torch.__version__},",
          f"training in {'bfloat16' if fast_bfloat16() else 'float32 (no bfloat16 in hardware)'}; {load()}")
    print(line("work", "against", "ratio", "quartiles", "goal"))
    for row in rows():
        print(row, flush=True)
    print(load())
