"""Mines a synthetic set and logs every block that it starts; test_kill runs it in processes that it kills.

python kill_worker.py FOLDER BACKEND RANK WORLD STORE
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.synthetic import clustered
from helip.mining.block_store import BlockStore
from helip.mining.miner import mine
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs

RULES = {"depth": 10, "block_rows": 64, "min_recall": 0.9, "pool_size": 500}


def main() -> None:
    folder, backend, rank, world = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{sys.argv[5]}", rank=rank, world_size=world)
    write = BlockStore.write

    def noted(self: BlockStore, block: int, ranked: object) -> None:
        with open(folder.parent / "computed", "a") as log:
            log.write(f"{block}\n")
        write(self, block, ranked)  # type: ignore[arg-type]

    BlockStore.write = noted  # type: ignore[method-assign]
    mine(
        open_pairs(*clustered(2000, 48, 32, seed=9)),
        folder,
        SearchSettings(backend=backend, **RULES),  # type: ignore[arg-type]
        rank=rank,
        world_size=world,
        barrier=dist.barrier if world > 1 else lambda: None,
        progress=False,
    )


if __name__ == "__main__":
    main()
