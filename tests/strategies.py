"""What property tests draw from."""

from hypothesis import strategies as st

# Everything that can be encoded: all of Unicode but lone surrogates.
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)

_WORDS = """
subsidy charging pile battery city province plan wind solar the of new energy vehicle hydrogen truck signed agreement
inspection mayor tax exemption pilot zone recycling lithium mine nuclear grid storage carbon market export tariff
""".split()

# Text a model knows words of, with odd characters between: dotted capital I, sharp s, combining marks, CJK, emoji,
# zero width, full width, entities, escapes, digits of another script, one very long word.
_ODD = [
    *("\u0130stanbul", "stra\u00dfe", "e\u0301", "\u65b0\u80fd\u6e90", "\U0001f50b", "a\u200bb", "\uff2e\uff25\uff36"),
    *("&amp;", "don\\'t", "V2G", "\u0661\u0662", "x" * 70),
]
newsy_text = st.lists(st.sampled_from([*_WORDS, *_ODD, "\n\n", ". ", ","]), max_size=60).map(" ".join)
