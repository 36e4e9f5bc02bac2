"""A merchant's description as a few subwords, of a vocabulary that is learned from the texts before the test period."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.codec import FIRST, MISSING, UNKNOWN
from core.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = FIRST  # stands behind the last subword of a description that is not cut; behind it stands 0
ALPHABET = 200  # characters that are known; rarer ones are unknown


@dataclass(frozen=True)
class Words:
    """Byte-pair encoding (Sennrich et al. 2016) of descriptions, in small letters; a number reads `#`, whatever it is: references and
    dates are no words, and would give their payment away.

    Ids: 0 where nothing is (a missing description: everywhere), 1 unknown characters, 2 masked, 3 the end, then the vocabulary.

    Attributes:
        tokenizer: as the library `tokenizers` writes it.
        count: subwords of a description; it is cut behind them.
    """

    tokenizer: dict[str, Any]
    count: int

    @classmethod
    def fit(cls, texts: Iterable[object], *, size: int = 1000, count: int = 8, min_count: int = 5) -> Words:
        """From the texts of all payments, missing ones left out.

        Args:
            size: subwords at most, single characters counted.
            min_count: payments in which a subword of two characters or more stands at least.
        """
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

        made = Tokenizer(models.BPE(unk_token="<unknown>", fuse_unk=True))
        made.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\p{N}+"), "#")]
        )
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=min_count, limit_alphabet=ALPHABET, special_tokens=["<unknown>"], show_progress=False
        )  # fmt: skip
        made.train_from_iterator((str(text) for text in texts if not pd.isna(text)), trainer)  # type: ignore[call-overload]
        return cls(json.loads(made.to_str()), count)

    @cached_property
    def _made(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(json.dumps(self.tokenizer))
        except Exception as error:  # the library raises no narrower one
            raise UserError("the subwords cannot be read", where="codec.text", mend="pretrain again") from error

    @cached_property
    def size(self) -> int:
        """Ids, the reserved ones counted."""
        return self._made.get_vocab_size() + FIRST

    def encode(self, column: ArrayLike) -> NDArray[np.int64]:
        """Ids (N, count)."""
        codes, texts = pd.factorize(pd.Series(column, dtype=object))
        table = np.full(
            (len(texts) + 1, self.count), MISSING, np.int64
        )  # the last row is the missing one's, whose code is -1
        for row, read in enumerate(self._made.encode_batch([str(text) for text in texts], add_special_tokens=False)):
            ids = [*(i + FIRST if i else UNKNOWN for i in read.ids[: self.count]), END][: self.count]
            table[row, : len(ids)] = ids
        return table[codes]

    def json(self) -> dict[str, Any]:
        return {"kind": "words", "count": self.count, "tokenizer": self.tokenizer}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Words:
        """What `json` described; raises UserError where the library cannot read it."""
        made = cls(data["tokenizer"], int(data["count"]))
        if made.count < 1 or made.size <= FIRST:
            raise UserError("the subwords cannot be read", where="codec.text", mend="pretrain again")
        return made
