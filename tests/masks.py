"""Laws of dropout, and the masks that they draw."""

import torch

from robofuse.dropout import Dropout, Empirical, Groups, Independent, LoseOne, Markov, Masker, Rates, Subsets

KEYS = ("depth", "force", "proprio", "rgb")
LAWS = (
    Independent(0.4),
    Independent({"rgb": 0.5, "proprio": 1.0}),
    Subsets(),
    Empirical({(): 2, ("rgb",): 1, ("depth", "rgb"): 3, ("depth", "force", "proprio", "rgb"): 1}),
    LoseOne(0.6),
    LoseOne(groups=(("depth", "rgb"),)),
    Groups(p=0.5),
    Groups((("rgb", "proprio"), ("force",)), {"rgb": 0.6, "depth": 0.9}),
    Rates({"rgb": 0.3, "force": 0.2}),
)
EVERY = ("episode", "outage", "step")
PLANS = [Dropout(law, every, outage_steps=3) for law in LAWS for every in EVERY]
PLANS += [Dropout(Markov(0.1, 0.3)), Dropout(Markov(0.6, 0.1, (("rgb", "depth"),)), full=0.2)]

SHARED = [
    Dropout(Independent(0.5), shared=True, outage_steps=3, full=0.2),
    Dropout(Subsets(), "step", shared=True),
    Dropout(Markov(0.2, 0.3), shared=True),
]


def law_and_pace(plan):
    """The id of a test."""
    return f"{type(plan.law).__name__}-{plan.every}{'-shared' * plan.shared}"


def masks_of(plan, episodes, steps, seed=0, keys=KEYS):
    """Masks (steps + 1, N, M) of these episodes, one world each."""
    masker = Masker(plan, keys, len(episodes), seed)
    masker.start(torch.arange(len(episodes)), torch.as_tensor(episodes))
    masks = [masker.available.clone()]
    for _ in range(steps):
        masker.step()
        masks.append(masker.available.clone())
    return torch.stack(masks)


def hidden_share(plan, episodes=20_000, steps=0, keys=KEYS):
    return 1.0 - masks_of(plan, range(episodes), steps, keys=keys).double().mean(dim=(0, 1))
