"""The tokenizer for a text that stands within a conversation, behind a special token, and not at its beginning."""

import json
from copy import deepcopy
from functools import lru_cache

from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=8)
def within_conversation(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer that gives a text by itself the tokens that it has within a conversation.

    Llama's begins with a blank what stands at the very beginning, and nothing else; another tokenizer is its own.
    """
    split = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    if split.get("prepend_scheme") != "first":
        return tokenizer
    within = deepcopy(tokenizer)
    within.backend_tokenizer.pre_tokenizer = Metaspace(split["replacement"], "never", split["split"])
    return within
