"""Judges what publishers, subscribers and the history say about one log. Pure functions; `python3 checker.py DIR` judges kept journals.

A problem is (kind, words). The kinds:
  acknowledged-twice   one message was acknowledged with two sequences, channels or positions
  shared-sequence      two messages have the same channel and sequence
  wrong-channel        acknowledged or delivered on a channel that it was not published to
  wrong-payload        another message, or another position or time, than the one known at that sequence; or one nobody sent
  published-twice      one message has two places in the log
  publisher-order      a publisher's later message has a lower sequence
  lost                 an acknowledged message did not arrive
  partly-delivered     a message without an acknowledgement is known to some and did not arrive at others
  repeated, reordered  a sequence that is not above the one before
  hole                 sequences are missing without a word, or `skipped` tells of some that are not missing
  gap                  a gap although nothing may be dropped
  not-asked-for        a channel that the subscriber did not name
  history              the history has holes, misses messages, or has others
"""

import json
import sys
from collections import defaultdict, namedtuple
from pathlib import Path

Sent = namedtuple("Sent", "publisher number channel keyed")
Answer = namedtuple("Answer", "publisher number channel sequence position")
# What a notification says. `publisher` and `number` are from its payload.
Notice = namedtuple("Notice", "channel sequence skipped publisher number position time")
Gap = namedtuple("Gap", "channel first last reason")


def matches(pattern, channel):
    wanted, tokens = pattern.split("."), channel.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[:len(wanted)]
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens))


def named(message):
    return f"message {message[0]}/{message[1]}"


def check_answers(sent, answers):
    """Acknowledgements among themselves. A publisher sends its messages one after the other, so its sequences rise in a channel."""
    problems, first, owners = [], {}, {}
    channels = {(s.publisher, s.number): s.channel for s in sent}
    for a in answers:
        message, place = (a.publisher, a.number), (a.channel, a.sequence)
        if channels.get(message) != a.channel:
            problems.append(("wrong-channel", f"{named(message)}, sent to {channels.get(message)}, was acknowledged on {a.channel}"))
        known = first.setdefault(message, a)
        if known != a:
            problems.append(("acknowledged-twice", f"{named(message)}: {known[2:]} and {a[2:]}"))
        if owners.setdefault(place, message) != message:
            problems.append(("shared-sequence", f"{place}: {named(owners[place])} and {named(message)} were acknowledged"))
    highest = {}
    for message, a in sorted(first.items()):
        line = (a.publisher, a.channel)
        if line in highest and a.sequence <= highest[line].sequence:
            earlier = highest[line]
            words = f"number {earlier.number} has sequence {earlier.sequence}, number {a.number} {a.sequence}"
            problems.append(("publisher-order", f"publisher {a.publisher} on {a.channel}: {words}"))
        else:
            highest[line] = a
    return problems


class Log:
    """What is at each place of the log, from whoever told of it first; those who disagree later are problems."""

    def __init__(self, sent, answers):
        self.problems = []
        self.sent = {(s.publisher, s.number): s.channel for s in sent}
        self.acknowledged = {(a.channel, a.sequence): (a.publisher, a.number) for a in reversed(answers)}
        self.messages = dict(self.acknowledged)
        self.details = {}
        self.witnesses = {place: "its acknowledgement" for place in self.messages}
        self.places = defaultdict(set)
        for place, message in self.messages.items():
            self.places[message].add(place)

    def hear(self, witness, notice):
        place, message = (notice.channel, notice.sequence), (notice.publisher, notice.number)
        if message not in self.sent:
            self.problems.append(("wrong-payload", f"{witness}: {place} has {named(message)}, which nobody sent"))
        elif self.sent[message] != notice.channel:
            self.problems.append(("wrong-channel", f"{witness}: {place} has {named(message)}, sent to {self.sent[message]}"))
        known = self.messages.setdefault(place, message)
        teller = self.witnesses.setdefault(place, witness)
        if known != message:
            self.problems.append(("wrong-payload", f"{witness}: {place} has {named(message)}, but {teller} says {named(known)}"))
            return
        self.places[message].add(place)
        # "The same bytes on all transports", so position and time are the same for all.
        other, words = self.details.setdefault(place, (witness, notice[5:]))
        if words != notice[5:]:
            self.problems.append(("wrong-payload", f"{witness}: {place} has position and time {notice[5:]}, {other} says {words}"))

    def finish(self):
        """After all have told: each message has one place at most."""
        for message, places in sorted(self.places.items()):
            if len(places) > 1:
                self.problems.append(("published-twice", f"{named(message)} is at {sorted(places)}"))
        return self.problems

    def by_channel(self):
        channels = defaultdict(set)
        for channel, sequence in self.messages:
            channels[channel].add(sequence)
        return channels


def check_order(name, patterns, events):
    """One subscriber alone: the promise of the protocol, from sequence 1 on. Gaps are judged by check_gaps."""
    problems, last, seen, told = [], defaultdict(int), defaultdict(set), {}
    for e in events:
        if isinstance(e, Gap):
            if e.channel is not None:
                told[e.channel] = e.last
            continue
        if not any(matches(p, e.channel) for p in patterns):
            problems.append(("not-asked-for", f"{name}: {e.channel} {e.sequence}, asked for {patterns}"))
        before = last[e.channel]
        if e.sequence in seen[e.channel]:
            problems.append(("repeated", f"{name}: {e.channel} {e.sequence} again, after {before}"))
        elif e.sequence <= before:
            problems.append(("reordered", f"{name}: {e.channel} {e.sequence} after {before}"))
        elif e.sequence != before + 1 + e.skipped and told.get(e.channel) != e.sequence - 1 - e.skipped:
            problems.append(("hole", f"{name}: {e.channel} {e.sequence} after {before}, skipped {e.skipped}"))
        told.pop(e.channel, None)
        seen[e.channel].add(e.sequence)
        last[e.channel] = max(before, e.sequence)
    return problems


def check_gaps(name, events, allow):
    """A new epoch is never allowed: the log is kept over restarts."""
    gaps = [e for e in events if isinstance(e, Gap) and not (allow and e.channel is not None)]
    return [("gap", f"{name}: gap on {g.channel}, {g.first} to {g.last}, reason {g.reason}") for g in gaps]


def check_complete(name, patterns, events, log, channels, allow_gaps=False):
    """All that anybody knows of on its channels has arrived, if no allowed gap tells of it."""
    problems, got, excused = [], defaultdict(set), defaultdict(set)
    for e in events:
        if isinstance(e, Notice):
            got[e.channel].add(e.sequence)
        elif allow_gaps and e.channel is not None:
            excused[e.channel].update(range(e.first, e.last + 1))
    for channel, sequences in sorted(channels.items()):
        if not any(matches(p, channel) for p in patterns):
            continue
        for sequence in sorted(sequences - got[channel] - excused[channel]):
            place = (channel, sequence)
            if place in log.acknowledged:
                problems.append(("lost", f"{name}: {place}, {named(log.acknowledged[place])}, was acknowledged and did not arrive"))
            else:
                words = f"{named(log.messages[place])}, is known to {log.witnesses[place]} and did not arrive"
                problems.append(("partly-delivered", f"{name}: {place}, {words}"))
    return problems


def check_history(channel, notices, log, allow_gaps=False):
    problems, sequences = [], [n.sequence for n in notices]
    first = sequences[0] if allow_gaps and sequences else 1
    if sequences != list(range(first, first + len(sequences))):
        wrong = next(i for i, s in enumerate(sequences) if s != first + i)
        problems.append(("history", f"{channel}: sequence {sequences[wrong]} where {first + wrong} should be"))
    known = {s for c, s in log.messages if c == channel and s >= first}
    for sequence in sorted(known - set(sequences)):
        place = (channel, sequence)
        problems.append(("history", f"{place}, {named(log.messages[place])}, known to {log.witnesses[place]}, is not in the history"))
    return problems


def check(sent, answers, subscribers, histories, allow_gaps=False):
    """`subscribers`: name -> (patterns, events). `histories`: channel -> notices, or None where there is no history."""
    problems = check_answers(sent, answers)
    log = Log(sent, answers)
    for name, (_, events) in subscribers.items():
        for e in events:
            if isinstance(e, Notice):
                log.hear(name, e)
    for notices in (histories or {}).values():
        for notice in notices:
            log.hear("the history", notice)
    problems += log.finish()
    channels = log.by_channel()
    for name, (patterns, events) in subscribers.items():
        problems += check_order(name, patterns, events)
        problems += check_gaps(name, events, allow_gaps)
        problems += check_complete(name, patterns, events, log, channels, allow_gaps)
    if histories is not None:
        for channel in sorted(channels.keys() | histories.keys()):
            problems += check_history(channel, histories.get(channel, []), log, allow_gaps)
    return problems


def lines(path):
    with open(path) as file:
        for line in file:
            yield json.loads(line)


def load(directory):
    """The journals that torture.py wrote, as the arguments of `check`."""
    directory = Path(directory)
    sent, answers, histories = [], [], {}
    for kind, *rest in lines(directory / "publications.jsonl"):
        if kind == "sent":
            sent.append(Sent(*rest))
        elif kind == "answer":
            answers.append(Answer(*rest))
    subscribers = {name: (patterns, []) for name, patterns in lines(directory / "subscribers.jsonl")}
    for name, kind, _, *rest in lines(directory / "deliveries.jsonl"):
        subscribers[name][1].append(Notice(*rest) if kind == "notification" else Gap(*rest))
    for channel, notices in lines(directory / "history.jsonl"):
        histories[channel] = [Notice(*n) for n in notices]
    return sent, answers, subscribers, histories


def main():
    if len(sys.argv) < 2:
        sys.exit("checker.py DIR [--allow-gaps]: judges the journals of a run of torture.py")
    problems = check(*load(sys.argv[1]), allow_gaps="--allow-gaps" in sys.argv)
    for kind, words in problems:
        print(f"{kind}: {words}")
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
