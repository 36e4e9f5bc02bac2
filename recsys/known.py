"""The public sets that are known by name: where each lies under `TACIT_DATA`, its files' checksums, its source and licence."""

from __future__ import annotations

from core.datasets import Known

_AMAZON = "Amazon reviews 2014, for research; the preparation states no licence"
_MOVIELENS = "MovieLens (GroupLens): research use; redistribution and commercial use need GroupLens's permission"
_GCE = "github.com/CCIIPLab/GCE-GNN"
_UNSTATED = "for research; the preparation states no licence"


def _sessions(name: str, train: str, test: str, source: str, licence: str) -> Known:
    return Known(
        f"recsys/{name}", {"train_sessions.parquet": train, "test_examples.parquet": test}, source=source, licence=licence
    )  # fmt: skip


_S3REC = {
    name: Known(
        f"recsys/s3rec_sequences/{name}.parquet", {f"{name}.parquet": digest},
        source="github.com/RUCAIBox/CIKM2020-S3Rec", licence=_AMAZON,
    )
    for name, digest in {
        "beauty": "f6a04e40f235b072bbfed8b70866e3e063c9456c6597eecb5272e8ad04de81b7",
        "sports": "f55bcea43e1376809bcc353c80a66684aa897d9bbd5d5e26989420b283e5ed84",
        "toys": "ce778ff7d14f6217dab3286dcf4cdb8a317bbf819a2b67a663fc87e59d6fbf57",
    }.items()
}  # fmt: skip
# training sessions in order of time, and test examples (prefix, target) already expanded; see recsys.sessions
SESSIONS = {
    "diginetica": _sessions(
        "diginetica",
        "0b9c5464d0f642e2eeaa9802048c071882cc87f0cf4a8c32a00e18fd666fc007",
        "9456a48a66131887958eb52881e6ee529a1c969160eb4dd556e4f070e43a5bf6",
        _GCE, f"DIGINETICA, CIKM Cup 2016, {_UNSTATED}",
    ),
    "tmall": _sessions(
        "tmall",
        "b9aa0780659f9ee60692c99145acbc55f9093981368bb4bb9aeb80fb28d7402c",
        "ac6c090f1dd4ea56e8343152c5e877911ebeae18efa4c6c69ac0d7f7ccd12646",
        _GCE, f"IJCAI-15 repeat buyers (Tianchi), {_UNSTATED}",
    ),
    "nowplaying": _sessions(
        "nowplaying",
        "419b89437588a9180c78d06c07812afe3b08a322203c4ff6453c336087450816",
        "1ca4beda30783147debeaafdb5434053679769a65b4a9d37ae2e5100acc64457",
        _GCE, f"#nowplaying (Zangerle et al. 2014), {_UNSTATED}",
    ),
    "retailrocket": _sessions(
        "retailrocket",
        "7b81cd0a92a1442d698abb16dc72560b83a060210ff6c1401a196a4f58ea7f1b",
        "1631b516daab38ba7da0d3ce8678e2a189e9767d9a2165fc3a41a49bef6ef28d",
        "github.com/hohehohe0509/COTREC_test", "RetailRocket (Kaggle), CC BY-NC-SA 4.0; the preparation states no licence",
    ),
}  # fmt: skip
_LOGS = {
    "movielens_1m_sasrec": Known(
        "recsys/movielens_1m_sasrec",
        {
            "sequences.parquet": "300040867b64147407596c8f3c1fa71c622b30fbad90cf157d0ce67807304692",
            "items.parquet": "34e244af02718df8c562dc785d1c8bd8064b520236239101a4878f3009ea87a7",
            "users.parquet": "4e8ab15f3c93b31fc8e91e44d8f93b720ed0cf5ed3e3eb1956c5c4c1e473d684",
        },
        source="github.com/kang205/SASRec", licence=_MOVIELENS,
    ),
    "movielens_100k": Known(
        "recsys/movielens_100k",
        {
            "interactions.parquet": "9389e13f0c4f7e5768939cb5463a874441b7a27695db4340239599ad055d0eea",
            "items.parquet": "f670edba009cb61638f60ac0bcdc25334d150ee6898ed4800cb330058f709d4c",
            "users.parquet": "8f9742c8ecadaa415be79238be439f7359c32eb3d1ed7de89dc945c1e35e6e2b",
        },
        source="github.com/RUCAIBox/RecBole", licence=_MOVIELENS,
    ),
}  # fmt: skip
KNOWN: dict[str, Known] = {**_S3REC, **SESSIONS, **_LOGS}
