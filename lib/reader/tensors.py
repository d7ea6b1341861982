"""Stamps as PyTorch tensors: ``DataLoader(Batches(stamps), batch_size=None, num_workers=2)``; needs the extra ``torch``.

Of a data set in a bucket with ``multiprocessing_context="forkserver"``: the bucket's client does not outlive a fork.
PyTorch's CPU build is enough.
"""

import os
from collections.abc import Iterator

from torch import Tensor, from_numpy
from torch.utils.data import IterableDataset, get_worker_info

from lib.errors import ConfigError
from lib.reader.stream import Stamps


class Batches(IterableDataset):
    """Batches of one epoch, shared between the loader's workers and, as ``rank`` of ``ranks``, between processes.

    Text stays an array.  Call ``set_epoch`` before each epoch, as with PyTorch's distributed samplers: the order is a function of it.
    """

    def __init__(self, stamps: Stamps, *, rank: int = 0, ranks: int = 1, shuffle: bool = True):
        self.stamps, self.rank, self.ranks, self.shuffle, self.number = stamps, rank, ranks, shuffle, 0
        self.process = os.getpid()

    def __setstate__(self, state: dict) -> None:
        """In a process that was started anew; one that was forked gets no state, and answers of a bucket never come to it."""
        self.__dict__ |= state | {"process": os.getpid()}

    def set_epoch(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[dict]:
        if self.process != os.getpid() and self.stamps.dataset.place.local is None:
            raise ConfigError(
                f'{self.stamps.dataset.place}: give DataLoader multiprocessing_context="forkserver", or workers wait for ever'
            )
        info = get_worker_info()
        mine, all_of = (info.id, info.num_workers) if info else (0, 1)
        batches = self.stamps.epoch(self.number, worker=self.rank * all_of + mine, workers=self.ranks * all_of, shuffle=self.shuffle)
        for batch in batches:
            yield {name: _tensor(values) for name, values in batch.items()}


def _tensor(values) -> Tensor:
    return values if values.dtype == object else from_numpy(values)
