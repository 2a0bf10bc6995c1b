"""Our corruptions beside imagecorruptions: same images and machine, seconds of one library after the other.

Run from the repository with nothing else running:

    pip install imagecorruptions "setuptools<81" opencv-python-headless scikit-image
    python tests/benchmarks/corruptions.py

Without imagecorruptions only our own times are printed. Three of its types fail beside today's numpy and scikit-image,
which have dropped two names: they are given back to it. A type that fails all the same is left out of the comparison
and named. It has one table of parameters, that of 224 pixels; ours are the published ones for the size of the images,
or the same as theirs with ``--table 224``.

The libraries take turns, ``--rounds`` times; a time is the median over the rounds, for all images at each severity of
``--severities``. Both do the same job: from a float tensor of images, as a network takes it, to another; *arrays* is
their time from 8-bit arrays to 8-bit arrays, one by one, which leaves the conversions out. *Of a forward* is our time
over that of one plain fp32 forward pass of a ResNet-18 of the same images in batches of 100. The last row divides our
time beside two busy processes by that of a moment before, each over half a second or more: in the middle, and where it
is worst.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from robust_eval.processors import be_considerate

be_considerate()  # as the command does, before torch is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
from machine import processor  # noqa: E402
from torch.nn import functional  # noqa: E402

from robust_eval import Rng, corruption  # noqa: E402
from robust_eval.registry import build  # noqa: E402

FIFTEEN = [
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
]
HELD_OUT = ["speckle_noise", "gaussian_blur", "spatter", "saturate"]

LONG_ENOUGH = 0.5
"""Seconds that a type is timed for beside busy processes."""

Corrupt = Callable[[str, int], object]
clock = time.perf_counter


def main() -> None:
    global clock
    arguments = _arguments()
    clock = time.process_time if arguments.cpu else time.perf_counter
    torch.set_num_threads(arguments.threads)
    theirs = _imagecorruptions(arguments.threads)
    print(f"{date.today()}, {processor()}, {arguments.threads} threads, torch {torch.__version__}, ", end="")
    severities = arguments.severities.split(",")
    print(f"severities {', '.join(severities)}, median of {arguments.rounds}", end="")
    print(", CPU time" if arguments.cpu else "")
    for side, n in ((32, arguments.n), (224, arguments.n_large)):
        if n:
            _table(side, n, [int(severity) for severity in severities], theirs, arguments)


def _table(side: int, n: int, severities: list[int], theirs: Any, arguments: argparse.Namespace) -> None:
    x = _photos(n, side)
    arrays = list((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())

    def run_ours(name: str, severity: int) -> object:
        return corruption(name, severity=severity, side=arguments.table)(x, rng=Rng(0))

    def run_arrays(name: str, severity: int) -> object:
        return [theirs(array, corruption_name=name, severity=severity) for array in arrays]

    def run_theirs(name: str, severity: int) -> object:
        levels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        done = [theirs(array, corruption_name=name, severity=severity) for array in levels]
        return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).float().div_(255).contiguous()

    forward = _forward(x, arguments.rounds) if side == 32 else None
    print(f"\n{n} images of {side} x {side}, milliseconds an image", end="")
    print("" if forward is None else f"; a forward pass takes {1000 * forward / n:.3f}")
    print(
        "\n| type | ours | imagecorruptions | times ours | arrays | of a forward |\n|---|---|---|---|---|---|"
    )
    own, other, bare = {}, {}, {}
    for name in [*FIFTEEN, *HELD_OUT]:
        if arguments.types and name not in arguments.types.split(","):
            continue
        works = theirs is not None and _works(theirs, arrays[0], name)
        rivals = (run_theirs, run_arrays) if works else ()
        own[name], *found = _medians(name, severities, (run_ours, *rivals), arguments.rounds)
        other[name], bare[name] = found or (None, None)
        share = None if forward is None else own[name] / len(severities) / forward
        _line(name, own[name], other[name], bare[name], n * len(severities), share)
    suite = [name for name in FIFTEEN if name in own]
    both = [name for name in suite if other[name] is not None]
    if both:
        whole = [sum(column[name] or 0 for name in both) for column in (own, other, bare)]
        _line(f"{len(both)} of 15", *whole, n * len(severities), None)
        ratios = [(other[name] or 0) / own[name] for name in both]
        print(f"| geometric mean | | | {statistics.geometric_mean(ratios):.1f} | | |")
        failing = [name for name in own if other[name] is None]
        print(f"\nfails in imagecorruptions: {', '.join(failing) or 'none'}")
    _line(f"all {len(suite)}", sum(own[name] for name in suite), None, None, n * len(severities), None)
    _beside_busy_processes(list(own), severities, run_ours, arguments.rounds)


def _beside_busy_processes(
    names: Sequence[str], severities: list[int], ours: Corrupt, rounds: int, busy: int = 2
) -> None:
    """Print how many times longer our types take when others use the machine."""
    times = {}
    for name in names:
        (once,) = _medians(name, severities, (ours,), 1)
        # a processor is handed on every few milliseconds: what takes one is a matter of luck
        often = max(1, round(LONG_ENOUGH / once))
        run = lambda kind, severity: [ours(kind, severity) for _ in range(often)]  # noqa: B023, E731
        (alone,) = _medians(name, severities, (run,), rounds)
        with _busy(busy):
            (beside,) = _medians(name, severities, (run,), rounds)
        times[name] = beside / alone
    if times:
        slowest = max(times, key=times.__getitem__)
        middle = f"{statistics.median(times.values()):.1f} times in the middle"
        print(
            f"| beside {busy} busy processes | {middle}, {times[slowest]:.1f} times {slowest} | | | | |",
            flush=True,
        )


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep so many processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.1)  # until they are
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _medians(name: str, severities: list[int], rivals: Sequence[Corrupt], rounds: int) -> list[float]:
    """Return the seconds that each takes for all images at all severities; they take turns."""
    for severity in severities:  # tables that are made once
        rivals[0](name, severity)
    seconds = [
        [_seconds(lambda run=run: [run(name, severity) for severity in severities]) for run in rivals]
        for _ in range(rounds)
    ]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def _line(
    name: str, own: float, other: float | None, bare: float | None, images: int, share: float | None
) -> None:
    cells = [
        name,
        f"{1000 * own / images:.3f}",
        "" if other is None else f"{1000 * other / images:.3f}",
        "" if other is None else f"{other / own:.1f}",
        "" if bare is None else f"{1000 * bare / images:.3f}",
        "" if share is None else f"{100 * share:.1f} %",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def _forward(x: torch.Tensor, rounds: int) -> float:
    """Seconds of one forward pass of all images."""
    network = build("architecture", "resnet18", {}).build(channels=3, classes=10).eval()
    with torch.no_grad():
        network(x[:100])
        return statistics.median(
            _seconds(lambda: [network(part) for part in torch.split(x, 100)]) for _ in range(rounds)
        )


def _photos(n: int, side: int) -> torch.Tensor:
    """Colours with detail at every scale, the finer the fainter, in 8-bit levels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(n, 3, side, side)
    for octave in range(2, side.bit_length()):
        detail = torch.rand(n, 3, 2**octave, 2**octave, generator=generator) - 0.5
        x += 4 * 0.5**octave * functional.interpolate(detail, (side, side), mode="bilinear")
    return ((x + 0.5).clamp(0, 1) * 255).round() / 255


def _seconds(work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def _works(theirs: Any, array: np.ndarray, name: str) -> bool:
    try:
        theirs(array, corruption_name=name, severity=3)
    except Exception:
        return False
    return True


def _imagecorruptions(threads: int) -> Any:
    """Return the library's function, or ``None`` where it is not installed."""
    warnings.simplefilter("ignore")
    try:
        import cv2
        from imagecorruptions import corrupt, corruptions
    except ImportError as error:
        print(f"without imagecorruptions ({error})")
        return None
    cv2.setNumThreads(threads)
    vars(np).setdefault("float_", np.float64)  # until numpy 1.26
    smooth = corruptions.gaussian

    def gaussian(image: Any, sigma: float, multichannel: bool = False, **rest: Any) -> Any:
        return smooth(image, sigma, channel_axis=-1 if multichannel else None, **rest)

    corruptions.gaussian = gaussian  # multichannel: until scikit-image 0.18
    return corrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="images of 32 x 32; 0 for none")
    parser.add_argument("--n-large", type=int, default=50, help="images of 224 x 224; 0 for none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="CPU time: for a machine in use, with --threads 1")
    parser.add_argument("--severities", default="3", help="comma-separated")
    parser.add_argument("--table", type=int, choices=(32, 64, 224), help="default: by the size of the images")
    parser.add_argument("--types", help="names, comma-separated; default: all 19")
    return parser.parse_args()


if __name__ == "__main__":
    main()
