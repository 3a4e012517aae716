"""Depth in colours, for people."""

import cv2
import numpy as np


def depth_limits(millimetres: np.ndarray) -> tuple[float, float]:
    """Nearest and farthest depth [mm] of an image uint16 (H, W), less 1 % at either end; (0, 1) if nothing is seen."""
    valid = millimetres[millimetres > 0]
    nearest, farthest = np.percentile(valid, (1, 99)) if valid.size else (0.0, 1.0)
    return float(nearest), float(farthest)


def depth_colours(millimetres: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Depth in Google's Turbo colours: red is nearest, blue farthest, black no return.

    Args:
        millimetres: uint16 (H, W), 0 = no return.
        limits: the depths that are shown as red and blue [mm]; by default those of this image.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    nearest, farthest = limits or depth_limits(millimetres)
    share = np.clip((farthest - millimetres) / max(farthest - nearest, 1.0), 0.0, 1.0)
    coloured = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where((millimetres > 0)[..., None], coloured, 0).astype(np.uint8)
