"""Send hundreds of hostile and odd files to a real web process, one by one.

    python tests/fuzz/hostile_files.py

Prints the responses to each kind of file and a last line of JSON. The exit status is 1 if the web process died, closed
a connection, logged an error, or gave a response that is wrong for the kind of file (any 5xx is).
"""

import json
import sys
from collections import Counter

from hostile_corpus import KINDS, TAKEN
from raw_client import NoAnswer, RawClient
from request_mutations import request
from web_process import web_process

_SILENCE_SECONDS = 60.0


def main() -> int:
    """Send all files and return the exit status."""
    answered: dict[str, Counter[str]] = {kind.name: Counter() for kind in KINDS}
    failures: list[str] = []
    with web_process() as web, RawClient(web.port, _SILENCE_SECONDS) as client:
        before, children = web.memory_mib(), web.children()
        for kind in KINDS:
            files = list(kind.files())
            client.close()  # some files take long to make, and the server closes idle connections
            for number, data in enumerate(files):
                try:
                    (answer,) = client.send(request(data, [(b"Content-Type", b"image/png")]).data, owed=1)
                except NoAnswer as none:
                    answered[kind.name]["none"] += 1
                    failures.append(f"{kind.name}, number {number}: {none}")
                    continue
                # 200 means that the job is already over: the picture was accepted.
                status = TAKEN if answer.status == 200 else answer.status
                answered[kind.name][str(status)] += 1
                if status not in kind.allowed:
                    failures.append(f"{kind.name}, number {number}: {answer.status} {answer.kind}")
        if web.alive:
            after, replaced = web.memory_mib(), len(web.children() - children)
            decoders = max(web.memory_mib(child)["peak"] for child in web.children())
            failures += [f"in the log: {line}" for line in web.errors()]
        else:
            after, replaced, decoders = {"now": 0.0, "peak": 0.0}, 0, 0.0
            failures.append(f"the web process ended with {web.process.returncode}:\n{web.log_tail()}")

    total: Counter[str] = Counter()
    for name, answers in answered.items():
        total += answers
        print(f"{name:28} {answers.total():5}   " + ", ".join(f"{said}: {answers[said]}" for said in sorted(answers)))
    print(f"{'all':28} {total.total():5}   " + ", ".join(f"{said}: {total[said]}" for said in sorted(total)))
    print(f"web process: {before['peak']:.0f} MiB at most before, {after['peak']:.0f} MiB after")
    print(f"decoders: {decoders:.0f} MiB at most; {replaced} replaced")
    for failure in failures:
        print(f"FAILED {failure}")
    figures = {
        "files": total.total(),
        "failures": len(failures),
        "answers": dict(sorted(total.items())),
        "rss_mib_peak_before": round(before["peak"], 1),
        "rss_mib_peak_after": round(after["peak"], 1),
        "decoder_rss_mib_peak": round(decoders, 1),
        "children_replaced": replaced,
    }
    print(json.dumps(figures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
