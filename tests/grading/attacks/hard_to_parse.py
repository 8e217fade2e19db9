# Sources that break parsers: thousands of levels, endless chains, odd characters, magics.
# stock: 1 of 7; aims at whoever parses sources
# solves: scale
# %% tamper
hard = [
    "x = " + "-" * 8000 + "1",
    "x = a" + ".b" * 8000,
    "x = 1" + "+1" * 8000,
    "x = " + "(" * 5000 + ")" * 5000,
    "x = " + "[" * 199 + "]" * 199,
    "".join(" " * i + "if x:\n" for i in range(99)) + " " * 99 + "pass",
    "x = " + "lambda: " * 2000 + "0",
    "x = 0x" + "f" * 20_000,
    "x = '\\N{" + "A" * 9000 + "}'",
    "\x00import os\x00",
    "# -*- coding: utf-7 -*-\n+AAo-",
    "%%" * 5000 + "\n!" * 1000 + "?" * 1000,
    "a?\n" * 2000,
    "f'" + "{" * 300 + "}" * 300 + "'",
    "x = '''" + "\\\n" * 9000,
    "with a, " + "b, " * 5000 + "c: pass",
    "from ganlib" + " " * 20_000 + ".models import *",
    "match x:\n" + "".join(f" case {'[' * 100}{i}{']' * 100}: pass\n" for i in range(40)),
]
notebook["cells"][4:4] = [
    {"id": f"hard-{i}", "cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
    for i, source in enumerate(hard)
]
