"""Images and volumes to one size: square pictures, cubic volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from healthcare.readers import Reading, Unreadable


def resized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(H, W) or (H, W, C) in [0, 1] to (C, size, size): box filter downwards, bilinear upwards."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return _varied(_planes(planes, size), size)


def sized(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(C, H, W) to (C, size, size), or (C, D, H, W) to (C, size, size, size); neither proportions nor spacing are kept.

    Raises:
        Unreadable: nothing but one value is left.
    """
    if image.ndim == 3:
        return _varied(_planes(image, size), size)
    channels, depth = image.shape[:2]
    flat = _planes(image.reshape(-1, *image.shape[2:]), size).reshape(channels, depth, size * size)
    cube = _planes(flat, size, size * size)
    return _varied(cube.reshape(channels, size, size, size), size)


def slices(volume: NDArray[np.float32], reading: Reading) -> tuple[NDArray[np.float32], ...]:
    """(C, D, H, W) to its middle slice, or to all that are not constant, each (C, H, W)."""
    if reading.slices == "middle":
        return (volume[:, volume.shape[1] // 2],)
    # most volumes begin and end in air: such slices are no images, and none of them is a fault
    return tuple(plane for plane in np.moveaxis(volume, 1, 0) if plane.min() != plane.max())


def _planes(planes: NDArray[np.float32], height: int, width: int | None = None) -> NDArray[np.float32]:
    """(N, H, W) to (N, height, width)."""
    from PIL import Image

    target = (width or height, height)  # PIL names the width first
    if planes.shape[1:] == target[::-1]:
        return np.ascontiguousarray(planes, dtype=np.float32)
    way = Image.Resampling.BOX if min(planes.shape[1:]) >= min(target) else Image.Resampling.BILINEAR
    made = np.empty((len(planes), *target[::-1]), np.float32)
    for i, plane in enumerate(planes):
        made[i] = np.asarray(Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize(target, way))
    return made


def _varied(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if image.min() == image.max():
        raise Unreadable("constant", f"after resizing to {size} pixels")
    return np.ascontiguousarray(image)
