"""Function words: words that a picture does not show.

FUNCTION_WORDS have no place in a picture, whatever their heatmap shows. DANGLING leave a caption incomplete that ends
in them, as in "a dog with a".
"""

_DETERMINERS = "a an the this that these those its his her their my your our some any each every another both no"
_PREPOSITIONS = (
    "of in on at to for from with without by as into onto inside outside over under above below behind beside besides "
    "between among amongst against along across around about after before during through toward towards near next "
    "off out up down upon beneath underneath beyond past via within like than"
)
_CONJUNCTIONS = "and or but nor so while when where who whose which that because if though although as"
_AUXILIARIES = "is are was were be been being am has have had having do does did can could will would may might must"
_PRONOUNS = "it he she they him them himself herself itself themselves i we you us me there one"
_OTHERS = "not very also too"

FUNCTION_WORDS = frozenset(
    " ".join((_DETERMINERS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, _PRONOUNS, _OTHERS)).split()
)

# A caption may end in these: "a dog runs outside", "a man next to another", "people look around".
_MAY_END = (
    "outside inside around by across along through past over under above below behind beneath underneath off out up "
    "down near another both each before after within without no"
)

# No complete caption ends in these.
DANGLING = frozenset(
    " ".join((_DETERMINERS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, "very not")).split()
) - frozenset(_MAY_END.split())
