"""An answer to `given.CONFIG`, in a module that a process imports at once."""

from __future__ import annotations

ANSWER = {"caption": "一条连衣裙。", "category": (("服饰", "女装", "连衣裙"),), "season": ("冬季",)}
