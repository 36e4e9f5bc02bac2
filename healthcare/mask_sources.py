"""The shapes that images with masks come in: DRIVE's tar, an npz of nuclei, a manifest, folders. Each becomes pairs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from core.quarantine import Quarantine
from healthcare.data import plain
from healthcare.manifest import SPLIT_NAMES as SPLITS
from healthcare.masks import MaskReading, Pair
from healthcare.pictures import FORMATS
from healthcare.readers import PICTURES, SUFFIXES, Limits, Unreadable, read_image, suffix

ENDS = ("_mask", "_masks", "_label", "_labels", "_seg")  # what a mask's name may add to its image's
NPZ = ("images", "instance_masks", "split")
MEND = "give a manifest with a mask column, or a folder with images/ and masks/"


def pairs_of(path: Path, reading: MaskReading, quarantine: Quarantine) -> tuple[list[Pair], bool]:
    """Pairs of a file or folder, and whether their masks number objects.

    Raises:
        UserError: none of the shapes.
    """
    file = _single(path)
    if file is None:
        return _folders(path, reading, quarantine), reading.objects
    if file.suffix == ".tar":
        return _drive(file, reading.limits), False
    if file.suffix == ".npz":
        return _nuclei(file), True
    return _manifest(file, reading, quarantine), reading.objects


def images_of(path: Path, reading: MaskReading, quarantine: Quarantine) -> list[Pair]:
    """Images alone: of any shape of `pairs_of`, or of a folder of images, or one image file."""
    if path.is_file() and suffix(path) in SUFFIXES:
        return [Pair(path.name, partial(read_colour, path, reading.limits), None, "test", None)]
    file = _single(path)
    if file is None and not _pairs_folders(path):
        return [
            Pair(str(f.relative_to(path)), partial(_contained, read_colour, f, path.resolve(), reading.limits), None, "test", None)
            for f in _files(path)
        ]  # fmt: skip
    if file is not None and file.suffix == ".csv":
        pairs = _manifest(file, reading, quarantine, masks=False)
    elif file is None:
        pairs = [p for _, images, _ in _pairs_folders(path) for p in _plain_folder(images, path, reading)]
    else:
        pairs, _ = pairs_of(path, reading, quarantine)
    return [Pair(p.where, p.image, None, "test", None, p.field) for p in pairs]


def looks_masked(path: Path) -> bool:
    """Whether a path holds masks, seen from names alone: a tar, folders of masks, a manifest with a mask column."""
    try:
        file = _single(path)
    except UserError:
        return False
    if file is None:
        return bool(_pairs_folders(path))
    if file.suffix == ".csv":
        try:
            with file.open(encoding="utf-8") as lines:
                return "mask" in [name.strip().strip('"').lower() for name in lines.readline().split(",")]
        except (OSError, UnicodeDecodeError):
            return False
    return file.suffix == ".tar"


def _single(path: Path) -> Path | None:
    """The one file that describes the data; None for folders of images and masks."""
    if path.is_dir():
        if (path / "manifest.csv").is_file():
            return path / "manifest.csv"
        found = sorted([*path.glob("*.tar"), *path.glob("*.npz")])
        if len(found) > 1:
            raise UserError(f"{len(found)} archives in one folder", where=path, mend="name the one that is meant")
        return found[0] if found else None
    if path.suffix.lower() in (".tar", ".npz", ".csv"):
        return path
    raise UserError("not a data set of images with masks", where=path, mend=MEND)


def _drive(path: Path, limits: Limits) -> list[Pair]:
    """`{train,test}/{images,1st_manual,2nd_manual,mask}/NN_*.png` of a tar; `mask` is the field of view. Nothing is unpacked on disk."""
    files: dict[tuple[str, str, str], bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) != 3 or parts[0] not in SPLITS or member.size > limits.bytes:
                    continue
                handle = archive.extractfile(member)
                if handle is not None:
                    files[parts[0], parts[1], parts[2].partition("_")[0]] = handle.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError("not a readable tar", where=path, mend="get it again") from error
    places = sorted((split, number) for split, kind, number in files if kind == "images")
    if not places:
        raise UserError("no images of DRIVE's names in the tar", where=path, mend=MEND)

    def picture(split: str, kind: str, number: str) -> Callable[[], NDArray] | None:
        content = files.get((split, kind, number))
        return None if content is None else partial(_decoded, content, limits)

    pairs = []
    for split, number in places:
        made = {kind: picture(split, kind, number) for kind in ("1st_manual", "mask", "2nd_manual")}
        image = partial(_scaled, files[split, "images", number], limits)
        pairs.append(Pair(f"{split} {number}", image, made["1st_manual"], SPLITS[split], None, made["mask"], made["2nd_manual"]))  # fmt: skip
    return pairs


def _nuclei(path: Path) -> list[Pair]:
    """Arrays `images` (N, H, W) or (N, H, W, 3), `instance_masks` (N, H, W) and `split` (N,)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in NPZ if name not in arrays.files]
            found = {name: arrays[name] for name in NPZ if name in arrays.files}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on a damaged file
        raise UserError(f"not a readable npz: {type(error).__name__}", where=path, mend="give plain arrays") from error
    if missing:
        raise UserError(f"no array {', '.join(missing)}", where=path, mend=f"give {', '.join(NPZ)}")
    images, masks, split = found["images"], found["instance_masks"], found["split"].astype(str)
    if images.ndim not in (3, 4) or masks.shape != images.shape[:3] or split.shape != images.shape[:1]:
        raise UserError(
            f"images {images.shape}, instance_masks {masks.shape}, split {split.shape}", where=path,
            mend="give (N, H, W), (N, H, W) and (N,)",
        )  # fmt: skip
    if not set(split) <= set(SPLITS):
        raise UserError(f"splits {sorted(set(split))[:4]}", where=path, mend="use train, val and test")
    return [
        Pair(f"row {row}", partial(plain, images[row]), partial(np.asarray, masks[row]), SPLITS[split[row]], None)
        for row in range(len(images))
    ]


def _manifest(path: Path, reading: MaskReading, quarantine: Quarantine, masks: bool = True) -> list[Pair]:
    """Rows of a csv; paths are relative to its folder and may not leave it. Without a mask, an image is not annotated."""
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8", keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError("not a readable csv", where=path, mend="give a UTF-8 csv with a header row") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    wanted = ["path", "mask"] if masks else ["path"]
    if not set(wanted) <= set(table.columns):
        raise UserError(f"columns {list(table.columns)[:8]} lack {' or '.join(wanted)}", where=path, mend="give path,mask,patient_id,split")  # fmt: skip
    root = path.parent.resolve()
    named = "patient_id" in table and bool((table["patient_id"].str.strip() != "").any())
    pairs, listed = [], set()
    for row, line in enumerate(table.to_dict("records")):
        where = f"row {row + 2}"  # as a spreadsheet counts, the header being row 1
        cells = {str(name): str(value).strip() for name, value in line.items()}
        split = SPLITS.get(cells.get("split", "").lower())
        if not cells["path"]:
            quarantine.add(where, "no path")
        elif cells["path"] in listed:
            quarantine.add(where, "path listed twice")
        elif cells.get("split") and split is None:
            quarantine.add(where, "unknown split", cells["split"][:40])
        elif named and not cells["patient_id"]:
            quarantine.add(where, "no patient id")
        else:
            listed.add(cells["path"])
            load = partial(_contained, read_colour, root / cells["path"], root, reading.limits)
            name = cells.get("mask") if masks else None
            mask = partial(_contained, read_mask, root / name, root, reading.limits) if name else None
            pairs.append(Pair(where, load, mask, split, cells["patient_id"] if named else None))
    return pairs


def _folders(root: Path, reading: MaskReading, quarantine: Quarantine) -> list[Pair]:
    """`[split/]images/NAME.png` with `[split/]masks/NAME.png`, or NAME_mask.png; of any image format."""
    found = _pairs_folders(root)
    if not found:
        raise UserError("no folders images/ and masks/", where=root, mend=MEND)
    pairs = []
    for split, images, masks in found:
        by_name = {_bare(file): file for file in _files(masks)}
        for file in _files(images):
            mask = by_name.pop(file.relative_to(images).with_suffix("").as_posix(), None)
            where = str(file.relative_to(root))
            if mask is None:
                quarantine.add(where, "no mask of that name")
                continue
            load = partial(_contained, read_colour, file, root.resolve(), reading.limits)
            pairs.append(
                Pair(where, load, partial(_contained, read_mask, mask, root.resolve(), reading.limits), split, None)
            )
        for mask in by_name.values():
            quarantine.add(str(mask.relative_to(root)), "mask without an image")
    return pairs


def _bare(mask: Path) -> str:
    inner = mask.parts[len(mask.parts) - 1 - mask.parts[::-1].index("masks") + 1 :]
    name = Path(*inner).with_suffix("").as_posix()
    return next((name.removesuffix(end) for end in ENDS if name.endswith(end)), name)


def _pairs_folders(root: Path) -> list[tuple[str | None, Path, Path]]:
    """(split, images, masks) of each place that holds both."""
    places = [(None, root), *((SPLITS.get(f.name.lower()), f) for f in sorted(root.iterdir()) if f.is_dir())]
    return [
        (split, place / "images", place / "masks")
        for split, place in places
        if (place == root or split) and (place / "images").is_dir() and (place / "masks").is_dir()
    ]


def _plain_folder(images: Path, root: Path, reading: MaskReading) -> list[Pair]:
    return [
        Pair(str(f.relative_to(root)), partial(_contained, read_colour, f, root.resolve(), reading.limits), None, "test", None)
        for f in _files(images)
    ]  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".") and suffix(f) in SUFFIXES)


def _contained(read: Callable[[Path, Limits], NDArray], path: Path, root: Path, limits: Limits) -> NDArray:
    """Read a file that lies in `root`, links followed: a manifest must not reach other people's files."""
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a zero byte in the name
        raise Unreadable("unreadable", type(error).__name__) from error
    if not inside:
        raise Unreadable("outside the data folder")
    return read(path, limits)


def read_colour(path: Path, limits: Limits) -> NDArray[np.float32]:
    """(H, W) or, of a colour picture, (H, W, 3), in [0, 1]: what `read_image` gives, but with the colours.

    Raises:
        Unreadable: as `read_image`.
    """
    if suffix(path) in PICTURES and _usable(path, limits):
        try:
            from PIL import Image

            with Image.open(path, formats=FORMATS) as header:
                colour = header.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") and header.width * header.height <= limits.pixels  # fmt: skip
        except Exception:  # whatever is wrong, read_image says it in its own words
            colour = False
        if colour:
            return _scaled(path.read_bytes(), limits)
    return read_image(path, limits)


def read_mask(path: Path, limits: Limits) -> NDArray:
    """A mask's values as they are stored: of a picture (H, W) or (H, W, 3), or of an .npy.

    Raises:
        Unreadable: missing, empty, too large, another format, or broken.
    """
    if not path.is_file():
        raise Unreadable("missing mask")
    if not _usable(path, limits):
        raise Unreadable("unusable mask", f"{path.stat().st_size} bytes")
    if suffix(path) == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy raises several kinds
            raise Unreadable("unreadable mask", type(error).__name__) from error
        if array.size > limits.pixels:
            raise Unreadable("too large", f"{array.size} pixels")
        return np.array(array)
    if suffix(path) not in PICTURES:
        raise Unreadable("unknown format of a mask", suffix(path))
    return _decoded(path.read_bytes(), limits)


def _usable(path: Path, limits: Limits) -> bool:
    return path.is_file() and 0 < path.stat().st_size <= limits.bytes


def _scaled(content: bytes, limits: Limits) -> NDArray[np.float32]:
    """A colour or grey picture in [0, 1]."""
    return plain(_decoded(content, limits, colours=True))


def _decoded(content: bytes, limits: Limits, colours: bool = False) -> NDArray:
    """Values of a picture, its size checked first; with `colours` as RGB, else as stored (a palette's numbers)."""
    from PIL import Image

    try:
        handle: IO[bytes] = io.BytesIO(content)
        with Image.open(handle, formats=FORMATS) as image:
            if image.width * image.height > limits.pixels:
                raise Unreadable("too large", f"{image.width * image.height} pixels")
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise Unreadable("not a 2-D image", f"{frames} frames")
            wanted = image.convert("RGB") if colours and image.mode not in ("1", "L", "I", "F", "I;16") else image
            array = np.asarray(wanted)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable("too large", "decompression bomb") from error
    except Exception as error:  # PIL raises whatever its decoders raise
        raise Unreadable("unreadable", f"{type(error).__name__} {str(error)[:80]}") from error
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 2 else array  # grey with opacity
