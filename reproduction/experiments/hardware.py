"""What networks are trained and measured on: device, precision, threads and memory."""

import functools
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from deformlib.validation import check_known, require

# glibc gives freed memory back to the system and takes it anew, page by page, at every step. Told
# to keep what is below 1 GiB, a step took 336 ms of processor time instead of 459: the same bits.
ALLOCATOR = ":".join(
    [
        f"glibc.malloc.mmap_threshold={2**30}",
        f"glibc.malloc.trim_threshold={2**33}",
        f"glibc.malloc.top_pad={2**26}",
        "glibc.malloc.hugetlb=1",
    ]
)


class Hardware(NamedTuple):
    """What a network is trained on, and in which precision; it is measured in float32 always."""

    device: str = "cpu"
    precision: str = "float32"


def keep_freed_memory() -> None:
    """Have processes that start from now on keep the memory that they free."""
    os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)


def check_hardware(device: str, precision: str | None) -> None:
    """ValueError unless networks can be trained on `device` in `precision`."""
    if torch.cuda.is_available():
        check_known("device", device, ("cpu", "cuda"))
    else:
        require(device == "cpu", "device", "cpu (PyTorch sees no CUDA device)", repr(device))
    if precision is not None:
        check_known("precision", precision, precisions(device))


def default_device() -> str:
    """Where networks are trained if nobody says where: on a GPU if PyTorch sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def precisions(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Precisions of a training step's products on `device`.

    "float32", "bfloat16" under autocast (8 significant bits), and on GPUs from Ampere on
    "tensorfloat32" (11).
    """
    if torch.device(device).type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "float32", "bfloat16", "tensorfloat32"
    return "float32", "bfloat16"


def fastest(device: torch.device | str = "cpu") -> str:
    """The precision that networks are trained in on `device` if none is asked for.

    TensorFloat-32 on a GPU and bfloat16 on a CPU, where the hardware has it, else float32. On a GPU
    bfloat16 makes networks as narrow as these no faster.
    """
    if torch.device(device).type == "cpu":
        return "bfloat16" if fast_bfloat16() else "float32"
    return "tensorfloat32" if "tensorfloat32" in precisions(device) else "float32"


def fast_bfloat16() -> bool:
    """Whether the processor has bfloat16 in hardware; emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def arithmetic(precision: str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute in one of `precisions` inside; afterwards PyTorch does as it did before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    coarse = precision == "tensorfloat32"
    torch.set_float32_matmul_precision("high" if coarse else "highest")
    torch.backends.cudnn.allow_tf32 = coarse
    halved = precision == "bfloat16"
    try:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=halved):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def be_exact() -> None:
    """Compute in float32, not in TensorFloat-32, and where PyTorch can the same bits every time."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def name_of(device: str) -> str:
    """What records call the GPU or the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else processor()


@functools.cache
def processor() -> str:
    """The processor by name, and the instructions that PyTorch uses of it."""
    return f"{_processor_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor_name() -> str:
    with suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """The cores that this process may use; where the system does not tell, those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """Threads of each of `workers` processes: an equal part of `cores`, at least 1."""
    return max(1, cores() // workers)


def forget_peak_memory(device: str) -> None:
    """Let the peak memory begin anew, as one process makes several runs; on Linux only."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> dict[str, int]:
    """The most memory that this process took, and the most on the GPU, in MB, by their names."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peak = {"peak_memory_mb": round(of_process / 1e6)}
    if device == "cuda":
        peak["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return peak
