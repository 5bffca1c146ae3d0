"""Configurations of transformers' encoders, and whether tokenizer and net fit."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.errors import UserError, nearest

MAX_TOKENIZER_MB = 64  # the largest published tokenizer.json files have about 35


def transformers() -> Any:
    """Return the library, without its notes on the classifier that a checkpoint does not have.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers as library
    except ImportError as error:
        raise UserError(
            "this net needs transformers, which is not installed; pip install 'kd[text]'"
        ) from error
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def read_config(path: str) -> Any:
    """Read the configuration of an encoder in a folder or on the Hub.

    Raises:
        UserError: there is none, or it is no encoder.
    """
    library = transformers()
    local = Path(path).expanduser()
    if _is_path(path) and not (local / "config.json").is_file():
        what = "has no config.json" if local.is_dir() else "is not a folder"
        raise UserError(f"net.path={path} {what}; a folder that save_pretrained wrote is needed")
    try:
        config = library.AutoConfig.from_pretrained(
            str(local) if local.is_dir() else path,
            trust_remote_code=False,
            local_files_only=local.is_dir(),
        )
    except (OSError, ValueError, KeyError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"net.path={path} is neither a folder nor a model that can be read{offline}: {line}"
        ) from error
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise UserError(f"net.path={path} is a {config.model_type} model, not an encoder of text")
    return config


def _is_path(path: str) -> bool:
    """Whether the setting means a folder: a name on the Hub has at most one slash."""
    return path[:1] in "./~" or path.count("/") > 1 or Path(path).exists()


def random_config(
    architecture: str,
    vocab_size: int,
    max_length: int,
    pad_index: int,
    *,
    dim: int,
    depth: int,
    heads: int,
    inner: int,
) -> Any:
    """Return the configuration of an encoder of given sizes.

    Raises:
        UserError: transformers has no such architecture, or the heads do not divide the width.
    """
    library = transformers()
    if dim % heads:
        raise UserError(f"net.dim={dim} is no multiple of net.heads={heads}")
    known = library.models.auto.configuration_auto.CONFIG_MAPPING
    if architecture not in known:
        raise UserError(f"net.architecture={architecture}: {_near(architecture, known)}")
    config = known[architecture](
        vocab_size=vocab_size, max_position_embeddings=max_length + 2, pad_token_id=pad_index
    )
    # RoBERTa's positions begin at 2. The names differ (DistilBERT: dim, n_layers); transformers
    # maps the usual ones to them.
    sizes = {"hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads}
    for name, value in sizes.items():
        setattr(config, name, value)
    setattr(config, "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size", inner)
    return config


def _near(name: str, known: Any) -> str:
    hint = nearest(name, known).partition("? ")
    return f"{hint[0]}?" if hint[1] else "unknown; usual ones are bert, distilbert and roberta"


def config_of(content: Mapping[str, Any]) -> Any:
    """Return the configuration that a config.json holds.

    Raises:
        UserError: its `model_type` is unknown.
    """
    known = transformers().models.auto.configuration_auto.CONFIG_MAPPING
    kind = content.get("model_type")
    if kind not in known:
        raise UserError(f"net.config has model_type={kind!r}: {_near(str(kind), known)}")
    return known[kind].from_dict(dict(content))


def check_fit(config: Any, path: str | None, vocab_size: int, max_length: int) -> None:
    """Refuse a tokenizer or a length of text that an encoder was not made for.

    Args:
        config: of the encoder.
        path: its folder or name; None: random weights.
        vocab_size: number of tokens of the data's tokenizer.
        max_length: largest number of tokens of a text.

    Raises:
        UserError: they do not fit.
    """
    name = path or config.model_type
    if vocab_size > config.vocab_size:
        raise UserError(
            f"the data's tokenizer has {vocab_size} tokens, {name} embeddings for "
            f"{config.vocab_size}{_remedy(path)}"
        )
    own = _own_tokens(path)
    if own is not None and own != vocab_size:
        raise UserError(
            f"the data's tokenizer has {vocab_size} tokens, that of {name} {own}{_remedy(path)}"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and 0 < positions < max_length:
        raise UserError(f"data.max_length={max_length}: {name} has {positions} positions")


def _remedy(path: str | None) -> str:
    return f"; use the net's: data.tokenizer={path}/tokenizer.json" if path else ""


def _own_tokens(path: str | None) -> int | None:
    """Number of tokens of the tokenizer.json beside a net; None if there is none."""
    file = Path(path or "").expanduser() / "tokenizer.json"
    if path is None or not file.is_file() or file.stat().st_size > MAX_TOKENIZER_MB << 20:
        return None
    try:
        content = json.loads(file.read_bytes())
        tokens = set(content["model"]["vocab"]) | {t["content"] for t in content["added_tokens"]}
    except (ValueError, KeyError, TypeError):  # a list of pairs in unigram models
        return None
    return len(tokens)
