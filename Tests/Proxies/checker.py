"""Judges what a client has received: none lost, none twice, in order (section 1 of the protocol's page)."""

from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What was wrong with what a client received; nothing, if all three are empty."""

    received: int = 0
    lost: list = field(default_factory=list)
    repeated: list = field(default_factory=list)
    disordered: list = field(default_factory=list)
    unexplained: list = field(default_factory=list)

    @property
    def good(self):
        return not (self.lost or self.repeated or self.disordered or self.unexplained)

    def __str__(self):
        if self.good:
            return f"{self.received} messages, none lost, none twice, in order"
        words = [f"{name} {some[:10]}{' and more' if len(some) > 10 else ''}"
                 for name, some in (("lost", self.lost), ("twice", self.repeated), ("out of order", self.disordered),
                                    ("sequence and number differ", self.unexplained)) if some]
        return f"{self.received} messages; " + "; ".join(words)


def judge(messages, last):
    """`messages` are those of one client, with `n` and perhaps `sequence` and `skipped`; it should have 1 to `last`.

    The publisher's number is the sequence. Nothing is left out on purpose on a plain channel, so `skipped` is a loss as well.
    """
    verdict = Verdict(received=len(messages))
    seen, previous = set(), 0
    for message in messages:
        number = message["n"]
        if message.get("sequence", number) != number or message.get("skipped", 0):
            verdict.unexplained.append(number)
        if number in seen:
            verdict.repeated.append(number)
            continue
        if number < previous:
            verdict.disordered.append(number)
        seen.add(number)
        previous = max(previous, number)
    verdict.lost = [number for number in range(1, last + 1) if number not in seen]
    verdict.unexplained += [number for number in seen if not 1 <= number <= last]
    return verdict
