# Its process reports errors of odd types, at odd places, with odd messages.
# stock: 1 of 7; aims at what the judge tells
# solves: scale
# %% + centre
import sys

student = sys.modules["ganlib.grading.student"]
wire = student.wire
oddities = iter(
    [
        {"type": "SystemExit", "message": "x" * 3_000_000, "frames": []},
        {"type": "Ended", "message": "<b>", "frames": [{"line": 2**63, "cell": {"a": 1}, "function": [[]]}] * 9999},
        {"type": "Overtime", "message": "\x1b[2J\u202e", "frames": [{"line": True, "cell": "/etc/passwd"}]},
    ]
)


class Forged:
    def __getattr__(self, name):
        return self.forge if name == "send" else getattr(wire, name)

    def forge(self, sock, answer, *arguments):
        if "value" in answer or answer.get("error"):
            answer = {"id": answer["id"], "error": next(oddities, None), "value": 4}
        wire.send(sock, answer, *arguments)


student.wire = Forged()
# %% centre
centre = lambda rows: rows
# %% count
count = lambda text: 0
