"""One table of what is claimed to be fast, beside its goal: `make bench`, or `python bench`.

Everything is measured side by side in one process, on the same inputs. Repetitions alternate, so
that whatever else the machine does falls on both sides; the median of the ratios of neighbours is
printed, with its quartiles, and written to `book/bench.json`, which the book shows. Run it while
nothing else runs. The rows on training need CIFAR-10. With `--cuda` all of it but SciPy runs on a
GPU, and the table goes to `book/bench-cuda.json`.
"""

import json
import os
import sys
from collections.abc import Iterator

import measuring
import torch
import training
from rows import DEVICE, Row, line

from reproduction.analysis.costs import BENCH
from reproduction.experiments.hardware import be_exact, check_hardware, fastest, processor


def rows() -> Iterator[Row]:
    yield from measuring.rows()
    yield from training.rows()


def main() -> None:
    if sys.argv[1:] not in ([], ["--cuda"]):
        sys.exit(f"python bench takes --cuda or nothing, got {' '.join(sys.argv[1:])}")
    check_hardware(DEVICE, None)
    be_exact()
    target = BENCH[DEVICE]
    of_cpu = f"{processor()}, {torch.get_num_threads()} threads"
    where = of_cpu if DEVICE == "cpu" else f"{torch.cuda.get_device_name()} ({of_cpu})"
    conditions = (
        f"{where}, PyTorch {torch.__version__}, "
        f"training in {fastest(DEVICE)}, "
        f"load of the machine before {os.getloadavg()[0]:.1f}"
    )
    print(conditions)
    print(line("work", "against", "ratio", "quartiles", "goal", "reached"))
    table = []
    try:
        for row in rows():
            table.append(row.cells())
            print(line(*table[-1].values()), flush=True)
    except (OSError, ValueError) as error:  # CIFAR-10 can be neither read nor downloaded
        sys.exit(f"training was not measured, and {target} stays as it was: {error}")
    target.write_text(json.dumps({"conditions": conditions, "rows": table}, indent=1) + "\n")
    print(f"written to {target}")


if __name__ == "__main__":
    main()
