"""A ResNet-18 in PyTorch, whose batch normalization layers are synchronized by one line.

    mpiexec -n 4 python -m mpi4py mpi_examples/torch_resnet18.py
    torchrun --nproc-per-node 2 mpi_examples/torch_resnet18.py

Each rank has 2 samples. Five steps give the losses of one process with the samples of all ranks; with local batch
normalization they do not. Under mpiexec, gradients are averaged over MPI, without torch.distributed; under torchrun, by
DistributedDataParallel over gloo, without MPI. It needs PyTorch: pip install "syncbn[torch]"
"""

import os
import sys

try:
    import torch
except ImportError:
    sys.exit("this example needs PyTorch, which is not installed: pip install 'syncbn[torch]'")
from torch import nn
from torch.nn.functional import cross_entropy

from syncbn.torch import SyncBatchNorm, average_gradients, broadcast_parameters

STEPS, SAMPLES, CLASSES = 5, 2, 10


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        """Return the sum of both, through ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


def resnet18():
    """Return the network of He et al. 2015 (Table 1), with equal weights at every call."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    stages = [block for i, o, s in sizes for block in (Block(i, o, s), Block(o, o, 1))]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)).double()


def train(model, images, labels, average=None):
    """Return the losses of some steps."""
    losses = []
    for x, y in zip(images, labels, strict=True):
        loss = cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        if average is not None:
            average(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad
        losses.append(loss.detach())
    return torch.stack(losses)


under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
if under_torchrun:
    torch.distributed.init_process_group("gloo")
torch.set_num_threads(1)

model = SyncBatchNorm.convert_sync_batchnorm(resnet18())  # the one line
comm = model[1].comm  # the ranks of MPI or of torch.distributed, or this process alone

generator = torch.Generator().manual_seed(1)
images = torch.randn(STEPS, comm.size * SAMPLES, 3, 48, 48, generator=generator, dtype=torch.float64)
labels = torch.randint(CLASSES, (STEPS, comm.size * SAMPLES), generator=generator)
mine = slice(comm.rank * SAMPLES, (comm.rank + 1) * SAMPLES)
own = images[:, mine], labels[:, mine]

if under_torchrun:
    losses = train(nn.parallel.DistributedDataParallel(model), *own)
else:
    broadcast_parameters(model)
    losses = train(model, *own, average_gradients)
local = train(resnet18(), *own, average_gradients)
expected = train(resnet18(), images, labels) if comm.rank == 0 else torch.zeros(STEPS, dtype=torch.float64)

results = torch.stack([losses / comm.size, local / comm.size, expected]).numpy()
comm.allreduce(results)
losses, local, expected = results
error, local_error = abs(losses - expected).max(), abs(local - expected).max()
if comm.rank == 0:
    print(f"{comm.size} ranks with {SAMPLES} samples each, {type(comm).__name__}; loss of {STEPS} steps:")
    print("one process     ", *(f"{loss:.6f}" for loss in expected))
    print("SyncBatchNorm   ", *(f"{loss:.6f}" for loss in losses), f" largest difference {error:.1e}")
    print("local statistics", *(f"{loss:.6f}" for loss in local), f" largest difference {local_error:.1e}")
sys.exit(not (error < 1e-6 and (comm.size == 1 or local_error > 1e-3)))
