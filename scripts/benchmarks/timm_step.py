"""timm's dm_nfnet in PyTorch, timed on demand in a process of its own; `scripts/benchmark.py` starts it.

It reads the name of a way to run, runs a step, and answers with the seconds: in one process, the threads of
the two frameworks would be in each other's way. Needs `pip install torch torchvision timm`.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

WAYS = ('eager', 'channels_last', 'compiled')


class Worker:
    """The process that runs timm; as a context it ends with it."""

    def __init__(self, setup: Any, in_flight: int):
        """Starts it and waits until every way to run has run once.

        Args:
          setup: a `Setup` of `benchmarks/step.py`.
          in_flight: steps that a GPU is handed before it is waited for.

        Raises:
          InputError: PyTorch or timm cannot be imported, or no way works.
        """
        # Not above: PyTorch's compiler does not bear Haiku in its process, which comes with the package.
        from nfnets.errors import InputError

        keys = ('command', 'variant', 'batch', 'image_size', 'precision')
        given = {key: getattr(setup, key) for key in keys} | {'in_flight': in_flight}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'},
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise InputError('--against timm needs PyTorch and timm: pip install torch torchvision timm')
        self.failed: dict[str, str] = json.loads(answer)
        self.timers = {
            f'timm {way}': functools.partial(self._run, way) for way in WAYS if way not in self.failed
        }
        self._pause()
        if not self.timers:
            raise InputError(f'timm runs in no way here: {self.failed}')

    def _run(self, way: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(way + '\n')
        self._process.stdin.flush()
        seconds = float(self._process.stdout.readline())
        self._pause()
        return seconds

    def _pause(self) -> None:
        # PyTorch's threads wait for work by spinning, at the cost of whoever runs meanwhile.
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()


def make(
    way: str, command: str, variant: str, batch: int, image_size: int, precision: str, in_flight: int
) -> Callable[[], float]:
    """A function that runs steps, waits until they are done, and returns the seconds of one."""
    import timm
    import torch
    from timm.models import model_parameters
    from timm.utils.agc import adaptive_clip_grad

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    layout = torch.contiguous_format if way == 'eager' else torch.channels_last
    torch.manual_seed(0)
    model = timm.create_model(f'dm_nfnet_{variant.lower()}', pretrained=False)
    model = model.to(device=device, memory_format=layout).train(command == 'step')
    call: Any = torch.compile(model) if way == 'compiled' else model
    images = torch.randn(batch, 3, image_size, image_size, device=device).to(memory_format=layout)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=2e-5)
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16')

    def step() -> None:
        with autocast:
            loss = torch.nn.functional.cross_entropy(call(images), labels, label_smoothing=0.1)
        loss.backward()
        adaptive_clip_grad(model_parameters(model, exclude_head=True), 0.01)
        sgd.step()
        sgd.zero_grad()

    def forward() -> None:
        with torch.no_grad(), autocast:
            call(images)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(in_flight):
            step() if command == 'step' else forward()
        if device == 'cuda':
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / in_flight

    return run


def main() -> None:
    given = json.loads(sys.argv[1])
    import timm  # noqa: F401  Not there: the parent says so.

    runs, failed = {}, {}
    for way in WAYS:
        try:
            run = make(way, **given)
            run()
            runs[way] = run
        except Exception as error:  # Of whatever part of PyTorch's compiler.
            failed[way] = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
    print(json.dumps(failed), flush=True)
    for line in sys.stdin:
        print(runs[line.strip()](), flush=True)


if __name__ == '__main__':
    main()
