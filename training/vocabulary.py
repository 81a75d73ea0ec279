"""The tokenizer of the garments model: byte-level BPE with Qwen's word splitting and special tokens.

Small, and trained on the prompts and answers it meets, so that a label is one token and a prompt is short; every
other text is still encodable, byte by byte. No normaliser: what goes in comes out unchanged. The same corpus
always gives the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_loader.chat import END_OF_TEXT, SPECIAL_TOKENS, TURN_END

MAX_VOCABULARY = 2_304
MAX_TOKEN_BYTES = 24  # eight Chinese characters: phrases, not sentences
# Qwen2's pre-tokenizer, as in its published tokenizer.json.
WORD_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'text' in part -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def train_tokenizer(corpus: Iterable[str]) -> Any:
    """Return a transformers tokenizer whose merges come from `corpus`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY - len(SPECIAL_TOKENS),
        min_frequency=2,
        max_token_length=MAX_TOKEN_BYTES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (TURN_END, END_OF_TEXT)],
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def padded_vocabulary(tokenizer: Any) -> int:
    """The number of embedding rows: the vocabulary, rounded up to a multiple of 64."""
    return -(-len(tokenizer) // 64) * 64
