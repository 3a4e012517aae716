"""Statistics of a data set, by which LeRobot's policies scale what they read."""

from collections.abc import Mapping, Sequence

import numpy as np

from robofuse.demos.features import Feature

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Stats = dict[str, dict[str, np.ndarray]]  # feature → statistic → array


def of_feature(feature: Feature, values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (T, …): by element, and of pictures by channel, (C, 1, 1), of colours as shares of 255.

    NaN and Inf, which faulty sensors give, do not count.
    """
    picture = feature.stored != "values"
    flat = values.reshape(-1, values.shape[-1]) if picture else values.reshape(len(values), -1)
    x = flat.astype(np.float64) / (255.0 if picture and feature.shape[-1] == 3 else 1.0)
    x[~np.isfinite(x)] = np.nan
    x[:, np.isnan(x).all(0)] = 0.0  # nothing can be said of it
    found = {"min": np.nanmin(x, 0), "max": np.nanmax(x, 0), "mean": np.nanmean(x, 0), "std": np.nanstd(x, 0)}
    # not interpolated: only so are the quantiles of parts bounds of those of the whole
    quantiles = np.nanquantile(x, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    found |= dict(zip(QUANTILES, quantiles, strict=True))
    shape = (feature.shape[-1], 1, 1) if picture else feature.shape or (1,)
    return {name: value.reshape(shape) for name, value in found.items()} | {"count": np.array([len(values)])}


def together(parts: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> Stats:
    """Of all episodes from those of each.

    Least, greatest, mean, deviation and count are exact. Quantiles of parts do not tell those of the whole: the outer
    ones are bounds (the least or greatest of the parts), as LeRobot has it, and the median a weighted mean.
    """
    whole: Stats = {}
    for name in parts[0]:
        each = {key: np.stack([part[name][key] for part in parts]) for key in parts[0][name]}
        count = each["count"].sum(0)
        weight = (each["count"] / count).reshape(-1, *[1] * (each["mean"].ndim - 1))
        mean = (weight * each["mean"]).sum(0)
        spread = (weight * (each["std"] ** 2 + (each["mean"] - mean) ** 2)).sum(0)
        found = {"min": each["min"].min(0), "max": each["max"].max(0), "mean": mean, "std": np.sqrt(spread)}
        for key, share in QUANTILES.items():
            middle = (weight * each[key]).sum(0)
            found[key] = middle if share == 0.5 else each[key].min(0) if share < 0.5 else each[key].max(0)
        whole[name] = found | {"count": count}
    return whole
