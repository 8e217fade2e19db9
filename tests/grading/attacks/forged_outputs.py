# Its process says that each cell showed forty thousand things, most of them nothing.
# stock: 1 of 7; aims at what keeps outputs
# solves: scale
# %% + centre
import sys

student = sys.modules["ganlib.grading.student"]
nothing = {"output_type": "stream", "name": "stdout", "text": ""}
picture = {"output_type": "display_data", "data": {"image/png": "AAAA", "text/html": "<script>"}, "metadata": {}}
wire = student.wire


class Forged:
    def __getattr__(self, name):
        return self.forge if name == "send" else getattr(wire, name)

    def forge(self, sock, answer, *arguments):
        if "outputs" in answer:
            answer["outputs"] = [nothing] * 20_000 + [picture] * 10_000
        wire.send(sock, answer, *arguments)


student.wire = Forged()
# %% tamper
cells = notebook["cells"]
cells[6:6] = [dict(cells[-2], source="1", id=f"more-{i}") for i in range(8)]
