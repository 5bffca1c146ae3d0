"""Encoders of transformers with a classifier; transformers is an optional dependency.

Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020,
https://aclanthology.org/2020.emnlp-demos.6. Such encoders are BERT (Devlin et al. 2019,
https://arxiv.org/abs/1810.04805) and DistilBERT (Sanh et al. 2019,
https://arxiv.org/abs/1910.01108), which is a BERT with every other of its layers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from kd.errors import UserError
from kd.models.hf_attention import tap_attention, with_taps
from kd.models.hf_config import check_fit, config_of, random_config, read_config, transformers
from kd.models.masked_words import MaskedWords
from kd.models.sizing import check_counts
from kd.models.text_transformer import POOLINGS
from kd.models.token_masks import masked_mean, token_mask


class HFText(nn.Module):
    """An encoder of transformers and a linear classifier: token ids [B, L] -> logits [B, K].

    The encoder is read from a folder (or from the Hub's cache, or the Hub) as safetensors, or built
    with random weights from its sizes. Code that a folder brings along is never run.

    Taps: `embeddings` and `layer_1` … [B, L, D]; `attention_1` … the scaled products
    [B, H, L, L] of queries and keys before the mask; `value_1` … [B, H, L, D / H]; `pooled` [B, D].

    Args:
        vocab_size: number of tokens of the data's tokenizer.
        max_length: largest number of tokens of a text.
        pad_index: token of the padding.
        num_classes: K.
        path: folder with config.json and model.safetensors, or a name on the Hub; None: random
            weights.
        layers: numbers of the layers to keep, from 0; None: all. So a student is cut out of its
            teacher, whose weights it starts with.
        architecture: `model_type` of transformers, such as bert or distilbert; without a path.
        dim, depth, heads, inner: width, number of layers, heads, and units of the two linear
            layers' middle; without a path.
        dropout: rate in front of the classifier.
        pooling: `cls`: the first token stands for the text; `mean`: the mean of all tokens.
        attention_taps: compute attention step by step, which has taps; false: with torch's fused
            operation, which is faster.
        mask_index: token of hidden words, as 103 of BERT's, which gives the net a head that names
            them, and the tap `masked_words`; None: it has no such head.
        config: content of a config.json, for random weights; path and sizes are not read then.

    Raises:
        UserError: transformers is not installed, the folder does not exist or has no safetensors,
            a layer does not exist, or tokenizer and net do not fit.
        ValueError: `pooling` is unknown.
    """

    task: ClassVar[str] = "text_classification"

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        pad_index: int,
        num_classes: int,
        *,
        path: str | None = None,
        layers: Sequence[int] | None = None,
        architecture: str = "bert",
        dim: int = 256,
        depth: int = 4,
        heads: int = 4,
        inner: int | None = None,
        dropout: float = 0.1,
        pooling: str = "cls",
        attention_taps: bool = True,
        mask_index: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_counts(dim=dim, depth=depth, heads=heads, inner=inner)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {list(POOLINGS)}, got {pooling!r}")
        facts = (vocab_size, max_length, pad_index)
        sizes = {"dim": dim, "depth": depth, "heads": heads, "inner": inner or 4 * dim}
        self.pad_index, self.pooling = pad_index, pooling
        if config is not None:
            path, found = None, config_of(config)
        elif path:
            found = read_config(path)
        else:
            found = random_config(architecture, *facts, **sizes)
        check_fit(found, path, vocab_size, max_length)
        self.encoder = _encoder(found, path, attention_taps)
        self.encoder.pooler = None  # BERT's layer over the first token, of another task
        _keep_layers(self.encoder, layers, path or architecture)
        width = self.encoder.config.hidden_size
        self.masked_words = (
            None if mask_index is None else MaskedWords(width, mask_index, vocab_size)
        )
        self.pooled = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        self._name_taps(attention_taps)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments that build the net again without its folder, in place of those given."""
        return {"path": None, "layers": None, "config": self.encoder.config.to_diff_dict()}

    def forward(self, ids: Tensor) -> Tensor:
        mask = token_mask(ids, self.pad_index)
        if self.masked_words is not None:  # first, so that taps are of the whole text
            words = self.encoder.get_input_embeddings().weight
            self.masked_words(self._hidden, ids, mask, words)
        hidden = self._hidden(ids)
        pooled = hidden[:, 0] if self.pooling == "cls" else masked_mean(hidden, mask)
        return self.head(self.dropout(self.pooled(pooled)))

    def _hidden(self, ids: Tensor) -> Tensor:
        """Hidden states of the last layer [B, L, D]."""
        mask = token_mask(ids, self.pad_index).long()
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def _name_taps(self, attention_taps: bool) -> None:
        """Make the encoder's parts attributes of the net, by the names of their taps.

        Not as submodules, or the weights would stand in the state dict twice: an ordinary
        attribute, which `get_submodule` finds as well.
        """
        if not hasattr(self.encoder, "embeddings"):
            kind = self.encoder.config.model_type
            raise UserError(f"{kind} is no encoder with embeddings, such as bert and distilbert")
        named = {"embeddings": self.encoder.embeddings}
        for number, layer in enumerate(_layers(self.encoder), 1):
            named[f"layer_{number}"] = layer
            if attention_taps and (attention := tap_attention(layer)):
                named[f"attention_{number}"], named[f"value_{number}"] = attention
        for name, module in named.items():
            object.__setattr__(self, name, module)


def _encoder(config: Any, path: str | None, attention_taps: bool) -> Any:
    library = transformers()
    options: dict[str, Any] = {"attn_implementation": with_taps() if attention_taps else "sdpa"}
    if path is None:
        return library.AutoModel.from_config(config, trust_remote_code=False, **options)
    options |= {"trust_remote_code": False, "use_safetensors": True, "config": config}
    options["local_files_only"] = Path(path).exists()
    try:
        return library.AutoModel.from_pretrained(path, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"net.path={path} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _layers(encoder: Any) -> nn.ModuleList:
    """The encoder's list of layers, whatever it is called: `encoder.layer`, `transformer.layer`."""
    depth = encoder.config.num_hidden_layers
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UserError(f"{type(encoder).__name__} has no list of its {depth} layers to take part of")


def _keep_layers(encoder: Any, kept: Sequence[int] | None, name: str) -> None:
    layers = _layers(encoder)
    if kept is None:
        return
    wrong = [number for number in kept if not 0 <= number < len(layers)]
    if wrong or not kept or len({*kept}) < len(kept):
        raise UserError(
            f"net.layers={list(kept)}: {name} has the layers 0 to {len(layers) - 1}; name one or "
            "more of them, each once"
        )
    chosen = [layers[number] for number in kept]
    del layers[:]
    layers.extend(chosen)
    encoder.config.num_hidden_layers = len(chosen)
