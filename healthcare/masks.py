"""Images with a mask each, of whatever sizes, from known sets, a manifest or folders. Bad pairs go to quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.datasets import Known, locate, verify
from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.audit import in_two_splits
from healthcare.data import KNOWN as IMAGES
from healthcare.readers import Limits, Unreadable

DRIVE = Known(
    folder="healthcare/drive",
    sha256={"drive.tar": "12a4647452196dd0b7509358d10e260103c24eee5a8ad403b31e2d6aa8f03eaa"},
    source="DRIVE (Staal et al., IEEE TMI 23(4), 2004), 40 fundus images with vessel masks and fields of view, as one tar of PNG",
    licence="free for research with citation",
)
KNOWN = {"drive": DRIVE, "dsb2018_nuclei_256": IMAGES["dsb2018_nuclei_256"]}
LEAST = 16  # pixels a side
BRIGHTEST = 99.98  # percentile of an image's pixels that counts as its brightest; one pixel in 5,000 may be a hot one
VAL_SHARE, TEST_SHARE = 10, 20  # per cent of patients, where the data names no split


@dataclass(frozen=True)
class MaskReading:
    """How files become images and masks; saved with a run, so that new images are read the same way.

    Attributes:
        channel: what is seen of a colour image: all of it, its luminance, or its green channel, which shows vessels best.
        contrast: `clahe` evens out contrast over the image (Zuiderveld 1994); `root` is for fluorescent samples,
            whose exposure says nothing: the brightest pixels become 1, then square roots bring out the fainter nuclei.
        objects: masks number objects from 1; else they mark one region by one value.
        limits: sizes above which a file is set aside undecoded.
    """

    channel: Literal["all", "grey", "green"] = "all"
    contrast: Literal["none", "clahe", "root"] = "none"
    objects: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class MaskedImages:
    """N usable images, each of its own size (C, H, W), and what was set aside.

    Attributes:
        images: (C, H, W) in [0, 1] each.
        masks: (H, W) each: 0 outside; 1 inside, or the number of the object. None: not annotated.
        fields: (H, W) each, the field of view: pixels outside it are neither learned from nor judged. None: all of the image.
        seconds: as `masks`, by a second observer; None where there is none.
        split: (N,) "train", "val" or "test".
        patient: (N,) codes that replace the ids of the data; every image its own where the data names none.
        where: (N,) for tables made for the data's owner, never for reports.
        objects: whether the masks number objects.
        quarantine: pairs set aside, each with its reason.
        notes: what reading decided by itself, one sentence each.
    """

    images: list[NDArray[np.float32]]
    masks: list[NDArray[np.int32] | None]
    fields: list[NDArray[np.bool_] | None]
    seconds: list[NDArray[np.int32] | None]
    split: NDArray[np.str_]
    patient: NDArray[np.int64]
    where: NDArray[np.object_]
    objects: bool = False
    quarantine: Quarantine = field(default_factory=Quarantine)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return len(self.images[0]) if self.images else 1

    def rows(self, split: str, annotated: bool = False) -> NDArray[np.int64]:
        """Row numbers of one split; with `annotated`, only of images that have a mask."""
        known = np.array([mask is not None for mask in self.masks], bool)
        return np.flatnonzero((self.split == split) & (known | (not annotated)))

    def select(self, rows: NDArray) -> MaskedImages:
        """The same with only these rows."""
        picked = [int(row) for row in rows]
        return replace(
            self, images=[self.images[i] for i in picked], masks=[self.masks[i] for i in picked],
            fields=[self.fields[i] for i in picked], seconds=[self.seconds[i] for i in picked],
            split=self.split[rows], patient=self.patient[rows], where=self.where[rows],
        )  # fmt: skip

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Whom the images belong to (N,), where some patient has several: what intervals draw whole; else None."""
        return self.patient if len(np.unique(self.patient)) < len(self) else None

    def torn(self) -> int:
        """How many patients occur in more than one split."""
        return in_two_splits(self.patient, self.split)

    def inside(self, row: int) -> NDArray[np.bool_]:
        """The field of view (H, W) of an image."""
        seen = self.fields[row]
        return np.ones(self.images[row].shape[1:], bool) if seen is None else seen

    def sha256(self) -> str:
        """Hash of images, masks and splits: a report names its data by this."""
        digest = hashlib.sha256("".join(self.split.tolist()).encode())
        for image, mask in zip(self.images, self.masks, strict=True):
            digest.update(np.ascontiguousarray(image).tobytes())
            digest.update(b"" if mask is None else np.ascontiguousarray(mask).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Pair:
    """One image with its mask before they are read.

    Attributes:
        image: gives (H, W) or (H, W, 3) in [0, 1].
        mask, field, second: give (H, W) whole numbers; None where there is none.
    """

    where: str
    image: Callable[[], NDArray[np.float32]]
    mask: Callable[[], NDArray] | None
    split: str | None
    patient: str | None
    field: Callable[[], NDArray] | None = None
    second: Callable[[], NDArray] | None = None


def read_masks(data: str | Path, reading: MaskReading | None = None, masks: bool = True) -> MaskedImages:
    """Usable images of `data` with their masks.

    Args:
        data: a manifest csv with the columns `path,mask` (and `patient_id`, `split`, where there are), a folder that holds
            `images/` and `masks/` with equal file names (by split or not), or a known name (`drive`, `dsb2018_nuclei_256`).
        reading: channels, contrast and limits.
        masks: False leaves them unread: a pretext needs none.

    Where no split is named, 70/10/20 % of the patients become train/val/test by a hash of their id.

    Raises:
        UserError: nothing there, another shape of data, nothing usable, or a patient in two splits.
    """
    images = scan_masks(data, reading, masks)
    if not len(images):
        raise UserError(
            f"no usable pair of image and mask; {images.quarantine.summary()}", where=data, mend="see `check`"
        )
    if torn := images.torn():
        raise UserError(
            f"{torn} patients occur in more than one split", where=data,
            mend="give each patient one split, or leave the split column out",
        )  # fmt: skip
    return images


def scan_masks(data: str | Path, reading: MaskReading | None = None, masks: bool = True) -> MaskedImages:
    """As `read_masks`, but an empty or leaking data set is returned instead of raised."""
    from healthcare.mask_sources import pairs_of

    reading = reading or MaskReading()
    quarantine = Quarantine()
    path = locate(data, KNOWN)
    if str(data) in KNOWN:
        verify(path, KNOWN[str(data)])
    pairs, objects = pairs_of(path, reading, quarantine)
    pairs = pairs if masks else [replace(pair, mask=None, second=None) for pair in pairs]
    return _read(pairs, replace(reading, objects=objects), quarantine)


def read_plain(data: str | Path, reading: MaskReading) -> MaskedImages:
    """Every usable image of `data`, to be segmented: masks and splits, where there are, play no part.

    Raises:
        UserError: nothing there, or nothing usable.
    """
    from healthcare.mask_sources import images_of

    quarantine = Quarantine()
    pairs = images_of(locate(data, KNOWN), reading, quarantine)
    images = _read(pairs, reading, quarantine)
    if not len(images):
        raise UserError(f"no usable image; {quarantine.summary()}", where=data, mend="give readable images")
    return images


def has_masks(data: str | Path) -> bool:
    """Whether `data` is a set that `read_masks` is meant for; the nuclei also serve as fields of a label, and are not."""
    from healthcare.mask_sources import looks_masked

    return str(data) == "drive" or looks_masked(locate(data, {**IMAGES, **KNOWN}))


def from_arrays(
    images: list[NDArray] | NDArray, masks: list[NDArray] | NDArray | None = None, reading: MaskReading | None = None
) -> MaskedImages:
    """Images (H, W) or (H, W, 3) and masks (H, W) held in memory, all of them for training.

    Raises:
        UserError: an image or a mask that is not usable; its number is told.
    """
    from healthcare.data import plain

    if masks is not None and len(masks) != len(images):
        raise UserError(f"{len(images)} images but {len(masks)} masks", where="masks", mend="give one mask an image")
    pairs = [
        Pair(f"image {i}", lambda i=i: plain(images[i]), None if masks is None else lambda i=i: np.asarray(masks[i]), "train", None)  # type: ignore[misc]
        for i in range(len(images))
    ]  # fmt: skip
    found = _read(pairs, reading or MaskReading(), Quarantine())
    if len(found.quarantine) or not len(found):
        where, reason, detail = (*found.quarantine.records, ("images", "none given", ""))[0]
        raise UserError(f"{reason} {detail}".strip(), where=where, mend="leave it out, or mend it")
    return found


def _read(pairs: list[Pair], reading: MaskReading, quarantine: Quarantine) -> MaskedImages:
    kept: list[Pair] = []
    images: list[NDArray[np.float32]] = []
    others: dict[str, list] = {"masks": [], "fields": [], "seconds": []}
    for pair in pairs:
        try:
            image = seen(pair.image(), reading)
            shape = image.shape[1:]
            mask = None if pair.mask is None else labels_of(pair.mask(), shape, reading.objects, "mask")
            view = None if pair.field is None else labels_of(pair.field(), shape, False, "field of view") > 0
            second = None if pair.second is None else labels_of(pair.second(), shape, reading.objects, "second mask")
            if view is not None and not view.any():
                raise Unreadable("empty field of view")
        except Unreadable as error:
            quarantine.add(pair.where, error.reason, error.detail)
            continue
        kept.append(pair)
        images.append(image)
        for name, value in zip(others, (mask, view, second), strict=True):
            others[name].append(value)
    usual = max(sorted({len(i) for i in images}), key=[len(i) for i in images].count) if images else 1
    for pair, image in zip(kept, images, strict=True):
        if len(image) != usual:
            quarantine.add(pair.where, "other number of channels", f"{len(image)}, not {usual}")
    keep = [i for i, image in enumerate(images) if len(image) == usual]
    named = any(kept[i].patient is not None for i in keep)
    groups = [str(kept[i].patient) if named else f"image {kept[i].where}" for i in keep]
    split, notes = _split([kept[i].split for i in keep], groups)
    patient = np.unique(np.array(groups, dtype=str), return_inverse=True)[1].astype(np.int64)
    where = np.array([kept[i].where for i in keep], dtype=object)
    lists = {name: [values[i] for i in keep] for name, values in others.items()}
    return MaskedImages(
        [images[i] for i in keep], **lists, split=split, patient=patient, where=where, objects=reading.objects,
        quarantine=quarantine, notes=notes,
    )  # fmt: skip


def seen(image: NDArray[np.float32], reading: MaskReading) -> NDArray[np.float32]:
    """(H, W) or (H, W, 3) in [0, 1] to (C, H, W), as the reading wants it.

    Raises:
        Unreadable: smaller than 16 pixels a side.
    """
    if min(image.shape[:2]) < LEAST:
        raise Unreadable("too small", f"{image.shape[1]} × {image.shape[0]} pixels")
    planes = image[..., None] if image.ndim == 2 else image
    if planes.shape[2] == 3 and reading.channel != "all":
        weights = {"grey": (0.299, 0.587, 0.114), "green": (0.0, 1.0, 0.0)}[reading.channel]
        planes = (planes @ np.array(weights, np.float32))[..., None]
    if reading.contrast == "clahe":
        from skimage.exposure import equalize_adapthist

        planes = np.stack([equalize_adapthist(planes[..., c], clip_limit=0.01) for c in range(planes.shape[2])], -1)
    if reading.contrast == "root":
        # Nuclei cover a few per cent of an image: a lower percentile would lie inside them, and all above it would be one plateau,
        # without the seams between nuclei that touch.
        brightest = float(np.percentile(planes, BRIGHTEST)) or float(planes.max())
        planes = np.sqrt(np.clip(planes, 0, brightest) / brightest)
    return np.ascontiguousarray(np.clip(planes, 0, 1).transpose(2, 0, 1), dtype=np.float32)


def labels_of(mask: NDArray, shape: tuple[int, ...], objects: bool, name: str) -> NDArray[np.int32]:
    """A mask's values as 0 and 1, or as numbers of objects without gaps.

    Raises:
        Unreadable: another size than its image, values that are not whole, or more of them than a region has.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] in (3, 4):
        colours = mask[..., :3]
        if not (colours == colours[..., :1]).all():
            raise Unreadable(f"coloured {name}", "give one channel of numbers")
        mask = colours[..., 0]
    if mask.shape != tuple(shape):
        size = " × ".join(map(str, mask.shape[::-1]))
        raise Unreadable(f"{name} of another size than its image", f"{size}, not {shape[1]} × {shape[0]}")
    if mask.dtype == bool:
        mask = mask.astype(np.uint8)
    if not np.issubdtype(mask.dtype, np.number) or (
        np.issubdtype(mask.dtype, np.floating) and not (np.isfinite(mask).all() and (mask == np.round(mask)).all())
    ):
        raise Unreadable(f"{name} with values that are not whole numbers", f"of type {mask.dtype}")
    if mask.min() < 0:
        raise Unreadable(f"{name} with values below 0", f"{int(mask.min())}")
    values, dense = np.unique(mask, return_inverse=True)
    marks = values[values > 0]
    if not objects and len(marks) > 1:
        raise Unreadable(
            f"{name} with more than two values",
            f"{len(values)}: a region is marked by one value; objects are numbered with reading.objects=true",
        )
    return (dense.reshape(mask.shape) + (0 if len(values) and values[0] == 0 else 1)).astype(np.int32)


def _split(given: list[str | None], groups: list[str]) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    split = np.array([name or "" for name in given], dtype="<U5")
    unnamed = int((split == "").sum())
    if not unnamed:
        return split, ()
    hashed = [int.from_bytes(hashlib.blake2b(g.encode(), digest_size=8).digest(), "big") % 100 for g in groups]
    places = ["val" if h < VAL_SHARE else "test" if h < VAL_SHARE + TEST_SHARE else "train" for h in hashed]
    note = f"{unnamed} images name no split: patients are divided 70/10/20 % by a hash of their id"
    return np.where(split == "", np.array(places, dtype="<U5"), split), (note,)
