"""Wrote torch_zip.pth and torch_legacy.pth: a state_dict as PyTorch saves it, in its two forms (torch 2.13.0).

Needs torch; nothing in the tests does. `values()` says what is in the files.
"""

import zlib
from pathlib import Path

import numpy as np

SHAPES = {
    'stem.conv1.weight': (16, 3, 3, 3),
    'stem.conv1.bias': (16,),
    'stem.conv1.gain': (16, 1, 1, 1),
    'stages.0.0.skipinit_gain': (),
    'stages.0.0.attn_last.fc1.weight': (4, 8, 1, 1),
    'stages.0.0.attn_last.fc1.bias': (4,),
    'head.fc.weight': (5, 8),
    'head.fc.bias': (5,),
}


def values():
    """{name: array}, float32."""
    return {
        name: np.asarray(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32))
        for name, shape in SHAPES.items()
    }


def main():
    import torch

    class Module(torch.nn.Module):
        """Holds parameters of any names, so that the state_dict is a module's, with its metadata."""

        def state_dict(self):
            state_dict = super().state_dict()
            tensors = {name: torch.from_numpy(value.copy()) for name, value in values().items()}
            # As after training with channels last, and a view of a larger storage.
            weight = tensors['stem.conv1.weight']
            tensors['stem.conv1.weight'] = weight.to(memory_format=torch.channels_last)
            tensors['head.fc.bias'] = torch.cat([torch.ones(3), tensors['head.fc.bias']])[3:]
            state_dict.update(tensors)
            return state_dict

    folder = Path(__file__).parent
    state_dict = Module().state_dict()
    torch.save(state_dict, folder / 'torch_zip.pth')
    torch.save(state_dict, folder / 'torch_legacy.pth', _use_new_zipfile_serialization=False)


if __name__ == '__main__':
    main()
