"""Run by torchrun in test_train_ranks.py: a training whose ranks write down what they ended with.

python -m torch.distributed.run --standalone --nproc-per-node 2 ranked.py OUT {own,same} TRAIN_OPTIONS...
"""

import sys
from pathlib import Path

from safetensors.torch import save_file

from robofuse.cli import main
from robofuse.ranks import Ranks
from robofuse.train.training import Training

out, mode = Path(sys.argv[1]), sys.argv[2]
close = Training.close


def dump(training):
    """As `close`, but first the weights, and the episodes that the worlds are in."""
    weights = {f"policy/{name}": x.clone() for name, x in training.model.policy.state_dict().items()}
    found = weights | {"episode": training.env.world.episode}
    save_file(found, out / f"{training.ranks.rank}-of-{training.ranks.count}.safetensors")
    close(training)


Training.close = dump
if mode == "same":  # all ranks see the same scenes and draw the same random numbers
    Ranks.first_episode = property(lambda ranks: 0)
    Training._own_random_numbers = lambda training: None
sys.exit(main(["train", *sys.argv[3:]]))
