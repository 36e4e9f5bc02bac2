"""A prepared set: packed shards that are read lazily, and an index. What `prepare` writes and every verb reads as `--data`.

prepared.json      {"format": 1, "settings": …, "counts": …, "source": …, "sha256": {file: …}}
index.parquet      a row a recording: name, shard, offset and samples (in samples), rate, digest, seconds, source (the file that it
                   comes from), start (in it, seconds), label, speaker, split, fold, text
shard-00000.npy    samples one after the other, int16 (full scale 32767) or float32, mapped into memory and never unpickled
quarantine.csv     what was set aside, each with its reason
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.batches import Ragged, SequenceBatches
from core.datasets import sha256
from core.errors import UserError
from core.quarantine import Quarantine
from speech.audio import ReadConfig, Rejected, Wave, check_samples, digest_of

INDEX, TABLE, FORMAT = "prepared.json", "index.parquet", 1
SHARD_SAMPLES = 1 << 25  # 64 MiB of int16: 35 minutes at 16 kHz
FACTS = ("label", "speaker", "split", "fold", "text")
COLUMNS = ("name", "shard", "offset", "samples", "rate", "digest", "source", "start", *FACTS)
Kind = Literal["int16", "float32"]


def stored(samples: NDArray[np.float32], kind: Kind) -> NDArray:
    """Samples as a shard holds them."""
    if kind == "float32":
        return samples.astype(np.float32)
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def loaded(values: NDArray) -> NDArray[np.float32]:
    """Samples of a shard as float32, full scale 1."""
    scale = np.float32(1 / 32767 if values.dtype == np.int16 else 1)
    return (values.astype(np.float32) * scale).astype(np.float32)


class ShardWriter:
    """Writes recordings into shards of a folder; only one shard is in memory.

    Args:
        limit: samples of a shard; a longer recording makes one of its own.
    """

    def __init__(self, folder: Path, kind: Kind = "int16", limit: int = SHARD_SAMPLES) -> None:
        self.folder, self.kind, self.limit = folder, kind, limit
        self.rows: list[dict[str, Any]] = []
        self.parts: list[NDArray] = []
        self.held, self.number = 0, 0

    def add(self, name: str, samples: NDArray[np.float32], rate: int, facts: dict[str, Any]) -> str:
        """Append a recording; returns the digest of what was stored."""
        values = stored(samples, self.kind)
        if self.held and self.held + len(values) > self.limit:
            self._flush()
        digest = digest_of(loaded(values), rate)
        place = {"name": name, "shard": self.number, "offset": self.held, "samples": len(values), "rate": rate}
        self.rows.append({**place, "digest": digest, **facts})
        self.parts.append(values)
        self.held += len(values)
        return digest

    def _flush(self) -> None:
        np.save(self.folder / shard_name(self.number), np.concatenate(self.parts), allow_pickle=False)
        self.parts, self.held, self.number = [], 0, self.number + 1

    def finish(self, **facts: Any) -> pd.DataFrame:
        """Write the last shard, the index and `prepared.json` with `facts`; returns the index."""
        if self.held:
            self._flush()
        index = pd.DataFrame(self.rows, columns=list(COLUMNS))
        index["seconds"] = index["samples"] / index["rate"]
        index.to_parquet(self.folder / TABLE, index=False)
        files = [TABLE, *(shard_name(i) for i in range(self.number))]
        hashes = {name: sha256(self.folder / name) for name in files}
        whole = {"format": FORMAT, **facts, "sha256": hashes}
        (self.folder / INDEX).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        return index


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


class Prepared:
    """A prepared folder, its shards mapped into memory and read only where they are asked for.

    Args:
        source: takes the hash of the index.

    Raises:
        UserError: a newer format, or files that are missing, cut off or do not fit together.
    """

    def __init__(self, folder: str | Path, source: dict[str, str] | None = None) -> None:
        self.folder = Path(folder)
        try:
            self.facts = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            if self.facts["format"] > FORMAT:
                raise UserError("a newer version prepared this", where=folder, mend="update tacit, or prepare again")
            found = sha256(self.folder / TABLE)
            if self.facts["sha256"][TABLE] != found:
                raise ValueError("the index was changed")
            self.index = pd.read_parquet(self.folder / TABLE)
            shards = [name for name in self.facts["sha256"] if name != TABLE]
            if any(name != shard_name(i) for i, name in enumerate(shards)):
                raise ValueError("shards are missing")
            self.shards = [np.load(self.folder / name, mmap_mode="r", allow_pickle=False) for name in shards]
            ends = self.index["offset"] + self.index["samples"]
            if any(end > len(self.shards[shard]) for shard, end in zip(self.index["shard"], ends, strict=True)):
                raise ValueError("the index reaches beyond a shard")
        except UserError:
            raise
        except Exception as error:  # json, pyarrow and numpy raise a dozen kinds on a damaged file
            detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise UserError(f"the prepared set is damaged: {detail}", where=folder, mend="prepare it again") from error
        if source is not None:
            source[TABLE] = found

    def __len__(self) -> int:
        return len(self.index)

    def samples(self, row: int) -> NDArray[np.float32]:
        """Samples (N,) of a recording."""
        line = self.index.iloc[row]
        return loaded(self.shards[line["shard"]][line["offset"] : line["offset"] + line["samples"]])

    def waves(self, config: ReadConfig, quarantine: Quarantine) -> Iterator[tuple[str, Wave, dict[str, str]]]:
        """(name, wave, facts) of each recording, compared with its digest and with what is usable."""
        for row, line in enumerate(self.index.to_dict("records")):
            name, samples, rate = str(line["name"]), self.samples(row), int(line["rate"])
            digest = digest_of(samples, rate)
            try:
                if digest != line["digest"]:
                    raise Rejected("samples differ from the index")
                if len(samples) < config.min_seconds * rate:
                    raise Rejected("too short", f"{len(samples) / rate:.3f} s")
                if len(samples) > config.max_seconds * rate:
                    raise Rejected("too long", f"{len(samples) / rate:.1f} s")
                check_samples(samples, config)
            except Rejected as rejected:
                quarantine.add(name, rejected.reason, rejected.detail)
                continue
            yield name, Wave(samples, rate, digest), {column: str(line[column]) for column in FACTS}

    def batches(
        self, seconds: float, seed: int = 0, max_seconds: float = 15.0, rows: NDArray | None = None, most: int = 1024
    ) -> SequenceBatches:
        """Waves `{"wave" (B, S), "pad", "index"}` streamed from the shards, at most `seconds` of sound a batch, padding included.

        Args:
            max_seconds: longer recordings are cut to a window at a random start.
            rows: of the index; `index` of a batch counts within them. None for all.
            most: recordings a batch.

        Raises:
            UserError: recordings of several rates, or a bound that two of them exceed.
        """
        index = self.index if rows is None else self.index.iloc[np.asarray(rows)]
        rates = sorted(set(index["rate"]))
        if len(rates) != 1:
            raise UserError(f"{len(rates)} sample rates", where=self.folder, mend="prepare with one --rate")
        starts = np.concatenate([[0], np.cumsum([len(shard) for shard in self.shards])])
        place = starts[index["shard"].to_numpy()] + index["offset"].to_numpy()
        offsets = np.concatenate([[0], np.cumsum(index["samples"].to_numpy())]).astype(np.int64)
        streamed: Any = Joined(self.shards, starts, place, offsets)
        return SequenceBatches(
            Ragged({"wave": streamed}, offsets), most, seed, int(max_seconds * rates[0]),
            max_tokens=int(seconds * rates[0]),
        )  # fmt: skip


class Joined:
    """Recordings of mapped shards as one long array: what core.batches.Ragged takes places from."""

    dtype = np.dtype(np.float32)

    def __init__(self, shards: list[NDArray], starts: NDArray, place: NDArray, offsets: NDArray) -> None:
        self.shards, self.starts, self.place, self.offsets = shards, starts, place, offsets

    def __getitem__(self, at: NDArray) -> NDArray[np.float32]:
        """Values at any places (…) of the recordings put one after the other."""
        row = np.searchsorted(self.offsets, at, "right") - 1
        where = self.place[row] + at - self.offsets[row]
        number = np.searchsorted(self.starts, where, "right") - 1
        out = np.empty(at.shape, np.float32)
        for shard in np.unique(number):
            mask = number == shard
            out[mask] = loaded(self.shards[shard][where[mask] - self.starts[shard]])
        return out
