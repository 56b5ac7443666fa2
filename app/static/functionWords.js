// Function words: what a sentence needs and a picture does not show. In: a word; out: whether it is one.
// The list is that of model/text/function_words.py; tests/test_page.py holds the two together.

const FUNCTION_WORDS = new Set(
  (
    "a an the this that these those its his her their my your our some any each every another both no " +
    "of in on at to for from with without by as into onto inside outside over under above below behind beside besides " +
    "between among amongst against along across around about after before during through toward towards near next " +
    "off out up down upon beneath underneath beyond past via within like than " +
    "and or but nor so while when where who whose which that because if though although as " +
    "is are was were be been being am has have had having do does did can could will would may might must " +
    "it he she they him them himself herself itself themselves i we you us me there one " +
    "not very also too"
  ).split(" "),
);

export function isFunctionWord(text) {
  return FUNCTION_WORDS.has(text.toLowerCase());
}
