"""Bad histories that the checker has to find, and good ones that it has to let pass."""

import json
import tempfile
import unittest
from pathlib import Path

from checker import Answer, Gap, Notice, Sent, check, load, matches
from wire import EventStream

CHANNELS = ("torture.a", "torture.deep.b")


def notice(channel, sequence, message, skipped=0, position=None, time=None):
    return Notice(channel, sequence, skipped, *message, position or f"{channel}@{sequence}", time or f"t{sequence}")


class History:
    """Four acknowledged messages on each of two channels, three subscribers that got all of theirs; tests spoil it."""

    def __init__(self):
        self.sent, self.answers, self.histories = [], [], {c: [] for c in CHANNELS}
        for number in range(1, 9):
            channel, sequence = CHANNELS[number % 2], (number + 1) // 2
            self.sent.append(Sent(1, number, channel, True))
            self.answers.append(Answer(1, number, channel, sequence, f"{channel}@{sequence}"))
            self.histories[channel].append(notice(channel, sequence, (1, number)))
        a, b = (self.histories[c] for c in CHANNELS)
        self.subscribers = {
            "exact": (["torture.a"], list(a)),
            "all": (["torture.>", "*.a"], [n for pair in zip(a, b) for n in pair]),
            "deep": (["torture.*.b"], list(b)),
        }

    def events(self, name):
        return self.subscribers[name][1]

    def add_unknown(self, *witnesses):
        """A message without an answer, at the end of torture.a."""
        self.sent.append(Sent(2, 1, "torture.a", False))
        extra = notice("torture.a", 5, (2, 1))
        for name in witnesses:
            (self.histories["torture.a"] if name == "history" else self.events(name)).append(extra)

    def problems(self, **arguments):
        return check(self.sent, self.answers, self.subscribers, self.histories, **arguments)

    def kinds(self, **arguments):
        return {kind for kind, _ in self.problems(**arguments)}


class CheckerTests(unittest.TestCase):
    def setUp(self):
        self.h = History()

    def test_good_history_passes(self):
        self.assertEqual(self.h.problems(), [])

    def test_same_answer_twice_passes(self):
        self.h.answers.append(self.h.answers[3])
        self.assertEqual(self.h.problems(), [])

    def test_lost_at_the_end(self):
        self.h.events("exact").pop()
        self.assertEqual([k for k, _ in self.h.problems()], ["lost"])

    def test_lost_in_the_middle_leaves_a_hole(self):
        del self.h.events("exact")[1]
        self.assertEqual(self.h.kinds(), {"lost", "hole"})

    def test_lost_at_the_beginning(self):
        del self.h.events("deep")[0]
        self.assertEqual(self.h.kinds(), {"lost", "hole"})

    def test_lost_everywhere_and_its_sequence_not_given_again(self):
        for events in (self.h.events("exact"), self.h.events("all"), self.h.histories["torture.a"]):
            events[:] = [n for n in events if (n.channel, n.sequence) != ("torture.a", 4)]
        self.assertEqual(self.h.kinds(), {"lost", "history"})

    def test_subscriber_that_got_nothing(self):
        self.h.events("deep").clear()
        self.assertEqual([k for k, _ in self.h.problems()], ["lost"] * 4)

    def test_repeated(self):
        events = self.h.events("exact")
        events.insert(2, events[1])
        self.assertEqual([k for k, _ in self.h.problems()], ["repeated"])

    def test_repeated_much_later(self):
        events = self.h.events("exact")
        events.append(events[0])
        self.assertEqual([k for k, _ in self.h.problems()], ["repeated"])

    def test_reordered(self):
        events = self.h.events("exact")
        events[1], events[2] = events[2], events[1]
        self.assertEqual(self.h.kinds(), {"reordered", "hole"})

    def test_wrong_payload_at_one_subscriber(self):
        self.h.events("exact")[1] = notice("torture.a", 2, (1, 2))
        self.assertIn("wrong-payload", self.h.kinds())

    def test_wrong_payload_at_all_is_not_what_was_acknowledged(self):
        for events in (self.h.events("exact"), self.h.events("all"), self.h.histories["torture.a"]):
            place = next(i for i, n in enumerate(events) if (n.channel, n.sequence) == ("torture.a", 2))
            events[place] = notice("torture.a", 2, (1, 6))
        self.assertIn("wrong-payload", self.h.kinds())

    def test_payload_nobody_sent(self):
        for name in ("exact", "all"):
            self.h.events(name).append(notice("torture.a", 5, (9, 9)))
        self.h.histories["torture.a"].append(notice("torture.a", 5, (9, 9)))
        self.assertEqual(self.h.kinds(), {"wrong-payload"})

    def test_wrong_channel(self):
        self.h.sent[-1] = Sent(1, 8, "torture.deep.b", True)
        self.assertEqual(self.h.kinds(), {"wrong-channel"})

    def test_another_position_for_the_same_notification(self):
        self.h.events("exact")[1] = self.h.events("exact")[1]._replace(position="other")
        self.assertEqual(self.h.kinds(), {"wrong-payload"})

    def test_another_time_after_a_restart(self):
        self.h.histories["torture.a"][1] = self.h.histories["torture.a"][1]._replace(time="later")
        self.assertEqual(self.h.kinds(), {"wrong-payload"})

    def test_unexplained_hole(self):
        self.h.events("exact")[-1] = notice("torture.a", 6, (1, 8))
        self.assertIn("hole", self.h.kinds())

    def test_skipped_explains_the_hole_and_not_the_loss(self):
        events = self.h.events("exact")
        del events[1]
        events[1] = events[1]._replace(skipped=1)
        self.assertEqual(self.h.kinds(), {"lost"})

    def test_skipped_that_skips_nothing(self):
        self.h.events("exact")[1] = self.h.events("exact")[1]._replace(skipped=1)
        self.assertEqual(self.h.kinds(), {"hole"})

    def test_gap_is_a_problem_unless_allowed(self):
        self.h.events("exact")[:2] = [Gap("torture.a", 1, 2, "retention")]
        self.assertEqual(self.h.kinds(), {"gap", "lost"})
        self.assertEqual(self.h.kinds(allow_gaps=True), set())

    def test_allowed_gap_that_is_too_short(self):
        self.h.events("exact")[:3] = [Gap("torture.a", 1, 2, "retention")]
        self.assertEqual(self.h.kinds(allow_gaps=True), {"hole", "lost"})

    def test_gap_of_one_channel_does_not_explain_another(self):
        self.h.events("all")[:3] = [Gap("torture.a", 1, 2, "retention")]
        self.assertEqual(self.h.kinds(allow_gaps=True), {"hole", "lost"})

    def test_new_epoch_is_never_allowed(self):
        self.h.events("exact").append(Gap(None, None, None, "epoch"))
        self.assertEqual(self.h.kinds(allow_gaps=True), {"gap"})

    def test_acknowledged_with_two_sequences(self):
        self.h.answers.append(self.h.answers[0]._replace(sequence=7))
        self.assertIn("acknowledged-twice", self.h.kinds())

    def test_acknowledged_with_two_positions(self):
        self.h.answers.append(self.h.answers[0]._replace(position="other"))
        self.assertEqual(self.h.kinds(), {"acknowledged-twice"})

    def test_retried_publish_that_is_in_the_log_twice(self):
        for events in (self.h.events("exact"), self.h.events("all"), self.h.histories["torture.a"]):
            events.append(notice("torture.a", 5, (1, 8)))
        self.assertEqual(self.h.kinds(), {"published-twice"})

    def test_two_acknowledgements_share_a_sequence(self):
        self.h.sent.append(Sent(2, 1, "torture.a", True))
        self.h.answers.append(Answer(2, 1, "torture.a", 4, "p"))
        self.assertIn("shared-sequence", self.h.kinds())

    def test_sequence_given_again_after_a_restart(self):
        """Delivered before it was durable, lost, and its number given to another message."""
        self.h.sent.append(Sent(2, 1, "torture.a", False))
        self.h.events("exact")[3] = notice("torture.a", 4, (2, 1))
        self.assertEqual(self.h.kinds(), {"wrong-payload"})

    def test_publisher_order(self):
        first, second = self.h.answers[1], self.h.answers[3]
        self.h.answers[1] = first._replace(sequence=second.sequence, position=second.position)
        self.h.answers[3] = second._replace(sequence=first.sequence, position=first.position)
        self.assertIn("publisher-order", self.h.kinds())

    def test_unknown_nowhere_passes(self):
        self.h.add_unknown()
        self.assertEqual(self.h.problems(), [])

    def test_unknown_everywhere_passes(self):
        self.h.add_unknown("exact", "all", "history")
        self.assertEqual(self.h.problems(), [])

    def test_unknown_at_some(self):
        self.h.add_unknown("exact", "history")
        self.assertEqual(self.h.kinds(), {"partly-delivered"})

    def test_unknown_delivered_and_not_in_the_history(self):
        self.h.add_unknown("exact", "all")
        self.assertEqual(self.h.kinds(), {"history"})

    def test_unknown_twice(self):
        self.h.add_unknown("exact", "all", "history")
        for events in (self.h.events("exact"), self.h.events("all"), self.h.histories["torture.a"]):
            events.append(notice("torture.a", 6, (2, 1)))
        self.assertEqual(self.h.kinds(), {"published-twice"})

    def test_not_asked_for(self):
        self.h.events("exact").append(notice("torture.deep.b", 1, (1, 1)))
        self.assertIn("not-asked-for", self.h.kinds())

    def test_history_with_a_hole(self):
        del self.h.histories["torture.a"][1]
        self.assertEqual(self.h.kinds(), {"history"})

    def test_history_without_its_end(self):
        self.h.histories["torture.a"].pop()
        self.assertEqual(self.h.kinds(), {"history"})

    def test_history_without_its_beginning(self):
        del self.h.histories["torture.a"][0]
        self.assertEqual(self.h.kinds(), {"history"})
        self.assertEqual(self.h.kinds(allow_gaps=True), set())

    def test_history_of_a_whole_channel_is_gone(self):
        del self.h.histories["torture.a"]
        self.assertIn("history", self.h.kinds())

    def test_patterns(self):
        for pattern, channel, expected in [
            ("a.b", "a.b", True), ("a.b", "a.b.c", False), ("a.*", "a.b", True), ("a.*", "a", False), ("a.*", "a.b.c", False),
            ("a.>", "a.b", True), ("a.>", "a.b.c", True), ("a.>", "a", False), ("a.>", "b.a", False), (">", "a", True),
            ("*.b.>", "a.b.c", True), ("*.b.>", "a.c.c", False), ("a.*.c", "a.b.c", True),
        ]:
            self.assertEqual(matches(pattern, channel), expected, (pattern, channel))

    def test_journals_are_read_back(self):
        with tempfile.TemporaryDirectory() as directory:
            def write(name, rows):
                (Path(directory) / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            write("publications.jsonl", [["sent", *s] for s in self.h.sent] + [["answer", *a] for a in self.h.answers])
            write("subscribers.jsonl", [[name, patterns] for name, (patterns, _) in self.h.subscribers.items()])
            write("deliveries.jsonl", [[name, "notification", "sse", *e] for name, (_, es) in self.h.subscribers.items() for e in es])
            write("history.jsonl", list(self.h.histories.items()))
            self.assertEqual(check(*load(directory)), [])


class EventStreamTests(unittest.TestCase):
    def test_all_line_ends_cut_anywhere(self):
        expected = [("hello", "a", "1"), ("message", "é\nb", "2")]
        for end in ("\n", "\r\n", "\r"):
            data = end.join(["retry: 20", "id: 1", "event: hello", "data: a", "", ":", "", "id: 2", "data: é", "data:b", "", ""]).encode()
            for cut in range(len(data)):
                stream = EventStream()
                self.assertEqual(stream.feed(data[:cut]) + stream.feed(data[cut:]), expected, (end, cut))


if __name__ == "__main__":
    unittest.main()
