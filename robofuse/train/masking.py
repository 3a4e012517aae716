"""From options to the law of dropout, and from a log to its rates."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from robofuse.checks import parse_numbers, parse_pairs
from robofuse.demos.reader import read as read_demos
from robofuse.dropout import (
    Constant,
    Cosine,
    Dropout,
    Empirical,
    Groups,
    Independent,
    Law,
    Linear,
    Log,
    LoseOne,
    Markov,
    Rates,
    Subsets,
    as_log,
    read_log,
)
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE
from robofuse.train.config import Masking

FULL = 0.3  # share of the episodes in which nothing is masked
_MEASURED = ("rates", "empirical", "markov")  # laws that a log can tell
_NONE = "none"  # in --rates, where nothing is masked


def make_dropout(masking: Masking) -> Dropout | None:
    """The sensor dropout that the options describe; None for none.

    Raises:
        InputError: options that contradict each other, or a probability out of range.
    """
    masking = spell_out_rates(masking)
    if masking.dropout == "none":
        return None
    rise = {"warmup": masking.warmup, "until": masking.until}
    schedule = {"constant": Constant, "linear": partial(Linear, **rise), "cosine": partial(Cosine, **rise)}
    law = _law(masking)
    full = 0.0 if masking.rates or (masking.shared and law.stepwise) else FULL
    return Dropout(
        law=law,
        every=masking.every,
        schedule=schedule[masking.schedule](),
        full=full if masking.full is None else masking.full,
        outage_steps=masking.outage_steps,
        shared=masking.shared,
    )


def _law(masking: Masking) -> Law:
    if masking.dropout == "rates":
        return Rates(parse_numbers("--rates", "rgb=0.1", masking.rates))
    if masking.dropout == "empirical":
        sets = parse_numbers("--rates", "depth+rgb=8 or none=90", masking.rates)
        return Empirical({() if lost == _NONE else tuple(lost.split("+")): often for lost, often in sets.items()})
    if masking.dropout == "one":
        return LoseOne(masking.p)
    if masking.dropout == "subsets":
        return Subsets()
    if masking.dropout == "markov" and masking.rates:
        return _measured_markov(masking.rates)
    if masking.dropout == "markov":
        return Markov(*_chain(masking.p, masking.outage_steps))
    return Groups(p=masking.p) if masking.dropout == "groups" else Independent(masking.p)


def _measured_markov(texts: Sequence[str]) -> Markov:
    """The law of outages with a share of the time and a mean length for each sensor."""
    fail, recover = dict[str, float](), dict[str, float]()
    for key, text in parse_pairs("--rates", "rgb=0.1/35", texts).items():
        try:
            share, steps = map(float, text.split("/"))
        except ValueError:
            raise InputError(f"--rates of markov takes entries such as rgb=0.1/35, got {key}={text}") from None
        fail[key], recover[key] = _chain(share, steps)
    return Markov(fail, recover)


def _chain(share: float, steps: float) -> tuple[float, float]:
    """Rates of failing and recovering with which outages last so many steps and fill this share of the time."""
    if not 0.0 <= share < 1.0 or not steps >= 1.0:
        raise InputError(f"markov needs p in [0, 1) and outages of at least 1 step, got p={share} and {steps} steps")
    fail = share / (steps * (1.0 - share))
    if fail > 1.0 + 1e-9:
        raise InputError(
            f"outages of {steps:g} steps cannot fill {share:.0%} of the time; give longer outages, or a smaller p"
        )
    return min(fail, 1.0), 1.0 / steps


def spell_out_rates(masking: Masking) -> Masking:
    """Replaces the log `rates_from` by the `rates` in it, which the run and its folder may outlive.

    Raises:
        InputError: a law without rates; both rates and a log; a log that cannot be read, or does not tell them.
    """
    if masking.dropout not in _MEASURED:
        if masking.rates or masking.rates_from:
            raise InputError(f"--rates and --rates-from are for --dropout {', '.join(_MEASURED)}; the others take --p")
        return masking
    if masking.rates_from is None:
        if masking.dropout != "markov" and not masking.rates:
            raise InputError(f"--dropout {masking.dropout} needs --rates, or --rates-from with a log")
        return masking
    if masking.rates:
        raise InputError("give --rates or --rates-from, not both: the log says the rates")
    available, keys, starts = _read_log(Path(masking.rates_from).expanduser())
    if masking.dropout == "rates":
        told = Rates.from_log(available, keys).rates
    elif masking.dropout == "empirical":
        told = {"+".join(lost) or _NONE: n for lost, n in Empirical.from_log(available, keys).missing.items()}
    else:
        law = Markov.fit(available, keys, starts)
        rates = zip(keys, law.bind(keys).rates, strict=True)
        told = {key: f"{share!r}/{1.0 / law.recover[key]!r}" for key, share in rates}  # pyright: ignore[reportIndexIssue]
    return replace(masking, rates=tuple(f"{key}={value}" for key, value in told.items()), rates_from=None)


def _read_log(path: Path) -> Log:
    if not path.is_dir():
        return read_log(path)
    demos = read_demos(path)
    starts = torch.cat([torch.arange(len(episode)) == 0 for episode in demos.episodes])
    available = torch.cat([episode.observation[AVAILABLE] for episode in demos.episodes])
    return as_log(available, [sensor.key for sensor in demos.sensors], starts)
