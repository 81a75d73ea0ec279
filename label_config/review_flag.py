"""Which `<Choice>` of needs_review says that a person must look: the one that means yes, wherever it stands.

Knows words of a few languages and nothing of XML. Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from label_config.schema import Choice

_NOISE = re.compile(r"[\W_]+")
_NO = re.compile(
    r"^(?:no|not|non|none|nein|нет|false|off|0|n|ok|okay|fine|good|pass|clear|いいえ|아니\w*)(?: |$)"
    r"|\b(?:no|not|without|don t|doesn t|passed|approved|reviewed|checked|done)\b"
    r"|^[否不无無没沒非免已]|[不无無没沒免](?:需|用|要|必|须|须要|人工|复|復|审|審)|通过|通過|合格|正常|放行",
)
_YES = re.compile(
    r"^(?:yes|y|true|1|on|да|oui|ja|si|sí|はい|예|네)(?: |$)|^[是需须須要待请請有]"
    r"|\b(?:needs?|review|recheck|check|doubt\w*|unsure|uncertain|flag(?:ged)?|look|manual|human)\b"
    r"|复核|復核|复查|審核|审核|复审|人工|检查|檢查|存疑|可疑|疑问|要確認|確認",
)


def flag_choice(choices: Sequence[Choice]) -> Choice | None:
    """The choice that means yes; else the only one, unless it means no. None where that is not plain."""
    yes = [choice for choice in choices if _means(choice) is True]
    if len(yes) == 1:
        return yes[0]
    return choices[0] if len(choices) == 1 and _means(choices[0]) is None else None


def _means(choice: Choice) -> bool | None:
    """True for yes, False for no. What people read decides; the alias where that says neither."""
    for text in (choice.value, choice.alias):
        words = _NOISE.sub(" ", text.casefold()).strip()
        if _NO.search(words):
            return False
        if _YES.search(words):
            return True
    return None
