"""The tables as Markdown, put between two markers of a page, and the figures as JSON."""

import json
from pathlib import Path

from transports import TRANSPORTS

BEGIN, END = "<!-- proxies: begin -->", "<!-- proxies: end -->"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]


def shown(value):
    return "-" if value is None else str(value)


def markdown(run):
    """`run` is what the harness has gathered; answers the text between the markers."""
    lines = [f"Made by `make proxies` ({run['made']}), with {', '.join(run['versions'])}.", ""]
    if run["findings"]:
        lines += ["### What happens to each transport", ""]
        lines += ["One attempt each, without falling back: milliseconds from connecting to `hello`, and from publishing a message to its "
                  f"arrival; {run['idle_seconds']} s of silence before the last message.", ""]
        lines += table(["way", *TRANSPORTS], [[about_way(run, name), *(cells[transport]["text"] for transport in TRANSPORTS)]
                                              for name, cells in run["findings"].items()]) + [""]
    if run["outcomes"]:
        lines += ["### Which rung is chosen, and when", ""]
        lines += [f"{run['count']} numbered messages to each client while the faults come and go. Milliseconds from the client's start "
                  "to its first message, and to the rung it stays on; `delay` is the longest of any message from its publication.", ""]
        rows = [[about_way(run, name), each["client"], shown(each["first_message_ms"]), shown(each["rung"]), shown(each["rung_after_ms"]),
                 shown(each["longest_delay_ms"]), "all, once, in order" if each["good"] else "; ".join([each["verdict"], *each["faults"]])]
                for name, outcomes in run["outcomes"].items() for each in outcomes]
        lines += table(["way", "client", "first message, ms", "rung", "ms", "delay, ms", "received"], rows) + [""]
    for result in run["scenarios"]:
        lines += [f"### {result['name'][0].upper()}{result['name'][1:]}", "", f"{result['about'][0].upper()}{result['about'][1:]}.", ""]
        if result["rows"]:
            lines += table(list(result["rows"][0]), [[shown(cell) for cell in row.values()] for row in result["rows"]]) + [""]
        lines += [f"- {fault}" for fault in result["faults"]] + ([""] if result["faults"] else [])
    return "\n".join(lines).rstrip() + "\n"


def about_way(run, name):
    return f"{name}: {run['ways'][name]}"


def write(run, page):
    """Puts the tables into the page, and the figures beside it."""
    page = Path(page)
    text = page.read_text() if page.exists() else f"# Falling back\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise RuntimeError(f"{page} has no place for the tables: {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{markdown(run)}{END}{after}")
    page.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
