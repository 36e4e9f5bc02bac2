"""Sides of the comparison of training speed: `python -m core.peers speech.peers SIDE SETTINGS`, see speech.speed.

Settings: task (wav2vec2, hubert or bestrq), dim, depth, heads, mlp (hidden width), channels (of the waveform's convolutions), batch
(recordings), seconds (each), steps (a round). Both sides of a task compute the same network (of BEST-RQ, but for the layers before the
blocks), drop nothing, hide about the same share in spans of the same length, and step with torch's fused AdamW. Recordings are noise in
words' rhythm: what is heard changes no step's work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders import FrameStem, TokenEncoder, Transformer, TransformerConfig, WaveformStem, parameters
from core.encoders.waveform import WAV2VEC2, normalised
from core.heads import LinearHead
from core.masking import span_mask
from core.methods import Hubert, HubertConfig, MaskedPrediction, Wav2Vec2, Wav2Vec2Config
from core.optim import optimizer_for
from core.peers.rounds import Rounds
from core.pretext import Masked
from core.tokens import Batch
from core.train_config import TrainConfig
from speech.pretext import QuantisedFrames, QuantiserConfig

PEERS = {"speechbrain": "SpeechBrain"}  # that `make peers` installs; the others are dependencies
RATE, TOKEN = 16_000, 320  # of the waveform, in Hz; samples of a token
SPAN, SHARE = 10, 0.48  # tokens; with `mask_prob` 0.65 transformers hides .49 on average, torchaudio .44 to .47
KERNEL, GROUPS = 128, 16  # of the positions
NEGATIVES, CODES, GROUP_CODES, UNITS = 100, 8192, 320, 100
BANDS, STRIDE = 80, 4  # of the log-mel, a frame every 10 ms; frames of a token
HIDDEN = 0.6  # share of BEST-RQ's tokens, each by itself: SpeechBrain hides 4 frames with chance .15
Step = Callable[[], Tensor]


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    made: dict[str, Callable[[dict[str, Any]], tuple[nn.Module, Step]]] = {
        "ours": ours, "transformers": transformers, "torchaudio": torchaudio, "speechbrain": speechbrain,
    }  # fmt: skip
    model, loss = made[side](settings)
    optimizer = optimizer_for(model, TrainConfig(steps=1))

    def work() -> int:
        for _ in range(settings["steps"]):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()
        return settings["steps"] * settings["batch"] * settings["seconds"]

    while rounds.go():
        rounds.done(work())
    rounds.finish(weights=parameters(model))


def waves(s: dict[str, Any]) -> Tensor:
    """(batch, samples): noise whose loudness changes a few times a second."""
    drawn = torch.Generator().manual_seed(0)
    loud = F.interpolate(
        torch.rand(s["batch"], 1, 4 * s["seconds"], generator=drawn), s["seconds"] * RATE, mode="linear"
    )
    return torch.randn(s["batch"], s["seconds"] * RATE, generator=drawn) * loud[:, 0]


def frames(s: dict[str, Any]) -> Tensor:
    """(batch, frames, bands) of raw log-mel."""
    drawn = torch.Generator().manual_seed(0)
    return -10 * torch.rand(s["batch"], 100 * s["seconds"], BANDS, generator=drawn)


def ours(s: dict[str, Any]) -> tuple[nn.Module, Step]:
    """As `pretrain` does it: batches say what is padding, of which there is none here."""
    generator, mel = torch.Generator().manual_seed(0), s["task"] == "bestrq"
    shape = dict(dim=s["dim"], depth=s["depth"], heads=s["heads"], mlp=s["mlp"] / s["dim"])
    if mel:
        trunk = Transformer(TransformerConfig(**shape, position="sinusoidal"))
        encoder, data = TokenEncoder(FrameStem(BANDS, s["dim"], STRIDE), trunk), frames(s)
        method: nn.Module = MaskedPrediction(encoder, {"code": LinearHead(s["dim"], CODES)})
        pretext = QuantisedFrames(QuantiserConfig(CODES, 16, HIDDEN, 1), STRIDE, BANDS, "utterance")
        batch: Batch = {"mel": data, "pad": torch.zeros(data.shape[:2], dtype=torch.bool)}
        return method, lambda: method(pretext(batch, generator), generator).loss
    trunk = Transformer(TransformerConfig(**shape, position="convolution", kernel=KERNEL, groups=GROUPS))
    encoder, data = TokenEncoder(WaveformStem(s["dim"], s["channels"], WAV2VEC2), trunk), waves(s)
    batch = {"wave": data, "pad": torch.zeros(data.shape, dtype=torch.bool)}
    if s["task"] == "hubert":
        method, target = Hubert(encoder, HubertConfig(units=UNITS, out=256)), {"unit": units(s, data.shape[1] // TOKEN)}
    else:
        config = Wav2Vec2Config(groups=2, codes=GROUP_CODES, width=256, out=256, negatives=NEGATIVES)
        method, target = Wav2Vec2(encoder, config), {}

    def loss() -> Tensor:
        mask = span_mask(batch["pad"][:, ::TOKEN], SHARE, SPAN, generator)
        return method(Masked(batch, mask, target), generator).loss

    return method.train(), loss


def units(s: dict[str, Any], tokens: int) -> Tensor:
    return torch.randint(UNITS, (s["batch"], tokens), generator=torch.Generator().manual_seed(1))


def transformers(s: dict[str, Any]) -> tuple[nn.Module, Step]:
    """transformers' model, masks and negatives, as its example of pretraining draws them."""
    from transformers import Wav2Vec2Config as Config
    from transformers import Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    model = Wav2Vec2ForPreTraining(
        Config(
            hidden_size=s["dim"], num_hidden_layers=s["depth"], num_attention_heads=s["heads"], intermediate_size=s["mlp"],
            conv_dim=(s["channels"],) * len(WAV2VEC2), conv_kernel=[k for k, _ in WAV2VEC2], conv_stride=[t for _, t in WAV2VEC2],
            conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True, num_codevectors_per_group=GROUP_CODES,
            num_codevector_groups=2, codevector_dim=256, proj_codevector_dim=256, num_conv_pos_embeddings=KERNEL,
            num_conv_pos_embedding_groups=GROUPS, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
            feat_proj_dropout=0.0, feat_quantizer_dropout=0.0, final_dropout=0.0, layerdrop=0.0,
        )
    ).train()  # fmt: skip
    wave = normalised(waves(s), None)  # its feature extractor does that beforehand
    shape = (s["batch"], int(model._get_feat_extract_output_lengths(wave.shape[1])))
    np.random.seed(0)

    def loss() -> Tensor:
        mask = _compute_mask_indices(shape, 0.65, SPAN)
        negatives = _sample_negative_indices(shape, NEGATIVES, mask)
        out = model(
            wave, mask_time_indices=torch.from_numpy(mask), sampled_negative_indices=torch.from_numpy(negatives)
        )
        return out.loss / float(mask.sum())

    return model, loss


def torchaudio(s: dict[str, Any]) -> tuple[nn.Module, Step]:
    """torchaudio's `hubert_pretrain_model`, with the loss at hidden places alone, as ours."""
    from torchaudio.models import hubert_pretrain_model

    model = hubert_pretrain_model(
        extractor_mode="layer_norm", extractor_conv_layer_config=[(s["channels"], k, t) for k, t in WAV2VEC2],
        extractor_conv_bias=True, encoder_embed_dim=s["dim"], encoder_projection_dropout=0.0, encoder_pos_conv_kernel=KERNEL,
        encoder_pos_conv_groups=GROUPS, encoder_num_layers=s["depth"], encoder_num_heads=s["heads"], encoder_attention_dropout=0.0,
        encoder_ff_interm_features=s["mlp"], encoder_ff_interm_dropout=0.0, encoder_dropout=0.0, encoder_layer_norm_first=True,
        encoder_layer_drop=0.0, mask_prob=0.65, mask_selection="static", mask_other=0.0, mask_length=SPAN, no_mask_overlap=False,
        mask_min_space=1, mask_channel_prob=0.0, mask_channel_selection="static", mask_channel_other=0.0,
        mask_channel_length=SPAN, no_mask_channel_overlap=False, mask_channel_min_space=1, skip_masked=False, skip_nomask=True,
        num_classes=UNITS, final_dim=256, feature_grad_mult=None,
    ).train()  # fmt: skip
    wave = normalised(waves(s), None)
    with torch.no_grad():
        tokens = model.wav2vec2.feature_extractor(wave[:1], None)[0].shape[1]
    unit = units(s, tokens)

    def loss() -> Tensor:
        hidden, _, _ = model(wave, unit)
        return F.cross_entropy(hidden, torch.zeros(len(hidden), dtype=torch.long))  # the first is the own unit

    return model, loss


def speechbrain(s: dict[str, Any]) -> tuple[nn.Module, Step]:
    """SpeechBrain's modules in the order of its recipe, with Transformer blocks in the place of Conformer ones, as ours."""
    from speechbrain.lobes.models.BESTRQ import compute_mask
    from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain.lobes.models.transformer.TransformerASR import EncoderWrapper, TransformerASR
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.quantisers import RandomProjectionQuantizer
    from speechbrain.processing.features import InputNormalization

    mel = frames(s)
    front = ConvolutionFrontEnd(
        (8, 10, BANDS), num_blocks=2, num_layers_per_block=1, out_channels=(128, 32), kernel_sizes=(3, 3), strides=(2, 2),
        residuals=(False, False), dropout=0.0,
    )  # fmt: skip
    trunk = TransformerASR(
        tgt_vocab=2, input_size=8 * BANDS, d_model=s["dim"], nhead=s["heads"], num_encoder_layers=s["depth"], num_decoder_layers=0,
        d_ffn=s["mlp"], dropout=0.0, activation=nn.GELU, encoder_module="transformer", attention_type="regularMHA",
        normalize_before=True, causal=False,
    )  # fmt: skip
    trunk.custom_tgt_module = None  # the decoder's, which its recipe never calls
    wrapper, linear = EncoderWrapper(trunk), Linear(input_size=s["dim"], n_neurons=CODES)
    quantiser, normalise = (
        RandomProjectionQuantizer(STRIDE * BANDS, 16, CODES),
        InputNormalization(norm_type="sentence"),
    )
    model = nn.ModuleList([front, wrapper, linear]).train()
    length, lengths = mel.shape[1], torch.ones(len(mel))

    def loss() -> Tensor:
        hide = compute_mask(mel.shape, [length] * len(mel), 0.15, STRIDE)
        seen = normalise(mel, lengths, epoch=0)
        at = hide[::STRIDE] // STRIDE
        target = quantiser(seen.view(len(mel), length // STRIDE, -1)[:, at])
        seen[:, hide] = torch.normal(0.0, 0.1, (len(mel), len(hide), BANDS))
        logits = linear(wrapper(front(seen), lengths))[:, at]
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())

    return model, loss
