"""Which words are forms of one another, as far as plurals go. In: a word; out: its singular, where that is known.

A few rules checked against a list of known words are enough here: what is wanted is that "dogs" and "dog" count as one
thing to be seen, and a mistake costs one word. It must not know of images.
"""

from collections.abc import Container

_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "skis": "ski",
    "leaves": "leaf",
    "feet": "foot",
    "knives": "knife",
    "buses": "bus",
    "shelves": "shelf",
    "mice": "mouse",
    "loaves": "loaf",
    "sandwiches": "sandwich",
    "benches": "bench",
    "dishes": "dish",
}
_ALWAYS_PLURAL = {"glasses", "jeans"}


def lemma(word: str, known: Container[str]) -> str:
    """The singular of `word`, if it is a plural of one of the `known` words; otherwise `word`."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _ALWAYS_PLURAL:
        return word
    if len(word) > 4 and word.endswith("ies") and f"{word[:-3]}y" in known:
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith("es") and word[:-2].endswith(("ch", "sh", "ss", "x")) and word[:-2] in known:
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word[:-1] in known:
        return word[:-1]
    return word
